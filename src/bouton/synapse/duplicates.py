"""One synapse found twice: rows with the same partners whose clefts lie near each other become one."""

from __future__ import annotations

import numpy as np
from numba import njit


def chains(pre: np.ndarray, post: np.ndarray, positions_nm: np.ndarray, reach_nm: float) -> np.ndarray:
    """Return the group of each synapse: same partners, and a chain of steps of at most ``reach_nm``.

    Parameters
    ----------
    pre, post : numpy.ndarray
        uint64 (n,); a synapse that lacks a partner (0) stays alone.
    positions_nm : numpy.ndarray
        float64 (n, 3).
    reach_nm : float
        Of one step, centre to centre.

    Returns
    -------
    numpy.ndarray
        int64 (n,): the smallest row of the group.
    """
    order = np.lexsort((positions_nm[:, 0], post, pre))
    return _chains(pre, post, positions_nm, order, float(reach_nm))


def keepers(group: np.ndarray, size: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return int64 (n,): for each row the row of its group that stays: the largest, of equal ones the smallest id."""
    order = np.lexsort((ids, -size, group))
    first = np.ones(order.size, dtype=bool)
    first[1:] = group[order][1:] != group[order][:-1]
    kept = np.empty(order.size, dtype=np.int64)
    kept[order] = order[np.flatnonzero(first)][np.cumsum(first) - 1]
    return kept


@njit(cache=True, nogil=True)
def _chains(pre: np.ndarray, post: np.ndarray, at: np.ndarray, order: np.ndarray, reach: float) -> np.ndarray:
    parent = np.arange(len(order))
    for i in range(len(order)):
        row = order[i]
        if pre[row] == 0 or post[row] == 0:
            continue
        for j in range(i + 1, len(order)):
            other = order[j]
            if pre[other] != pre[row] or post[other] != post[row] or at[other, 0] - at[row, 0] > reach:
                break
            squared = 0.0
            for axis in range(3):
                squared += (at[other, axis] - at[row, axis]) ** 2
            if squared <= reach * reach:
                _unite(parent, row, other)
    for i in range(len(parent)):
        parent[i] = _find(parent, i)
    return parent


@njit(cache=True, nogil=True)
def _find(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _unite(parent: np.ndarray, a: int, b: int) -> None:
    a, b = _find(parent, a), _find(parent, b)
    if a != b:
        parent[max(a, b)] = min(a, b)
