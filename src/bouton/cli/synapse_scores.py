"""The synapse part of ``bouton evaluate``: any synapse file against the truth, the score to take, scores in groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.evaluate.connectome_scores import count_edges, similarity_table
from bouton.evaluate.curves import OperatingPoint, score_curves
from bouton.evaluate.scores import SCORE_COLUMNS, score_table
from bouton.evaluate.synapse_rows import chosen_rows
from bouton.evaluate.synapses import LEVELS, points_nm, synapse_set
from bouton.geometry import NM, Box
from bouton.report.curves import curve_picture
from bouton.stages.evaluate_synapses import (
    Params,
    check_tables,
    match_rule,
    neurons_at,
    score_tables,
    scores_of,
)
from bouton.volume import TableData, Volume, write_bytes, write_csv, write_table
from bouton.volume.synapse_tables import read_synapses

EVERYWHERE = Box((0, 0, 0), (2**40, 2**40, 2**40))
FEW = 0.05
"""Share of the synapses below which matches may be chance."""
_GROUPS = {
    "places, partners, types": ("synapse_", "partners_right", "polarity_right", "type_right", "target_right"),
    "the score to take": ("chosen_", "min_score"),
    "CREMI": ("cremi_",),
    "excitatory and inhibitory": ("excitatory_", "inhibitory_", "ei_ratio"),
    "connections": ("edges_", "outputs_", "inputs_"),
    "integrity of neurons": ("nri",),
    "look at": ("true_", "found_"),
}


@dataclass(frozen=True)
class SynapseFiles:
    """The files to score, and those to choose the least score on."""

    synapses: Path
    truth: Path
    choose_on: tuple[Path, Path] | None = None
    choose_by: str = "location"
    out: Path | None = None


def evaluate_synapses(
    files: SynapseFiles, labels: Volume | None, params: Params, place: tuple[NM | None, Box]
) -> tuple[dict[str, TableData], list[str]]:
    """Return tables ``scores``, ``synapse_matches`` and ``curve``, and write them where ``files.out`` says; and notes.

    Parameters
    ----------
    labels : Volume, optional
        True neuron ids: a found synapse's partners are the true neurons at its sites; so are those of a truth that
        names none.
    params : Params
    place : (z, y, x), Box
        Voxel size in nm, and the box to score in voxels.
    """
    size, bounds = place
    synapses, truth = read_synapses(files.synapses, size), read_synapses(files.truth, size)
    check_tables(synapses, truth, match_rule(params, size or (1.0, 1.0, 1.0), labels.box if labels else EVERYWHERE))
    chosen = _chosen(files, params, size)
    if chosen is not None:
        params = replace(params, min_score=min(max(chosen.score, 0.0), 1.0))
    neurons = (synapses["pre_id"], synapses["post_id"])
    if labels is not None:
        voxel = size or (1.0, 1.0, 1.0)
        neurons = neurons_at(synapses, labels, voxel, bounds)
        truth = _with_neurons(truth, labels, voxel, bounds)
    rule = match_rule(_params(params, bounds), size or (1.0, 1.0, 1.0), bounds)
    tables = score_tables(synapses, truth, neurons, rule, params.min_score)
    if chosen is not None:
        rows = score_table(chosen_rows(chosen))
        tables["scores"] = {name: np.concatenate([tables["scores"][name], rows[name]]) for name in rows}
    if files.out is not None:
        kept = scores_of(synapses) >= params.min_score
        found = count_edges(*(ids[kept] for ids in neurons))
        similarity = similarity_table(count_edges(truth["pre_id"], truth["post_id"]), found)
        _write(files.out, tables | {"neuron_similarity": similarity}, params.min_score)
    return tables, _notes(synapses, truth, tables["scores"], labels is not None)


def grouped(scores: TableData) -> dict[str, TableData]:
    """Return the scores in groups by what they are about, in a fixed order; what fits none comes last."""
    names = [str(name) for name in scores["metric"]]
    left = np.ones(len(names), dtype=bool)
    groups = {}
    for title, prefixes in _GROUPS.items():
        rows = np.array([name.startswith(prefixes) for name in names], dtype=bool) & left
        left &= ~rows
        groups[title] = {column: values[rows] for column, values in scores.items()}
    groups["other"] = {column: values[left] for column, values in scores.items()}
    return {title: table for title, table in groups.items() if len(table["metric"])}


def _notes(found: TableData, true: TableData, scored: TableData, looked_up: bool) -> list[str]:
    """Return lines on what makes scores 0 though nothing was refused: other ids, units or axes than the truth's."""
    values = dict(zip(scored["metric"], scored["value"], strict=True))
    kept = scores_of(found) >= values["min_score"]
    found = {name: column[kept] for name, column in found.items()}
    right, counted = values["synapse_tp"], values["synapse_tp"] + values["synapse_fn"]
    if not kept.any() or not counted:
        return []
    lines = []
    if right <= FEW * min(int(kept.sum()), counted):
        lines.append(
            f"hardly any place matches: found synapses lie at {extent_text(points_nm(found))}, "
            f"true ones at {extent_text(points_nm(true))}; check units (nm, not voxels or um) and the order of the axes"
        )
    if not looked_up and not share_neurons(found, true):
        lines.append(
            "found and true synapses have no neuron id in common, so that no partner can be right; give the true "
            "neurons as a volume with --truth"
        )
    return lines


def extent_text(points: np.ndarray) -> str:
    """Return the ranges of points float64 (n, 3), z, y, x in nm, in words."""
    low, high = points.min(axis=0), points.max(axis=0)
    return ", ".join(f"{axis} {low[i]:.5g} to {high[i]:.5g}" for i, axis in enumerate("zyx")) + " nm"


def _chosen(files: SynapseFiles, params: Params, size: NM | None) -> OperatingPoint | None:
    """Return the point of the best F1 on the data to choose on; ids are compared as its tables name them."""
    if files.choose_on is None:
        return None
    if files.choose_by not in LEVELS:
        raise SpecError(f"--choose-score-by {files.choose_by!r}", expected=f"one of {', '.join(LEVELS)}")
    if params.min_score:
        raise SpecError(
            "--min-score and --choose-score-on", expected="one of them: both say which synapses count", fix="drop one"
        )
    found, true = (read_synapses(path, size) for path in files.choose_on)
    check_tables(found, true, match_rule(params, (1.0, 1.0, 1.0), EVERYWHERE))
    rule = match_rule(replace(params, margin_nm=0.0), (1.0, 1.0, 1.0), EVERYWHERE)
    curves = score_curves(synapse_set(true), synapse_set(found), scores_of(found), rule, (files.choose_by,))
    best = curves[files.choose_by].best()
    if not best.found.tp:
        raise DataError(
            f"--choose-score-by {files.choose_by}: no synapse is right at any score", where=str(files.choose_on[0]),
            expected="some that match the truth", fix=_way_to_match(files.choose_by, found, true),
        )  # fmt: skip
    return best


def _way_to_match(level: str, found: TableData, true: TableData) -> str:
    """Return what to do where a level matches nothing."""
    if level == "location":
        return "check units (nm), the order of the axes and the offset of both files"
    if not share_neurons(found, true):
        return "the two tables have no neuron id in common: choose by location, or give tables with the same ids"
    return "choose by location, or check pre_id and post_id of both files"


def share_neurons(found: TableData, true: TableData) -> bool:
    """Return whether some neuron is named in both tables; 0 is none."""
    ids = [np.union1d(table["pre_id"], table["post_id"]) for table in (found, true)]
    return bool(np.any(np.intersect1d(*ids) != 0))


def _params(params: Params, bounds: Box) -> Params:
    # Without a box there is no face to be near to.
    return replace(params, margin_nm=0.0) if bounds == EVERYWHERE else params


def _with_neurons(truth: TableData, labels: Volume, size: NM, bounds: Box) -> TableData:
    """Return a truth that names no neuron at all, such as an NML, with the true neurons at its sites."""
    if truth["pre_id"].any() or truth["post_id"].any():
        return truth
    pre, post = neurons_at(truth, labels, size, bounds)
    return truth | {"pre_id": pre, "post_id": post}


def _write(folder: Path, tables: Mapping[str, TableData], min_score: float) -> None:
    write_table(folder / "synapse_scores.parquet", tables["scores"], SCORE_COLUMNS)
    for name, table in (
        ("synapse_scores", tables["scores"]),
        ("synapse_matches", tables["synapse_matches"]),
        ("synapse_curve", tables["curve"]),
        ("neuron_similarity", tables["neuron_similarity"]),
    ):
        write_csv(folder / f"{name}.csv", table)
    picture = curve_picture(tables["curve"], min_score)
    if picture is not None:
        write_bytes(folder / "synapse_curve.png", picture)
