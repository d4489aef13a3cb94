"""Laws of counts against scipy's and against sums."""

import numpy as np
import pytest
from scipy import stats

from bouton.density.counts import NEARLY_POISSON, count_cdf, count_interval, count_sf


def low_of(count):
    return stats.chi2.ppf(0.025, 2 * count) / 2


def test_count_interval_is_garwoods():
    low, high = count_interval(np.array([0.0, 10.0]))
    assert low == pytest.approx([0, stats.chi2.ppf(0.025, 20) / 2])
    assert high == pytest.approx([stats.chi2.ppf(0.975, 2) / 2, stats.chi2.ppf(0.975, 22) / 2])
    wider = count_interval(np.array([100.0]), 4.0)
    assert wider[0] == pytest.approx(4 * low_of(25)) and 60 < wider[0] < 68 and 140 < wider[1] < 152


def test_laws_of_counts():
    n, mu = np.arange(6), np.full(6, 3.0)
    assert count_cdf(n, mu, 0.0) == pytest.approx(stats.poisson.cdf(n, 3))
    assert count_sf(n, mu, 0.0) == pytest.approx(1 - stats.poisson.cdf(n - 1, 3))
    assert 1 - count_cdf(n - 1, mu, 0.2) == pytest.approx(count_sf(n, mu, 0.2))
    mean = (count_sf(np.arange(1, 400), np.full(399, 3.0), 0.2)).sum()
    assert mean == pytest.approx(3.0)


def test_the_negative_binomial_has_the_variance_that_it_should():
    n, mu, alpha = np.arange(600), np.full(600, 7.0), 0.3
    law = np.diff(count_cdf(n, mu, alpha), prepend=0.0)
    assert law @ n == pytest.approx(7) and law @ (n - 7.0) ** 2 == pytest.approx(7 + 0.3 * 49)
    # where one law takes over from the other, they agree
    few = np.arange(30), np.full(30, 7.0)
    assert count_cdf(*few, 2 * NEARLY_POISSON) == pytest.approx(count_cdf(*few, 0.0), rel=1e-4)
    assert count_sf(*few, 2 * NEARLY_POISSON) == pytest.approx(count_sf(*few, 0.0), rel=1e-4)
