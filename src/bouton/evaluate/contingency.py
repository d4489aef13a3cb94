"""How many voxels every true object shares with every segment: the one table from which all partition scores follow.

Rows are sums over voxels, so tables of disjoint boxes add up to the table of their union, in any order. Memory is
linear in the number of distinct pairs; voxels are read once, in runs of equal labels along x.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from bouton.errors import DataError


@dataclass(frozen=True)
class Contingency:
    """Sparse contingency table, sorted by (truth, segment), no pair twice.

    Attributes
    ----------
    truth, segment : numpy.ndarray
        uint64 (n,). ``truth`` is never 0; segment 0 (unsegmented) is a row like any other.
    count : numpy.ndarray
        int64 (n,), voxels, > 0.
    """

    truth: np.ndarray
    segment: np.ndarray
    count: np.ndarray

    @property
    def voxels(self) -> int:
        """Number of voxels counted."""
        return int(self.count.sum())

    def truth_sums(self) -> np.ndarray:
        """Return the voxels of each true object, int64, in order of its id."""
        firsts = _begins(self.truth, self.truth)
        return np.add.reduceat(self.count, firsts) if firsts.size else self.count

    def segment_sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sorted segment ids (uint64) and the voxels (int64) of each."""
        ids, inverse = np.unique(self.segment, return_inverse=True)
        sums = np.zeros(ids.size, dtype=np.int64)
        np.add.at(sums, inverse, self.count)
        return ids, sums

    def segmented(self) -> Contingency:
        """Return the table of the voxels that have a segment: without the rows of segment 0."""
        keep = self.segment != 0
        return Contingency(self.truth[keep], self.segment[keep], self.count[keep])


def count_pairs(truth: np.ndarray, segmentation: np.ndarray) -> Contingency:
    """Count the voxels of every (true object, segment) pair where the truth is not 0.

    Parameters
    ----------
    truth, segmentation : numpy.ndarray
        Integer labels of one shape, >= 0.

    Raises
    ------
    DataError
        The shapes differ or a dtype is not an integer.
    """
    gt, seg = as_labels(truth, segmentation)
    keys, counts = _count(gt.reshape(-1), seg.reshape(-1))
    used = keys[:, 0] != 0
    return sum_pairs(keys[used, 0], keys[used, 1], counts[used])


def as_labels(truth: np.ndarray, segmentation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as C-contiguous uint64 arrays of one shape; DataError where that cannot be."""
    if truth.shape != segmentation.shape:
        raise DataError(f"truth has shape {truth.shape}, segmentation {segmentation.shape}", expected="equal shapes")
    return _as_uint64(truth, "truth"), _as_uint64(segmentation, "segmentation")


def sum_pairs(truth: np.ndarray, segment: np.ndarray, count: np.ndarray) -> Contingency:
    """Add up the rows of equal (truth, segment); inputs 1-D of one length, in any order."""
    order = np.lexsort((segment, truth))
    truth, segment, count = truth[order], segment[order], count[order].astype(np.int64)
    firsts = _begins(truth, segment)
    sums = np.add.reduceat(count, firsts) if firsts.size else count
    return Contingency(truth[firsts].astype(np.uint64), segment[firsts].astype(np.uint64), sums)


def add(tables: Sequence[Contingency]) -> Contingency:
    """Return the table of the union of disjoint boxes."""
    empty = [np.zeros(0, dtype=np.uint64)]
    return sum_pairs(
        np.concatenate(empty + [t.truth for t in tables]),
        np.concatenate(empty + [t.segment for t in tables]),
        np.concatenate([np.zeros(0, dtype=np.int64)] + [t.count for t in tables]),
    )


def add_all(tables: Iterable[Contingency]) -> Contingency:
    """Return what :func:`add` does, of tables that come one after another and are not kept.

    Waiting rows are added up once they outnumber the rows of the sum, so that many small tables cost no more than
    sorting all their rows a few times.
    """
    total, waiting, rows = add([]), [], 0
    for table in tables:
        waiting.append(table)
        rows += table.count.size
        if rows > max(total.count.size, 100_000):
            total, waiting, rows = add([total, *waiting]), [], 0
    return add([total, *waiting])


def _begins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return, int64 sorted, where a row of (a, b) differs from the row before; the first always does."""
    new = np.ones(a.size, dtype=bool)
    new[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    return np.flatnonzero(new)


def _as_uint64(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.kind not in "iub":
        raise DataError(f"{name} has dtype {array.dtype}", expected="integer labels")
    if array.dtype.kind == "i" and array.size and int(array.min()) < 0:
        raise DataError(f"{name} holds the label {int(array.min())}", expected="labels >= 0")
    return np.ascontiguousarray(array, dtype=np.uint64)


@njit(cache=True, nogil=True)
def _slot(keys: np.ndarray, a: np.uint64, b: np.uint64) -> np.int64:
    """Return where (a, b) is, or goes, in an open-addressing table whose size is a power of two; key 0 is empty."""
    mask = np.uint64(len(keys) - 1)
    mixed = a * np.uint64(0x9E3779B97F4A7C15) ^ (b + np.uint64(0x632BE59BD9B4E019)) * np.uint64(0xC2B2AE3D27D4EB4F)
    slot = (mixed ^ (mixed >> np.uint64(32))) & mask
    while keys[slot, 0] != 0 and (keys[slot, 0] != a or keys[slot, 1] != b):
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)


@njit(cache=True, nogil=True)
def _grown(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wide, more = np.zeros((len(keys) * 4, 2), np.uint64), np.zeros(len(keys) * 4, np.int64)
    for i in range(len(keys)):
        if keys[i, 0] != 0:
            slot = _slot(wide, keys[i, 0], keys[i, 1])
            wide[slot, 0], wide[slot, 1], more[slot] = keys[i, 0], keys[i, 1], counts[i]
    return wide, more


@njit(cache=True, nogil=True)
def _count(truth: np.ndarray, segment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keys, counts, used = np.zeros((1 << 10, 2), np.uint64), np.zeros(1 << 10, np.int64), 0
    i = 0
    while i < len(truth):
        begin, a, b = i, truth[i], segment[i]
        i += 1
        while i < len(truth) and truth[i] == a and segment[i] == b:
            i += 1
        if a == 0:
            continue
        slot = _slot(keys, a, b)
        if keys[slot, 0] == 0:
            if used * 2 >= len(keys):
                keys, counts = _grown(keys, counts)
                slot = _slot(keys, a, b)
            keys[slot, 0], keys[slot, 1] = a, b
            used += 1
        counts[slot] += i - begin
    return keys, counts
