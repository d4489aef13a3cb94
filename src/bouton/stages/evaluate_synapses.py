"""Scores of synapses against the truth: where they are, whom they connect, in which direction, of which type."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np

from bouton.errors import SpecError
from bouton.evaluate.cremi_synapses import PartnerSites
from bouton.evaluate.curves import CURVE_COLUMNS, curve_table, score_curves
from bouton.evaluate.scores import MATCH_COLUMNS, SCORE_COLUMNS, Score, match_rows, score_table, synapse_scores
from bouton.evaluate.synapse_checks import autapses, check_synapses, check_truth_inside
from bouton.evaluate.synapse_rows import Compared, comparison_rows, curve_rows
from bouton.evaluate.synapses import (
    UNKNOWN,
    MatchRule,
    SynapseSet,
    points_nm,
    score_synapses,
    synapse_set,
    take_synapses,
)
from bouton.geometry import NM, Box
from bouton.stage import Layer, Output, Stage, Table, TableData, VolumeReader, WholePart, WholeTask

_CELL = 64


@dataclass(frozen=True)
class Params:
    """Parameters of ``evaluate_synapses``.

    Attributes
    ----------
    max_distance_nm : float
        Cleft centres at most this far apart match.
    margin_nm : float
        Synapses nearer than this to a face of the bounds are neutral: a true one there is no miss if not found, what
        is matched with it is neither right nor wrong, and an unmatched prediction there is no false positive.
    min_score : float
        Synapses with a lower score, in [0, 1], are left out of all but the curve. ``connectome`` wants the same.
    """

    max_distance_nm: float = 400.0
    margin_nm: float = 100.0
    min_score: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.max_distance_nm < inf or not 0 <= self.margin_nm < inf:
            raise SpecError(
                f"max_distance_nm = {self.max_distance_nm}, margin_nm = {self.margin_nm}",
                expected="max_distance_nm above 0, margin_nm at least 0, both finite",
            )
        if not 0 <= self.min_score <= 1:
            raise SpecError(f"min_score = {self.min_score}", expected="0 to 1")


def _score(task: WholeTask) -> Output:
    synapses, truth = task.table("synapses"), task.table("truth_synapses")
    check_tables(synapses, truth, match_rule(task.params, task.voxel_size_nm, Box.of_shape(task.shape)))
    neurons = neurons_at(synapses, task.volumes["truth"], task.voxel_size_nm, task.bounds)
    rule = match_rule(task.params, task.voxel_size_nm, task.bounds)
    return Output(tables=score_tables(synapses, truth, neurons, rule, task.params.min_score))


def match_rule(params: Params, voxel_size_nm: NM, bounds: Box) -> MatchRule:
    """Return how synapses within ``bounds`` are matched."""
    start, stop = (tuple(np.asarray(corner) * np.asarray(voxel_size_nm)) for corner in (bounds.start, bounds.stop))
    return MatchRule(params.max_distance_nm, start, stop, params.margin_nm)


def neurons_at(
    synapses: TableData, volume: VolumeReader, voxel_size_nm: NM, bounds: Box
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of ``volume`` at the pre and at the post positions of the synapses, uint64 (n,) each.

    A partner that is missing (id 0) has no neuron: its position is the cleft's, where some neuron lies by chance. In a
    table that names no partner at all, the positions alone say which they are.
    """
    named = {side: synapses[f"{side}_id"] != 0 for side in ("pre", "post")}
    by_place = not any(known.any() for known in named.values())
    pre, post = (
        labels_at(volume, points_nm(synapses, f"{side}_"), voxel_size_nm, bounds) * (known | by_place)
        for side, known in named.items()
    )
    return pre, post


def check_tables(synapses: TableData, truth: TableData, whole: MatchRule) -> None:
    """Refuse tables that cannot be scored (:func:`bouton.evaluate.synapse_checks.check_synapses`).

    ``whole`` holds the box of the whole volume: a truth that lies outside of it is one of another volume, or unit;
    a truth that has nothing in the bounds to score is legal.
    """
    check_synapses(synapses, "synapses")
    check_synapses(truth, "truth_synapses")
    check_truth_inside(points_nm(truth), whole, "truth_synapses")


def score_tables(
    synapses: TableData, truth: TableData, neurons: tuple[np.ndarray, np.ndarray], rule: MatchRule, min_score: float = 0
) -> dict[str, TableData]:
    """Score a table of synapses, whose true pre and post neurons are ``neurons``, against a true table.

    Returns
    -------
    dict
        The stage's tables.
    """
    every, true = synapse_set(synapses, neurons), synapse_set(truth)
    outside = int(replace(rule, margin_nm=0.0).neutral(true.centre_nm).sum())
    score = scores_of(synapses)
    curves = score_curves(true, every, score, rule)
    kept = score >= min_score
    table, found = {name: values[kept] for name, values in synapses.items()}, take_synapses(every, kept)
    scores = score_synapses(true, found, rule)
    matches = match_rows(scores, true, found, rule)
    ids = {
        "truth_id": truth["id"][matches.pop("truth")],
        "synapse_id": table["id"][matches.pop("predicted")],
    }
    rows = [
        *synapse_scores(scores),
        *comparison_rows(_compared(truth, true, table, found), rule),
        *curve_rows(curves),
        Score("min_score", float(min_score), "score", "", len(found)),
        Score("true_outside", float(outside), "synapses", "", len(true)),
        Score("true_autapses", float(autapses(true.pre, true.post)), "synapses", "", len(true)),
        Score("found_autapses", float(autapses(table["pre_id"], table["post_id"])), "synapses", "", len(found)),
    ]
    return {"scores": score_table(rows), "synapse_matches": ids | matches, "curve": curve_table(curves)}


def scores_of(synapses: TableData) -> np.ndarray:
    """Return the scores, float64 (n,); 1 for synapses that have none."""
    return np.asarray(synapses.get("score", np.ones(len(synapses["id"]))), dtype=np.float64)


def _compared(truth: TableData, true: SynapseSet, table: TableData, found: SynapseSet) -> Compared:
    both = (truth, true), (table, found)
    # A table all of whose targets are unknown was never asked for them.
    told = all("target" in rows and (rows["target"] != UNKNOWN).any() for rows, _ in both)
    targets = (truth["target"], table["target"]) if told else None
    sites = None
    if all(_has_sites(rows) for rows, _ in both):
        sites = _sites(truth, true), _sites(table, found)
    return Compared(true, found, (table["pre_id"], table["post_id"]), targets, sites)


def _has_sites(table: TableData) -> bool:
    """Return whether every synapse has a pre and a post site."""
    names = [f"{side}_{axis}_nm" for side in ("pre", "post") for axis in "zyx"]
    return all(name in table and np.isfinite(table[name]).all() for name in names)


def _sites(table: TableData, synapses: SynapseSet) -> PartnerSites:
    return PartnerSites(points_nm(table, "pre_"), points_nm(table, "post_"), synapses.pre, synapses.post)


def labels_at(volume: VolumeReader, positions_nm: np.ndarray, voxel_size_nm: NM, bounds: Box) -> np.ndarray:
    """Return the label at each position, uint64 (n,); 0 outside of the bounds and where a position is not known.

    Near positions share one read.
    """
    known = np.isfinite(positions_nm).all(axis=1)
    voxels = np.floor(np.where(known[:, None], positions_nm, -1.0) / np.asarray(voxel_size_nm)).astype(np.int64)
    labels = np.zeros(len(voxels), dtype=np.uint64)
    inside = known & ((voxels >= bounds.start) & (voxels < bounds.stop)).all(axis=1)
    cells, number = np.unique(voxels[inside] // _CELL, axis=0, return_inverse=True)
    rows = np.flatnonzero(inside)
    for i, members in enumerate(np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])):
        if not members.size:
            continue
        z, y, x = (int(v) for v in cells[i])
        box = Box((z * _CELL, y * _CELL, x * _CELL), ((z + 1) * _CELL, (y + 1) * _CELL, (x + 1) * _CELL)) & bounds
        local = voxels[rows[members]] - np.asarray(box.start)
        labels[rows[members]] = volume.read(box)[tuple(local[:, axis] for axis in range(3))]
    return labels


_NM = {f"{axis}_nm": "float64" for axis in "zyx"}
_TRUTH = {"id": "uint64", **_NM, "pre_id": "uint64", "post_id": "uint64", "type": "str"}
_SIDES = {f"{side}_{name}": "float64" for side in ("pre", "post") for name in _NM}

STAGE = Stage(
    version=3,
    params=Params,
    reads={
        "synapses": Table(_TRUTH | _SIDES),
        "truth_synapses": Table(_TRUTH),
        "truth": Layer(("uint64", "uint32", "uint16", "uint8"), kind="labels"),
    },
    writes=("scores", "synapse_matches", "curve"),
    parts=(
        WholePart(
            "score",
            _score,
            tables={
                "scores": Table(SCORE_COLUMNS),
                "synapse_matches": Table({"truth_id": "uint64", "synapse_id": "uint64"} | MATCH_COLUMNS),
                "curve": Table(CURVE_COLUMNS),
            },
        ),
    ),
)
