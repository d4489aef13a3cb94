"""Coarser levels of a volume: halves on a grid anchored at voxel (0, 0, 0), so that blocks never show."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bouton.geometry import ZYX
from bouton.volume.ome_zarr import Layout


def coarser_layout(layout: Layout) -> tuple[Layout, ZYX] | None:
    """Return the layout of the next level and its factor (1 or 2 an axis); None where nothing is left to halve.

    The axis of the finest voxels is halved, with every axis whose voxels are less than twice as long: so an anisotropic
    volume becomes isotropic level by level.
    """
    lengths = [size for size, n in zip(layout.voxel_size_nm, layout.shape_zyx, strict=True) if n > 1]
    if not lengths:
        return None
    finest = min(lengths)
    halve = [n > 1 and s < 2 * finest for s, n in zip(layout.voxel_size_nm, layout.shape_zyx, strict=True)]
    fz, fy, fx = (2 if half else 1 for half in halve)
    factor = fz, fy, fx
    z, y, x = (-(-n // f) for n, f in zip(layout.shape_zyx, factor, strict=True))
    sz, sy, sx = (size * f for size, f in zip(layout.voxel_size_nm, factor, strict=True))
    return replace(layout, shape_zyx=(z, y, x), voxel_size_nm=(sz, sy, sx)), factor


def mean_of_windows(array: np.ndarray, factor: Sequence[int]) -> np.ndarray:
    """Return the mean of each window of ``factor`` voxels, rounded half up where the dtype is an integer.

    Parameters
    ----------
    array : numpy.ndarray
        (..., z, y, x). A window that the array ends in is the mean of what it has.
    factor : (z, y, x)
        1 or 2 each.
    """
    windows = _windows(array, factor)
    if array.dtype.kind == "f":
        return np.mean(windows, axis=0, dtype=np.float64).astype(array.dtype)
    total = np.sum(windows, axis=0, dtype=np.int64)
    return ((2 * total + len(windows)) // (2 * len(windows))).astype(array.dtype)


def mode_of_windows(array: np.ndarray, factor: Sequence[int]) -> np.ndarray:
    """Return the most frequent value of each window of ``factor`` voxels; of equals the smallest that is not 0."""
    windows = np.sort(_windows(array, factor), axis=0)
    best, best_count = windows[0].copy(), np.zeros(windows.shape[1:], dtype=np.int8)
    for value in windows:
        count = np.sum(windows == value, axis=0, dtype=np.int8)
        better = (count > best_count) | ((count == best_count) & (best == 0))
        best[better], best_count[better] = value[better], count[better]
    return best


def _windows(array: np.ndarray, factor: Sequence[int]) -> np.ndarray:
    """Return the members of all windows, one array each along a new first axis."""
    odd = [(0, -n % f) for n, f in zip(array.shape[-3:], factor, strict=True)]
    # Repeating the last plane gives each member the same weight within its window.
    padded = np.pad(array, [(0, 0)] * (array.ndim - 3) + odd, mode="edge")
    starts = itertools.product(*(range(f) for f in factor))
    fz, fy, fx = factor
    return np.stack([padded[..., z::fz, y::fy, x::fx] for z, y, x in starts])
