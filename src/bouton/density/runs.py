"""Runs of a label along x: what labelled synapses are counted from, since nearly all voxels are background."""

from __future__ import annotations

import numpy as np
from numba import njit

_BACKGROUND = np.uint64(0)


def label_runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the runs of the labels in an array.

    Parameters
    ----------
    labels : numpy.ndarray
        Unsigned integers (z, y, x), 0 = background.

    Returns
    -------
    ids : numpy.ndarray
        uint64 (n,): the label of each run, in C order.
    runs : numpy.ndarray
        int64 (n, 4): its z, y, first x and the x behind it.
    """
    ids, runs = _runs(np.ascontiguousarray(labels))
    return ids, runs


@njit(cache=True, nogil=True)
def _next_label(row: np.ndarray, x: int) -> int:
    """Return the first place from ``x`` on that is not background, the row's length if there is none."""
    n = len(row)
    while x + 16 <= n:
        # A fixed number of voxels at once is a few vector instructions; nearly all of them are background.
        union = _BACKGROUND
        for i in range(16):
            union |= np.uint64(row[x + i])
        if union != _BACKGROUND:
            break
        x += 16
    while x < n and row[x] == _BACKGROUND:
        x += 1
    return x


@njit(cache=True, nogil=True)
def _runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    nz, ny, nx = labels.shape
    size, count = 1024, 0
    ids, runs = np.empty(size, np.uint64), np.empty((size, 4), np.int64)
    for z in range(nz):
        for y in range(ny):
            row = labels[z, y]
            x = _next_label(row, 0)
            while x < nx:
                here, first = row[x], x
                x += 1
                while x < nx and row[x] == here:
                    x += 1
                if count == size:
                    size *= 2
                    more, longer = np.empty(size, np.uint64), np.empty((size, 4), np.int64)
                    more[:count], longer[:count] = ids, runs
                    ids, runs = more, longer
                ids[count] = here
                runs[count, 0], runs[count, 1], runs[count, 2], runs[count, 3] = z, y, first, x
                count += 1
                x = _next_label(row, x)
    return ids[:count], runs[:count]
