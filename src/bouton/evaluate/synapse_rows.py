"""Scores of synapses beyond matching, as rows: CREMI partners, integrity, edges, types, targets, curves, clefts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bouton.evaluate.connectome_scores import STRENGTHS, cosine_similarity, count_edges, edge_scores
from bouton.evaluate.cremi_synapses import CleftScores, PartnerSites, score_partners
from bouton.evaluate.curves import Curve, OperatingPoint
from bouton.evaluate.detection import Detection, Proportion, wilson
from bouton.evaluate.matching import match_points
from bouton.evaluate.nri import REACH_NM, integrity
from bouton.evaluate.scores import Score, detection_rows, interval_rows
from bouton.evaluate.synapses import UNKNOWN, MatchRule, SynapseSet, counted_rows, take_synapses

CLASSES = ("excitatory", "inhibitory")
PREFIXES = {"location": "synapse", "pair": "synapse_pair", "partners": "synapse_partners", "type": "synapse_type"}
EXPLAINED = {
    "cremi_partners": "CREMI: both ends in the right neurons and at most 400 nm away",
    "nri": "neural reconstruction integrity: F1 of the pairs of synapse ends that one neuron holds",
    "nri_tp": "pairs of synapse ends rightly in one neuron",
    "nri_fp": "pairs of synapse ends wrongly in one neuron: merges, false synapses",
    "nri_fn": "pairs of synapse ends torn apart: splits, missed synapses",
    "edges_1": "connections of at least 1 synapse",
    "edges_3": "connections of at least 3 synapses",
    "edges_5": "connections of at least 5 synapses",
    "outputs_cosine_mean": "mean over neurons: how alike true and found counts over the targets are",
    "outputs_cosine_median": "the same, median",
    "inputs_cosine_mean": "mean over neurons: how alike true and found counts over the sources are",
    "inputs_cosine_median": "the same, median",
    "excitatory": "true and found as excitatory",
    "inhibitory": "true and found as inhibitory",
    "ei_ratio": "excitatory / inhibitory, as found",
    "ei_ratio_recall_corrected": "the same, each number divided by its recall",
    "ei_ratio_true": "excitatory / inhibitory of the truth",
    "target_right": "of the matched synapses with a known target: spine, shaft or soma right",
    "synapse_average_precision": "area under precision over recall, all scores",
    "synapse_partners_average_precision": "the same, partners right",
    "synapse_best_score": "least score to take for the best F1 here; too good to report: choose it on other data",
    "synapse_best_f1": "F1 at that score",
    "synapse_partners_best_score": "the same, partners right",
    "synapse_partners_best_f1": "F1 at that score",
    "chosen_score": "least score to take, chosen on other data",
    "chosen_on_f1": "F1 on the data that it was chosen on",
    "min_score": "synapses of a lower score were left out; all other scores hold for this",
    "true_autapses": "true synapses of a neuron with itself: they count, but look at them",
    "found_autapses": "found synapses of a neuron with itself",
    "true_outside": "true synapses outside of the evaluated box: left out",
    "cleft_objects": "VESICLE's rule: at least 10 voxels shared",
    "cleft_iou": "one to one, intersection over union at least 0.5",
    "cleft_iou_mean": "mean intersection over union of the pairs",
    "cleft_centres": "one to one, centres near",
    "cleft_centres_distance": "mean distance of the pairs",
    "cremi_adgt": "mean distance of found cleft voxels to the nearest true one",
    "cremi_adf": "mean distance of true cleft voxels to the nearest found one",
    "cremi_clefts_mean": "(ADGT + ADF) / 2: the leader board's CREMI score",
    "cremi_clefts_one_minus_f1": "1 - F1 of cleft voxels within 200 nm",
    "cremi_clefts_synaptor_sum": "sum of all distances beyond 200 nm (Synaptor's)",
    "cremi_false_positives": "found cleft voxels more than 200 nm from a true one",
    "cremi_false_negatives": "true cleft voxels more than 200 nm from a found one",
}


@dataclass(frozen=True)
class Compared:
    """True and found synapses.

    Attributes
    ----------
    truth, found : SynapseSet
        ``found`` holds the *true* neurons at its pre and post sites.
    detected : (pre, post)
        uint64 (m,), the neurons that the found synapses themselves name.
    targets : (true, found), optional
        str (n,) and (m,).
    sites : (true, found), optional
        The pre and post sites.
    """

    truth: SynapseSet
    found: SynapseSet
    detected: tuple[np.ndarray, np.ndarray]
    targets: tuple[np.ndarray, np.ndarray] | None = None
    sites: tuple[PartnerSites, PartnerSites] | None = None


def comparison_rows(compared: Compared, rule: MatchRule) -> list[Score]:
    """Return the rows that need true and found synapses only; neutral ones are left out of all but CREMI's."""
    true, found = counted_rows(compared.truth, compared.found, rule)
    truth, predicted = take_synapses(compared.truth, true), take_synapses(compared.found, found)
    rows = class_rows(truth, predicted, rule)
    if compared.targets is not None:
        targets = compared.targets[0][true], compared.targets[1][found]
        rows += interval_rows("target_right", target_share(truth, predicted, targets, rule))
    if compared.sites is not None:
        rows += detection_rows("cremi_partners", score_partners(*_inside(compared, rule)), "partners")
    rows += edge_rows(truth, predicted)
    return rows + integrity_rows(truth, predicted, (compared.detected[0][found], compared.detected[1][found]))


def integrity_rows(truth: SynapseSet, predicted: SynapseSet, detected: tuple[np.ndarray, np.ndarray]) -> list[Score]:
    """Return the rows of neural reconstruction integrity."""
    matches = match_points(truth.centre_nm, predicted.centre_nm, REACH_NM)
    found = integrity((truth.pre, truth.post), detected, matches)
    n = found.tp + found.fp + found.fn
    counts = [Score(f"nri_{name}", float(getattr(found, name)), "pairs", "", n) for name in ("tp", "fp", "fn")]
    return [Score("nri", found.nri, "", "higher", n), *counts]


def edge_rows(truth: SynapseSet, predicted: SynapseSet) -> list[Score]:
    """Return precision and recall of the edges at every strength, and the cosine similarities."""
    true, found = count_edges(truth.pre, truth.post), count_edges(predicted.pre, predicted.post)
    rows: list[Score] = []
    for strength in STRENGTHS:
        rows += detection_rows(f"edges_{strength}", edge_scores(true, found, strength), "edges")
    for name, side in (("outputs", "pre"), ("inputs", "post")):
        cosine = cosine_similarity(true, found, side).true_cosine
        middle = (cosine.mean(), np.median(cosine)) if cosine.size else (np.nan, np.nan)
        rows.append(Score(f"{name}_cosine_mean", float(middle[0]), "", "higher", cosine.size))
        rows.append(Score(f"{name}_cosine_median", float(middle[1]), "", "higher", cosine.size))
    return rows


def class_scores(truth: SynapseSet, predicted: SynapseSet, rule: MatchRule) -> dict[str, Detection]:
    """Return, for excitatory and inhibitory synapses, how many are found as such.

    Found synapses whose true type is not known count for no class; of those that match none, each is false for its own.
    """
    near = match_points(truth.centre_nm, predicted.centre_nm, rule.max_distance_nm)
    true_type = np.full(len(predicted), "", dtype=object)
    true_type[near.predicted] = truth.type[near.truth]
    counted = true_type != UNKNOWN
    scores = {}
    for kind in CLASSES:
        as_kind = (predicted.type == kind) & counted
        tp = int((as_kind & (true_type == kind)).sum())
        scores[kind] = Detection(tp=tp, fp=int(as_kind.sum()) - tp, fn=int((truth.type == kind).sum()) - tp)
    return scores


def class_rows(truth: SynapseSet, predicted: SynapseSet, rule: MatchRule) -> list[Score]:
    """Return precision and recall of each class and the ratio of excitatory to inhibitory synapses."""
    scores = class_scores(truth, predicted, rule)
    rows = [row for kind, found in scores.items() for row in detection_rows(kind, found, "synapses")]
    found = [int((predicted.type == kind).sum()) for kind in CLASSES]
    true = [int((truth.type == kind).sum()) for kind in CLASSES]
    corrected = [n / (scores[kind].recall.value or np.nan) for n, kind in zip(found, CLASSES, strict=True)]
    return [
        *rows,
        Score("ei_ratio", _ratio(*found), "ratio", "", sum(found)),
        Score("ei_ratio_recall_corrected", _ratio(*corrected), "ratio", "", sum(found)),
        Score("ei_ratio_true", _ratio(*true), "ratio", "", sum(true)),
    ]


def target_share(
    truth: SynapseSet, predicted: SynapseSet, targets: tuple[np.ndarray, np.ndarray], rule: MatchRule
) -> Proportion:
    """Return the share of the matches with a known true target whose target is right."""
    near = match_points(truth.centre_nm, predicted.centre_nm, rule.max_distance_nm)
    true, found = targets[0][near.truth], targets[1][near.predicted]
    known = true != UNKNOWN
    return wilson(int((true == found)[known].sum()), int(known.sum()))


def curve_rows(curves: Mapping[str, Curve]) -> list[Score]:
    """Return average precision, and the best F1 with the score that gives it, of each level."""
    rows = []
    for level, curve in curves.items():
        prefix = PREFIXES[level]
        rows.append(Score(f"{prefix}_average_precision", curve.average_precision, "", "higher", curve.true))
        if np.isfinite(curve.f1).any():
            best = curve.best()
            rows.append(Score(f"{prefix}_best_score", best.score, "score", "", curve.true))
            rows += interval_rows(f"{prefix}_best_f1", best.found.f1)
    return rows


def chosen_rows(chosen: OperatingPoint) -> list[Score]:
    """Return a score that was chosen on other data, and the F1 that it gave there; ``n`` is of those data."""
    n = chosen.found.tp + chosen.found.fp + chosen.found.fn
    return [Score("chosen_score", chosen.score, "score", "", n), *interval_rows("chosen_on_f1", chosen.found.f1)]


def cleft_rows(scores: CleftScores) -> list[Score]:
    """Return CREMI's scores of cleft voxels; ``n`` is the number of voxels."""
    found, true = scores.predicted_voxels, scores.true_voxels
    both = found + true
    return [
        Score("cremi_adgt", scores.adgt_nm, "nm", "lower", found),
        Score("cremi_adf", scores.adf_nm, "nm", "lower", true),
        Score("cremi_clefts_mean", scores.mean_nm, "nm", "lower", both),
        Score("cremi_clefts_one_minus_f1", scores.one_minus_f1, "", "lower", both),
        Score("cremi_clefts_synaptor_sum", scores.far_sum_nm, "nm", "lower", both),
        Score("cremi_false_positives", float(scores.false_positives), "voxels", "", found),
        Score("cremi_false_negatives", float(scores.false_negatives), "voxels", "", true),
    ]


def _inside(compared: Compared, rule: MatchRule) -> tuple[PartnerSites, PartnerSites]:
    """Return the sites of the synapses whose cleft lies in the box, margin or not: the challenge knows none."""
    assert compared.sites is not None
    whole = MatchRule(rule.max_distance_nm, rule.start_nm, rule.stop_nm, 0.0)
    sets = zip(compared.sites, (compared.truth, compared.found), strict=True)
    kept = [(sites, ~whole.neutral(synapses.centre_nm)) for sites, synapses in sets]
    truth, found = (
        PartnerSites(sites.pre_nm[rows], sites.post_nm[rows], sites.pre[rows], sites.post[rows]) for sites, rows in kept
    )
    return truth, found


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b else float("nan")
