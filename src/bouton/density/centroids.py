"""Centroids of labelled synapses from integer sums, which add up over blocks in any order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit

from bouton.geometry import ZYX

SUM_COLUMNS = {"id": "uint64", **dict.fromkeys(("voxels", "z", "y", "x"), "int64")}
"""Voxels of each label, and the sums of their coordinates in voxels of the data set."""

_BACKGROUND = np.uint64(0)


def label_sums(labels: np.ndarray, start: ZYX) -> dict[str, np.ndarray]:
    """Return the sums of the labels in an array.

    Parameters
    ----------
    labels : numpy.ndarray
        Unsigned integers (z, y, x), 0 = background.
    start : (z, y, x)
        Where its first voxel lies in the data set.

    Returns
    -------
    dict
        ``SUM_COLUMNS``, sorted by id.
    """
    return add_sums(dict(zip(SUM_COLUMNS, _run_sums(np.ascontiguousarray(labels), np.asarray(start)), strict=True)))


def add_sums(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return one row a label, sorted by id."""
    order = np.argsort(rows["id"], kind="stable")
    ids = rows["id"][order]
    firsts = np.flatnonzero(np.concatenate([np.ones(min(1, ids.size), bool), ids[1:] != ids[:-1]]))
    sums = {name: rows[name][order] for name in SUM_COLUMNS if name != "id"}
    if firsts.size:
        sums = {name: np.add.reduceat(values, firsts) for name, values in sums.items()}
    return {"id": ids[firsts], **sums}


def centroid_voxels(sums: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the voxel that holds the centroid of each label, int64 (n, 3), z, y, x; exact."""
    voxels = sums["voxels"]
    # The mean of the voxels' centres is sum / n + 1/2.
    return np.stack([(2 * sums[axis] + voxels) // (2 * voxels) for axis in "zyx"], axis=1)


@njit(cache=True, nogil=True)
def next_label(row: np.ndarray, x: int) -> int:
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
def _run_sums(
    labels: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a row for each run of a label along x."""
    nz, ny, nx = labels.shape
    size, count = 1024, 0
    ids, sums = np.empty(size, np.uint64), np.empty((4, size), np.int64)
    for z in range(nz):
        for y in range(ny):
            row = labels[z, y]
            x = next_label(row, 0)
            while x < nx:
                here, first = row[x], x
                x += 1
                while x < nx and row[x] == here:
                    x += 1
                if count == size:
                    size *= 2
                    more, wider = np.empty(size, np.uint64), np.empty((4, size), np.int64)
                    more[:count], wider[:, :count] = ids, sums
                    ids, sums = more, wider
                n = x - first
                ids[count], sums[0, count] = here, n
                sums[1, count], sums[2, count] = n * (z + start[0]), n * (y + start[1])
                sums[3, count] = n * (first + x - 1) // 2 + n * start[2]
                count += 1
                x = next_label(row, x)
    return ids[:count], sums[0, :count], sums[1, :count], sums[2, :count], sums[3, :count]
