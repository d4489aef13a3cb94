"""Laws of counts: Poisson, and negative binomial where density varies between blocks; Garwood's interval.

A count of mean mu has the variance mu + alpha mu^2; alpha is 0 for Poisson counts, and found by moments (Breslow 1984,
doi:10.2307/2347661). Garwood 1936, doi:10.1093/biomet/28.3-4.437; for counts that vary more than Poisson ones, of the
count over their dispersion.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, stats

NEARLY_POISSON = 1e-7
"""An extra variance alpha below this changes no digit that matters, and the formulas that divide by it lose theirs."""
_TAILS = (0.025, 0.975)


def extra_variance(counts: np.ndarray, expected: np.ndarray, parameters: int) -> float:
    """Return alpha >= 0 of variance mu + alpha mu^2, such that Pearson's statistic equals its degrees of freedom.

    Parameters
    ----------
    counts : int (n,)
    expected : float64 (n,)
        Above 0.
    parameters : int
        Numbers that were fitted to make ``expected``.
    """
    return alpha_of(counts, expected, float(counts.size - parameters))


def alpha_of(counts: np.ndarray, expected: np.ndarray, statistic: float) -> float:
    """Return the alpha with which Pearson's statistic is ``statistic``; 0 where it is less without any."""
    square = (counts - expected) ** 2
    if statistic <= 0 or (square / expected).sum() <= statistic:
        return 0.0

    def excess(alpha: float) -> float:
        return float((square / (expected * (1 + alpha * expected))).sum() / statistic - 1)

    high = 1.0
    while excess(high) > 0 and high < 1e12:
        high *= 4
    return float(optimize.brentq(excess, 0.0, high, xtol=1e-12)) if excess(high) < 0 else high


def count_interval(counts: np.ndarray, dispersion: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % interval of expected counts, float64 (n,) each, of variance ``dispersion`` times the mean."""
    scaled = np.asarray(counts, dtype=np.float64) / dispersion
    low = np.where(scaled > 0, stats.gamma.ppf(_TAILS[0], np.maximum(scaled, 1e-300)), 0.0)
    return low * dispersion, stats.gamma.ppf(_TAILS[1], scaled + 1) * dispersion


def count_cdf(most: np.ndarray, expected: np.ndarray, alpha: float) -> np.ndarray:
    """Return P(n <= most) of counts with mean ``expected`` and variance mu + alpha mu^2, float64 (n,)."""
    if alpha <= NEARLY_POISSON:
        return np.asarray(stats.poisson.cdf(most, expected))
    return np.asarray(stats.nbinom.cdf(most, 1 / alpha, 1 / (1 + alpha * expected)))


def count_sf(least: np.ndarray, expected: np.ndarray, alpha: float) -> np.ndarray:
    """Return P(n >= least) of such counts, exact far out in the tail, too, float64 (n,)."""
    if alpha <= NEARLY_POISSON:
        return np.asarray(stats.poisson.sf(least - 1, expected))
    return np.asarray(stats.nbinom.sf(least - 1, 1 / alpha, 1 / (1 + alpha * expected)))
