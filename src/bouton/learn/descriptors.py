"""Local shape descriptors: an auxiliary task that teaches a network the shape of cells, not only their borders.

Sheridan et al. 2022 (doi:10.1038/s41592-022-01711-z). For a voxel they describe the part of its own cell under a
Gaussian window: where its centre of mass lies, how it is spread, and how much of the window it fills. Here the window
is cut at the patch's faces, and everything is relative to what is left of it: the network sees no more than the patch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CHANNELS = 10  # mean offset z, y, x; variance z, y, x; correlation zy, zx, yx; filled share of the window
_ORDERS = [(a, b, c) for a in range(3) for b in range(3) for c in range(3) if a + b + c <= 2]


def shape_descriptors(labels: np.ndarray, sigma_voxels: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the descriptors of every voxel, and where they are defined.

    The sums are taken on a grid coarser by up to a third of sigma.

    Parameters
    ----------
    labels : numpy.ndarray
        Integer ids (z, y, x), 0 = no cell.
    sigma_voxels : (z, y, x)
        Standard deviation of the window.

    Returns
    -------
    truth, weight : numpy.ndarray
        float32 (10, z, y, x); truth in [0, 1] (offsets and correlations around 0.5), weight 0 or 1.
    """
    steps = [max(1, int(s / 3)) for s in sigma_voxels]
    coarse = labels[tuple(slice(step // 2, None, step) for step in steps)]
    if 0 in coarse.shape or not coarse.any():
        return np.zeros((CHANNELS, *labels.shape), np.float32), np.zeros((CHANNELS, *labels.shape), np.float32)
    ids = np.unique(coarse[coarse != 0])
    members = (coarse[None] == ids[:, None, None, None]).astype(np.float32)
    sums = _moments(members, [s / step for s, step in zip(sigma_voxels, steps, strict=True)])
    window = _moments(
        np.ones((1, *coarse.shape), np.float32), [s / t for s, t in zip(sigma_voxels, steps, strict=True)]
    )
    row = np.minimum(np.searchsorted(ids, labels), len(ids) - 1)
    cells = [np.minimum(np.arange(n) // t, c - 1) for n, t, c in zip(labels.shape, steps, coarse.shape, strict=True)]
    place = np.ix_(*cells)
    here = {order: values[row, *place] for order, values in sums.items()}
    known = (ids[row] == labels) & (here[0, 0, 0] > 1e-3)
    shift = [
        (cell * t + t // 2 - np.arange(len(cell))) / s for cell, t, s in zip(cells, steps, sigma_voxels, strict=True)
    ]
    truth = _describe(here, window[0, 0, 0][0][place], [*np.ix_(*shift)])
    return np.where(known, truth, np.float32(0)), np.repeat(known[None].astype(np.float32), CHANNELS, axis=0)


def _moments(members: np.ndarray, sigma: Sequence[float]) -> dict[tuple[int, int, int], np.ndarray]:
    """Return the sums of ``window * dz**a * dy**b * dx**c`` over each label's voxels, d in units of sigma."""
    kernels = [[_kernel(n, s, power) for power in range(3)] for n, s in zip(members.shape[1:], sigma, strict=True)]
    count, depth = members.shape[:2]
    along_z = [np.matmul(kernel, members.reshape(count, depth, -1)).reshape(members.shape) for kernel in kernels[0]]
    along_y = {(a, b): np.matmul(kernels[1][b], along_z[a]) for a in range(3) for b in range(3 - a)}
    # the last axis is multiplied from the right: odd kernels change their sign
    return {(a, b, c): np.matmul(along_y[a, b], kernels[2][c] * (-1) ** c) for a, b, c in _ORDERS}


def _kernel(size: int, sigma: float, power: int) -> np.ndarray:
    """Return the matrix (size, size) whose row i weighs the places j by a Gaussian times ((j - i) / sigma)**power."""
    distance = (np.arange(size)[None, :] - np.arange(size)[:, None]) / sigma
    kernel: np.ndarray = (np.exp(-(distance**2) / 2) * distance**power).astype(np.float32)
    return kernel


def _describe(
    sums: dict[tuple[int, int, int], np.ndarray], window: np.ndarray, shift: Sequence[np.ndarray]
) -> np.ndarray:
    mass = np.maximum(sums[0, 0, 0], np.float32(1e-6))
    axes = np.eye(3, dtype=int)
    first = [sums[tuple(axis)] / mass for axis in axes]
    variance = [
        np.maximum(sums[tuple(2 * a)] / mass - m**2, np.float32(1e-6)) for a, m in zip(axes, first, strict=True)
    ]
    pairs = [(0, 1), (0, 2), (1, 2)]
    mixed = [sums[tuple(axes[a] + axes[b])] / mass - first[a] * first[b] for a, b in pairs]
    correlation = [m / np.sqrt(variance[a] * variance[b]) for m, (a, b) in zip(mixed, pairs, strict=True)]
    channels = [
        *(0.5 + (m + s) / 2 for m, s in zip(first, shift, strict=True)),
        *variance,
        *(0.5 + c / 2 for c in correlation),
        mass / window,
    ]
    return np.clip(np.stack(np.broadcast_arrays(*channels)), 0, 1).astype(np.float32)
