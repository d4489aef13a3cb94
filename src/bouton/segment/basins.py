"""Fragments: basins of the affinity graph, the same for every tiling.

Edges of the voxel graph are totally ordered by (affinity, edge index), edge index = voxel id * 3 + channel. Every voxel
joins its greatest incident edge, if that edge's affinity exceeds ``low``; edges of at least ``high`` always join. A
fragment is a connected component of joined edges. A voxel without an edge above ``low`` is background (0). Which edges
join is decided by the six edges of each end, hence locally.

After the watershed of Zlateski & Seung 2015, arXiv:1505.00249, with a total order in place of plateau correction.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from bouton.errors import DataError, SpecError
from bouton.geometry import Box
from bouton.segment.components import label_joined

NONE = 7  # code of a voxel without an edge above low


def fragments_of(affinities: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the fragments of a whole volume.

    Parameters
    ----------
    affinities : numpy.ndarray
        uint8 (3, z, y, x), v / 255: channel c joins a voxel with its lower neighbour along axis c.
    low, high : float
        Thresholds in [0, 1], ``low < high``.

    Returns
    -------
    numpy.ndarray
        uint64 (z, y, x): each fragment's first voxel's C-order index plus one; 0 is background.
    """
    whole = Box.of_shape(affinities.shape[1:])
    joined, foreground = joined_edges(cut_at_bounds(affinities, whole, whole), whole, low, high)
    return label_joined(joined, foreground, whole, whole.shape)


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


def joined_edges(affinities: np.ndarray, core: Box, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Decide which edges of the voxels of ``core`` join.

    Parameters
    ----------
    affinities : numpy.ndarray
        uint8 (3, z, y, x): the core with one voxel more on every side, where the bounds allow
        (from :func:`cut_at_bounds`).
    core : Box
        The core in the array's coordinates.
    low, high : float
        Thresholds in [0, 1], ``low < high``.

    Returns
    -------
    joined : numpy.ndarray
        uint8, shape of the core: bit c is set where the voxel is joined to its lower neighbour along axis c, which may
        lie outside of the core.
    foreground : numpy.ndarray
        bool, shape of the core: whether the voxel has an edge above ``low``.
    """
    _check(affinities)
    above, always = threshold_levels(low, high)
    known = np.ascontiguousarray(affinities[:, : core.stop[0] + 1, : core.stop[1] + 1, : core.stop[2] + 1])
    codes = _best_edges(known, above)
    joined = _joined(known, codes, np.asarray(core.start), np.asarray(core.stop), always)
    return joined, codes[core.slices] != NONE


def threshold_levels(low: float, high: float) -> tuple[int, int]:
    """Return (a, b): affinity v / 255 exceeds ``low`` if v > a, and reaches ``high`` if v >= b.

    Raises
    ------
    SpecError
        Unless 0 <= low < high <= 1.
    """
    if not 0 <= low < high <= 1:
        raise SpecError(f"low={low}, high={high}", expected="0 <= low < high <= 1")
    return math.floor(low * 255 + 1e-9), math.ceil(high * 255 - 1e-9)


def _check(affinities: np.ndarray) -> None:
    if affinities.ndim != 4 or affinities.shape[0] != 3 or affinities.dtype != np.uint8:
        raise DataError(
            f"affinities of shape {affinities.shape} and dtype {affinities.dtype}",
            expected="uint8 (3, z, y, x), 255 = certainly one cell",
            fix="convert probabilities with round(p * 255)",
        )


@njit(cache=True, nogil=True)
def _best_edges(affinities: np.ndarray, above: int) -> np.ndarray:
    """Return each voxel's greatest edge as a code: 0-2 to the lower, 3-5 to the upper x, y, z neighbour; else NONE."""
    _, nz, ny, nx = affinities.shape
    codes = np.empty((nz, ny, nx), np.uint8)
    nothing = np.zeros(nx, np.uint8)
    for z in range(nz):
        for y in range(ny):
            upper_y = affinities[1, z, y + 1] if y + 1 < ny else nothing
            upper_z = affinities[0, z + 1, y] if z + 1 < nz else nothing
            lower = (affinities[0, z, y], affinities[1, z, y], affinities[2, z, y])
            _best_of_row(lower, upper_y, upper_z, above, codes[z, y])
    return codes


@njit(cache=True, nogil=True)
def _best_of_row(
    lower: tuple[np.ndarray, ...], upper_y: np.ndarray, upper_z: np.ndarray, above: int, codes: np.ndarray
) -> None:
    # a key is affinity * 8 + code: the codes 0..5 are in ascending order of the global edge index
    lower_z, lower_y, lower_x = lower
    n = len(codes)
    for x in range(n):
        upper_x = np.int32(lower_x[x + 1]) if x + 1 < n else np.int32(0)
        key = max(np.int32(lower_z[x]) * 8, np.int32(lower_y[x]) * 8 + 1)
        key = max(key, np.int32(lower_x[x]) * 8 + 2)
        key = max(key, upper_x * 8 + 3)
        key = max(key, np.int32(upper_y[x]) * 8 + 4)
        key = max(key, np.int32(upper_z[x]) * 8 + 5)
        codes[x] = key & 7 if key >> 3 > above else NONE


@njit(cache=True, nogil=True)
def _joined(affinities: np.ndarray, codes: np.ndarray, start: np.ndarray, stop: np.ndarray, always: int) -> np.ndarray:
    joined = np.zeros((stop[0] - start[0], stop[1] - start[1], stop[2] - start[2]), np.uint8)
    for z in range(start[0], stop[0]):
        for y in range(start[1], stop[1]):
            row = joined[z - start[0], y - start[1]]
            for x in range(start[2], stop[2]):
                code, bits = codes[z, y, x], 0
                if z > 0 and (code == 0 or codes[z - 1, y, x] == 5 or affinities[0, z, y, x] >= always):
                    bits |= 1
                if y > 0 and (code == 1 or codes[z, y - 1, x] == 4 or affinities[1, z, y, x] >= always):
                    bits |= 2
                if x > 0 and (code == 2 or codes[z, y, x - 1] == 3 or affinities[2, z, y, x] >= always):
                    bits |= 4
                row[x - start[2]] = bits
    return joined
