"""Sums over windows, gradients, patterns and distances: integers, so that no tiling and no order changes them."""

from __future__ import annotations

import numpy as np
from numba import njit

from bouton.geometry import ZYX

FAR = np.int32(1 << 29)


def window_sum(values: np.ndarray, half: ZYX) -> np.ndarray:
    """Return the sum over the window of ``2 * half + 1`` voxels around each voxel, int32 (z, y, x).

    Parameters
    ----------
    values : numpy.ndarray
        Integers (z, y, x), below 2^16; outside of the array they count as 0. Sums must stay below 2^31.
    half : (z, y, x)
    """
    z, y, x = half
    sums = _section_sum(values, y, x)
    return _stacked_sum(sums, z) if z else sums


@njit(cache=True, nogil=True)
def _section_sum(values, half_y, half_x):  # type: ignore[no-untyped-def]
    sections, rows, columns = values.shape
    out = np.empty(values.shape, np.int32)
    flat = np.empty((rows, columns), np.int32)
    # running totals with what lies outside already added, so that the loop below has no borders
    total = np.zeros(columns + 2 * half_x + 1, np.int32)
    for z in range(sections):
        for y in range(rows):
            running = np.int32(0)
            for x in range(columns):
                running += np.int32(values[z, y, x])
                total[half_x + 1 + x] = running
            total[half_x + 1 + columns :] = running
            for x in range(columns):
                flat[y, x] = total[x + 2 * half_x + 1] - total[x]
        column = np.zeros(columns, np.int32)
        for y in range(min(half_y, rows)):
            column += flat[y]
        for y in range(rows):
            if y + half_y < rows:
                for x in range(columns):
                    column[x] += flat[y + half_y, x]
            if y > half_y:
                for x in range(columns):
                    column[x] -= flat[y - half_y - 1, x]
            for x in range(columns):
                out[z, y, x] = column[x]
    return out


@njit(cache=True, nogil=True)
def _stacked_sum(values, half):  # type: ignore[no-untyped-def]
    sections, rows, columns = values.shape
    out = np.empty(values.shape, np.int32)
    column = np.zeros(columns, np.int32)
    for y in range(rows):
        column[:] = 0
        for z in range(min(half, sections)):
            column += values[z, y]
        for z in range(sections):
            if z + half < sections:
                for x in range(columns):
                    column[x] += values[z + half, y, x]
            if z > half:
                for x in range(columns):
                    column[x] -= values[z - half - 1, y, x]
            for x in range(columns):
                out[z, y, x] = column[x]
    return out


@njit(cache=True, nogil=True)
def gradients(image, step_y, step_x):  # type: ignore[no-untyped-def]
    """Return Sobel's gradient along y and x, int16 (z, y, x); 0 within a step of the border.

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (z, y, x).
    step_y, step_x : int
        Distance of the neighbours.
    """
    sections, rows, columns = image.shape
    down, across = np.zeros(image.shape, np.int16), np.zeros(image.shape, np.int16)
    for z in range(sections):
        for y in range(step_y, rows - step_y):
            above, here, below = image[z, y - step_y], image[z, y], image[z, y + step_y]
            for i in range(columns - 2 * step_x):
                j, k = i + step_x, i + 2 * step_x
                a, b, c = np.int16(above[i]), np.int16(above[j]), np.int16(above[k])
                d, e = np.int16(here[i]), np.int16(here[k])
                f, g, h = np.int16(below[i]), np.int16(below[j]), np.int16(below[k])
                down[z, y, j] = np.int16(f + 2 * g + h - a - 2 * b - c)
                across[z, y, j] = np.int16(c + 2 * e + h - a - 2 * d - f)
    return down, across


@njit(cache=True, nogil=True)
def magnitude(down, across):  # type: ignore[no-untyped-def]
    """Return the length of a gradient, rounded down, uint16 (z, y, x)."""
    out = np.empty(down.shape, np.uint16)
    flat, a, b = out.reshape(-1), down.reshape(-1), across.reshape(-1)
    for i in range(flat.size):
        # exact: below 2^24 the root of a float32 integer, rounded down, is that of the integer
        flat[i] = np.uint16(np.sqrt(np.float32(np.int32(a[i]) * a[i] + np.int32(b[i]) * b[i])))
    return out


@njit(cache=True, nogil=True)
def coherence(down, across, step_y, step_x):  # type: ignore[no-untyped-def]
    """Return how much a structure tensor has one direction, 0 to 255, uint8 (z, y, x); 0 at the border.

    ``((a - b) / (a + b))^2`` of its eigenvalues ``a`` and ``b``; the tensor is summed over 3 x 3 voxels with weights
    1, 2, 1 of Pascal's triangle.
    """
    sections, rows, columns = down.shape
    out = np.zeros(down.shape, np.uint8)
    tensor = np.empty((3, rows, columns), np.float32)
    for z in range(sections):
        for y in range(rows):
            for x in range(columns):
                a, b = np.float32(down[z, y, x]), np.float32(across[z, y, x])
                tensor[0, y, x], tensor[1, y, x], tensor[2, y, x] = a * a, a * b, b * b
        _blur(tensor, step_y, step_x)
        for y in range(step_y, rows - step_y):
            for x in range(step_x, columns - step_x):
                yy, yx, xx = tensor[0, y, x], tensor[1, y, x], tensor[2, y, x]
                trace = yy + xx
                one = (yy - xx) * (yy - xx) + np.float32(4) * yx * yx
                share = one / max(trace * trace, np.float32(1))
                out[z, y, x] = np.uint8(min(np.float32(255) * share, np.float32(255)))
    return out


@njit(cache=True, nogil=True)
def _blur(values, step_y, step_x):  # type: ignore[no-untyped-def]
    """Smooth each section in place; what lies within a step of the border is not to be used."""
    channels, rows, columns = values.shape
    rest = np.zeros((rows, columns), np.float32)
    for c in range(channels):
        for y in range(rows):
            for i in range(columns - 2 * step_x):
                rest[y, i + step_x] = values[c, y, i] + 2 * values[c, y, i + step_x] + values[c, y, i + 2 * step_x]
        for y in range(step_y, rows - step_y):
            for x in range(columns):
                values[c, y, x] = rest[y - step_y, x] + 2 * rest[y, x] + rest[y + step_y, x]


@njit(cache=True, nogil=True)
def patterns(image, places, reach_y, reach_x):  # type: ignore[no-untyped-def]
    """Return the local binary pattern at places, uint8 (n,): rotation-invariant uniform patterns of 8 neighbours.

    The number of neighbours, at the corners and the middles of the sides of a window, that are at least as bright as
    its middle, where walking around changes between brighter and darker at most twice; else 9 (Ojala et al. 2002,
    doi:10.1109/TPAMI.2002.1017623, ``riu2``).

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (z, y, x).
    places : numpy.ndarray
        int64 (n, 3), no nearer to the border than the reach.
    reach_y, reach_x : int
        Half sides of the window.
    """
    dy = np.array([-1, -1, -1, 0, 1, 1, 1, 0]) * reach_y
    dx = np.array([-1, 0, 1, 1, 1, 0, -1, -1]) * reach_x
    out = np.empty(len(places), np.uint8)
    for n in range(len(places)):
        z, y, x = places[n]
        middle = image[z, y, x]
        before = image[z, y + dy[7], x + dx[7]] >= middle
        bright, changes = 0, 0
        for i in range(8):
            now = image[z, y + dy[i], x + dx[i]] >= middle
            bright += now
            changes += now != before
            before = now
        out[n] = bright if changes <= 2 else 9
    return out


@njit(cache=True, nogil=True)
def square_distance(mask, reach, size_nm, at_most):  # type: ignore[no-untyped-def]
    """Return the squared distance to the nearest voxel of a mask, int32 (z, y, x), in nm^2, at most ``at_most``.

    Parameters
    ----------
    mask : numpy.ndarray
        uint8 (z, y, x).
    reach : tuple of int
        Voxels (z, y, x) beyond which nothing is looked for; ``at_most`` covers what lies there.
    size_nm : tuple of float
        Squares along an axis are rounded to integers.
    at_most : int
    """
    sections, rows, columns = mask.shape
    far = np.int32(at_most)
    square = np.full(mask.shape, far, np.int32)
    steps = np.empty(columns, np.int32)
    for i in range(columns):
        steps[i] = min(np.float64(far), np.rint((i * size_nm[2]) ** 2))
    for z in range(sections):
        for y in range(rows):
            last = -columns
            for x in range(columns):
                last = x if mask[z, y, x] else last
                if x - last < columns:
                    square[z, y, x] = steps[x - last]
            last = 2 * columns
            for x in range(columns - 1, -1, -1):
                last = x if mask[z, y, x] else last
                if last - x < columns:
                    square[z, y, x] = min(square[z, y, x], steps[last - x])
    nearer = np.empty(mask.shape, np.int32)
    for z in range(sections):
        for y in range(rows):
            row = nearer[z, y]
            row[:] = square[z, y]
            for other in range(max(0, y - reach[1]), min(rows, y + reach[1] + 1)):
                _take(row, square[z, other], np.int32(np.rint(((other - y) * size_nm[1]) ** 2)))
    for z in range(sections):
        for y in range(rows):
            row = square[z, y]
            row[:] = nearer[z, y]
            for other in range(max(0, z - reach[0]), min(sections, z + reach[0] + 1)):
                _take(row, nearer[other, y], np.int32(np.rint(((other - z) * size_nm[0]) ** 2)))
    return square


@njit(cache=True, nogil=True, inline="always")
def _take(row, other, more):  # type: ignore[no-untyped-def]
    for x in range(row.size):
        row[x] = min(row[x], other[x] + more)
