"""Centroids of labelled synapses from integer sums, which add up over blocks in any order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bouton.density.runs import label_runs
from bouton.density.sums import summed
from bouton.geometry import ZYX

SUM_COLUMNS = {"id": "uint64", **dict.fromkeys(("voxels", "z", "y", "x"), "int64")}
"""Voxels of each label, and the sums of their coordinates in voxels of the data set."""


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
    ids, runs = label_runs(labels)
    z, y, first, stop = (runs[:, column] for column in range(4))
    voxels = stop - first
    x_sum = voxels * (first + stop - 1) // 2 + voxels * start[2]
    sums = (voxels, voxels * (z + start[0]), voxels * (y + start[1]), x_sum)
    return add_sums(dict(zip(SUM_COLUMNS, (ids, *sums), strict=True)))


def add_sums(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return one row a label, sorted by id."""
    return summed([{name: rows[name] for name in SUM_COLUMNS}], ("id",), tuple(SUM_COLUMNS)[1:])


def centroid_voxels(sums: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the voxel that holds the centroid of each label, int64 (n, 3), z, y, x; exact."""
    voxels = sums["voxels"]
    # The mean of the voxels' centres is sum / n + 1/2.
    return np.stack([(2 * sums[axis] + voxels) // (2 * voxels) for axis in "zyx"], axis=1)
