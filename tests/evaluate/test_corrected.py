"""Corrected counts: by hand, at the edges, and how often their limits hold the true number."""

import numpy as np
import pytest

from bouton.evaluate.corrected import corrected_counts, uncorrected
from bouton.evaluate.detection import Detection


def test_value_and_limits_by_hand():
    # Precision 0.9, recall 0.75: r = 120 / 100.
    found = corrected_counts(np.array([50]), Detection(tp=90, fp=10, fn=30), z=2.0)
    assert found.value[0] == pytest.approx(50 * 0.9 / 0.75)
    w = 1.44 * (90 * 30.5 / 120 + 10.5) / 120
    for limit in (found.low[0], found.high[0]):
        assert (limit - 60) ** 2 == pytest.approx(4 * limit * w * (1 + limit / 120))
    assert found.low[0] < 60 < found.high[0]


def test_nothing_detected_is_not_nothing_there():
    found = corrected_counts(np.array([0]), Detection(90, 10, 30))
    assert (found.value[0], found.low[0]) == (0.0, 0.0)
    assert 0.5 < found.high[0] < 5


def test_a_faultless_small_evaluation_is_not_certain():
    found = corrected_counts(np.array([100]), Detection(20, 0, 0))
    assert found.value[0] == 100
    assert found.low[0] < 95 and found.high[0] > 105


def test_evaluations_that_tell_nothing():
    for detection in (Detection(0, 3, 4), Detection(0, 0, 0)):
        found = corrected_counts(np.array([5]), detection)
        assert np.isnan(found.value[0]) and (found.low[0], found.high[0]) == (0.0, np.inf)
    small = corrected_counts(np.array([10]), Detection(1, 1, 9))
    assert small.high[0] == np.inf and 0 < small.low[0] < 50
    assert np.isnan(uncorrected(3).columns()["n_corrected_low"]).all()


def test_order_and_sums_keep_within_limits():
    found = corrected_counts(np.arange(50), Detection(90, 10, 30))
    assert (np.diff(found.value) > 0).all() and (np.diff(found.low) > 0).all() and (np.diff(found.high) > 0).all()


CASES = [
    (t, n, *rates) for t in (100, 1000) for n in (10, 60, 1000) for rates in ((0.9, 0.9), (0.62, 0.69), (0.95, 0.6))
]


@pytest.mark.parametrize(("true", "there", "recall", "precision"), CASES)
def test_limits_hold_the_true_number_in_95_of_100(true, there, recall, precision):
    rng = np.random.default_rng([true, there, int(100 * recall)])
    runs, false = 4000, recall * (1 - precision) / precision
    tp, fp = rng.binomial(true, recall, runs), rng.poisson(true * false, runs)
    n = rng.binomial(there, recall, runs) + rng.poisson(there * false, runs)
    held = 0
    for i in range(runs):
        found = corrected_counts(n[i : i + 1], Detection(int(tp[i]), int(fp[i]), true - int(tp[i])))
        held += found.low[0] <= there <= found.high[0]
    assert 0.92 <= held / runs <= 0.97
