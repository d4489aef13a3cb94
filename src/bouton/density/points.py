"""Synapses as points: the voxel and the block of tissue that each lies in, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from bouton.density.exposure import Exposure, exposed_at
from bouton.density.grid import AnalysisGrid
from bouton.errors import DataError
from bouton.geometry import NM, ZYX, Box

_FEW = 20  # so many positions by chance all in a corner: no
_CORNER = 0.05
_NAMED = 6


@dataclass(frozen=True)
class Points:
    """Synapses sorted by block.

    Attributes
    ----------
    voxel : numpy.ndarray
        uint64 (n,): the voxel's id (:func:`bouton.geometry.voxel_ids`).
    flags : numpy.ndarray
        uint8 (n,): bit ``i`` says that the synapse is of the i-th kind.
    starts : numpy.ndarray
        int64 (blocks + 1,): the synapses of block ``n`` are those from ``starts[n]`` on.
    """

    voxel: np.ndarray
    flags: np.ndarray
    starts: np.ndarray


def check_positions(positions_nm: Sequence[np.ndarray], shape: ZYX, voxel_size_nm: NM, bounds: Box) -> None:
    """Refuse positions that cannot be those of synapses of this volume, in nm.

    Parameters
    ----------
    positions_nm : sequence of numpy.ndarray
        z, y and x, float64 (n,).
    shape : (z, y, x)
        Of the data set.
    bounds : Box
        What is analysed.

    Raises
    ------
    DataError
        A position is no number, lies outside of the volume, or they all lie in such a corner that they seem to be
        voxels or um.
    """
    count = len(positions_nm[0])
    lost = np.zeros(count, dtype=bool)
    outside = np.zeros(count, dtype=bool)
    extent = [n * size for n, size in zip(shape, voxel_size_nm, strict=True)]
    for values, most in zip(positions_nm, extent, strict=True):
        lost |= ~np.isfinite(values)
        outside |= (values < 0) | (values >= most)
    if lost.any():
        raise DataError(
            f"{lost.sum()} of {count} synapses without a position", where="synapses",
            expected="numbers in z_nm, y_nm, x_nm", fix="leave these rows out, or give their positions",
        )  # fmt: skip
    if outside.any():
        row = int(outside.argmax())
        place = ", ".join(f"{values[row]:g}" for values in positions_nm)
        raise DataError(
            f"{outside.sum()} of {count} synapses outside of the volume, the first at ({place})", where="synapses",
            expected=f"z_nm, y_nm, x_nm in nm, from 0 to below {', '.join(f'{each:g}' for each in extent)}",
            fix="check their unit, the order of the axes and the offset of the volume",
        )  # fmt: skip
    _check_unit(positions_nm, shape, extent, bounds)


def _check_unit(positions_nm: Sequence[np.ndarray], shape: ZYX, extent: Sequence[float], bounds: Box) -> None:
    if len(positions_nm[0]) < _FEW:
        return
    corner = [max(n, most / 1000) for n, most in zip(shape, extent, strict=True)]
    if any(values.max() >= most for values, most in zip(positions_nm, corner, strict=True)):
        return
    size = [most / n for n, most in zip(shape, extent, strict=True)]
    share = np.prod([most / (n * each) for n, most, each in zip(bounds.shape, corner, size, strict=True)])
    if share < _CORNER:
        raise DataError(
            f"all {len(positions_nm[0])} synapses lie below {', '.join(f'{values.max():g}' for values in positions_nm)}"
            f" nm of {', '.join(f'{most:g}' for most in extent)} nm (z, y, x): these seem to be voxels or um",
            where="synapses", expected="z_nm, y_nm, x_nm in nm",
            fix="convert them; if they are right, give the step bounds_zyx around them",
        )  # fmt: skip


def check_ids(ids: np.ndarray) -> None:
    """Refuse ids, (n,), that stand in more than one row.

    Raises
    ------
    DataError
    """
    ordered = np.sort(ids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if twice.size:
        raise DataError(
            f"{twice.size} rows with an id that another has, such as {twice[0]}", where="synapses",
            expected="a row a synapse", fix="leave the copies out",
        )  # fmt: skip


def check_words(words: Mapping[str, np.ndarray], columns: Mapping[str, Sequence[str]]) -> None:
    """Refuse words that nobody knows, which would count as if nothing were known; none at all are fine.

    Parameters
    ----------
    words : mapping of column name -> object array (n,)
        Others may be there, and some of these missing.
    columns : mapping of column name -> words
        Those that each may hold.

    Raises
    ------
    DataError
    """
    for column, known in columns.items():
        values = set(words[column].tolist()) if column in words else set()
        strange = sorted({repr(value) for value in values if not (value in known or _is_nothing(value))})
        if strange:
            more = f" and {len(strange) - _NAMED} more" if len(strange) > _NAMED else ""
            raise DataError(
                f"{column} {', '.join(strange[:_NAMED])}{more}", where="synapses",
                expected=f"{', '.join(known)}, or nothing", fix="rename them, or leave them empty",
            )  # fmt: skip


def _is_nothing(value: object) -> bool:
    return value is None or value == "" or value != value


def known_kinds(words: Mapping[str, np.ndarray], columns: Mapping[str, Sequence[str]], count: int) -> np.ndarray:
    """Return what is known of synapses as bits, uint8 (n,).

    Parameters
    ----------
    words : mapping of column name -> object array
        Text columns of a table of ``count`` synapses; others may be there.
    columns : mapping of column name -> words
        The words that matter, of all columns in order: the bits.
    """
    flags, bit = np.zeros(count, dtype=np.uint8), 0
    for column, names in columns.items():
        for name in names:
            if column in words:
                flags |= (np.asarray(words[column] == name)).astype(np.uint8) << np.uint8(bit)
            bit += 1
    return flags


def voxels_of(positions_nm: Sequence[np.ndarray], voxel_size_nm: NM) -> np.ndarray:
    """Return the voxels, int64 (n, 3), that hold positions given as z, y and x, float64 (n,) each."""
    found = np.empty((len(positions_nm[0]), 3), dtype=np.int64)
    for axis, (values, size) in enumerate(zip(positions_nm, voxel_size_nm, strict=True)):
        found[:, axis] = np.floor(values / size)
    return found


def sort_points(voxels: np.ndarray, flags: np.ndarray, grid: AnalysisGrid, shape: ZYX) -> Points:
    """Return the points that lie in blocks, sorted by block; in a block their order stays.

    Parameters
    ----------
    voxels : numpy.ndarray
        int64 (n, 3), z, y, x, in voxels of the data set.
    flags : numpy.ndarray
        uint8 (n,).
    """
    layout = np.array([grid.start, grid.block, grid.counts, shape], dtype=np.int64)
    return Points(*_sorted(np.ascontiguousarray(voxels), flags, layout))


@njit(cache=True, nogil=True)
def _sorted(voxels: np.ndarray, flags: np.ndarray, layout: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    start, block, counts, shape = layout
    starts = np.zeros(counts[0] * counts[1] * counts[2] + 1, dtype=np.int64)
    for i in range(len(voxels)):
        number = _block_of(voxels[i], start, block, counts)
        if number >= 0:
            starts[number + 1] += 1
    starts = np.cumsum(starts)
    ids, kinds = np.empty(starts[-1], dtype=np.uint64), np.empty(starts[-1], dtype=np.uint8)
    free = starts.copy()
    for i in range(len(voxels)):
        number = _block_of(voxels[i], start, block, counts)
        if number >= 0:
            at = free[number]
            free[number] += 1
            ids[at] = np.uint64((voxels[i, 0] * shape[1] + voxels[i, 1]) * shape[2] + voxels[i, 2] + 1)
            kinds[at] = flags[i]
    return ids, kinds, starts


@njit(cache=True, nogil=True)
def _block_of(voxel: np.ndarray, start: np.ndarray, block: np.ndarray, counts: np.ndarray) -> int:
    number = 0
    for axis in range(3):
        at = voxel[axis] - start[axis]
        if at < 0 or at >= block[axis] * counts[axis]:
            return -1
        number = number * counts[axis] + at // block[axis]
    return number


def points_in(points: Points, core: Box, grid: AnalysisGrid, shape: ZYX) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the points inside of ``core``.

    Returns
    -------
    places : numpy.ndarray
        int64 (n, 3), z, y, x, counted from the core's first voxel.
    flags : numpy.ndarray
        uint8 (n,).
    block : numpy.ndarray
        int64 (n,): which of the blocks ``grid.numbers(grid.met(core))``.
    """
    numbers = grid.numbers(grid.met(core))
    corner, extent = np.asarray(core.start, np.int64), np.asarray((core.shape, shape), np.int64)
    return _inside((points.voxel, points.flags, points.starts), numbers, corner, extent)


@njit(cache=True, nogil=True)
def _inside(
    points: tuple[np.ndarray, np.ndarray, np.ndarray], numbers: np.ndarray, corner: np.ndarray, extent: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    voxel, flags, starts = points
    size, shape = extent
    most = 0
    for number in numbers:
        most += starts[number + 1] - starts[number]
    places, kinds, block = np.empty((most, 3), np.int64), np.empty(most, np.uint8), np.empty(most, np.int64)
    count = 0
    for i in range(len(numbers)):
        for at in range(starts[numbers[i]], starts[numbers[i] + 1]):
            rest = np.int64(voxel[at]) - 1
            x = rest % shape[2] - corner[2]
            rest //= shape[2]
            y, z = rest % shape[1] - corner[1], rest // shape[1] - corner[0]
            if 0 <= z < size[0] and 0 <= y < size[1] and 0 <= x < size[2]:
                places[count, 0], places[count, 1], places[count, 2] = z, y, x
                kinds[count], block[count] = flags[at], i
                count += 1
    return places[:count], kinds[:count], block[:count]


def count_points(
    found: Exposure, inside: tuple[np.ndarray, np.ndarray, np.ndarray], blocks: int, kinds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count points by block.

    Parameters
    ----------
    found : Exposure
        Of the core.
    inside : tuple
        From :func:`points_in`.
    blocks : int
        Blocks that the core meets.
    kinds : int
        How many bits of the flags matter.

    Returns
    -------
    everything : numpy.ndarray
        int64 (blocks,).
    counted : numpy.ndarray
        int64 (1 + kinds, blocks): those at exposed voxels, and those of them of each kind.
    """
    places, flags, block = inside
    shown = exposed_at(found, places)
    counted = np.zeros((1 + kinds, blocks), dtype=np.int64)
    counted[0] = np.bincount(block[shown], minlength=blocks)
    for kind in range(kinds):
        counted[1 + kind] = np.bincount(block[shown & (flags >> kind & 1 > 0)], minlength=blocks)
    return np.bincount(block, minlength=blocks).astype(np.int64), counted
