"""A point for each segment beside a cleft: of its voxels there, the one nearest to their centroid.

So the point lies inside of the segment, however it is bent.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numba import njit

from bouton.geometry import NM, ZYX
from bouton.synapse.ownership import Owned
from bouton.synapse.tables import changes

_FREE = np.uint64(0)  # numba compares an unsigned with a plain 0 as floats
TableData = Mapping[str, np.ndarray]


def nearest_voxels(
    owned: Owned, segmentation: np.ndarray, sides: TableData, start: ZYX, space: tuple[ZYX, NM]
) -> dict[str, np.ndarray]:
    """Return, for each segment beside a cleft, its voxel of the core that is nearest to its centroid there.

    Parameters
    ----------
    owned : Owned
        Over a core.
    segmentation : numpy.ndarray
        uint64 (z, y, x) over the core.
    sides : mapping
        Whole sums per (cleft, segment) of at least the clefts here, sorted, each once, as from
        :func:`bouton.synapse.sums.side_sums`.
    start : (z, y, x)
        Of the core, in voxels of the data set.
    space : (shape, voxel_size_nm)
        Shape of the whole data set and voxel size, z, y, x.

    Returns
    -------
    dict
        The rows of ``sides`` that have a voxel here, with ``squared`` float64 (nm^2) and ``point`` uint64 (global voxel
        id).
    """
    shape, voxel_size_nm = space
    count = sides["voxels"].astype(np.float64)
    centres = np.stack([sides[axis] / count for axis in "zyx"], axis=1)
    numbers = (np.asarray(start, dtype=np.int64), np.asarray(shape, dtype=np.int64))
    squared, point = _nearest(
        (owned.owner, owned.first, owned.last),
        segmentation,
        (sides["id"], sides["segment"]),
        centres,
        numbers,
        np.asarray(voxel_size_nm, dtype=np.float64),
    )
    here = point != 0
    found = {name: values[here] for name, values in sides.items()}
    return found | {"squared": squared[here], "point": point[here]}


def nearest_of(rows: TableData) -> dict[str, np.ndarray]:
    """Return the nearest row of each (id, segment); of equally near ones that with the smallest point. Sorted."""
    order = np.lexsort((rows["point"], rows["squared"], rows["segment"], rows["id"]))
    ordered = {name: values[order] for name, values in rows.items()}
    firsts = changes([ordered["id"], ordered["segment"]])
    return {name: values[firsts] for name, values in ordered.items()}


def voxel_positions(voxel: np.ndarray, shape: ZYX) -> np.ndarray:
    """Return the coordinates int64 (n, 3) of global voxel ids uint64 (n,) > 0."""
    return np.stack(np.unravel_index(voxel.astype(np.int64) - 1, shape), axis=1).astype(np.int64)


@njit(cache=True, nogil=True)
def _nearest(
    owned: tuple[np.ndarray, np.ndarray, np.ndarray],
    segmentation: np.ndarray,
    keys: tuple[np.ndarray, np.ndarray],
    centres: np.ndarray,
    numbers: tuple[np.ndarray, np.ndarray],
    size: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    owner, first, last = owned
    start, shape = numbers
    squared, point = np.zeros(len(centres)), np.zeros(len(centres), dtype=np.uint64)
    row = -1
    for z in range(owner.shape[0]):
        for y in range(owner.shape[1]):
            for x in range(first[z, y], last[z, y]):
                cleft, segment = owner[z, y, x], segmentation[z, y, x]
                if cleft == _FREE or segment == _FREE:
                    continue
                if row < 0 or keys[0][row] != cleft or keys[1][row] != segment:
                    row = _row_of(keys, cleft, segment)
                zz, yy, xx = z + start[0], y + start[1], x + start[2]
                distance = ((zz - centres[row, 0]) * size[0]) ** 2
                distance += ((yy - centres[row, 1]) * size[1]) ** 2
                distance += ((xx - centres[row, 2]) * size[2]) ** 2
                # voxels come in the order of their ids, so that the smallest of equally near ones is the first
                if point[row] == _FREE or distance < squared[row]:
                    squared[row] = distance
                    point[row] = np.uint64((zz * shape[1] + yy) * shape[2] + xx + 1)
    return squared, point


@njit(cache=True, nogil=True)
def _row_of(keys: tuple[np.ndarray, np.ndarray], cleft: int, segment: int) -> int:
    """Return the row of (cleft, segment), which is there, by bisection."""
    low, high = 0, len(keys[0])
    while low < high:
        middle = (low + high) // 2
        if keys[0][middle] < cleft or (keys[0][middle] == cleft and keys[1][middle] < segment):
            low = middle + 1
        else:
            high = middle
    return low
