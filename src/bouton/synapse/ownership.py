"""Which cleft a voxel lies next to.

A voxel belongs to the cleft whose nearest voxel is nearest to it in nm, centre to centre; of equally near clefts to
the one with the smaller id. Every cleft voxel on a surface offers itself to the voxels around it; inner cleft voxels
need not, since towards any voxel outside one of their neighbours is nearer.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bouton.geometry import NM, Box, nm_to_voxels


def owners(clefts: np.ndarray, core: Box, reach_nm: float, voxel_size_nm: NM) -> np.ndarray:
    """Return the cleft that each voxel of ``core`` belongs to.

    Parameters
    ----------
    clefts : numpy.ndarray
        uint64 (z, y, x): cleft ids, 0 = none, over the core and ``nm_to_voxels(reach_nm)`` around it.
    core : Box
        In coordinates of ``clefts``.
    reach_nm : float
        A voxel farther than this from every cleft belongs to none.

    Returns
    -------
    numpy.ndarray
        uint64, shape of the core; 0 = none.
    """
    offsets, squared = ball(reach_nm, voxel_size_nm)
    start, shape = np.asarray(core.start, dtype=np.int64), np.asarray(core.shape, dtype=np.int64)
    return _spread(np.ascontiguousarray(clefts, dtype=np.uint64), start, shape, offsets, squared)


def ball(reach_nm: float, voxel_size_nm: NM) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets int64 (n, 3) of at most ``reach_nm`` and their squared lengths in nm^2, float64 (n,)."""
    axes = [np.arange(-h, h + 1, dtype=np.int64) for h in nm_to_voxels(reach_nm, voxel_size_nm)]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    squared = ((offsets * np.asarray(voxel_size_nm)) ** 2).sum(axis=1)
    # The tolerance keeps a length that equals the reach inside whatever its rounding.
    near = squared <= reach_nm**2 * (1 + 1e-9)
    return offsets[near], squared[near]


@njit(cache=True, nogil=True)
def _spread(
    clefts: np.ndarray, start: np.ndarray, shape: np.ndarray, offsets: np.ndarray, squared: np.ndarray
) -> np.ndarray:
    owner = np.zeros((shape[0], shape[1], shape[2]), dtype=np.uint64)
    best = np.full(owner.shape, np.inf)
    for z in range(clefts.shape[0]):
        for y in range(clefts.shape[1]):
            for x in range(clefts.shape[2]):
                if clefts[z, y, x] == 0:
                    continue
                if _is_inner(clefts, z, y, x):
                    _offer(owner, best, clefts[z, y, x], z - start[0], y - start[1], x - start[2], 0.0)
                    continue
                for i in range(len(squared)):
                    zz = z - start[0] + offsets[i, 0]
                    yy = y - start[1] + offsets[i, 1]
                    xx = x - start[2] + offsets[i, 2]
                    _offer(owner, best, clefts[z, y, x], zz, yy, xx, squared[i])
    return owner


@njit(cache=True, nogil=True)
def _offer(owner: np.ndarray, best: np.ndarray, cleft: int, z: int, y: int, x: int, squared: float) -> None:
    if z < 0 or y < 0 or x < 0 or z >= owner.shape[0] or y >= owner.shape[1] or x >= owner.shape[2]:
        return
    if squared < best[z, y, x] or (squared == best[z, y, x] and cleft < owner[z, y, x]):
        best[z, y, x] = squared
        owner[z, y, x] = cleft


@njit(cache=True, nogil=True)
def _is_inner(clefts: np.ndarray, z: int, y: int, x: int) -> bool:
    nz, ny, nx = clefts.shape
    if z == 0 or y == 0 or x == 0 or z == nz - 1 or y == ny - 1 or x == nx - 1:
        return False
    c = clefts[z, y, x]
    if clefts[z - 1, y, x] != c or clefts[z + 1, y, x] != c:
        return False
    if clefts[z, y - 1, x] != c or clefts[z, y + 1, x] != c:
        return False
    return clefts[z, y, x - 1] == c and clefts[z, y, x + 1] == c
