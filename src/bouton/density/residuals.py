"""How far counts of blocks are from uniform tissue, in standard deviations, so that blocks of any exposure compare.

Under uniform tissue a count is Poisson with mean ``mu = rate * exposure``; where blocks differ more than that but
independently, its variance is ``mu + alpha * mu**2`` (negative binomial). ``alpha`` is found by moments, as for all
tests: :func:`bouton.density.counts.extra_variance`.

Hilbe, "Negative Binomial Regression", 2nd ed., doi:10.1017/CBO9780511973420.
"""

from __future__ import annotations

import numpy as np

from bouton.density.blocks import DensityBlocks
from bouton.density.counts import extra_variance

MIN_BLOCKS = 10


def why_not(blocks: DensityBlocks) -> str:
    """Return why blocks cannot be compared with one another; empty if they can."""
    if len(blocks) < MIN_BLOCKS:
        return f"{len(blocks)} block{'' if len(blocks) == 1 else 's'}, at least {MIN_BLOCKS} are needed"
    if blocks.counts.sum() == 0:
        return "no synapse"
    density = blocks.density_um3
    return "" if np.ptp(density) > 1e-9 * density.max() else "all blocks have the same density"


def standardized_residuals(blocks: DensityBlocks) -> np.ndarray:
    """Return (count - expected) / standard deviation of each block less their mean, float64 (n,).

    The standard deviation allows for blocks that vary independently, so that the residuals of such tissue have the same
    variance whatever their exposures. All nan without synapses.
    """
    if not blocks.counts.any():
        return np.full(len(blocks), np.nan)
    expected = blocks.expected
    alpha = extra_variance(blocks.counts, expected, 1)
    residuals = (blocks.counts - expected) / np.sqrt(expected + alpha * expected**2)
    return np.asarray(residuals - residuals.mean(), dtype=np.float64)


def counting_noise(blocks: DensityBlocks) -> np.ndarray:
    """Return the variance that Poisson noise alone gives each of `standardized_residuals`, float64 (n,), 0 to 1."""
    expected = blocks.expected
    return np.asarray(1 / (1 + extra_variance(blocks.counts, expected, 1) * expected), dtype=np.float64)
