"""Scores of synapses against the truth: where they are, whom they connect, in which direction, of which type."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.errors import SpecError
from bouton.evaluate.scores import MATCH_COLUMNS, SCORE_COLUMNS, match_rows, score_table, synapse_scores
from bouton.evaluate.synapses import MatchRule, SynapseSet, score_synapses
from bouton.geometry import Box
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
    truth_table, predicted_table = task.table("truth_synapses"), task.table("synapses")
    size = np.asarray(task.voxel_size_nm)
    rule = MatchRule(
        task.params.max_distance_nm,
        tuple(np.asarray(task.bounds.start) * size),
        tuple(np.asarray(task.bounds.stop) * size),
        task.params.margin_nm,
    )
    truth = SynapseSet(centres(truth_table), truth_table["pre_id"], truth_table["post_id"], truth_table["type"])
    sides = [
        labels_at(task.volumes["truth"], centres(predicted_table, f"{side}_"), task.voxel_size_nm, task.bounds)
        for side in ("pre", "post")
    ]
    predicted = SynapseSet(centres(predicted_table), sides[0], sides[1], predicted_table["type"])
    scores = score_synapses(truth, predicted, rule)
    matches = match_rows(scores, truth, predicted, rule)
    ids = {
        "truth_id": truth_table["id"][matches.pop("truth")],
        "synapse_id": predicted_table["id"][matches.pop("predicted")],
    }
    return Output(tables={"scores": score_table(synapse_scores(scores)), "synapse_matches": ids | matches})


def centres(table: TableData, prefix: str = "") -> np.ndarray:
    """Return positions, float64 (n, 3) z, y, x in nm, from the columns ``<prefix>z_nm`` ..."""
    return np.stack([table[f"{prefix}{axis}_nm"].astype(np.float64) for axis in "zyx"], axis=1)


def labels_at(volume: VolumeReader, positions_nm: np.ndarray, voxel_size_nm: tuple, bounds: Box) -> np.ndarray:
    """Return the label at each position, uint64 (n,); 0 outside of the bounds. Near positions share one read."""
    voxels = np.floor(positions_nm / np.asarray(voxel_size_nm)).astype(np.int64)
    labels = np.zeros(len(voxels), dtype=np.uint64)
    inside = ((voxels >= bounds.start) & (voxels < bounds.stop)).all(axis=1)
    cells, number = np.unique(voxels[inside] // _CELL, axis=0, return_inverse=True)
    rows = np.flatnonzero(inside)
    for i, members in enumerate(np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])):
        if not members.size:
            continue
        start = tuple(int(v) * _CELL for v in cells[i])
        box = Box(start, tuple(v + _CELL for v in start)) & bounds
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
