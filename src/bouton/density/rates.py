"""Densities and ratios of counts, with intervals that allow for counts which vary together in space.

Counts of neighbouring blocks are not independent. The variance of a ratio of sums is that of its linearisation (Cochran
1977, Sampling Techniques, chapter 6), and products of neighbours belong to it (Conley 1999,
doi:10.1016/S0304-4076(98)00084-0): shell by shell around each block, for as long as a shell is more alike than chance
makes it (the idea of the initial positive sequence of Geyer 1992, doi:10.1214/ss/1177011137). Intervals are symmetric
in the logarithm, with Student's t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft, stats

from bouton.density.counts import count_interval

LEVEL = 0.95
FARTHEST = 12
"""Blocks; patterns that reach farther are seen up to here."""
MOST_PAIRS = 0.2
"""Neighbours that are looked at are at most this share of all pairs: the others tell what chance is."""
_TAIL = (1 - LEVEL) / 2


@dataclass(frozen=True)
class Ratio:
    """A ratio of two sums with its 95 % interval.

    Attributes
    ----------
    value, low, high : float
        nan: not available.
    log_error : float
        Standard error of its logarithm; nan where the interval is an exact one.
    freedom : float
        Degrees of freedom of that error.
    n : int
        Blocks behind it.
    note : str
        Its limits; why it is not available, where it is not.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    log_error: float = math.nan
    freedom: float = math.inf
    n: int = 0
    note: str = ""


def rate(counts: np.ndarray, volume_um3: np.ndarray, index: np.ndarray | None = None) -> Ratio:
    """Return synapses per um3 over blocks.

    The variance is at least that of Poisson counts: nothing is taken to be more regular than chance.

    Parameters
    ----------
    counts : int64 (n,)
    volume_um3 : float64 (n,)
        Above 0.
    index : int64 (n, 3), optional
        Places of the blocks in their grid, z, y, x; without it they are taken to be far from one another.
    """
    counts, volume = np.asarray(counts, np.float64), np.asarray(volume_um3, np.float64)
    total, whole = float(counts.sum()), float(volume.sum())
    if not whole > 0:
        return Ratio(n=len(counts), note="no volume")
    if total > 0 and len(counts) > 1:
        return _log_ratio(counts, volume, index, 1 / total)
    low, high = count_interval(np.array(total))
    note = "exact interval of a Poisson count: more variation than that is not in it"
    error = math.sqrt(1 / total) if total else math.nan
    return Ratio(total / whole, float(low) / whole, float(high) / whole, error, n=len(counts), note=note)


def count_ratio(top: np.ndarray, bottom: np.ndarray, index: np.ndarray | None = None) -> Ratio:
    """Return the ratio of two kinds of synapses over blocks, of different synapses: excitatory to inhibitory.

    Parameters
    ----------
    top, bottom : int64 (n,)
    index : int64 (n, 3), optional
    """
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    over, under = float(top.sum()), float(bottom.sum())
    if over + under == 0:
        return Ratio(n=len(top), note="none of either kind")
    if over and under and len(top) > 1:
        return _log_ratio(top, bottom, index, 1 / over + 1 / under)
    share = stats.binomtest(int(over), int(over + under)).proportion_ci(LEVEL, method="exact")
    low, high = (float(p / (1 - p)) if p < 1 else math.inf for p in (share.low, share.high))
    error = math.sqrt(1 / over + 1 / under) if over and under else math.nan
    note = "exact interval of a share: more variation than that is not in it"
    return Ratio(over / under if under else math.inf, low, high, error, n=len(top), note=note)


def paired_ratio(top: np.ndarray, bottom: np.ndarray, index: np.ndarray | None = None) -> Ratio:
    """Return the ratio of two counts of the same synapses over blocks: found by a detector, counted by a person.

    They rise and fall together, so that only blocks, no law of counts, can tell how certain the ratio is.
    """
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    if not bottom.sum():
        return Ratio(n=len(top), note="none counted: no ratio")
    value = float(top.sum() / bottom.sum())
    if not value:
        return Ratio(0.0, n=len(top), note="none found: no interval")
    if len(top) < 2:
        return Ratio(value, n=len(top), note="one block: no interval")
    return _log_ratio(top, bottom, index, 0.0)


def weighted_ratio(top: np.ndarray, bottom: np.ndarray, index: np.ndarray, least: float) -> Ratio:
    """Return the ratio of sums of numbers that stand for counts, float64 (n,); those of a block may be below 0.

    Parameters
    ----------
    top, bottom : float64 (n,)
        Their sums are above 0.
    index : int64 (n, 3)
    least : float
        The variance of the ratio's logarithm if counts were Poisson: no less is believed.
    """
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    if len(top) < 2:
        note = "one block: Poisson counts, more variation than that is not in it"
        return _interval(float(top.sum() / bottom.sum()), math.sqrt(least), math.inf, len(top), note)
    influence = top / top.sum() - bottom / bottom.sum()
    weight = np.maximum(bottom, 0)
    variance, freedom = _variance(influence, weight / weight.sum(), index)
    return _interval(float(top.sum() / bottom.sum()), math.sqrt(max(variance, least)), freedom, len(top))


def contrast(a: Ratio, b: Ratio) -> tuple[Ratio, float]:
    """Return ``a`` over ``b``, of independent data, and p of no difference (Welch's t of the logarithms)."""
    lost = sorted((one for one in (a, b) if not _comparable(one)), key=lambda one: not math.isnan(one.value))
    if lost:
        why = lost[0].note if math.isnan(lost[0].value) else f"one of the two is {lost[0].value:g}: no ratio of them"
        return Ratio(n=a.n + b.n, note=why or "not available"), math.nan
    parts = (a.log_error**2, b.log_error**2)
    error = math.sqrt(sum(parts))
    spread = sum(part**2 / one.freedom for part, one in zip(parts, (a, b), strict=True))
    freedom = sum(parts) ** 2 / spread if spread else math.inf
    found = _interval(a.value / b.value, error, freedom, a.n + b.n)
    if not error:
        return found, 1.0 if a.value == b.value else math.nan
    return found, float(2 * stats.t.sf(abs(math.log(a.value / b.value)) / error, freedom))


def rate_contrast(a: Ratio, b: Ratio, synapses: tuple[int, int]) -> tuple[Ratio, float]:
    """Return ``a`` over ``b``, two rates (:func:`rate`, :func:`scaled`) of independent data, and p of no difference.

    Of two counts of one density the share of the first is that of its volume (Przyborowski & Wilenski 1940,
    doi:10.1093/biomet/31.3-4.313): the exact test where a rate is 0, which has no logarithm. Both counts are taken to
    vary as much more than Poisson ones as that one does which is not 0.

    Parameters
    ----------
    a, b : Ratio
    synapses : (int, int)
        Behind each of them.
    """
    if 0 not in synapses or not (math.isfinite(a.value) and math.isfinite(b.value)):
        return contrast(a, b)
    (none, _), (some, count) = sorted([(a, synapses[0]), (b, synapses[1])], key=lambda pair: pair[1])
    if not count:
        return Ratio(n=a.n + b.n, note="no synapse in either: no ratio"), math.nan
    # What makes the upper limit of a count of 0 that of the rate is the volume behind it.
    volume = float(count_interval(np.array(0.0))[1]) / none.high
    certain = math.floor(1 / some.log_error**2 + 1e-9)  # so many Poisson counts would be as uncertain
    p = float(stats.binomtest(0, certain, volume / (volume + count / some.value)).pvalue) if certain else math.nan
    note = "a data set without synapses: no ratio; p is that of the exact conditional test"
    return Ratio(n=a.n + b.n, note=note if certain else "too uncertain for a test"), p


def scaled(ratio: Ratio, factor: float, log_error: float) -> Ratio:
    """Return a ratio times a factor that is itself uncertain: that of a detector's precision and recall."""
    if not _comparable(ratio):
        # No error of the logarithm to add to: an exact interval is widened at both ends, which is more than enough.
        reach = math.exp(float(stats.norm.ppf(1 - _TAIL)) * log_error)
        low, high = ratio.low * factor / reach, ratio.high * factor * reach
        return Ratio(ratio.value * factor, low, high, n=ratio.n, note=ratio.note)
    error = math.hypot(ratio.log_error, log_error)
    # Only the blocks' part of the error has few degrees of freedom (Welch-Satterthwaite).
    freedom = error**4 / ratio.log_error**4 * ratio.freedom if ratio.log_error else math.inf
    return _interval(ratio.value * factor, error, freedom, ratio.n, ratio.note)


def share(hits: int, of: int) -> Ratio:
    """Return a share with its Wilson interval (doi:10.1080/01621459.1927.10502953); nan of none."""
    if not of:
        return Ratio(note="none answered")
    interval = stats.binomtest(hits, of).proportion_ci(LEVEL, method="wilson")
    return Ratio(hits / of, float(interval.low), float(interval.high), n=of)


def _comparable(one: Ratio) -> bool:
    return math.isfinite(one.log_error) and 0 < one.value < math.inf


def _log_ratio(top: np.ndarray, bottom: np.ndarray, index: np.ndarray | None, least: float) -> Ratio:
    """Return the ratio of sums; ``least`` is the smallest variance of its logarithm to believe in."""
    weight = bottom / bottom.sum()
    variance, freedom = _variance(top / top.sum() - weight, weight, index)
    return _interval(float(top.sum() / bottom.sum()), math.sqrt(max(variance, least)), freedom, len(top))


def _variance(influence: np.ndarray, weight: np.ndarray, index: np.ndarray | None) -> tuple[float, float]:
    """Return the variance of the sum of influences, and its degrees of freedom."""
    alone = float((weight**2).sum())
    if index is None or len(influence) < 3:
        return float((influence**2).sum()) / max(1 - alone, 1 / len(influence)), max(1 / alone - 1, 1.0)
    products, chance, pairs = (_shells(values, index) for values in (influence, influence**2, weight))
    total, near = products[0], pairs[0]
    for product, noise, pair in zip(products[1:], chance[1:], pairs[1:], strict=True):
        # Each pair stands in a shell twice, so that its product has four times the variance, in half as many pairs.
        if product <= math.sqrt(2 * max(noise, 0.0)) or near + pair > MOST_PAIRS:
            break
        total, near = total + product, near + pair
    # Influences sum to 0, which takes from the neighbours' products what it adds to the others'.
    return total / (1 - near), max(1 / near - 1, 1.0)


def _shells(values: np.ndarray, index: np.ndarray) -> list[float]:
    """Return sums of products of all pairs of blocks, by their distance: 0, up to 1, up to 2 ... blocks."""
    place = np.asarray(index, np.int64) - np.min(index, axis=0)
    extent = place.max(axis=0) + 1
    far = np.minimum(FARTHEST, extent - 1)
    grid = np.zeros(extent)
    grid[tuple(place[:, axis] for axis in range(3))] = values
    shape = [fft.next_fast_len(int(n), real=True) for n in extent + far]
    spectrum = fft.rfftn(grid, shape)
    products = fft.irfftn(np.abs(spectrum) ** 2, shape)
    lags = np.meshgrid(*(np.arange(-n, n + 1) for n in far), indexing="ij")
    shell = np.ceil(np.sqrt(sum(lag.astype(np.float64) ** 2 for lag in lags))).astype(np.int64)
    sums = np.bincount(shell.reshape(-1), products[tuple(lags)].reshape(-1))
    return [float(value) for value in sums[: FARTHEST + 1]]


def _interval(value: float, error: float, freedom: float, n: int, note: str = "") -> Ratio:
    reach = math.exp(min(float(stats.t.ppf(1 - _TAIL, freedom)) * error, 700.0))
    return Ratio(value, value / reach, value * reach, error, freedom, n, note)
