"""Blocks with too few or too many synapses for tissue of one mean density that varies as much as this one does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.density.blocks import DensityBlocks
from bouton.density.counts import count_cdf, count_interval, count_sf, extra_variance
from bouton.density.dispersion import missing
from bouton.density.family import benjamini_hochberg
from bouton.density.finding import Finding


@dataclass(frozen=True)
class Outliers:
    """Blocks, most surprising first.

    Attributes
    ----------
    row : int64 (n,)
        The block's row among those that take part.
    expected : float64 (n,)
        Synapses expected of it.
    p, q : float64 (n,)
        Probability of a count at least as far out, two-sided; the same after Benjamini-Hochberg.
    side : object (n,)
        ``low`` or ``high``: fewer or more synapses than expected; empty: exactly as many.
    """

    row: np.ndarray
    expected: np.ndarray
    p: np.ndarray
    q: np.ndarray
    side: np.ndarray


def outliers(blocks: DensityBlocks) -> Outliers:
    """Return every block with the p of its count under a negative-binomial law with one density for all.

    Extremes enlarge the variance they are compared with, so p errs to the high side. Without synapses all p are nan.
    """
    expected = blocks.expected
    p = np.full(len(blocks), np.nan)
    if not missing(blocks):
        alpha = extra_variance(blocks.counts, expected, 1)
        below = count_cdf(blocks.counts, expected, alpha)
        above = count_sf(blocks.counts, expected, alpha)
        p = np.minimum(1.0, 2 * np.minimum(below, above))
    far = np.abs(blocks.counts - expected) / np.sqrt(np.maximum(expected, 1e-300))
    order = np.lexsort((-far, np.nan_to_num(p, nan=2.0)))
    side = np.where(blocks.counts < expected, "low", "high").astype(object)
    side[np.isclose(blocks.counts, expected, rtol=1e-12, atol=0)] = ""
    return Outliers(order, expected[order], p[order], benjamini_hochberg(p)[order], side[order])


def outlier_finding(found: Outliers, level: float) -> Finding:
    """Return the share of blocks whose q is at most ``level``."""
    question = "Do single blocks hold too few or too many synapses for how much density varies here?"
    effect = f"share of blocks with q of at most {level:g}"
    if not np.isfinite(found.p).any():
        return Finding("outlier blocks", question, effect, n=found.row.size, note="not available: see dispersion")
    hits = found.q <= level
    low, high = (float(v) / hits.size for v in count_interval(np.array(hits.sum())))
    sides = [int((hits & (found.side == side)).sum()) for side in ("low", "high")]
    note = f"{sides[0]} low, {sides[1]} high; the table of outliers lists all; p is in the table, block by block"
    return Finding("outlier blocks", question, effect, hits.mean(), low, min(1.0, high), n=hits.size, note=note)
