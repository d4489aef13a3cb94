"""Precision, recall and F1 with 95 % intervals.

Wilson score interval: Wilson 1927, doi:10.1080/01621459.1927.10502953. F1 is 2 J / (1 + J) of the proportion
J = TP / (TP + FP + FN); its interval is that of J carried through this rising function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NORMAL_97_5 = 1.959963984540054


@dataclass(frozen=True)
class Proportion:
    """A proportion over ``n`` things with its 95 % interval, all in [0, 1]; NaN and [0, 1] where ``n`` is 0."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Detection:
    """Counts of a detection: true positives, false positives, false negatives."""

    tp: int
    fp: int
    fn: int

    @property
    def precision(self) -> Proportion:
        """TP / (TP + FP)."""
        return wilson(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> Proportion:
        """TP / (TP + FN)."""
        return wilson(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> Proportion:
        """2 TP / (2 TP + FP + FN)."""
        jaccard = wilson(self.tp, self.tp + self.fp + self.fn)
        value, low, high = (2.0 * j / (1.0 + j) for j in (jaccard.value, jaccard.low, jaccard.high))
        return Proportion(value, low, high, jaccard.n)


def wilson(successes: int, n: int, z: float = NORMAL_97_5) -> Proportion:
    """Return ``successes / n`` with its Wilson score interval at ``z`` standard deviations."""
    if n == 0:
        return Proportion(float("nan"), 0.0, 1.0, 0)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Proportion(p, low, high, n)
