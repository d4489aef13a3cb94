"""Which cleft a voxel lies next to.

A voxel belongs to the cleft whose nearest voxel is nearest to it in nm, centre to centre; of equally near clefts to
the one with the smaller id. Along a row of voxels the nearest cleft voxel is found by one scan each way; the row then
offers what it found to the rows around it. Lengths are whole picometres, so that ties are ties on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from bouton.geometry import NM, Box, nm_to_voxels

_NONE = np.int64(2**62)


@dataclass(frozen=True)
class Owned:
    """The voxels of a box that belong to a cleft.

    Attributes
    ----------
    owner : numpy.ndarray
        uint64 (z, y, x): the cleft, 0 = none.
    first, last : numpy.ndarray
        int64 (z, y): along x, the first voxel of the row with an owner and the one behind the last; equal where
        there is none.
    """

    owner: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @property
    def is_empty(self) -> bool:
        """Whether no voxel belongs to any cleft."""
        return not np.any(self.first < self.last)


def owners(clefts: np.ndarray, core: Box, reach_nm: float, voxel_size_nm: NM) -> np.ndarray:
    """Return the cleft that each voxel of ``core`` belongs to, uint64, 0 = none: ``owner`` of :func:`owned`."""
    return owned(clefts, core, reach_nm, voxel_size_nm).owner


def owned(clefts: np.ndarray, core: Box, reach_nm: float, voxel_size_nm: NM) -> Owned:
    """Return which voxels of ``core`` belong to which cleft.

    Parameters
    ----------
    clefts : numpy.ndarray
        uint64 (z, y, x): cleft ids, 0 = none, over the core and ``nm_to_voxels(reach_nm)`` around it.
    core : Box
        In coordinates of ``clefts``.
    reach_nm : float
        A voxel farther than this from every cleft belongs to none.
    """
    start, shape = np.asarray(core.start, dtype=np.int64), np.asarray(core.shape, dtype=np.int64)
    steps = np.asarray([round(size * 1000) for size in voxel_size_nm], dtype=np.int64)
    # The tolerance keeps a length that equals the reach inside whatever its rounding.
    limit = math.floor((reach_nm * 1000) ** 2 * (1 + 1e-9))
    reach = np.asarray(nm_to_voxels(reach_nm, voxel_size_nm), dtype=np.int64)
    return Owned(*_spread(np.ascontiguousarray(clefts, dtype=np.uint64), (start, shape), steps, reach, limit))


@njit(cache=True, nogil=True)
def _spread(
    clefts: np.ndarray, core: tuple[np.ndarray, np.ndarray], steps: np.ndarray, reach: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    start, shape = core
    owner = np.zeros((shape[0], shape[1], shape[2]), dtype=np.uint64)
    best = np.zeros((shape[0], shape[1], shape[2]), dtype=np.int64)  # squared distance + 1; 0 = none yet
    first, last = np.full((shape[0], shape[1]), shape[2]), np.zeros((shape[0], shape[1]), dtype=np.int64)
    near, name = np.empty(clefts.shape[2], dtype=np.int64), np.empty(clefts.shape[2], dtype=np.uint64)
    for z in range(clefts.shape[0]):
        for y in range(clefts.shape[1]):
            row = clefts[z, y]
            begin, end = _next_span(row, 0, 2 * reach[2])
            while begin < end:
                _nearest_along(row, begin, end, reach[2], steps[2], near, name)
                at = (z - start[0], y - start[1], start[2], begin, end)
                _offer((owner, best), (first, last), at, (near, name), (steps, reach, limit))
                begin, end = _next_span(row, end, 2 * reach[2])
    for z in range(shape[0]):
        for y in range(shape[1]):
            if first[z, y] > last[z, y]:
                first[z, y] = last[z, y]
    return owner, first, last


@njit(cache=True, nogil=True)
def _next_span(row: np.ndarray, begin: int, gap: int) -> tuple[int, int]:
    """Return the next stretch of a row, from cleft voxel to cleft voxel, without a hole longer than ``gap``."""
    n = len(row)
    while begin < n and row[begin] == 0:
        begin += 1
    end = begin
    for x in range(begin, n):
        if row[x] != 0:
            end = x + 1
        elif x - end >= gap:
            break
    return begin, end


@njit(cache=True, nogil=True)
def _nearest_along(
    row: np.ndarray, begin: int, end: int, reach: int, step: int, near: np.ndarray, name: np.ndarray
) -> None:
    """Write the squared distance to, and the id of, the nearest cleft voxel of the stretch [begin, end) of a row."""
    a, b = max(0, begin - reach), min(len(row), end + reach)
    seen = -1
    for x in range(a, b):
        if begin <= x < end and row[x] != 0:
            seen = x
        near[x] = _NONE if seen < 0 else ((x - seen) * step) ** 2
        name[x] = row[max(seen, 0)]  # never asked for where near is _NONE
    seen = -1
    for x in range(b - 1, a - 1, -1):
        if begin <= x < end and row[x] != 0:
            seen = x
        if seen >= 0:
            squared = ((seen - x) * step) ** 2
            if squared < near[x] or (squared == near[x] and row[seen] < name[x]):
                near[x], name[x] = squared, row[seen]


@njit(cache=True, nogil=True)
def _offer(
    fields: tuple[np.ndarray, np.ndarray],
    extents: tuple[np.ndarray, np.ndarray],
    at: tuple[int, int, int, int, int],
    line: tuple[np.ndarray, np.ndarray],
    lengths: tuple[np.ndarray, np.ndarray, int],
) -> None:
    """Offer what lies along a stretch of a row to the rows within reach."""
    (owner, best), (first, last), (near, name) = fields, extents, line
    z, y, shift, begin, end = at
    steps, reach, limit = lengths
    nz, ny, nx = owner.shape
    for zz in range(max(0, z - reach[0]), min(nz, z + reach[0] + 1)):
        for yy in range(max(0, y - reach[1]), min(ny, y + reach[1] + 1)):
            base = ((zz - z) * steps[0]) ** 2 + ((yy - y) * steps[1]) ** 2
            if base > limit:
                continue
            side = min(reach[2], np.int64(math.sqrt(limit - base) / steps[2]) + 1)
            a, b = max(shift, begin - side, 0), min(nx + shift, end + side, len(near))
            for x in range(a, b):
                squared = base + near[x]
                if squared > limit:
                    continue
                old = best[zz, yy, x - shift]
                if old == 0 or squared + 1 < old or (squared + 1 == old and name[x] < owner[zz, yy, x - shift]):
                    best[zz, yy, x - shift] = squared + 1
                    owner[zz, yy, x - shift] = name[x]
                    first[zz, yy] = min(first[zz, yy], x - shift)
                    last[zz, yy] = max(last[zz, yy], x - shift + 1)
