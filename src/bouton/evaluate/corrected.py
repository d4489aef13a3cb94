"""Counts of detected things corrected for what the detector misses and invents, with 95 % intervals.

Where T things are true and D are detected (T = TP + FN, D = TP + FP), n detected ones elsewhere stand for

    n_corrected = n x precision / recall = n x r,   r = T / D

The interval is for the number N of true things *there*. Each true thing is found with chance R, and false ones come as
a Poisson count in proportion to the true ones, f each: n has mean N / r and variance N (R (1 - R) + f), and so has the
evaluation's D with T for N. So N - r n has mean 0 and, by the delta method, variance

    N w (1 + N / T),   w = r^2 (R (1 - R) + f) = r^2 (TP FN / T + FP) / T

where the first part is the chance of the errors there, the second that of the evaluation. The limits are the N with
(N - r n)^2 = z^2 N w (1 + N / T), the roots of a quadratic, as in Wilson's interval for a proportion: unlike a normal
or log-normal interval they hold for small n, and for n = 0. Half a false positive and half a false negative are added
in w, so that a small faultless evaluation does not make a count certain.

It rests on the evaluation being a fair sample of the same tissue and on errors that come independently; it knows
nothing of another brain region, stain or score threshold. Tested by simulation: tests/evaluate/test_corrected.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bouton.errors import DataError
from bouton.evaluate.detection import NORMAL_97_5, Detection

CORRECTED_COLUMNS = {"n_corrected": "float64", "n_corrected_low": "float64", "n_corrected_high": "float64"}


@dataclass(frozen=True)
class Corrected:
    """Corrected counts with 95 % limits, float64 (k,) each; NaN, 0 and infinite where the evaluation tells nothing."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns of :data:`CORRECTED_COLUMNS`."""
        return dict(zip(CORRECTED_COLUMNS, (self.value, self.low, self.high), strict=True))


def corrected_counts(n: np.ndarray, found: Detection, z: float = NORMAL_97_5) -> Corrected:
    """Return ``n x precision / recall`` and limits for the true numbers.

    Parameters
    ----------
    n : numpy.ndarray
        Integers (k,), counts of detected things, at least 0.
    found : Detection
        Of an evaluation of the same detector at the same threshold.
    z : float
        Standard deviations of the limits.
    """
    n = np.asarray(n, dtype=np.float64)
    if not found.tp:
        return Corrected(np.full(n.shape, np.nan), np.zeros(n.shape), np.full(n.shape, np.inf))
    true, detected = found.tp + found.fn, found.tp + found.fp
    r = true / detected
    w = r * r * (found.tp * (found.fn + 0.5) / true + found.fp + 0.5) / true
    middle = r * n
    low, high = _roots(middle, z * z * w, true)
    return Corrected(middle, low, high)


def uncorrected(k: int) -> Corrected:
    """Return what is known of ``k`` counts without an evaluation: nothing, NaN."""
    return Corrected(*(np.full(k, np.nan) for _ in range(3)))


def scored_detection(scores: Mapping[str, np.ndarray], prefix: str) -> Detection:
    """Return the counts ``<prefix>_tp``, ``_fp``, ``_fn`` of a table of scores.

    Parameters
    ----------
    scores : mapping
        ``metric`` str and ``value`` float64 (k,), as ``evaluate_synapses`` and ``bouton evaluate`` write them.
    prefix : str
        Such as ``synapse``, ``synapse_partners``, ``excitatory``.

    Raises
    ------
    DataError
        One of them is missing, or is no count.
    """
    values = score_values(scores)
    names = [f"{prefix}_{kind}" for kind in ("tp", "fp", "fn")]
    lost = [name for name in names if name not in values]
    if lost:
        raise DataError(
            f"the scores hold no {', '.join(lost)}",
            expected=f"rows {', '.join(names)} in the column metric",
            fix="read the table scores of stage evaluate_synapses",
        )
    bad = [name for name in names if not (values[name] >= 0 and values[name].is_integer())]
    if bad:
        raise DataError(f"{bad[0]} = {values[bad[0]]}", expected="a count: a whole number, at least 0")
    return Detection(*(int(values[name]) for name in names))


def score_values(scores: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return metric -> value of a table of scores.

    Raises
    ------
    DataError
        A metric occurs twice.
    """
    values = {str(name): float(value) for name, value in zip(scores["metric"], scores["value"], strict=True)}
    if len(values) < len(scores["metric"]):
        raise DataError("a metric occurs twice in the scores", expected="the scores of one evaluation")
    return values


def _roots(middle: np.ndarray, spread: float, true: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the N with ``(N - middle)^2 = spread N (1 + N / true)``; no upper one if the evaluation is too small."""
    a, half = 1 - spread / true, middle + spread / 2
    root = np.sqrt(np.maximum(half * half - a * middle * middle, 0.0))
    # This form of the lower root stays exact where a is near to 0, and holds for a < 0, too.
    low = np.divide(middle * middle, half + root, out=np.zeros(middle.shape), where=half + root > 0)
    return low, (half + root) / a if a > 0 else np.full(middle.shape, np.inf)
