"""Scores of synapses against the truth: where they are, whom they connect, in which direction, of which type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.errors import SpecError
from bouton.evaluate.scores import MATCH_COLUMNS, SCORE_COLUMNS, match_rows, score_table, synapse_scores
from bouton.evaluate.synapses import MatchRule, SynapseSet, score_synapses
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
    """

    max_distance_nm: float = 400.0
    margin_nm: float = 100.0

    def __post_init__(self) -> None:
        if self.max_distance_nm <= 0 or self.margin_nm < 0:
            raise SpecError(
                f"max_distance_nm = {self.max_distance_nm}, margin_nm = {self.margin_nm}",
                expected="max_distance_nm above 0, margin_nm at least 0",
            )


def _score(task: WholeTask) -> Output:
    synapses, truth = task.table("synapses"), task.table("truth_synapses")
    neurons = neurons_at(synapses, task.volumes["truth"], task.voxel_size_nm, task.bounds)
    scores, matches = score_tables(synapses, truth, neurons, match_rule(task.params, task.voxel_size_nm, task.bounds))
    return Output(tables={"scores": scores, "synapse_matches": matches})


def match_rule(params: Params, voxel_size_nm: NM, bounds: Box) -> MatchRule:
    """Return how synapses within ``bounds`` are matched."""
    start, stop = (tuple(np.asarray(corner) * np.asarray(voxel_size_nm)) for corner in (bounds.start, bounds.stop))
    return MatchRule(params.max_distance_nm, start, stop, params.margin_nm)


def neurons_at(
    synapses: TableData, volume: VolumeReader, voxel_size_nm: NM, bounds: Box
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of ``volume`` at the pre and at the post positions of the synapses, uint64 (n,) each."""
    pre = labels_at(volume, centres(synapses, "pre_"), voxel_size_nm, bounds)
    return pre, labels_at(volume, centres(synapses, "post_"), voxel_size_nm, bounds)


def score_tables(
    synapses: TableData, truth: TableData, neurons: tuple[np.ndarray, np.ndarray], rule: MatchRule
) -> tuple[TableData, TableData]:
    """Score a table of synapses, whose true pre and post neurons are ``neurons``, against a true table.

    Returns
    -------
    scores, synapse_matches
        The stage's two tables.
    """
    true = SynapseSet(centres(truth), truth["pre_id"], truth["post_id"], truth["type"])
    predicted = SynapseSet(centres(synapses), *neurons, synapses["type"])
    scores = score_synapses(true, predicted, rule)
    matches = match_rows(scores, true, predicted, rule)
    ids = {
        "truth_id": truth["id"][matches.pop("truth")],
        "synapse_id": synapses["id"][matches.pop("predicted")],
    }
    return score_table(synapse_scores(scores)), ids | matches


def centres(table: TableData, prefix: str = "") -> np.ndarray:
    """Return positions, float64 (n, 3) z, y, x in nm, from the columns ``<prefix>z_nm`` ..."""
    return np.stack([table[f"{prefix}{axis}_nm"].astype(np.float64) for axis in "zyx"], axis=1)


def labels_at(volume: VolumeReader, positions_nm: np.ndarray, voxel_size_nm: NM, bounds: Box) -> np.ndarray:
    """Return the label at each position, uint64 (n,); 0 outside of the bounds. Near positions share one read."""
    voxels = np.floor(positions_nm / np.asarray(voxel_size_nm)).astype(np.int64)
    labels = np.zeros(len(voxels), dtype=np.uint64)
    inside = ((voxels >= bounds.start) & (voxels < bounds.stop)).all(axis=1)
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
    version=1,
    params=Params,
    reads={
        "synapses": Table(_TRUTH | _SIDES),
        "truth_synapses": Table(_TRUTH),
        "truth": Layer(("uint64", "uint32", "uint16", "uint8"), kind="labels"),
    },
    writes=("scores", "synapse_matches"),
    parts=(
        WholePart(
            "score",
            _score,
            tables={
                "scores": Table(SCORE_COLUMNS),
                "synapse_matches": Table({"truth_id": "uint64", "synapse_id": "uint64"} | MATCH_COLUMNS),
            },
        ),
    ),
)
