"""Numbers with error bars: an estimate and a 90 % interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST = 0.10
"""Half of the narrowest interval, relative: what the same blocks differ by from run to run on a quiet machine."""
ONE_PLACE = 0.25
"""The same where all blocks lie at one place: how much tissue differs from place to place was not seen."""
REPLICATES = 300


@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its interval."""

    value: float
    low: float
    high: float

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.value + other.value, self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Estimate:
        """Return the estimate multiplied by a number that is known."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


NOTHING = Estimate(0.0, 0.0, 0.0)


def ratio_interval(amounts: Sequence[float], works: Sequence[float], places: Sequence[int]) -> tuple[float, float]:
    """Return the 90 % interval of sum(amounts) / sum(works), relative to it: a bootstrap over places, then tasks.

    Blocks of one place resemble each other more than blocks of two, so places are drawn first. The interval is never
    narrower than LEAST, and with one place alone than ONE_PLACE, on both sides.
    """
    amount, work, place = np.asarray(amounts, float), np.asarray(works, float), np.asarray(places)
    least = LEAST if len(np.unique(place)) > 1 else ONE_PLACE
    if not amount.sum() > 0 or not work.sum() > 0:
        return 1 - least, 1 + least
    random = np.random.default_rng(0)
    groups = [np.flatnonzero(place == p) for p in np.unique(place)]
    ratios = []
    for _ in range(REPLICATES):
        drawn = [groups[i] for i in random.integers(0, len(groups), len(groups))]
        rows = np.concatenate([random.choice(group, len(group)) for group in drawn])
        ratios.append(amount[rows].sum() / max(work[rows].sum(), 1e-12))
    low, high = np.quantile(ratios, (0.05, 0.95)) / (amount.sum() / work.sum())
    return min(float(low), 1 - least), max(float(high), 1 + least)
