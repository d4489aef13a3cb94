"""Which cleft a voxel lies next to.

A voxel belongs to the cleft whose nearest voxel is nearest to it in nm, centre to centre; of equally near clefts to
the one with the smaller id. Along a row of voxels the nearest cleft voxel is found by one scan each way; each row then
offers what it found to the rows of its section, and each of these what is best there to the sections around. Lengths
are whole picometres, so that ties are ties on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from bouton.geometry import NM, Box, nm_to_voxels

_FREE = np.uint64(0)  # numba compares an unsigned with a plain 0 as floats


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
    nz, ny, nx = shape[0], shape[1], shape[2]
    owner, best = np.zeros((nz, ny, nx), dtype=np.uint64), np.zeros(nx, dtype=np.int64)
    first, last = np.full((nz, ny), nx), np.zeros((nz, ny), dtype=np.int64)
    ring = 2 * reach[0] + 1  # sections that a section may hear of
    names, nears = np.zeros((ring, ny, nx), dtype=np.uint64), np.zeros((ring, ny, nx), dtype=np.int64)
    lefts, rights = np.full((ring, ny), nx), np.zeros((ring, ny), dtype=np.int64)
    for z in range(start[0] - reach[0], start[0] + nz + reach[0]):
        slot = z % ring
        for y in range(ny):
            if lefts[slot, y] < rights[slot, y]:
                names[slot, y, lefts[slot, y] : rights[slot, y]] = 0
                nears[slot, y, lefts[slot, y] : rights[slot, y]] = 0
                lefts[slot, y], rights[slot, y] = nx, 0
        if 0 <= z < clefts.shape[0]:
            section = names[slot], nears[slot], lefts[slot], rights[slot]
            _offer_in_section(clefts[z], start, section, (steps, reach), limit)
        zz = z - start[0] - reach[0]
        if zz < 0:
            continue
        for y in range(ny):
            a, b = nx, 0
            for other in range(zz + start[0] - reach[0], zz + start[0] + reach[0] + 1):
                i, base = other % ring, ((other - start[0] - zz) * steps[0]) ** 2
                if lefts[i, y] < rights[i, y] and base <= limit:
                    _offer(
                        (names[i, y], nears[i, y]), (lefts[i, y], rights[i, y], 0), (owner[zz, y], best), base, limit
                    )
                    a, b = min(a, lefts[i, y]), max(b, rights[i, y])
            if a < b:
                best[a:b] = 0
                first[zz, y], last[zz, y] = _shrunk(owner[zz, y], a, b)
            else:
                first[zz, y] = last[zz, y] = 0
    return owner, first, last


@njit(cache=True, nogil=True)
def _offer_in_section(
    clefts: np.ndarray,
    start: np.ndarray,
    section: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    lengths: tuple[np.ndarray, np.ndarray],
    limit: int,
) -> None:
    """Find the nearest cleft voxel of one section (y, x) for the core's rows; and the extents of what is found."""
    (names, nears, left, right), (steps, reach) = section, lengths
    ny, nx = names.shape
    line = np.empty(clefts.shape[1], dtype=np.uint64), np.empty(clefts.shape[1], dtype=np.int64)
    for y in range(max(0, start[1] - reach[1]), min(clefts.shape[0], start[1] + ny + reach[1])):
        row = clefts[y]
        if is_empty(row):
            continue
        begin, end = _next_span(row, 0, 2 * reach[2])
        while begin < end:
            a, b = max(0, begin - reach[2]), min(len(row), end + reach[2])
            _nearest_along(row, (begin, end), (a, b), steps[2], line)
            a, b = max(a, start[2]), min(b, start[2] + nx)
            for yy in range(max(0, y - start[1] - reach[1]), min(ny, y - start[1] + reach[1] + 1)):
                base = ((yy + start[1] - y) * steps[1]) ** 2
                if a < b and base <= limit:
                    _offer(line, (a, b, start[2]), (names[yy], nears[yy]), base, limit)
                    left[yy], right[yy] = min(left[yy], a - start[2]), max(right[yy], b - start[2])
            begin, end = _next_span(row, end, 2 * reach[2])


@njit(cache=True, nogil=True)
def is_empty(row: np.ndarray) -> bool:
    """Return whether a row, uint64, holds nothing: at the speed of memory, since most rows do."""
    union = _FREE
    for x in range(len(row)):
        union |= row[x]
    return union == _FREE


@njit(cache=True, nogil=True)
def _next_span(row: np.ndarray, begin: int, gap: int) -> tuple[int, int]:
    """Return the next stretch of a row, from cleft voxel to cleft voxel, without a hole longer than ``gap``."""
    n = len(row)
    while begin < n and row[begin] == _FREE:
        begin += 1
    end = begin
    for x in range(begin, n):
        if row[x] != _FREE:
            end = x + 1
        elif x - end >= gap:
            break
    return begin, end


@njit(cache=True, nogil=True)
def _nearest_along(
    row: np.ndarray, span: tuple[int, int], within: tuple[int, int], step: int, line: tuple[np.ndarray, np.ndarray]
) -> None:
    """Write the id of, and the squared distance + 1 to, the nearest cleft voxel of a stretch of a row."""
    (begin, end), (a, b), (name, near) = span, within, line
    seen = begin
    for x in range(a, b):
        if begin <= x < end and row[x] != _FREE:
            seen = x
        near[x], name[x] = ((x - seen) * step) ** 2 + 1, row[seen]
    seen = end - 1
    for x in range(b - 1, a - 1, -1):
        if begin <= x < end and row[x] != _FREE:
            seen = x
        squared = ((seen - x) * step) ** 2 + 1
        if squared < near[x] or (squared == near[x] and row[seen] < name[x]):
            near[x], name[x] = squared, row[seen]


@njit(cache=True, nogil=True)
def _offer(
    line: tuple[np.ndarray, np.ndarray],
    at: tuple[int, int, int],
    to: tuple[np.ndarray, np.ndarray],
    base: int,
    limit: int,
) -> None:
    """Offer what voxels [a, b) of a line know, ``base`` farther away, to a row that begins at ``shift``.

    All squared distances are one too large: 0 says that nothing is known.
    """
    (name, near), (owner, best), (a, b, shift) = line, to, at
    for x in range(a, b):
        squared = base + near[x]
        if near[x] == 0 or squared > limit + 1:
            continue
        old = best[x - shift]
        if old == 0 or squared < old or (squared == old and name[x] < owner[x - shift]):
            best[x - shift], owner[x - shift] = squared, name[x]


@njit(cache=True, nogil=True)
def _shrunk(owner: np.ndarray, first: int, last: int) -> tuple[int, int]:
    while first < last and owner[first] == _FREE:
        first += 1
    while first < last and owner[last - 1] == _FREE:
        last -= 1
    return min(first, last), last
