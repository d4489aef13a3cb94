"""Do the counts of blocks vary more than chance alone makes them vary?

The index of dispersion (Fisher, Thornton & Mackenzie 1922, doi:10.1111/j.1744-7348.1922.tb05962.x) with expected counts
in proportion to the volume of each block; conditional on the total, counts of uniform tissue are multinomial. Its
variance then exceeds chi-square's where blocks differ in volume and some expect few synapses (Haldane 1937,
Biometrika 29:133), so it is compared with a chi-square that is scaled to that variance. Variation beyond Poisson noise
by moments (Breslow 1984, doi:10.2307/2347661).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bouton.density.blocks import DensityBlocks
from bouton.density.counts import alpha_of, extra_variance
from bouton.density.finding import Finding

_FEW = 5.0
"""With fewer expected synapses in a block the chi-square distribution is not to be trusted."""
_FEW_BLOCKS = 10
"""So few blocks may well hold exactly as many as expected, which chi-square takes to be impossible."""
_LEVEL, _NOTHING = 0.05, 1e-20
_NO_SPREAD = "no interval: every block holds exactly as many synapses as expected"
_CHUNK = 1 << 22
_TILE_SIDES, _LEAST_TILES, _CERTAIN = (2, 4, 8, 16), 20, 1e-3


@dataclass(frozen=True)
class _Terms:
    """What all answers need: (n_i - mu_i)^2 / mu_i of each block, and the influence of each on its log mean."""

    each: np.ndarray
    ratio: float
    log_error: float


def dispersion(blocks: DensityBlocks, permutations: int = 999, seed: int = 1) -> Finding:
    """Return whether counts vary as those of uniform tissue do: D = sum (n_i - mu_i)^2 / mu_i, two-sided.

    D is compared with the chi-square that has its mean, N - 1, and its exact variance given the total.
    Of fewer than 10 blocks, or where one expects fewer than 5 synapses, p comes from ``permutations`` draws of the
    exact law given the total: every synapse falls into a block with probability in proportion to its volume. The
    interval is that of the mean of D's terms on a log scale (influence of each block), or the chi-square interval where
    that is wider; nan where every block holds exactly as many synapses as expected.
    """
    question = "Do counts vary more than those of uniform tissue, given the volume of each block?"
    finding = Finding("dispersion", question, "variance over mean", n=len(blocks), note=missing(blocks))
    if finding.note:
        return finding
    found, df = _terms(blocks), len(blocks) - 1
    statistic = float(found.each.sum())
    drawn = float(blocks.expected.min()) < _FEW or len(blocks) < _FEW_BLOCKS
    p = _drawn_p(blocks, statistic, permutations, seed) if drawn else _chi_square_p(statistic, blocks.expected)
    low, high = _ratio_interval(found, df)
    note = (
        "p by drawing counts given their total"
        if drawn
        else f"chi-square on {df} df, scaled to the variance given the total"
    )
    note += _direction(found.ratio, p)
    return Finding(
        "dispersion", question, finding.effect, found.ratio, low, high, p, len(blocks),
        f"{note}; interval takes blocks as independent" if found.ratio else f"{note}; {_NO_SPREAD}",
    )  # fmt: skip


def density_variation(blocks: DensityBlocks) -> Finding:
    """Return the standard deviation of density beyond Poisson noise, um-3: its test is :func:`dispersion`.

    nan where counts vary significantly less than Poisson ones: such noise is no part of their variance, so that
    nothing can be said to lie beyond it.
    """
    question = "How much does density vary between blocks, apart from Poisson noise?"
    effect = "standard deviation of density beyond Poisson noise, um-3"
    note = missing(blocks)
    if note:
        return Finding("density variation", question, effect, n=len(blocks), note=note)
    expected = blocks.expected
    ratio = _below_poisson(blocks)
    if ratio is not None:
        note = f"not available: counts vary less than Poisson noise (variance over mean {ratio:.3g}), none is beyond it"
        return Finding("density variation", question, effect, n=len(blocks), note=note)
    alpha = extra_variance(blocks.counts, expected, 1)
    value = blocks.rate * math.sqrt(alpha)
    low, high = (blocks.rate * math.sqrt(bound) for bound in _alpha_interval(blocks, alpha))
    return Finding(
        "density variation", question, effect, value, low, high, n=len(blocks),
        note=f"{math.sqrt(alpha):.3g} of the mean density {blocks.rate:.4g} um-3; "
        + ("no interval: too few blocks" if math.isnan(high) else "interval takes blocks as independent"),
    )  # fmt: skip


def likeness(blocks: DensityBlocks, expected: np.ndarray, alpha: float, thin: int | None = None) -> tuple[float, int]:
    """Return by how much the variance of sums over neighbouring blocks exceeds that of independent blocks.

    Residuals are summed over tiles of 2, 4, 8 and 16 blocks a side; what counts is the largest excess among those that
    less than 1 of 1,000 tissues of independent blocks has.

    Parameters
    ----------
    blocks : DensityBlocks
    expected : float64 (n,)
        Fitted counts.
    alpha : float
        Of their variance mu + alpha mu^2.
    thin : int, optional
        The axis along which tiles are one block thick.

    Returns
    -------
    float
        At least 1; 1 where blocks may well be independent.
    int
        Degrees of freedom of this number.
    """
    residual, variance = blocks.counts - expected, expected + alpha * expected**2
    excess, freedom = 1.0, max(1, len(blocks) - 1)
    for side in _TILE_SIDES:
        sides = np.where(np.arange(3) == thin, 1, side)
        _, tile = np.unique(blocks.index // sides, axis=0, return_inverse=True)
        tile = tile.reshape(-1)
        df = int(tile.max()) if tile.size else 0
        if df + 1 < _LEAST_TILES or df + 1 == tile.size:
            continue
        statistic = float((np.bincount(tile, residual) ** 2 / np.bincount(tile, variance)).sum())
        if stats.chi2.sf(statistic, df) < _CERTAIN and statistic / df > excess:
            excess, freedom = statistic / df, df
    return excess, freedom


def missing(blocks: DensityBlocks, least: int = 2) -> str:
    """Return why nothing can be said of these blocks; an empty text where something can."""
    if not len(blocks):
        return "not available: no block left"
    if len(blocks) < least:
        return f"not available: {len(blocks)} block{'s' if len(blocks) > 1 else ''}, at least {least} are needed"
    return "" if blocks.counts.sum() else "not available: no synapse in any block"


def _direction(ratio: float, p: float) -> str:
    """Return what cannot be told from what, of counts that vary more, or less, than Poisson ones."""
    if ratio >= 1 or p >= _LEVEL:
        return "; does not tell tissue from drift of the detector"
    return "; does not tell synapses that keep a distance from a detector that joins near ones"


def _below_poisson(blocks: DensityBlocks) -> float | None:
    """Return variance over mean where it is significantly below that of Poisson counts, None elsewhere."""
    found = _terms(blocks)
    if found.ratio >= 1:
        return None
    # Of many blocks chi-square will do here, whatever they expect: draws would take as long as those of the test.
    statistic = float(found.each.sum())
    p = _drawn_p(blocks, statistic, 999, 1) if len(blocks) < _FEW_BLOCKS else _chi_square_p(statistic, blocks.expected)
    return found.ratio if p < _LEVEL else None


def _terms(blocks: DensityBlocks) -> _Terms:
    expected = blocks.expected
    each = (blocks.counts - expected) ** 2 / expected
    ratio = float(each.sum() / (len(blocks) - 1))
    if ratio < _NOTHING:
        return _Terms(each, 0.0, math.nan)
    influence = each / each.mean() - 1 - (blocks.counts - expected) / expected.mean()
    return _Terms(each, ratio, float(influence.std(ddof=1) / math.sqrt(len(blocks))))


def _ratio_interval(found: _Terms, df: int) -> tuple[float, float]:
    if not found.ratio:
        return math.nan, math.nan
    chi_low, chi_high = (df * found.ratio / stats.chi2.ppf(level, df) for level in (0.975, 0.025))
    reach = math.exp(float(stats.t.ppf(0.975, df)) * found.log_error)
    return min(float(chi_low), found.ratio / reach), max(float(chi_high), found.ratio * reach)


def _chi_square_p(statistic: float, expected: np.ndarray) -> float:
    scale = _scale(expected)
    law = stats.chi2((expected.size - 1) / scale)
    return min(1.0, 2 * float(min(law.sf(statistic / scale), law.cdf(statistic / scale))))


def _scale(expected: np.ndarray) -> float:
    """Return the exact variance of D given the total, over chi-square's."""
    df = expected.size - 1
    return 1 + float((1 / expected).sum() - (expected.size**2 + 2 * df) / expected.sum()) / (2 * df)


def _drawn_p(blocks: DensityBlocks, statistic: float, draws: int, seed: int) -> float:
    """Return the two-sided p among ``draws`` multinomial tissues; ties count on both sides."""
    rng, expected = np.random.default_rng(seed), blocks.expected
    total, share = int(blocks.counts.sum()), expected / expected.sum()
    above = below = 1
    tie = 1e-9 * (1 + statistic)
    for first in range(0, draws, max(1, _CHUNK // len(blocks))):
        size = min(draws - first, max(1, _CHUNK // len(blocks)))
        found = ((rng.multinomial(total, share, size) - expected) ** 2 / expected).sum(axis=1)
        above += int((found >= statistic - tie).sum())
        below += int((found <= statistic + tie).sum())
    return min(1.0, 2 * min(above, below) / (draws + 1))


def _alpha_interval(blocks: DensityBlocks, alpha: float) -> tuple[float, float]:
    """Return the wider of two intervals: by the influence of each block, and by chi-square of Pearson's statistic.

    nan where both end at 0.
    """
    df = len(blocks) - 1
    centre, error = _one_step(blocks, alpha)
    reach = float(stats.t.ppf(0.975, df)) * error
    low, high = (alpha_of(blocks.counts, blocks.expected, float(stats.chi2.ppf(at, df))) for at in (0.975, 0.025))
    if max(high, centre + reach) <= 0:
        return math.nan, math.nan  # 0 to 0 would be certainty
    return max(0.0, min(low, centre - reach)), max(high, centre + reach)


def _one_step(blocks: DensityBlocks, alpha: float) -> tuple[float, float]:
    """Return alpha, which may come out below 0, and its standard error by the influence of each block."""
    counts, expected = blocks.counts, blocks.expected

    def scores(alpha: float, scale: float) -> np.ndarray:
        mu = scale * expected
        return np.asarray((counts - mu) ** 2 / (mu + alpha * mu**2) - 1 + 1 / len(blocks))

    variance = expected + alpha * expected**2
    slope = float(((counts - expected) ** 2 * expected**2 / variance**2).mean())
    if slope == 0:
        return alpha, 0.0
    step = 1e-5
    by_scale = float((scores(alpha, 1 + step) - scores(alpha, 1 - step)).mean() / (2 * step))
    score = scores(alpha, 1.0)
    influence = (score + by_scale * (counts - expected) / expected.mean()) / slope
    return alpha + float(score.mean()) / slope, float(influence.std(ddof=1) / math.sqrt(len(blocks)))
