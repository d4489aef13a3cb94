"""Fragments: basins of the affinity graph, the same for every tiling.

Edges of the voxel graph are totally ordered by (affinity, edge index), edge index = voxel id * 3 + channel. Every voxel
joins its greatest incident edge, if that edge's affinity exceeds ``low``; edges of at least ``high`` always join, and
so do edges of at least ``flat`` whose affinity is the greatest of both of their ends: else the flat inside of a cell,
where many edges are equal, would fall into columns. A fragment is a connected component of joined edges. A voxel
without an edge above ``low`` is background (0). The six edges of each end decide which edges join, hence locally.

After the watershed of Zlateski & Seung 2015, arXiv:1505.00249, which joins flat maxima likewise and divides other
plateaus among their neighbours, where here the total order decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from bouton.errors import DataError, SpecError
from bouton.geometry import ZYX, Box
from bouton.segment.rows import (
    INSIDE,
    LOWER_X,
    LOWER_Y,
    LOWER_Z,
    global_ids,
    label_row,
    labels_of,
    new_parents,
    new_work,
)

NONE = 0  # code of a voxel without an edge above low


class Thresholds(NamedTuple):
    """What joins, in [0, 1], ``low < high``: see the module's text. ``flat`` of 1 leaves every tie to the order."""

    low: float
    high: float
    flat: float = 1.0


def fragments_of(affinities: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    """Return the fragments of a whole volume.

    Parameters
    ----------
    affinities : numpy.ndarray
        uint8 (3, z, y, x), v / 255: channel c joins a voxel with its lower neighbour along axis c.
    thresholds : Thresholds

    Returns
    -------
    numpy.ndarray
        uint64 (z, y, x): each fragment's first voxel's C-order index plus one; 0 is background.
    """
    return narrow_fragments(affinities, thresholds).astype(np.uint64)


def narrow_fragments(affinities: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    """Return :func:`fragments_of` a whole volume in 4 bytes a voxel, or 8 from 2**32 - 1 voxels on; nothing more."""
    _check(affinities)
    whole = Box.of_shape(affinities.shape[1:])
    return labels_of(_parents(affinities, Window(whole, whole, whole), thresholds), whole.shape)


@dataclass(frozen=True)
class Window:
    """Where a block lies in the data set: all boxes in its voxels.

    Attributes
    ----------
    box : Box
        The voxels of the affinities: the core with one voxel more on every side, where the bounds allow.
    core : Box
        The voxels that are labelled.
    bounds : Box
        Edges that leave it do not exist.
    """

    box: Box
    core: Box
    bounds: Box

    def rows(self) -> np.ndarray:
        """Return int64 (3, 3): the core in the box, start and stop; 1 where the box begins at the bounds."""
        core = self.core.within(self.box)
        at_bounds = [int(a == b) for a, b in zip(self.box.start, self.bounds.start, strict=True)]
        return np.array([core.start, core.stop, at_bounds], np.int64)


def label_basins(affinities: np.ndarray, window: Window, shape: ZYX, thresholds: Thresholds) -> np.ndarray:
    """Label the basins inside of a block.

    The same as :func:`joined_edges` of what :func:`cut_at_bounds` leaves, and
    :func:`bouton.segment.components.label_joined`, in one pass.

    Parameters
    ----------
    affinities : numpy.ndarray
        uint8 (3, z, y, x), the voxels of ``window.box``.
    window : Window
    shape : (z, y, x)
        Shape of the whole data set.
    thresholds : Thresholds

    Returns
    -------
    numpy.ndarray
        uint64 (z, y, x), shape of the core: the global id of the first voxel, in the core, of what is joined inside of
        it; 0 is background.
    """
    _check(affinities)
    labels = np.empty(window.core.shape, np.uint64)
    parents = _parents(affinities, window, thresholds)
    global_ids(parents, np.asarray(window.core.start, np.int64), np.asarray(shape, np.int64), labels)
    return labels


def _parents(affinities: np.ndarray, window: Window, thresholds: Thresholds) -> np.ndarray:
    parents = new_parents(window.core.voxels)
    _label(np.ascontiguousarray(affinities), window.rows(), threshold_levels(thresholds), parents)
    return parents


def cut_at_bounds(affinities: np.ndarray, box: Box, bounds: Box) -> np.ndarray:
    """Return a copy of the affinities of ``box`` in which edges that leave ``bounds`` are 0: they do not exist.

    Raises
    ------
    DataError
        The array is not uint8 with three channels.
    """
    _check(affinities)
    affinities = np.array(affinities, order="C")
    if box.start[0] == bounds.start[0]:
        affinities[0, :1] = 0
    if box.start[1] == bounds.start[1]:
        affinities[1, :, :1] = 0
    if box.start[2] == bounds.start[2]:
        affinities[2, :, :, :1] = 0
    return affinities


def joined_edges(affinities: np.ndarray, core: Box, thresholds: Thresholds) -> tuple[np.ndarray, np.ndarray]:
    """Decide which edges of the voxels of ``core`` join.

    Parameters
    ----------
    affinities : numpy.ndarray
        uint8 (3, z, y, x): the core with one voxel more on every side, where the bounds allow
        (from :func:`cut_at_bounds`).
    core : Box
        The core in the array's coordinates.
    thresholds : Thresholds

    Returns
    -------
    joined : numpy.ndarray
        uint8, shape of the core: bit c is set where the voxel is joined to its lower neighbour along axis c, which may
        lie outside of the core.
    foreground : numpy.ndarray
        bool, shape of the core: whether the voxel has an edge above ``low``.
    """
    _check(affinities)
    # edges across the lower faces of the array were cut, or belong to voxels whose edges do not matter
    rows = np.array([core.start, core.stop, (0, 0, 0)], np.int64)
    bits = np.empty(core.shape, np.uint8)
    _find_joined(np.ascontiguousarray(affinities), rows, threshold_levels(thresholds), bits)
    return bits & 7, bits >= INSIDE


def threshold_levels(thresholds: Thresholds) -> tuple[int, int, int]:
    """Return (a, b, c): affinity v / 255 exceeds ``low`` if v > a, reaches ``high`` if v >= b, and ``flat`` if v >= c.

    Raises
    ------
    SpecError
        Unless 0 <= low < high <= 1 and 0 <= flat <= 1.
    """
    low, high, flat = thresholds
    if not 0 <= low < high <= 1 or not 0 <= flat <= 1:
        raise SpecError(f"low={low}, high={high}, flat={flat}", expected="0 <= low < high <= 1 and 0 <= flat <= 1")
    return math.floor(low * 255 + 1e-9), math.ceil(high * 255 - 1e-9), math.ceil(flat * 255 - 1e-9)


def _check(affinities: np.ndarray) -> None:
    if affinities.ndim != 4 or affinities.shape[0] != 3 or affinities.dtype != np.uint8:
        raise DataError(
            f"affinities of shape {affinities.shape} and dtype {affinities.dtype}",
            expected="uint8 (3, z, y, x), 255 = certainly one cell",
            fix="convert probabilities with round(p * 255)",
        )


# In the kernels, ``rows`` is what Window.rows returns, and ``levels`` what threshold_levels returns. Codes of a plane
# are kept with one row and one voxel more on the lower sides, NONE where there is no voxel.


@njit(cache=True, nogil=True)
def _label(affinities: np.ndarray, rows: np.ndarray, levels: tuple[int, int, int], parents: np.ndarray) -> None:
    nz, ny, nx = rows[1] - rows[0]
    codes, below, scratch = _first_planes(affinities, rows, levels)
    bits, work = np.empty(nx, np.uint8), new_work(parents, nx)
    for z in range(nz):
        codes, below = below, codes
        _codes_of_plane(affinities, rows, z, levels, scratch, codes)
        for y in range(ny):
            _bits_of_row(affinities, rows, (z, y), levels[1], (codes, below), scratch, bits)
            bits[0] &= ~LOWER_X
            if y == 0:
                _clear(bits, LOWER_Y)
            if z == 0:
                _clear(bits, LOWER_Z)
            back = (nx if y else 0, nx * ny if z else 0)
            label_row(parents, (z * ny + y) * nx + 1, back, bits, work)


@njit(cache=True, nogil=True)
def _find_joined(affinities: np.ndarray, rows: np.ndarray, levels: tuple[int, int, int], bits: np.ndarray) -> None:
    codes, below, scratch = _first_planes(affinities, rows, levels)
    for z in range(bits.shape[0]):
        codes, below = below, codes
        _codes_of_plane(affinities, rows, z, levels, scratch, codes)
        for y in range(bits.shape[1]):
            _bits_of_row(affinities, rows, (z, y), levels[1], (codes, below), scratch, bits[z, y])


@njit(cache=True, nogil=True)
def _clear(bits: np.ndarray, bit: int) -> None:
    for x in range(len(bits)):
        bits[x] &= ~bit


@njit(cache=True, nogil=True)
def _first_planes(
    affinities: np.ndarray, rows: np.ndarray, levels: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Return the codes of the plane below the core's first one, memory for those of the next, and for rows."""
    _, ny, nx = rows[1] - rows[0]
    codes = np.full((ny + 1, nx + 1), NONE, np.uint8)
    scratch = np.zeros(affinities.shape[3], np.uint8), np.zeros(nx + 2, np.uint8)
    other = codes.copy()
    if rows[0, 0] > 0:
        _codes_of_plane(affinities, rows, -1, levels, scratch, codes)
    return codes, other, scratch


@njit(cache=True, nogil=True)
def _codes_of_plane(
    affinities: np.ndarray,
    rows: np.ndarray,
    plane: int,
    levels: tuple[int, int, int],
    scratch: tuple[np.ndarray, np.ndarray],
    codes: np.ndarray,
) -> None:
    """Fill in each voxel's greatest edges as bits: 0-2 to the lower z, y, x, 3-5 to the upper x, y, z neighbour.

    Of several equal ones below ``flat`` only the last; none at all, NONE, if they are not above ``low``.
    """
    _, nz, ny, _ = affinities.shape
    z, stop_x = rows[0, 0] + plane, rows[1, 2]
    # with one voxel more below, where there is one
    extra = min(rows[0, 2], 1)
    first_x = rows[0, 2] - extra
    nothing, along_x = scratch[0][first_x:stop_x], scratch[1]
    for y in range(max(rows[0, 1] - 1, 0), rows[1, 1]):
        lower_z = _lower(affinities, 0, (z, y), rows, scratch[0])[first_x:stop_x]
        lower_y = _lower(affinities, 1, (z, y), rows, scratch[0])[first_x:stop_x]
        upper_y = affinities[1, z, y + 1, first_x:stop_x] if y + 1 < ny else nothing
        upper_z = affinities[0, z + 1, y, first_x:stop_x] if z + 1 < nz else nothing
        _copy_x(affinities[2, z, y], first_x, stop_x, rows[2, 2], along_x)
        _best_of_row((lower_z, lower_y, along_x), upper_y, upper_z, levels, codes[y - rows[0, 1] + 1, 1 - extra :])


@njit(cache=True, nogil=True)
def _lower(affinities: np.ndarray, axis: int, at: tuple[int, int], rows: np.ndarray, nothing: np.ndarray) -> np.ndarray:
    """Return a row of affinities to the lower neighbours along z or y; zeros where the bounds cut them."""
    return nothing if at[axis] == 0 and rows[2, axis] else affinities[axis, at[0], at[1]]


@njit(cache=True, nogil=True)
def _copy_x(row: np.ndarray, first: int, stop: int, at_bounds: int, along_x: np.ndarray) -> None:
    """Copy ``row[first : stop + 1]``; 0 where it ends, and where the bounds cut the first edge."""
    n = min(stop + 1, len(row)) - first
    along_x[:n] = row[first : first + n]
    along_x[n:] = 0
    if first == 0 and at_bounds:
        along_x[0] = 0


@njit(cache=True, nogil=True)
def _best_of_row(
    lower: tuple[np.ndarray, ...],
    upper_y: np.ndarray,
    upper_z: np.ndarray,
    levels: tuple[int, int, int],
    codes: np.ndarray,
) -> None:
    # the bits are in ascending order of the global edge index: of equal affinities the highest bit is the best
    lower_z, lower_y, along_x = lower
    above, _, flat = levels
    for x in range(len(upper_y)):
        best = max(max(max(lower_z[x], lower_y[x]), max(along_x[x], along_x[x + 1])), max(upper_y[x], upper_z[x]))
        equal = np.uint8(lower_z[x] == best) | np.uint8(lower_y[x] == best) << np.uint8(1)
        equal |= np.uint8(along_x[x] == best) << np.uint8(2) | np.uint8(along_x[x + 1] == best) << np.uint8(3)
        equal |= np.uint8(upper_y[x] == best) << np.uint8(4) | np.uint8(upper_z[x] == best) << np.uint8(5)
        last = equal | equal >> np.uint8(1)
        last |= last >> np.uint8(2)
        last |= last >> np.uint8(4)
        last ^= last >> np.uint8(1)
        codes[x] = (equal if best >= flat else last) if best > above else np.uint8(NONE)


@njit(cache=True, nogil=True)
def _bits_of_row(
    affinities: np.ndarray,
    rows: np.ndarray,
    at: tuple[int, int],
    always: int,
    planes: tuple[np.ndarray, np.ndarray],
    scratch: tuple[np.ndarray, np.ndarray],
    bits: np.ndarray,
) -> None:
    """Set the bits of the core's row ``at``: LOWER_Z, LOWER_Y, LOWER_X where it is joined, INSIDE where foreground."""
    z, y, start, stop = rows[0, 0] + at[0], rows[0, 1] + at[1], rows[0, 2], rows[1, 2]
    lower_z = _lower(affinities, 0, (z, y), rows, scratch[0])[start:stop]
    lower_y = _lower(affinities, 1, (z, y), rows, scratch[0])[start:stop]
    _copy_x(affinities[2, z, y], start, stop, rows[2, 2], scratch[1])
    below_z, below_y, codes = planes[1][at[1] + 1, 1:], planes[0][at[1], 1:], planes[0][at[1] + 1]
    _joined_in_row((lower_z, lower_y, scratch[1]), (below_z, below_y, codes), always, bits)


@njit(cache=True, nogil=True)
def _joined_in_row(
    lower: tuple[np.ndarray, ...], neighbours: tuple[np.ndarray, ...], always: int, bits: np.ndarray
) -> None:
    lower_z, lower_y, lower_x = lower
    below_z, below_y, codes = neighbours
    for x in range(len(bits)):
        # an edge joins if it is the last one, the best, of either end, or among the equal ones of both
        code, under_y, under_x = codes[x + 1], below_y[x], codes[x]
        joined = np.uint8((code == 1) | (below_z[x] >> np.uint8(5) != 0) | (lower_z[x] >= always))
        both = (code >> np.uint8(1)) & (under_y >> np.uint8(4)) & np.uint8(1)
        one = (code >> np.uint8(1) == 1) | (under_y >> np.uint8(4) == 1) | (lower_y[x] >= always)
        joined |= (np.uint8(one) | both) << np.uint8(1)
        both = (code >> np.uint8(2)) & (under_x >> np.uint8(3)) & np.uint8(1)
        one = (code >> np.uint8(2) == 1) | (under_x >> np.uint8(3) == 1) | (lower_x[x] >= always)
        joined |= (np.uint8(one) | both) << np.uint8(2)
        bits[x] = joined | np.uint8(code != NONE) << np.uint8(3)
