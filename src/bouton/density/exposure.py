"""Where a synapse can be counted: voxels that are not masked and lie farther than a reach from every masked voxel.

A synapse beside a mask may be cut by it and missed. Leaving out these synapses but not the volume in which they would
have lain lowers densities at masks; here both go by the same voxels (minus-sampling, the border method of spatial
statistics: Ripley 1988, Statistical Inference for Spatial Processes, doi:10.1017/CBO9780511624131, section 3).

The distance is Euclidean, between voxel centres, on the anisotropic grid; lengths are whole picometres, so a distance
that equals the reach does so on every machine. A mask is kept as bits, 64 voxels of a row a word: the rows of a section
are widened along x step by step and laid over the rows around them, which makes discs, and these over the sections
around: the union of balls around all masked voxels.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from bouton.density.grid import AnalysisGrid
from bouton.geometry import NM, ZYX, Box

_WORD = 64
_ONE, _FULL, _LAST = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(63)


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
    steps, limit = _picometres(reach_nm, voxel_size_nm)
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
    steps, limit = _picometres(reach_nm, voxel_size_nm)
    z, y, x = (math.isqrt(limit) // step for step in steps)
    return z, y, x


def _picometres(reach_nm: float, voxel_size_nm: NM) -> tuple[list[int], int]:
    """Return the voxel's size, and the square of the reach: whole numbers."""
    # The tolerance keeps a length that equals the reach inside whatever its rounding.
    return [round(size * 1000) for size in voxel_size_nm], math.floor((reach_nm * 1000) ** 2 * (1 + 1e-9))


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
        _spread(packed, (core.start[0], core.start[1]), hidden, rows)
    return Exposure(masked, hidden, core.start[2], False)


def hide_rim(found: Exposure, core: Box, bounds: Box, reach: ZYX) -> Exposure:
    """Return an exposure in which voxels within the reach of what lies outside of ``bounds`` are hidden.

    Outside of a box the nearest voxel lies along one axis, so ``reach`` (:func:`reach_voxels`) tells it all.

    Parameters
    ----------
    found : Exposure
        Of the core.
    core, bounds : Box
        In voxels of the data set.
    """
    whole = Box.of_shape(core.shape)
    inner = whole & bounds.grow([-n for n in reach]).shift([-a for a in core.start])
    if inner == whole:
        return found
    masked, shift = found.masked, found.shift
    if masked.shape[:2] != core.shape[:2]:
        masked, shift = np.zeros((*core.shape[:2], -(-core.shape[2] // _WORD)), dtype=np.uint64), 0
    hidden = np.full_like(masked, _FULL)
    if not inner.is_empty:
        shown = np.zeros(masked.shape[2] * _WORD, dtype=bool)
        shown[inner.start[2] + shift : inner.stop[2] + shift] = True
        rows = inner.slices[:2]
        hidden[rows] = ~np.packbits(shown, bitorder="little").view(np.uint64)
        if not found.none:
            hidden[rows] |= found.hidden[rows]
    return Exposure(masked, hidden, shift, False)


def rim_hides(core: Box, bounds: Box, reach: ZYX) -> bool:
    """Whether all of ``core`` lies within the reach of what lies outside of ``bounds``, whatever is masked."""
    return (core & bounds.grow([-n for n in reach])).is_empty


def nothing_masked(core: Box) -> Exposure:
    """Return the exposure of a core without a mask."""
    nothing = np.zeros((0, 0, 0), dtype=np.uint64)
    return Exposure(nothing, nothing, 0, True)


def _spread(packed: np.ndarray, start: tuple[int, int], hidden: np.ndarray, rows: np.ndarray) -> None:
    """Lay the ball over every masked voxel."""
    # Offsets along z that are as far away share the disc that is laid over their section.
    discs, kind = np.unique([_disc(rows, z) for z in range(rows[:, 0].max() + 1)], axis=0, return_inverse=True)
    pad = -(-int(rows[:, 2].max()) // _WORD)  # words behind each row: what is widened beyond it meets no other row
    _lay(packed, (start[0], start[1], pad), hidden, (discs, kind.ravel()))


def _disc(rows: np.ndarray, z: int) -> np.ndarray:
    """Return the half-widths of the rows y = 0, 1, ... of the ball's section ``z``, -1 where it has none."""
    found = np.full(rows[:, 1].max() + 1, -1, dtype=np.int64)
    mine = rows[(rows[:, 0] == z) & (rows[:, 1] >= 0)]
    found[mine[:, 1]] = mine[:, 2]
    return found


@njit(cache=True, nogil=True)
def _lay(
    packed: np.ndarray, start: tuple[int, int, int], hidden: np.ndarray, ball: tuple[np.ndarray, np.ndarray]
) -> None:
    """Lay each section's discs over the sections around it."""
    (low_z, low_y, pad), (discs, kind) = start, ball
    nz, ny, words = packed.shape
    far, wide = len(kind) - 1, words + pad
    section, old = np.zeros((ny, wide), np.uint64), np.zeros((ny, wide), np.uint64)
    laid = np.zeros((len(discs), ny, wide), np.uint64)
    for z in range(nz):
        first, last = _filled(packed[z])
        if first > last:
            continue
        section[first : last + 1, :words], section[first : last + 1, words:] = packed[z, first : last + 1], 0
        top, end = max(0, first - discs.shape[1] + 1), min(ny, last + discs.shape[1])
        laid[:, top:end] = 0
        _lay_discs(section[first : last + 1], old[first : last + 1], discs, (laid, first, ny))
        top, end = max(top, low_y), min(end, low_y + hidden.shape[1])
        for away in range(-far, far + 1):
            zz = z + away - low_z
            if 0 <= zz < hidden.shape[0]:
                for y in range(top, end):
                    _add(hidden[zz, y - low_y], laid[kind[abs(away)], y, :words])


@njit(cache=True, nogil=True)
def _filled(section: np.ndarray) -> tuple[int, int]:
    """Return the first and the last row of a section that hold a bit."""
    first, last = 0, section.shape[0] - 1
    while first <= last and not section[first].any():
        first += 1
    while first <= last and not section[last].any():
        last -= 1
    return first, last


@njit(cache=True, nogil=True)
def _lay_discs(section: np.ndarray, old: np.ndarray, discs: np.ndarray, out: tuple[np.ndarray, int, int]) -> None:
    """Widen the rows of a section step by step; add them to the rows around where a disc is so wide."""
    laid, low, ny = out
    rows = section.shape[0]
    for width in range(discs.max() + 1):
        if width:
            _widen(section.ravel(), old.ravel())
        for number in range(len(discs)):
            for away in range(1 - discs.shape[1], discs.shape[1]):
                top, end = max(0, low + away), min(ny, low + away + rows)
                if discs[number, abs(away)] == width and top < end:
                    _add(laid[number, top:end].ravel(), section[top - low - away : end - low - away].ravel())


@njit(cache=True, nogil=True)
def _add(target: np.ndarray, bits: np.ndarray) -> None:
    for i in range(len(target)):
        target[i] |= bits[i]


@njit(cache=True, nogil=True)
def _widen(bits: np.ndarray, old: np.ndarray) -> None:
    """Add to a line of bits those beside them."""
    n = len(bits)
    old[:] = bits
    for i in range(n):
        bits[i] |= (old[i] << _ONE) | (old[i] >> _ONE)
    for i in range(n - 1):
        bits[i + 1] |= old[i] >> _LAST
    for i in range(n - 1):
        bits[i] |= old[i + 1] << _LAST


@intrinsic  # type: ignore[misc]
def popcount(typing: object, word: object) -> tuple[object, object]:
    """Return the number of bits of a uint64 (the processor's own instruction)."""

    def build(context: object, builder: Any, signature: object, arguments: tuple[Any, ...]) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), build


@njit(cache=True, nogil=True)
def _bits(word: np.uint64) -> int:
    return np.int64(popcount(word))  # type: ignore[call-arg, return-value]


@njit(cache=True, nogil=True)
def bits_between(row: np.ndarray, start: int, stop: int) -> int:
    """Return the number of bits of a row of words in [start, stop)."""
    if start >= stop:
        return 0
    first, last = start // _WORD, (stop - 1) // _WORD
    head = _FULL << np.uint64(start % _WORD)
    tail = _FULL >> np.uint64(_WORD - 1 - (stop - 1) % _WORD)
    found = 0
    for i in range(first, last + 1):
        word = row[i]
        if i == first:
            word &= head
        if i == last:
            word &= tail
        found += _bits(word)
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
    pieces = _pieces(edges[2] + found.shift)
    _count_bits(found.masked, (edges[0], edges[1]), pieces, masked)
    _count_bits(found.hidden, (edges[0], edges[1]), pieces, hidden)
    return masked.ravel(), (voxels - hidden).ravel()


def _pieces(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the words of the voxels between edges: block and word, int64 (n, 2), and which bits, uint64 (n,)."""
    places, bits = [], []
    for block, (start, stop) in enumerate(itertools.pairwise(edges.tolist())):
        for word in range(start // _WORD, -(-stop // _WORD)):
            low, high = max(0, start - word * _WORD), min(_WORD, stop - word * _WORD)
            places.append((block, word))
            bits.append((1 << high) - (1 << low))
    return np.array(places, dtype=np.int64).reshape(-1, 2), np.array(bits, dtype=np.uint64)


@njit(cache=True, nogil=True)
def _count_bits(
    bits: np.ndarray,
    edges: tuple[np.ndarray, np.ndarray],
    pieces: tuple[np.ndarray, np.ndarray],
    out: np.ndarray,
) -> None:
    (ez, ey), (places, chosen) = edges, pieces
    for bz in range(len(ez) - 1):
        for z in range(ez[bz], ez[bz + 1]):
            for by in range(len(ey) - 1):
                target = out[bz, by]
                for y in range(ey[by], ey[by + 1]):
                    row = bits[z, y]
                    for i in range(len(chosen)):
                        target[places[i, 0]] += _bits(row[places[i, 1]] & chosen[i])


def exposed_at(found: Exposure, places: np.ndarray) -> np.ndarray:
    """Return whether voxels are exposed, bool (n,); ``places`` int64 (n, 3), z, y, x, counted from the core's first."""
    if found.none:
        return np.ones(len(places), dtype=bool)
    at = places[:, 2] + found.shift
    words = found.hidden[places[:, 0], places[:, 1], at // _WORD]
    shown: np.ndarray = (words >> (at % _WORD).astype(np.uint64)) & _ONE == 0
    return shown
