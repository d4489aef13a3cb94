"""Density along axes and with depth, and its histogram against what chance alone would give.

Intervals are those of counts that vary as those around the curve do, and as much more as sums over neighbouring blocks
vary where these are alike.
"""

from __future__ import annotations

import numpy as np

from bouton.density.blocks import DensityBlocks
from bouton.density.counts import count_cdf, count_interval, extra_variance
from bouton.density.dispersion import likeness, missing
from bouton.density.finding import Curve

_BINS = 40


def axis_curves(blocks: DensityBlocks) -> list[Curve]:
    """Return density over z, y and x: a point each layer of blocks, exposure-weighted; no curve without blocks."""
    if not len(blocks):
        return []
    index, centre = blocks.index, blocks.centre_um
    return [_curve(f"axis {name}", blocks, index[:, axis], centre[:, axis], axis) for axis, name in enumerate("zyx")]


def depth_curve(blocks: DensityBlocks, depth_um: np.ndarray, width_um: float) -> Curve:
    """Return density over depth, float64 (n,) of the blocks, in steps of ``width_um``."""
    depth = np.asarray(depth_um, dtype=np.float64)
    return _curve("depth", blocks, np.floor(depth / width_um).astype(np.int64), depth)


def _curve(name: str, blocks: DensityBlocks, group: np.ndarray, position: np.ndarray, thin: int | None = None) -> Curve:
    """Return density of groups of blocks; ``x`` is the mean position weighted by exposure."""
    _, number = np.unique(group, return_inverse=True)
    volume = np.bincount(number, blocks.exposure_um3)
    counts = np.bincount(number, blocks.counts)
    place = np.bincount(number, blocks.exposure_um3 * position) / volume
    low, high = count_interval(counts, _dispersion_around(blocks, (counts / volume)[number], volume.size, thin))
    expected = np.full(volume.size, blocks.rate)
    return Curve(name, place, counts / volume, low / volume, high / volume, expected, volume)


def _dispersion_around(blocks: DensityBlocks, density: np.ndarray, groups: int, thin: int | None) -> float:
    """Return the variance of sums of counts around a curve over their mean, at least 1."""
    some = density > 0
    if not some.any():
        return 1.0
    kept, df = blocks.only(some), int(some.sum()) - groups
    expected = density[some] * kept.exposure_um3
    if df < 1:
        kept, expected, df = blocks, blocks.expected, max(1, len(blocks) - 1)
    pearson = float(((kept.counts - expected) ** 2 / expected).sum() / df)
    alpha = extra_variance(kept.counts, expected, len(kept) - df)
    return max(1.0, pearson) * likeness(kept, expected, alpha, thin)[0]


def histogram_curve(blocks: DensityBlocks, alpha: float = 0.0) -> Curve:
    """Return how many blocks have which density, and how many would, each with its own exposure.

    Parameters
    ----------
    blocks
    alpha : float
        0: counts expected of uniform tissue (Poisson), curve ``histogram``. Above: of tissue whose variance is
        mu + alpha mu^2 (negative binomial), curve ``histogram over-dispersed``.

    Returns
    -------
    Curve
        ``y`` and ``expected`` are numbers of blocks, the interval that of a Poisson count; no points where there is
        nothing to show.
    """
    name = "histogram over-dispersed" if alpha else "histogram"
    if missing(blocks):
        return Curve(name, *(np.zeros(0) for _ in range(6)))
    edges, density = _edges(blocks), blocks.density_um3
    number = np.clip(np.searchsorted(edges, density * (1 + 1e-12), side="right") - 1, 0, edges.size - 2)
    y = np.bincount(number, minlength=edges.size - 1).astype(np.float64)
    weight = np.bincount(number, blocks.exposure_um3, minlength=edges.size - 1)
    low, high = count_interval(y)
    expected = _expected_blocks(blocks, edges, alpha)
    return Curve(name, (edges[1:] + edges[:-1]) / 2, y, low, high, expected, weight)


def _edges(blocks: DensityBlocks) -> np.ndarray:
    top = float(blocks.density_um3.max())
    # A bin narrower than one synapse of the largest block would show the steps of whole numbers.
    bins = int(np.clip(np.floor(top * blocks.exposure_um3.max()), 1, _BINS))
    return np.linspace(0.0, top * (1 + 1e-9), bins + 1)


def _expected_blocks(blocks: DensityBlocks, edges: np.ndarray, alpha: float) -> np.ndarray:
    """Return the expected number of blocks of each bin, float64 (bins,); the last holds all above it."""
    volume, times = np.unique(blocks.exposure_um3, return_counts=True)
    below = np.zeros((edges.size, volume.size))
    for row, edge in enumerate(edges[1:-1], start=1):
        most = np.ceil(edge * volume * (1 - 1e-12)) - 1
        below[row] = count_cdf(most, blocks.rate * volume, alpha)
    below[-1] = 1.0
    return np.asarray(np.diff(below, axis=0) @ times)
