"""Merges applied threshold by threshold, and the contingency table of fragments carried along.

The fragments' voxels are counted once. From one threshold to the next lower one, merges only join clusters, so rows of
the table only add up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from bouton.errors import DataError
from bouton.evaluate.contingency import Contingency


@dataclass(frozen=True)
class MergeSteps:
    """Merges, each with the first of the falling thresholds at which it applies.

    Attributes
    ----------
    a, b : numpy.ndarray
        uint64 (m,), the clusters that merge, by any of their fragments; never 0.
    step : numpy.ndarray
        int64 (m,), the number of the threshold, from 0; the number of thresholds, where it never applies.
    """

    a: np.ndarray
    b: np.ndarray
    step: np.ndarray


class ClusterWalk:
    """Joins merges, threshold by threshold; a cluster's number is that of its smallest id, and 0 is background.

    Parameters
    ----------
    merges : MergeSteps
    ids : numpy.ndarray
        uint64, any further ids that will be looked up.

    Raises
    ------
    DataError
        Background takes part in a merge.
    """

    def __init__(self, merges: MergeSteps, ids: np.ndarray) -> None:
        if len(merges.a) and min(int(merges.a.min()), int(merges.b.min())) == 0:
            raise DataError("background (0) takes part in a merge", expected="fragments' ids, above 0")
        self._ids = np.unique(np.concatenate([merges.a, merges.b, ids, np.zeros(1, np.uint64)]))
        order = np.argsort(merges.step, kind="stable")
        self._a, self._b = self.number(merges.a[order]), self.number(merges.b[order])
        self._step = merges.step[order]
        self._parent = np.arange(len(self._ids))
        self._joined = 0

    def number(self, ids: np.ndarray) -> np.ndarray:
        """Return the numbers of known ids, int64."""
        return np.searchsorted(self._ids, ids).astype(np.int64)

    def advance(self, step: int) -> None:
        """Apply the merges of all thresholds up to this one."""
        stop = int(np.searchsorted(self._step, step, side="right"))
        _unite(self._parent, self._a[self._joined : stop], self._b[self._joined : stop])
        self._joined = max(stop, self._joined)

    def clusters(self, numbers: np.ndarray) -> np.ndarray:
        """Return the present clusters of numbers, int64 of the same shape."""
        return _roots(self._parent, numbers)


@dataclass(frozen=True)
class Parts:
    """What each true object adds to the partition scores; n_ij are its voxels in segment j, n_.j all voxels of j.

    Attributes
    ----------
    split, merge : numpy.ndarray
        float64 (n,): sum over j of n_ij log2(n_i. / n_ij), and of n_ij log2(n_.j / n_ij). Bits x voxels.
    both, segment : numpy.ndarray
        float64 (n,): sum over j != 0 of n_ij^2, and of n_ij n_.j, plus n_i0 each: a voxel of segment 0 is a segment of
        its own.
    segments : int
        Segments with a voxel of a true object, without segment 0.
    """

    split: np.ndarray
    merge: np.ndarray
    both: np.ndarray
    segment: np.ndarray
    segments: int


class TableWalk:
    """A table of true objects x fragments that follows a walk.

    Attributes
    ----------
    truth : numpy.ndarray
        uint64 (n,), the true objects.
    voxels : numpy.ndarray
        float64 (n,), of each.
    """

    def __init__(self, table: Contingency, walk: ClusterWalk) -> None:
        self.truth, objects = np.unique(table.truth, return_inverse=True)
        self.voxels = np.bincount(objects, table.count, len(self.truth))
        self._walk = walk
        number = walk.number(table.segment)
        # background is cluster 0, of no merge
        self._rows = _add_up(number, objects, table.count.astype(np.int64), len(self.truth))
        self._parts: Parts | None = None

    def parts(self) -> Parts:
        """Return what each object adds at the threshold that the walk stands at."""
        cluster, objects, count = self._rows
        moved = self._walk.clusters(cluster)
        if self._parts is None or not np.array_equal(moved, cluster):
            self._rows = _add_up(moved, objects, count, len(self.truth))
            self._parts = self._sum()
        return self._parts

    def _sum(self) -> Parts:
        cluster, objects, integers = self._rows
        n, count = len(self.truth), integers.astype(np.float64)
        first = np.flatnonzero(np.diff(cluster, prepend=-1))
        whole = np.repeat(np.add.reduceat(count, first), np.diff(np.append(first, len(count))))
        inside = cluster != 0
        values = (
            count * np.log2(self.voxels[objects] / count),
            count * np.log2(whole / count),
            np.where(inside, count * count, count),
            np.where(inside, count * whole, count),
        )
        split, merge, both, segment = (np.bincount(objects, value, n) for value in values)
        return Parts(split, merge, both, segment, int(np.count_nonzero(cluster[first])))


def _add_up(
    cluster: np.ndarray, objects: np.ndarray, count: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add up the rows of equal (cluster, object); return them sorted."""
    key = cluster * n + objects
    order = np.argsort(key, kind="stable")
    key, count = key[order], count[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    return key[first] // n, key[first] % n, np.add.reduceat(count, first)


@njit(cache=True, nogil=True)
def _find(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _unite(parent: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    for k in range(len(a)):
        i, j = _find(parent, a[k]), _find(parent, b[k])
        # the smaller number stays the root: it is the cluster's number
        if i < j:
            parent[j] = i
        else:
            parent[i] = j


@njit(cache=True, nogil=True)
def _roots(parent: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    roots = np.empty(len(numbers), np.int64)
    for k in range(len(numbers)):
        roots[k] = _find(parent, numbers[k])
    return roots
