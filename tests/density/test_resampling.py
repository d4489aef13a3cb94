"""Permutations, p, bands and intervals against cases known on paper."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.density.blocks import DensityBlocks
from bouton.density.resampling import (
    envelope,
    exposure_strata,
    jackknife_interval,
    permuted,
    regions,
    two_sided_p,
    upper_p,
)
from bouton.density.residuals import counting_noise, standardized_residuals, why_not
from bouton.density.simulate import Tissue, tissue


def test_strata_follow_exposure_and_hold_equal_ones_together():
    exposure = np.random.default_rng(0).permutation(np.repeat(np.arange(1.0, 41.0), 30))
    strata = exposure_strata(exposure)
    assert strata.max() == 19 and np.bincount(strata).min() == 60
    order = np.argsort(exposure)
    assert (np.diff(strata[order]) >= 0).all()
    assert all(len(set(strata[exposure == value])) == 1 for value in np.unique(exposure))
    assert exposure_strata(np.full(5000, 125.0)).max() == 0
    assert exposure_strata(np.arange(1.0, 40.0)).max() == 0


def test_permutations_keep_each_stratum_and_reach_every_order():
    values, strata = np.array([1.0, 10.0, 2.0, 20.0, 3.0]), np.array([0, 1, 0, 1, 0])
    seen = set()
    for shuffled in permuted(values, strata, 200, 1):
        assert sorted(shuffled[strata == 0]) == [1, 2, 3] and sorted(shuffled[strata == 1]) == [10, 20]
        seen.add(tuple(shuffled))
    assert len(seen) == 12
    assert values.tolist() == [1, 10, 2, 20, 3]


def test_p_counts_the_observed_value():
    simulated = np.arange(-9.0, 10.0)
    assert upper_p(100.0, simulated) == 1 / 20 and upper_p(-100.0, simulated) == 1
    assert two_sided_p(100.0, simulated) == two_sided_p(-100.0, simulated) == 1 / 20
    assert two_sided_p(0.0, simulated) == 1
    assert two_sided_p(3.0, np.full(19, 3.0)) == 1


def test_p_of_an_exchangeable_value_is_5_percent():
    rng = np.random.default_rng(0)
    rows = rng.exponential(size=(4000, 100))
    assert np.mean([two_sided_p(row[0], row[1:]) <= 0.05 for row in rows]) == pytest.approx(0.05, abs=0.012)
    curves = rng.exponential(size=(1000, 100, 5)).cumsum(axis=2)
    assert np.mean([envelope(rows[0], rows[1:]).p <= 0.05 for rows in curves]) == pytest.approx(0.05, abs=0.025)


def test_the_band_holds_95_percent_of_whole_curves():
    curves = np.random.default_rng(1).normal(size=(2000, 12)) * np.arange(1, 13)
    band = envelope(curves[0], curves[1:])
    assert (np.abs(curves - band.expected) <= band.half_width).all(axis=1).mean() == pytest.approx(0.95, abs=0.003)
    # wider than the band of each point alone, 1.96 standard deviations
    assert (band.half_width / np.arange(1, 13) > 2.5).all()
    outlier = curves[0].copy()
    outlier[7] += 100
    found = envelope(outlier, curves[1:])
    assert found.strongest == 7 and found.p == 1 / 2000


def test_regions_are_compact_boxes_of_about_equal_size():
    blocks = tissue("uniform", "vessels", 1, Tissue(shape=(10, 20, 30)))
    region = regions(blocks.index)
    sizes = np.bincount(region)
    assert len(sizes) == 48 and sizes.sum() == len(blocks) and sizes.max() < 3 * sizes.min()
    for number in range(48):
        inside = blocks.index[region == number]
        assert np.ptp(inside, axis=0).max() <= 8
    assert regions(np.zeros((0, 3), np.int64)).tolist() == []
    assert sorted(regions(np.array([[0, 0, 0], [0, 0, 5], [0, 0, 6]]))) == [0, 1, 2]


def test_the_jackknife_of_a_mean_is_student_s_interval():
    values = np.random.default_rng(2).normal(5, 2, 30)
    totals = np.stack([values, np.ones(30)], axis=1)
    low, high = jackknife_interval(totals, lambda sums: sums[0] / sums[1])
    reach = 2.0452 * values.std(ddof=1) / np.sqrt(30)
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), rel=1e-4)
    assert np.isnan(jackknife_interval(totals[:7], lambda sums: sums[0])).all()


def test_counting_noise_is_the_share_of_poisson_in_the_variance():
    settings = Tissue(shape=(20, 20, 20), strength=0.4)
    blocks = tissue("overdispersed", "random", 1, settings)
    # variance mu + 0.16 mu^2 with mu = density * exposure
    assert counting_noise(blocks) == pytest.approx(1 / (1 + 0.16 * blocks.exposure_um3), rel=0.1)
    assert counting_noise(tissue("uniform", "random", 1, settings)).min() > 0.8


@pytest.mark.parametrize("kind", ["uniform", "overdispersed"])
def test_residuals_have_one_variance_whatever_the_exposure(kind):
    blocks = tissue(kind, "random", 1, Tissue(shape=(20, 20, 20), strength=0.4))
    residuals = standardized_residuals(blocks)
    low, high = (residuals[exposure].var() for exposure in (blocks.exposure_um3 < 60, blocks.exposure_um3 > 100))
    assert residuals.mean() == pytest.approx(0) and low == pytest.approx(1, abs=0.1) == pytest.approx(high, abs=0.1)


def test_nothing_to_compare_has_a_reason():
    index = np.argwhere(np.ones((2, 3, 4), bool))
    made = [DensityBlocks(np.full(24, count), np.ones(24), index, index, (1.0, 1.0, 1.0)) for count in (0, 5)]
    assert why_not(made[0]) == "no synapse" and "same density" in why_not(made[1])
    assert np.isnan(standardized_residuals(made[0])).all() and (counting_noise(made[1]) == 1).all()
