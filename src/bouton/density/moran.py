"""Moran's I: do neighbouring blocks of tissue have similar synapse densities?

The mean product of the standardized residuals of blocks that share a face, over their mean square: 1 if neighbours are
equal, about 0 if blocks are independent. Blocks that are masked have no neighbours: only pairs of present blocks count.

Moran 1950, doi:10.1093/biomet/37.1-2.17. Null hypothesis and interval: `bouton.density.resampling`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bouton.density.blocks import DensityBlocks
from bouton.density.finding import Finding
from bouton.density.resampling import exposure_strata, jackknife_interval, permuted, regions, two_sided_p
from bouton.density.residuals import standardized_residuals, why_not

TEST, QUESTION, EFFECT = "moran", "Do neighbouring blocks have similar densities?", "Moran's I"


class Places:
    """Finds blocks by their place in the grid.

    Parameters
    ----------
    index : int64 (n, 3)
        Place of each block, z, y, x.
    """

    def __init__(self, index: np.ndarray) -> None:
        self.index = index
        self.low, self.high = index.min(axis=0), index.max(axis=0)
        keys = self._keys(index)
        self.order = np.argsort(keys, kind="stable")
        self.sorted = keys[self.order]

    def _keys(self, index: np.ndarray) -> np.ndarray:
        size = self.high - self.low + 1
        away = index - self.low
        return np.asarray((away[:, 0] * size[1] + away[:, 1]) * size[2] + away[:, 2], dtype=np.int64)

    def find(self, index: np.ndarray) -> np.ndarray:
        """Return which block lies at each place, int64 (m,), of ``index``, int64 (m, 3); -1: none."""
        inside = ((index >= self.low) & (index <= self.high)).all(axis=1)
        keys = np.where(inside, self._keys(index), -1)
        at = np.minimum(np.searchsorted(self.sorted, keys), len(self.sorted) - 1)
        return np.where(inside & (self.sorted[at] == keys), self.order[at], -1)


def neighbours(index: np.ndarray) -> np.ndarray:
    """Return the pairs of blocks that share a face, int64 (pairs, 2), of places in the grid, int64 (n, 3), z, y, x."""
    if not len(index):
        return np.zeros((0, 2), np.int64)
    places, found = Places(index), [np.zeros((0, 2), np.int64)]
    for step in np.eye(3, dtype=np.int64):
        upper = places.find(index + step)
        present = np.flatnonzero(upper >= 0)
        found.append(np.stack([present, upper[present]], axis=1))
    return np.concatenate(found)


@njit(cache=True, nogil=True)
def product_sum(values: np.ndarray, pairs: np.ndarray) -> float:
    """Return the sum of the products of the values of pairs, float64, int64 (pairs, 2)."""
    total = 0.0
    for row in range(pairs.shape[0]):
        total += values[pairs[row, 0]] * values[pairs[row, 1]]
    return total


def morans_i(blocks: DensityBlocks, permutations: int = 999, seed: int = 1) -> Finding:
    """Test whether neighbouring blocks have similar densities.

    Parameters
    ----------
    blocks : DensityBlocks
        The blocks that take part.
    permutations : int
        Permutations within strata of exposure, at least 1.
    seed : int
        Of the permutations.

    Returns
    -------
    Finding
        Moran's I with its 95 % interval (jackknife over regions); p is two-sided.
    """
    residuals, pairs = standardized_residuals(blocks), neighbours(blocks.index)
    reason = why_not(blocks) or ("" if len(pairs) else "no two blocks share a face")
    if reason:
        return Finding(TEST, QUESTION, EFFECT, n=len(blocks), note=f"not available: {reason}")
    scale = len(blocks) / (len(pairs) * (residuals**2).sum())
    observed = float(scale * product_sum(residuals, pairs))
    shuffles = permuted(residuals, exposure_strata(blocks.exposure_um3), permutations, seed)
    simulated = np.array([scale * product_sum(values, pairs) for values in shuffles])
    low, high = _interval(residuals, pairs, regions(blocks.index))
    note = "" if np.isfinite(low) else "no interval: too few blocks; "
    note += f"{len(pairs)} pairs of blocks, {permutations} permutations"
    return Finding(TEST, QUESTION, EFFECT, observed, low, high, two_sided_p(observed, simulated), len(blocks), note)


def _interval(residuals: np.ndarray, pairs: np.ndarray, region: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of I; a pair belongs to the region of its lower block."""
    count = int(region.max()) + 1
    of_pair = region[pairs[:, 0]]
    totals = np.stack(
        [
            np.bincount(of_pair, residuals[pairs[:, 0]] * residuals[pairs[:, 1]], count),
            np.bincount(of_pair, minlength=count),
            np.bincount(region, residuals**2, count),
            np.bincount(region, minlength=count),
        ],
        axis=1,
    )
    return jackknife_interval(totals, _i_of_sums)


def _i_of_sums(sums: np.ndarray) -> float:
    """Return I of sums of products, pairs, squares, blocks; nan where one of them is 0."""
    products, pairs, squares, blocks = sums
    return float(products / pairs * blocks / squares) if pairs > 0 and squares > 0 else float("nan")
