"""Attributes of fragments from other label layers, such as the soma that a fragment belongs to."""

from __future__ import annotations

import numpy as np
from numba import njit


def greatest_of(labels: np.ndarray, other: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the greatest label of ``other`` that shares a voxel with each fragment: maxima may be taken in any order.

    Parameters
    ----------
    labels : numpy.ndarray
        uint64 (z, y, x), fragments; 0 is background.
    other : numpy.ndarray
        Unsigned integers (z, y, x), below 2^63; 0 is none.
    ids : numpy.ndarray
        uint64 (n,), sorted: every fragment of ``labels``.

    Returns
    -------
    numpy.ndarray
        int64 (n,); 0 where there is none.
    """
    return _greatest(np.ascontiguousarray(labels).ravel(), np.ascontiguousarray(other).ravel(), ids)


@njit(cache=True, nogil=True)
def _greatest(labels: np.ndarray, other: np.ndarray, ids: np.ndarray) -> np.ndarray:
    greatest = np.zeros(len(ids), np.int64)
    last, row = np.uint64(0), 0
    for i in range(len(labels)):
        if other[i] == 0 or labels[i] == 0:
            continue
        if labels[i] != last:
            last, row = labels[i], np.searchsorted(ids, labels[i])
        greatest[row] = max(greatest[row], np.int64(other[i]))
    return greatest
