"""Permutations that respect the mask, p of simulations, bands of curves, intervals by leaving out parts of the tissue.

*Permutations.* Residuals of blocks are exchangeable only among blocks of similar exposure: of two blocks with the same
density, the one of which less is exposed has the more skewed count. So they are permuted within strata of exposure,
which keeps every stratum's mean, and asks for spatial structure beyond blocks that vary independently: it holds its
level in uniform tissue and in tissue whose blocks are over-dispersed without a pattern. Masked blocks are absent.

*p* counts the observed value as one of the permutations, (r + 1) / (m + 1), which keeps the level exactly:
Phipson & Smyth 2010, doi:10.2202/1544-6115.1585.

*Envelope.* One test of a whole curve: the greatest of its departures, each over its standard deviation among
permutations; the band that this makes holds the whole curve in 95 % of uniform tissues.
Myllymaki et al. 2017, doi:10.1111/rssb.12172.

*Interval.* Neighbouring blocks depend on one another, so the jackknife leaves out whole regions of tissue.
Kunsch 1989, doi:10.1214/aos/1176347265.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
MAX_STRATA = 20
BLOCKS_A_STRATUM = 50
REGIONS = 48
MIN_REGIONS = 8


def exposure_strata(exposure_um3: np.ndarray) -> np.ndarray:
    """Return the stratum of each block, int64 (n,): up to 20 of about equal size, in order of exposure.

    Blocks of the same exposure share a stratum.
    """
    size = len(exposure_um3)
    strata = int(np.clip(size // BLOCKS_A_STRATUM, 1, MAX_STRATA))
    cuts = np.quantile(exposure_um3, np.arange(1, strata) / strata) if size else np.zeros(0)
    return np.searchsorted(np.unique(cuts), exposure_um3, side="left").astype(np.int64)


def permuted(values: np.ndarray, strata: np.ndarray, permutations: int, seed: int) -> Iterator[np.ndarray]:
    """Yield ``values``, float64 (n,), shuffled within strata, int64 (n,), again and again; the array is reused."""
    rng = np.random.default_rng(seed)
    order = np.argsort(strata, kind="stable")
    stops = np.cumsum(np.unique(strata, return_counts=True)[1])
    pieces = np.split(values[order], stops[:-1])
    out = np.empty_like(values)
    for _ in range(permutations):
        for piece in pieces:
            rng.shuffle(piece)
        out[order] = np.concatenate(pieces)
        yield out


def two_sided_p(observed: float, simulated: np.ndarray) -> float:
    """Return p of a departure to either side from the mean of ``simulated``, float64 (m,), and the observed."""
    everything = np.append(simulated, observed)
    away = np.abs(everything - everything.mean())
    return float(np.mean(away >= away[-1] * (1 - 1e-12)))


def upper_p(observed: float, simulated: np.ndarray) -> float:
    """Return p of a value as large as the observed among ``simulated``, float64 (m,)."""
    return float((np.count_nonzero(simulated >= observed) + 1) / (len(simulated) + 1))


@dataclass(frozen=True)
class Envelope:
    """A curve among those of permutations.

    Attributes
    ----------
    expected, half_width : float64 (bins,)
        Mean of the curves, and half the width of the band that holds a whole curve in 95 %.
    p : float
        Probability of so great a departure anywhere along the curve.
    strongest : int
        Where the curve departs most.
    """

    expected: np.ndarray
    half_width: np.ndarray
    p: float
    strongest: int


def envelope(observed: np.ndarray, simulated: np.ndarray) -> Envelope:
    """Compare a curve, float64 (bins,), with those of simulations, float64 (m, bins)."""
    everything = np.vstack([simulated, observed])
    expected, spread = everything.mean(axis=0), everything.std(axis=0)
    away = np.abs(everything - expected)
    scaled = np.divide(away, spread, out=np.zeros_like(away), where=spread > 0)
    greatest = scaled.max(axis=1)
    p = float(np.mean(greatest >= greatest[-1] * (1 - 1e-12)))
    return Envelope(expected, np.quantile(greatest, LEVEL) * spread, p, int(scaled[-1].argmax()))


def regions(index: np.ndarray) -> np.ndarray:
    """Return the region of each block, int64 (n,), 0 to the number of regions - 1: about 48 compact boxes of the grid.

    Parameters
    ----------
    index : int64 (n, 3)
        Place of each block in the grid, z, y, x.
    """
    found = np.zeros(len(index), np.int64)
    pieces = [np.arange(len(index))]
    while pieces and len(pieces) < REGIONS:
        widest = max(range(len(pieces)), key=lambda piece: len(pieces[piece]))
        rows = pieces.pop(widest)
        axis = int(np.ptp(index[rows], axis=0).argmax()) if len(rows) else 0
        middle = np.median(index[rows, axis]) if len(rows) else 0.0
        low = index[rows, axis] < max(middle, index[rows, axis].min(initial=0) + 0.5)
        if low.all() or not low.any():
            pieces.append(rows)
            break
        pieces += [rows[low], rows[~low]]
    for number, rows in enumerate(pieces):
        found[rows] = number
    return found


def jackknife_interval(totals: np.ndarray, figure: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """Return the 95 % interval of a figure that is made of sums over regions; nan with fewer than 8 regions.

    Parameters
    ----------
    totals : float64 (regions, ...)
        The sums that each region adds.
    figure : function
        From the sum over regions, float64 (...), to the figure.
    """
    from scipy.stats import t

    count = len(totals)
    if count < MIN_REGIONS:
        return float("nan"), float("nan")
    whole = totals.sum(axis=0)
    left_out = np.array([figure(whole - part) for part in totals])
    error = np.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum())
    reach = float(t.ppf(0.5 + LEVEL / 2, count - 1) * error)
    centre = figure(whole)
    return centre - reach, centre + reach
