"""Where a synapse can be counted: voxels that are not masked and lie farther than a reach from every masked voxel.

A synapse beside a mask may be cut by it and missed. Leaving out these synapses but not the volume in which they would
have lain lowers densities at masks; here both go by the same voxels (minus-sampling, the border method of spatial
statistics: Ripley 1988, Statistical Inference for Spatial Processes, doi:10.1017/CBO9780511624131, section 3).

The distance is Euclidean, between voxel centres, on the anisotropic grid; lengths are whole picometres, so a distance
that equals the reach does so on every machine. A mask is kept as bits, 64 voxels of a row a word: a row of masked
voxels is widened along x and laid over the rows around it, once for each offset (z, y) of the ball. Only masked voxels
with an unmasked neighbour matter, for one of them is nearest to any voxel outside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from bouton.density.grid import AnalysisGrid
from bouton.geometry import NM, ZYX, Box

_WORD = 64
_ONE, _FULL, _LAST = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(63)
_ZERO = np.uint64(0)
_M1, _M2, _M4 = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)
_H1, _S1, _S2, _S4, _S56 = np.uint64(0x0101010101010101), np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)


@dataclass(frozen=True)
class Exposure:
    """Which voxels of a core are masked, and in which synapses do not count, as bits.

    Attributes
    ----------
    masked, hidden : numpy.ndarray
        uint64 (z, y, words) over the core's z and y; bit ``i % 64`` of word ``i // 64`` is the voxel ``i``, counted
        from ``shift`` voxels below the core's first. Masked voxels are hidden, and those within the reach of one.
    shift : int
    none : bool
        Nothing is hidden.
    """

    masked: np.ndarray
    hidden: np.ndarray
    shift: int
    none: bool


def ball(reach_nm: float, voxel_size_nm: NM) -> np.ndarray:
    """Return the rows of a ball of voxels, int64 (n, 3): offset along z, along y, half-width along x; by half-width."""
    steps = [round(size * 1000) for size in voxel_size_nm]
    # The tolerance keeps a length that equals the reach inside whatever its rounding.
    limit = math.floor((reach_nm * 1000) ** 2 * (1 + 1e-9))
    most = [math.isqrt(limit) // step for step in steps]
    rows = []
    for z in range(-most[0], most[0] + 1):
        for y in range(-most[1], most[1] + 1):
            left = limit - (z * steps[0]) ** 2 - (y * steps[1]) ** 2
            if left >= 0:
                rows.append((z, y, math.isqrt(left) // steps[2]))
    return np.array(sorted(rows, key=lambda row: row[2]), dtype=np.int64)


def reach_voxels(reach_nm: float, voxel_size_nm: NM) -> ZYX:
    """Return how many voxels away along each axis a masked voxel hides others."""
    z, y, x = (int(value) for value in np.abs(ball(reach_nm, voxel_size_nm)).max(axis=0))
    return z, y, x


def pack(mask: np.ndarray) -> np.ndarray:
    """Return the voxels above 0 of a mask (z, y, x) as bits, uint64 (z, y, words)."""
    nz, ny, nx = mask.shape
    words = -(-nx // _WORD)
    packed = np.zeros((nz, ny, words * 8), dtype=np.uint8)
    small = mask if mask.dtype in (np.uint8, np.bool_) else mask > 0
    packed[:, :, : -(-nx // 8)] = np.packbits(small, axis=-1, bitorder="little")
    return packed.view(np.uint64)


def exposure(mask: np.ndarray, core: Box, reach_nm: float, voxel_size_nm: NM) -> Exposure:
    """Return which voxels of ``core`` are masked and hidden.

    Parameters
    ----------
    mask : numpy.ndarray
        Unsigned (z, y, x): above 0 = masked, over the core and :func:`reach_voxels` around it (or less at bounds).
    core : Box
        In voxels of ``mask``.
    reach_nm : float
        Voxels at most this far from a masked one are hidden.
    """
    packed = pack(mask)
    masked = packed[core.slices[:2]]
    if not packed.any():
        return Exposure(masked, masked, core.start[2], True)
    hidden = masked.copy()
    rows = ball(reach_nm, voxel_size_nm)
    if len(rows) > 1 or rows[0, 2]:
        _spread(packed, np.asarray(core.start[:2]), hidden, rows)
    return Exposure(masked, hidden, core.start[2], False)


def nothing_masked(core: Box) -> Exposure:
    """Return the exposure of a core without a mask."""
    nothing = np.zeros((0, 0, 0), dtype=np.uint64)
    return Exposure(nothing, nothing, 0, True)


@njit(cache=True, nogil=True)
def _spread(packed: np.ndarray, start: np.ndarray, hidden: np.ndarray, rows: np.ndarray) -> None:
    """Lay the ball over every masked voxel that has an unmasked neighbour."""
    nz, ny, words = packed.shape
    wide, old = np.zeros(words, np.uint64), np.zeros(words, np.uint64)
    for z in range(nz):
        for y in range(ny):
            lowest, highest = _rim(packed, z, y, wide)
            if lowest > highest:
                continue
            width, first, last = 0, lowest // _WORD, highest // _WORD
            for i in range(rows.shape[0]):
                zz, yy = z + rows[i, 0] - start[0], y + rows[i, 1] - start[1]
                while width < rows[i, 2]:
                    width += 1
                    first = max(0, lowest - width) // _WORD
                    last = min(words - 1, (highest + width) // _WORD)
                    _widen(wide, old, first, last)
                if 0 <= zz < hidden.shape[0] and 0 <= yy < hidden.shape[1]:
                    target = hidden[zz, yy]
                    for word in range(first, last + 1):
                        target[word] |= wide[word]


@njit(cache=True, nogil=True)
def _rim(packed: np.ndarray, z: int, y: int, out: np.ndarray) -> tuple[int, int]:
    """Write the masked voxels of a row that have an unmasked neighbour; return the least and most where they may be."""
    nz, ny, words = packed.shape
    row = packed[z, y]
    first, last = words, -1  # words
    inner = 0 < z < nz - 1 and 0 < y < ny - 1
    for i in range(words):
        here = row[i]
        if here == _ZERO:
            out[i] = _ZERO
            continue
        if inner:
            left = (here << _ONE) | (row[i - 1] >> _LAST if i > 0 else _ZERO)
            right = (here >> _ONE) | (row[i + 1] << _LAST if i < words - 1 else _ZERO)
            around = packed[z - 1, y, i] & packed[z + 1, y, i] & packed[z, y - 1, i] & packed[z, y + 1, i]
            here &= ~(left & right & around)
        out[i] = here
        if here != _ZERO:
            first, last = min(first, i), i
    return first * _WORD, last * _WORD + _WORD - 1


@njit(cache=True, nogil=True)
def _widen(wide: np.ndarray, old: np.ndarray, first: int, last: int) -> None:
    """Add to the bits of a row those beside them."""
    old[first : last + 1] = wide[first : last + 1]
    for i in range(first, last + 1):
        here = old[i]
        found = here | (here << _ONE) | (here >> _ONE)
        if i > first:
            found |= old[i - 1] >> _LAST
        if i < last:
            found |= old[i + 1] << _LAST
        wide[i] = found


@njit(cache=True, nogil=True)
def popcount(word: np.uint64) -> np.int64:
    """Return the number of bits of a word."""
    word -= (word >> _S1) & _M1
    word = (word & _M2) + ((word >> _S2) & _M2)
    word = (word + (word >> _S4)) & _M4
    return np.int64((word * _H1) >> _S56)


@njit(cache=True, nogil=True)
def bits_between(row: np.ndarray, start: int, stop: int) -> np.int64:
    """Return the number of bits of a row of words in [start, stop)."""
    if start >= stop:
        return np.int64(0)
    first, last = start // _WORD, (stop - 1) // _WORD
    head = _FULL << np.uint64(start % _WORD)
    tail = _FULL >> np.uint64(_WORD - 1 - (stop - 1) % _WORD)
    if first == last:
        return popcount(row[first] & head & tail)
    found = popcount(row[first] & head) + popcount(row[last] & tail)
    for i in range(first + 1, last):
        found += popcount(row[i])
    return found


def count_voxels(found: Exposure, grid: AnalysisGrid, core: Box) -> tuple[np.ndarray, np.ndarray]:
    """Return the masked and the exposed voxels of each block inside of the core.

    Parameters
    ----------
    found : Exposure
        Of the core.
    grid : AnalysisGrid
    core : Box
        In voxels of the data set.

    Returns
    -------
    masked, exposed : numpy.ndarray
        int64 (n,), for the blocks ``grid.numbers(grid.met(core))``.
    """
    edges = [grid.edges(core, axis) for axis in range(3)]
    sizes = [np.diff(each) for each in edges]
    voxels = sizes[0][:, None, None] * sizes[1][:, None] * sizes[2]
    if found.none:
        return np.zeros(voxels.size, dtype=np.int64), voxels.ravel()
    masked, hidden = (np.zeros(voxels.shape, dtype=np.int64) for _ in range(2))
    _count_bits((found.masked, found.hidden), (edges[0], edges[1], edges[2]), found.shift, (masked, hidden))
    return masked.ravel(), (voxels - hidden).ravel()


@njit(cache=True, nogil=True)
def _count_bits(
    bits: tuple[np.ndarray, np.ndarray],
    edges: tuple[np.ndarray, np.ndarray, np.ndarray],
    shift: int,
    out: tuple[np.ndarray, np.ndarray],
) -> None:
    ez, ey, ex = edges
    masked, hidden = bits
    for bz in range(len(ez) - 1):
        for z in range(ez[bz], ez[bz + 1]):
            for by in range(len(ey) - 1):
                for y in range(ey[by], ey[by + 1]):
                    for bx in range(len(ex) - 1):
                        a, b = ex[bx] + shift, ex[bx + 1] + shift
                        count = bits_between(hidden[z, y], a, b)
                        if count:
                            out[1][bz, by, bx] += count
                            out[0][bz, by, bx] += bits_between(masked[z, y], a, b)


def exposed_at(found: Exposure, places: np.ndarray) -> np.ndarray:
    """Return whether voxels are exposed, bool (n,); ``places`` int64 (n, 3), z, y, x, counted from the core's first."""
    if found.none:
        return np.ones(len(places), dtype=bool)
    at = places[:, 2] + found.shift
    words = found.hidden[places[:, 0], places[:, 1], at // _WORD]
    shown: np.ndarray = (words >> (at % _WORD).astype(np.uint64)) & _ONE == 0
    return shown
