"""Scores as rows of one table: metric, value, unit, which way is better, and what it counts over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from bouton.evaluate.contingency import Contingency
from bouton.evaluate.detection import Detection, Proportion
from bouton.evaluate.partition import (
    adapted_rand,
    adapted_rand_cremi,
    adapted_rand_one_background,
    cremi_score,
    v_info,
    v_rand,
    variation_of_information,
)
from bouton.evaluate.synapses import MatchRule, SynapseScores, SynapseSet, same_pair, same_partners

EXPLAINED = {
    "voi_split": "bits lost to true cells cut apart",
    "voi_merge": "bits lost to true cells run together",
    "voi_sum": "split + merge",
    "nvi_split": "voi_split / joint entropy",
    "nvi_merge": "voi_merge / joint entropy",
    "information_distance": "1 - shared information / the larger of the two entropies",
    "adapted_rand_error": "1 - F of pairs of voxels in one cell; a voxel of segment 0 is a segment of its own",
    "adapted_rand_precision": "pairs put together that belong together; falls with merges",
    "adapted_rand_recall": "pairs that belong together and were put together; falls with splits",
    "adapted_rand_error_one_background": "the same, with segment 0 as one segment (elf, funlib.evaluate)",
    "adapted_rand_error_cremi": "the same, as CREMI's program counts segment 0",
    "cremi_score": "sqrt(voi_sum x adapted_rand_error_cremi)",
    "v_rand": "1 - adapted_rand_error: V-Rand of ISBI 2012, without its thinning of borders",
    "v_info": "V-Info of ISBI 2012, without its thinning of borders",
    "unsegmented": "share of the labelled voxels in segment 0",
    "voi_split_segmented": "voi_split of the voxels that have a segment",
    "voi_merge_segmented": "voi_merge of the voxels that have a segment",
    "adapted_rand_error_segmented": "adapted_rand_error of the voxels that have a segment",
    "true_cells": "true ids that occur",
    "true_cells_missed": "true ids without any segment",
    "segments": "segment ids on labelled voxels",
    "synapse": "cleft centres match",
    "synapse_pair": "centres match and the two neurons are right, in either direction",
    "synapse_partners": "centres match and pre and post are both right",
    "synapse_type": "centres, partners and type match",
    "partners_right": "of the matched synapses: pre and post both right",
    "polarity_right": "of the matched synapses between the right two neurons: direction right",
    "type_right": "of the matched synapses: type right",
}
_KINDS = {
    "f1": "harmonic mean of precision and recall",
    "precision": "share of the predicted that are right",
    "recall": "share of the true that were found",
    "tp": "found",
    "fp": "predicted, but not there",
    "fn": "missed",
}
SCORE_COLUMNS = {"metric": "str", "value": "float64", "unit": "str", "better": "str", "n": "int64"}
MATCH_COLUMNS = {
    "distance_nm": "float64",
    "neutral": "bool",
    "partners_right": "bool",
    "pair_right": "bool",
    "type_right": "bool",
}
_PREFIX = {"location": "synapse", "pair": "synapse_pair", "partners": "synapse_partners", "type": "synapse_type"}


@dataclass(frozen=True)
class Score:
    """One score. ``better`` is ``lower``, ``higher`` or empty; ``n`` is the number of things it counts over."""

    metric: str
    value: float
    unit: str
    better: str
    n: int


def segmentation_scores(table: Contingency, volume_voxels: int | None = None) -> list[Score]:
    """Return the partition scores of a contingency table; ``n`` is the number of voxels.

    ``volume_voxels``, all voxels of the volume, is for :func:`bouton.evaluate.partition.adapted_rand_cremi`.
    """
    segmented, n = table.segmented(), table.voxels
    covered = segmented.voxels
    return [
        *_voi_scores(table),
        *_rand_scores(table, volume_voxels),
        Score("unsegmented", (n - covered) / n if n else float("nan"), "", "lower", n),
        Score("voi_split_segmented", variation_of_information(segmented).split, "bits", "lower", covered),
        Score("voi_merge_segmented", variation_of_information(segmented).merge, "bits", "lower", covered),
        Score("adapted_rand_error_segmented", adapted_rand(segmented).error, "", "lower", covered),
        Score("true_cells", float(table.truth_sums().size), "cells", "", n),
        Score("true_cells_missed", float(table.truth_sums().size - segmented.truth_sums().size), "cells", "", n),
        Score("segments", float(segmented.segment_sums()[0].size), "segments", "", n),
    ]


def _voi_scores(table: Contingency) -> list[Score]:
    voi, n = variation_of_information(table), table.voxels
    return [
        Score("voi_split", voi.split, "bits", "lower", n),
        Score("voi_merge", voi.merge, "bits", "lower", n),
        Score("voi_sum", voi.total, "bits", "lower", n),
        Score("nvi_split", voi.normalised_split, "", "lower", n),
        Score("nvi_merge", voi.normalised_merge, "", "lower", n),
        Score("information_distance", voi.distance, "", "lower", n),
    ]


def _rand_scores(table: Contingency, volume_voxels: int | None) -> list[Score]:
    rand, n = adapted_rand(table), table.voxels
    return [
        Score("adapted_rand_error", rand.error, "", "lower", n),
        Score("adapted_rand_precision", rand.precision, "", "higher", n),
        Score("adapted_rand_recall", rand.recall, "", "higher", n),
        Score("adapted_rand_error_one_background", adapted_rand_one_background(table).error, "", "lower", n),
        Score("adapted_rand_error_cremi", adapted_rand_cremi(table, volume_voxels).error, "", "lower", n),
        Score("cremi_score", cremi_score(table, volume_voxels), "", "lower", n),
        Score("v_rand", v_rand(table), "", "higher", n),
        Score("v_info", v_info(table), "", "higher", n),
    ]


def synapse_scores(scores: SynapseScores) -> list[Score]:
    """Return precision, recall and F1 of every level and the shares among the matches, with 95 % intervals."""
    rows: list[Score] = []
    for level, found in scores.levels.items():
        rows += detection_rows(_PREFIX[level], found, "synapses")
    for name in ("partners_right", "polarity_right", "type_right"):
        rows += interval_rows(name, getattr(scores, name))
    return rows


def detection_rows(prefix: str, found: Detection, unit: str) -> list[Score]:
    """Return F1, precision and recall with 95 % limits, and the counts; ``unit`` says of what."""
    rows: list[Score] = []
    for name in ("f1", "precision", "recall"):
        rows += interval_rows(f"{prefix}_{name}", getattr(found, name))
    n = found.tp + found.fp + found.fn
    return rows + [Score(f"{prefix}_{name}", float(getattr(found, name)), unit, "", n) for name in ("tp", "fp", "fn")]


def score_table(scores: Sequence[Score]) -> dict[str, np.ndarray]:
    """Return the scores as columns metric, value, unit, better, n."""
    columns = list(zip(*[astuple(score) for score in scores], strict=True)) or [()] * 5
    pairs = zip(SCORE_COLUMNS.items(), columns, strict=True)
    return {name: np.array(column, object if kind == "str" else kind) for (name, kind), column in pairs}


def match_rows(
    scores: SynapseScores, truth: SynapseSet, predicted: SynapseSet, rule: MatchRule
) -> dict[str, np.ndarray]:
    """Return the matches of level ``location`` one by one.

    Returns
    -------
    dict
        ``truth``, ``predicted`` int64 row numbers, ``distance_nm`` float64; bool: ``neutral``, ``partners_right``,
        ``pair_right`` (either direction), ``type_right``.
    """
    matches = scores.matches
    t, p = matches.truth, matches.predicted
    return {
        "truth": t,
        "predicted": p,
        "distance_nm": matches.distance_nm,
        "neutral": rule.neutral(truth.centre_nm)[t],
        "partners_right": same_partners(truth, predicted, t, p),
        "pair_right": same_pair(truth, predicted, t, p),
        "type_right": (truth.type[t] == predicted.type[p]).astype(bool),
    }


def interval_rows(name: str, share: Proportion) -> list[Score]:
    """Return a proportion and its 95 % limits, ``<name>_low`` and ``<name>_high``."""
    return [
        Score(name, share.value, "", "higher", share.n),
        Score(f"{name}_low", share.low, "95 % limit", "", share.n),
        Score(f"{name}_high", share.high, "95 % limit", "", share.n),
    ]


def explain(metric: str, explained: Mapping[str, str] = EXPLAINED) -> str:
    """Return what a metric says, in a few words; empty for one that ``explained`` lacks."""
    stem = metric.removesuffix("_low").removesuffix("_high")
    if stem in explained:
        return explained[stem]
    stem, _, kind = stem.rpartition("_")
    return f"{_KINDS[kind]}: {explained[stem]}" if kind in _KINDS and stem in explained else ""
