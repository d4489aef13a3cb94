"""Where the voxels of a changed patch come from: turns, flips, affine and elastic deformation; image and truth alike.

What lies beyond a patch is its mirror image, in the image and in the truth, so that both stay of one piece. Elastic
deformation: control points displaced at random, as in gunpowder (Funke et al. 2019, doi:10.1109/TPAMI.2018.2835450),
between them a Catmull-Rom spline (doi:10.1016/B978-0-12-079050-0.50020-5).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

Arrays = list[np.ndarray]


def turn(arrays: Arrays, symmetry: str, rng: np.random.Generator) -> Arrays:
    """Turn and flip all arrays alike; patches keep their shape, so only axes of equal length change places."""
    planes = [(1, 2)] if symmetry == "yx" else [(1, 2), (0, 1), (0, 2)]
    shape = arrays[0].shape
    for a, b in planes:
        quarter = int(rng.integers(4)) if shape[a] == shape[b] else 2 * int(rng.integers(2))
        arrays = [np.rot90(array, quarter, (a, b)) for array in arrays]
    for axis in range(3):
        if rng.integers(2):
            arrays = [np.flip(array, axis) for array in arrays]
    return arrays


def mirrored(index: np.ndarray, size: int) -> np.ndarray:
    """Return integer indices, any number of which may lie outside ``0 .. size - 1``, mirrored into that range."""
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    folded = index % period
    return np.minimum(folded, period - folded)


def plane_matrix(degrees: float, scale: float, shear: float, rng: np.random.Generator) -> np.ndarray:
    """Return a random linear map of (y, x), float64 (2, 2).

    Parameters
    ----------
    degrees : float
        Largest rotation.
    scale : float
        Largest factor above or below 1 is ``1 + scale``.
    shear : float
        Largest shear of either axis.
    """
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    factors = (1 + scale) ** rng.uniform(-1, 1, 2)
    sheared = np.eye(2)
    sheared[0, 1], sheared[1, 0] = rng.uniform(-shear, shear, 2)
    return turned @ (sheared * factors)


def elastic_field(
    shape: Sequence[int], amplitude: float, spacing_voxels: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a smooth random displacement in voxels, float64 (3, z, y, x).

    Parameters
    ----------
    shape : (z, y, x)
    amplitude : float
        Standard deviation at a control point; along an axis at most 1/16 of its length.
    spacing_voxels : float
        Between control points along the longest axis; along the others in proportion to their lengths.
    """
    spacings = [max(1.0, spacing_voxels * n / max(shape)) for n in shape]
    weights = [_spline(n, spacing, rng.random()) for n, spacing in zip(shape, spacings, strict=True)]
    wz, wy, wx = weights
    coarse = rng.normal(size=(3, *(w.shape[1] for w in weights)))
    coarse *= np.array([min(amplitude, n / 16) for n in shape]).reshape(3, 1, 1, 1)
    along_x = np.einsum("azyc,xc->azyx", coarse, wx)
    along_y = wy @ along_x
    return (wz @ along_y.reshape(3, wz.shape[1], -1)).reshape(3, *shape)


def _spline(size: int, spacing: float, phase: float) -> np.ndarray:
    """Return the weight of every control point (columns) at every voxel (rows), float64 (size, n)."""
    place = np.arange(size) / spacing + phase
    below = np.floor(place).astype(np.intp)
    t = place - below
    four = (
        -0.5 * t**3 + t**2 - 0.5 * t,
        1.5 * t**3 - 2.5 * t**2 + 1,
        -1.5 * t**3 + 2 * t**2 + 0.5 * t,
        0.5 * t**3 - 0.5 * t**2,
    )
    weights = np.zeros((size, int(below[-1]) + 4))
    for offset, weight in enumerate(four):
        weights[np.arange(size), below + offset] = weight
    return weights


def warp(arrays: Arrays, matrix: np.ndarray, field: np.ndarray) -> Arrays:
    """Deform all arrays alike; the first is interpolated linearly, the rest take the nearest voxel.

    Parameters
    ----------
    arrays : list of numpy.ndarray
        (z, y, x), of one shape.
    matrix : numpy.ndarray
        float64 (2, 2): voxel (y, x) takes what lies at ``centre + matrix @ ((y, x) - centre)``.
    field : numpy.ndarray
        float64 (3, z, y, x): further displacement in voxels.
    """
    image, nearest = _resample(np.ascontiguousarray(arrays[0], dtype=np.float32), matrix, field)
    return [image, *(np.ascontiguousarray(array).reshape(-1)[nearest] for array in arrays[1:])]


@njit(cache=True, nogil=True, inline="always")
def _fold(place: float, last: int) -> float:
    if last == 0:
        return 0.0
    place = abs(place) % (2.0 * last)
    return min(place, 2.0 * last - place)


@njit(cache=True, nogil=True)
def _resample(image: np.ndarray, matrix: np.ndarray, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the deformed image, float32, and for every voxel the flat index it is nearest to, int64."""
    nz, ny, nx = image.shape
    out, nearest = np.empty(image.shape, np.float32), np.empty(image.shape, np.int64)
    cy, cx = (ny - 1) / 2, (nx - 1) / 2
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                pz = _fold(z + field[0, z, y, x], nz - 1)
                py = _fold(cy + matrix[0, 0] * (y - cy) + matrix[0, 1] * (x - cx) + field[1, z, y, x], ny - 1)
                px = _fold(cx + matrix[1, 0] * (y - cy) + matrix[1, 1] * (x - cx) + field[2, z, y, x], nx - 1)
                z0, y0, x0 = int(pz), int(py), int(px)
                z1, y1, x1 = min(z0 + 1, nz - 1), min(y0 + 1, ny - 1), min(x0 + 1, nx - 1)
                fz, fy, fx = pz - z0, py - y0, px - x0
                a = image[z0, y0, x0] * (1 - fx) + image[z0, y0, x1] * fx
                b = image[z0, y1, x0] * (1 - fx) + image[z0, y1, x1] * fx
                c = image[z1, y0, x0] * (1 - fx) + image[z1, y0, x1] * fx
                d = image[z1, y1, x0] * (1 - fx) + image[z1, y1, x1] * fx
                out[z, y, x] = (a * (1 - fy) + b * fy) * (1 - fz) + (c * (1 - fy) + d * fy) * fz
                nearest[z, y, x] = (int(pz + 0.5) * ny + int(py + 0.5)) * nx + int(px + 0.5)
    return out, nearest
