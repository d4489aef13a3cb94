"""Doubts about the truth: what it has twice, what annotators disagree on, whether it fits its volume."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from bouton.cli.trace_run import Traced
from bouton.evaluate.matching import match_points
from bouton.evaluate.synapses import SynapseSet, points_nm
from bouton.stages.evaluate_synapses import neurons_at
from bouton.volume import TableData
from bouton.volume.synapse_columns import POST_COLUMNS, PRE_COLUMNS

TWICE_NM = 150.0
"""Two true synapses of the same two neurons, in the same direction, nearer than this are one that was drawn twice."""


def doubted(true: SynapseSet, rows: np.ndarray, distance_nm: float, second: TableData | None) -> np.ndarray:
    """Return which rows have no two true partners, or none of the second annotator's synapses, bool (n,)."""
    found = (true.pre[rows] == true.post[rows]) | (true.pre[rows] == 0) | (true.post[rows] == 0)
    if second is not None:
        found |= ~np.isin(rows, match_points(true.centre_nm, points_nm(second), distance_nm).truth)
    return np.asarray(found)


def twice_in_truth(true: SynapseSet, rows: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the row that each of ``rows`` repeats, int64 (n,); -1 where it is the only one.

    Of several that are the same the one that was found (rows in ``found``) is no repetition, else the first.
    """
    repeats = np.full(len(rows), -1, np.int64)
    if not len(rows):
        return repeats
    right = set(found.tolist())
    near = cKDTree(true.centre_nm).query_ball_point(true.centre_nm[rows], TWICE_NM, return_sorted=True)
    for i, (row, others) in enumerate(zip(rows.tolist(), near, strict=True)):
        same = [o for o in others if true.pre[o] == true.pre[row] and true.post[o] == true.post[row]]
        first = min(same, key=lambda o: (o not in right, o))
        if first != row:
            repeats[i] = first
    return repeats


def same_neurons(true: SynapseSet, neurons: tuple[np.ndarray, np.ndarray], seen: tuple) -> np.ndarray:
    """Return where the partners of pairs (true rows, predicted rows or -1) lie in the true two neurons, bool (n,)."""
    rows, pair = seen
    pre, post = (of[pair] if len(of) else np.zeros(len(pair), np.uint64) for of in neurons)
    return np.asarray((pair >= 0) & (pre == true.pre[rows]) & (post == true.post[rows]))


def misplaced(traced: Traced) -> str:
    """Return a warning where most true synapses' partner points do not lie in the cells that they name, else ""."""
    truth = traced.truth
    if "truth" not in traced.sources or any(name not in truth for name in (*PRE_COLUMNS, *POST_COLUMNS)):
        return ""
    inside = np.ones(len(truth["id"]), bool)
    for side in ("pre_", "post_"):
        voxel = np.floor(points_nm(truth, side) / np.asarray(traced.voxel_size_nm))
        inside &= ((voxel >= traced.bounds.start) & (voxel < traced.bounds.stop)).all(axis=1)
    if not inside.any():
        return ""
    rows = {name: values[inside] for name, values in truth.items()}
    pre, post = neurons_at(rows, traced.sources["truth"], traced.voxel_size_nm, traced.bounds)
    right = int(((pre == rows["pre_id"]) & (post == rows["post_id"])).sum())
    n = int(inside.sum())
    if 2 * right >= n:
        return ""
    return (
        f"the points of {n - right} of {n} true synapses do not lie in the cells that they name: axes, units or ids of "
        "the truth may be wrong; ask bouton check-truth before you believe what follows"
    )
