"""How many voxels every true object shares with every segment: the one table from which all partition scores follow.

Rows are sums over voxels, so tables of disjoint boxes add up to the table of their union, in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    if truth.shape != segmentation.shape:
        raise DataError(f"truth has shape {truth.shape}, segmentation {segmentation.shape}", expected="equal shapes")
    gt, seg = _as_labels(truth, "truth"), _as_labels(segmentation, "segmentation")
    # Labels run in long stretches along x: counting stretches first leaves little to sort.
    begins = _begins(gt, seg)
    lengths = np.diff(np.append(begins, gt.size))
    inside = gt[begins] != 0
    return sum_pairs(gt[begins][inside], seg[begins][inside], lengths[inside])


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


def _begins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return, int64 sorted, where a row of (a, b) differs from the row before; the first always does."""
    new = np.ones(a.size, dtype=bool)
    new[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    return np.flatnonzero(new)


def _as_labels(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.kind not in "iub":
        raise DataError(f"{name} has dtype {array.dtype}", expected="integer labels")
    flat = np.ascontiguousarray(array).reshape(-1)
    if array.dtype.kind == "i" and flat.size and int(flat.min()) < 0:
        raise DataError(f"{name} holds the label {int(flat.min())}", expected="labels >= 0")
    return flat.astype(np.uint64)
