"""Variogram: how unlike are blocks of tissue that lie a distance apart, and how far does likeness reach?

The semivariance of a lag is half the mean squared difference of the standardized residuals of blocks that lie so far
apart, in any direction: 1 (the variance) at all lags if blocks are independent, less at lags at which they are alike.
Blocks form many millions of pairs at far lags: each lag uses up to 100,000 of them, drawn at random, places without a
block left out. (That leaves a chance error of 0.5 % to each semivariance, in a fifteenth of the time that the sums over
all pairs take by Fourier transform.)

An exponential or a Gaussian model, whichever fits better (weights pairs over lag squared), continues the curve to
distance 0. What is left there (at least the counting noise) is each block's alone; the rest of the variance between
blocks is its patterned share. 95 % of the rise are reached at the range.

Matheron 1963, doi:10.2113/gsecongeo.58.8.1246; Cressie 1985, doi:10.1007/BF01032109.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba import njit

from bouton.density.blocks import DensityBlocks
from bouton.density.finding import NAN, Curve, Finding
from bouton.density.moran import Places
from bouton.density.resampling import envelope, exposure_strata, jackknife_interval, permuted, regions
from bouton.density.residuals import counting_noise, standardized_residuals, why_not

TEST, QUESTION, EFFECT = "variogram", "Does density vary with a spatial pattern?", "patterned share of variance"
PAIRS_A_LAG = 100_000
MIN_PAIRS = 30
FINE_LAGS = 5
GROWTH = 1.4
RANGES = 40
POWERS = (1, 2)
MIN_LAGS = 3
LEVEL = 0.05


@dataclass(frozen=True)
class LagPairs:
    """Pairs of blocks, in order of lag bins.

    Attributes
    ----------
    lag_um : float64 (bins,)
        Mean distance of the pairs of each bin.
    first, second : int32 (pairs,)
        The blocks of each pair.
    starts : int64 (bins + 1,)
        Where each bin's pairs begin and end.
    """

    lag_um: np.ndarray
    first: np.ndarray
    second: np.ndarray
    starts: np.ndarray


def lag_edges(step_um: float, longest_um: float) -> np.ndarray:
    """Return limits of lag bins in um, float64: bins of one step around 1 to 5 steps, then ever wider ones."""
    edges = [(number + 0.5) * step_um for number in range(FINE_LAGS + 1)]
    while edges[-1] < longest_um:
        edges.append(edges[-1] * GROWTH)
    kept = [edge for edge in edges if edge <= longest_um]
    return np.array(kept if len(kept) > 1 else edges[:2])


def lag_pairs(blocks: DensityBlocks, seed: int) -> LagPairs:
    """Return pairs of blocks for lags up to half of the longest side of the tissue.

    A lag with up to 100,000 pairs has all of them, another one so many, drawn at random from all places and directions.
    """
    spans = np.ptp(blocks.index, axis=0)
    # The thickness of a single layer is no distance between blocks.
    size = np.where(spans > 0, blocks.size_um, 0.0)
    reach_um = max(float(((spans + 1) * size).max()) / 2, float(size.max()))
    edges, rng = lag_edges(float(size.max()), reach_um), np.random.default_rng(seed)
    steps = _half_space(np.minimum(spans, np.floor(edges[-1] / np.where(size > 0, size, np.inf))).astype(np.int64))
    length = np.sqrt(((steps * size) ** 2).sum(axis=1))
    places, bins = Places(blocks.index), []
    for low, high in pairwise(edges):
        chosen = (length >= low) & (length < high)
        first, second, away = _pairs_of(places, steps[chosen], length[chosen], rng)
        if len(first) >= MIN_PAIRS:
            bins.append((float(away.mean()), first, second))
    starts = np.cumsum([0, *(len(first) for _, first, _ in bins)])
    empty = np.zeros(0, np.int32)
    first, second = (np.concatenate([empty, *(rows[side] for rows in bins)]) for side in (1, 2))
    return LagPairs(np.array([lag for lag, _, _ in bins]), first, second, starts.astype(np.int64))


def _half_space(reach: np.ndarray) -> np.ndarray:
    """Return the steps of the grid up to ``reach``, int64 (3,), one of each two opposite ones, int64 (m, 3)."""
    axes = [np.arange(-most, most + 1) for most in reach]
    steps = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(steps[len(steps) // 2 + 1 :], dtype=np.int64)


def _pairs_of(
    places: Places, steps: np.ndarray, length: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return first and second block, int32, and distance of pairs that are one of ``steps``, int64 (m, 3), apart."""
    count, wanted = len(places.index), PAIRS_A_LAG
    possible = count * len(steps)
    if possible <= 2 * wanted:
        choice = np.arange(possible)
    else:
        choice = np.sort(rng.integers(0, possible, size=2 * wanted))
    first, step = choice // max(len(steps), 1), choice % max(len(steps), 1)
    second = places.find(places.index[first] + steps[step])
    present = np.flatnonzero(second >= 0)
    if len(present) > wanted:
        present = np.sort(rng.choice(present, wanted, replace=False))
    return first[present].astype(np.int32), second[present].astype(np.int32), length[step[present]]


@njit(cache=True, nogil=True)
def semivariances(values: np.ndarray, first: np.ndarray, second: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return half the mean squared difference of each bin's pairs, float64 (bins,)."""
    found = np.zeros(len(starts) - 1)
    for lag in range(len(found)):
        total = 0.0
        for row in range(starts[lag], starts[lag + 1]):
            away = values[first[row]] - values[second[row]]
            total += away * away
        found[lag] = total / (2 * (starts[lag + 1] - starts[lag]))
    return found


def variogram(blocks: DensityBlocks, permutations: int = 999, seed: int = 1) -> tuple[Finding, Curve]:
    """Test whether the densities of blocks have a spatial pattern at any distance.

    Parameters
    ----------
    blocks : DensityBlocks
        The blocks that take part.
    permutations : int
        Permutations within strata of exposure, at least 1.
    seed : int
        Of the permutations and of the pairs.

    Returns
    -------
    Finding
        The share of the variance between blocks (counting noise included) that has a pattern, with its 95 % interval
        (jackknife over regions: from the share that the nearest lag shows, to the fitted one); p of the whole curve;
        the note tells the range.
    Curve
        ``variogram``: x lag in um, y semivariance of standardized residuals, expected without a pattern; ``low`` and
        ``high`` are y less and more the half-width of the band of permutations: ``expected`` leaves them where the
        curve departs. ``weight``: pairs.
    """
    residuals = standardized_residuals(blocks)
    reason = why_not(blocks)
    pairs = lag_pairs(blocks, seed) if not reason else None
    if pairs is None or not len(pairs.lag_um):
        reason = reason or f"no distance with {MIN_PAIRS} pairs of blocks"
        return Finding(TEST, QUESTION, EFFECT, n=len(blocks), note=f"not available: {reason}"), _no_curve()
    spread = float(residuals.std())
    residuals = residuals / spread
    sides = (pairs.first, pairs.second, pairs.starts)
    observed = semivariances(residuals, *sides)
    shuffles = permuted(residuals, exposure_strata(blocks.exposure_um3), permutations, seed)
    band = envelope(observed, np.array([semivariances(values, *sides) for values in shuffles]))
    share = _patterned(residuals, counting_noise(blocks) / spread**2, pairs, regions(blocks.index))
    note = _note(pairs, band.p, share)
    finding = Finding(TEST, QUESTION, EFFECT, share.value, share.low, share.high, band.p, len(blocks), note)
    ends = (observed - band.half_width, observed + band.half_width)
    weight = np.diff(pairs.starts).astype(np.float64)
    return finding, Curve("variogram", pairs.lag_um, observed, *ends, band.expected, weight)


def _no_curve() -> Curve:
    return Curve("variogram", *(np.zeros(0) for _ in range(6)))


def _note(pairs: LagPairs, p: float, share: _Share) -> str:
    """Return range and reach of the lags, for people."""
    seen = f"lags {pairs.lag_um[0]:.0f} to {pairs.lag_um[-1]:.0f} um"
    if not np.isfinite(share.value):
        seen += f"; no patterned share and no range: a model needs {MIN_LAGS} lags, there are {len(pairs.lag_um)}"
        return seen + ("" if p < LEVEL else "; the curve stays within its band")
    if p >= LEVEL:
        return f"{seen}; no range: the curve stays within its band"
    if not share.value:
        return f"{seen}; no range: the curve leaves its band, but not as likeness that fades with distance"
    beyond = share.reach_um > pairs.lag_um[-1]
    return f"{seen}; likeness reaches " + (
        f"beyond {pairs.lag_um[-1]:.0f} um" if beyond else f"{share.reach_um:.0f} um"
    )


@dataclass(frozen=True)
class _Share:
    """The patterned share of variance with its interval, and how far likeness reaches; nan: fewer than 3 lags."""

    value: float = NAN
    low: float = NAN
    high: float = NAN
    reach_um: float = NAN


def _patterned(values: np.ndarray, noise: np.ndarray, pairs: LagPairs, region: np.ndarray) -> _Share:
    """Return the patterned share of the variance of blocks.

    Its interval begins at what the nearest lag shows without a model, and ends where counting noise leaves nothing.

    Parameters
    ----------
    values, noise : float64 (n,)
        Standardized residuals; the variance that counting alone gives each.
    pairs : LagPairs
        Their pairs.
    region : int64 (n,)
        The region of each block.
    """
    lags = pairs.lag_um
    if len(lags) < MIN_LAGS:
        return _Share()
    totals = _totals(values, noise, pairs, region)
    ranges = np.geomspace(lags[0], 3 * lags[-1], RANGES)
    models = [1 - np.exp(-3 * (lags / reach) ** power) for power in POWERS for reach in ranges]
    whole = totals.sum(axis=0)
    best = min(range(len(models)), key=lambda model: _fit(whole, lags, models[model])[1])
    figures = (lambda total: _fit(total, lags, models[best])[0], _nearest_share, _beyond_counting)
    ends = [jackknife_interval(totals, figure) for figure in figures]
    most = max(_beyond_counting(whole), 0.0)
    value = float(np.clip(_fit(whole, lags, models[best])[0], 0.0, most))
    low, high = min(ends[0][0], ends[1][0]), max(min(ends[0][1], ends[2][1]), value)
    return _Share(value, float(np.clip(low, 0.0, value)), float(np.clip(high, 0.0, 1.0)), float(ranges[best % RANGES]))


def _totals(values: np.ndarray, noise: np.ndarray, pairs: LagPairs, region: np.ndarray) -> np.ndarray:
    """Return sums of each region, float64 (regions, 2, bins + 2), and how many numbers make each.

    Semivariances of each lag; then squared values and counting noise of blocks.
    """
    bins, count = len(pairs.lag_um), int(region.max()) + 1
    cell = region[pairs.first] * bins + np.repeat(np.arange(bins), np.diff(pairs.starts))
    halves = (values[pairs.first] - values[pairs.second]) ** 2 / 2
    of_blocks = [np.bincount(region, each, count)[:, None] for each in (values**2, noise)]
    sums = np.hstack([np.bincount(cell, halves, count * bins).reshape(count, bins), *of_blocks])
    blocks = np.bincount(region, minlength=count)[:, None]
    numbers = np.hstack([np.bincount(cell, minlength=count * bins).reshape(count, bins), blocks, blocks])
    return np.stack([sums, numbers], axis=1)


def _nearest_share(total: np.ndarray) -> float:
    """Return the share of the variance that the nearest lag lacks, of sums, float64 (2, bins + 2)."""
    mean = total[0, [0, -2]] / total[1, [0, -2]] if total[1, 0] > 0 else np.array([NAN, 1.0])
    return float(1 - mean[0] / mean[1])


def _beyond_counting(total: np.ndarray) -> float:
    """Return the share of the variance that is not counting noise, of sums, float64 (2, bins + 2)."""
    return float(1 - total[0, -1] / total[0, -2])


def _fit(total: np.ndarray, lag_um: np.ndarray, rise: np.ndarray) -> tuple[float, float]:
    """Fit a model by its nugget and its height; return the share of the variance above the nugget, and the misfit.

    Parameters
    ----------
    total : float64 (2, bins + 2)
        Sums of semivariances of each lag, of squared values and of counting noise, and how many make each.
    lag_um : float64 (bins,)
        Lags.
    rise : float64 (bins,)
        The model's rise at each of them, 0 to 1.
    """
    sums, numbers = total[0, :-2], total[1, :-2]
    weight = np.sqrt(numbers) / lag_um
    observed = np.divide(sums, numbers, out=np.zeros_like(lag_um), where=numbers > 0)
    design = np.stack([np.ones_like(rise), rise], axis=1)
    (nugget, height), *_ = np.linalg.lstsq(design * weight[:, None], observed * weight, rcond=None)
    misfit = float((((design @ (nugget, height) - observed) * weight) ** 2).sum())
    return float(1 - nugget * total[1, -2] / total[0, -2]), misfit
