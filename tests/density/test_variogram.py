"""Variogram against loops over pairs, tissues of known share and range, and bad input."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from bouton.density.blocks import DensityBlocks
from bouton.density.residuals import standardized_residuals
from bouton.density.simulate import Tissue, tissue
from bouton.density.variogram import _fit, lag_edges, lag_pairs, variogram


def test_semivariances_equal_the_mean_over_all_pairs():
    blocks = tissue("clusters", "vessels", 1, Tissue(shape=(4, 6, 7), size_um=(5.0, 4.0, 4.0)))
    _, curve = variogram(blocks, 9)
    residuals = standardized_residuals(blocks)
    residuals = residuals / residuals.std()
    first, second = np.triu_indices(len(blocks), 1)
    away = np.linalg.norm(blocks.centre_um[first] - blocks.centre_um[second], axis=1)
    half = (residuals[first] - residuals[second]) ** 2 / 2
    edges = lag_edges(5.0, 14.0)
    for number, (low, high) in enumerate(pairwise(edges)):
        chosen = (away >= low - 1e-9) & (away < high - 1e-9)
        assert curve.weight[number] == chosen.sum()
        assert curve.x[number] == pytest.approx(away[chosen].mean())
        assert curve.y[number] == pytest.approx(half[chosen].mean())
    assert len(curve.x) == len(edges) - 1


def test_pairs_of_far_lags_are_a_sample_of_present_blocks():
    blocks = tissue("uniform", "vessels", 1, Tissue(shape=(10, 25, 25)))
    pairs = lag_pairs(blocks, 1)
    numbers = np.diff(pairs.starts)
    assert numbers.max() == 100_000 and len(pairs.first) == pairs.starts[-1]
    away = np.linalg.norm(blocks.centre_um[pairs.first] - blocks.centre_um[pairs.second], axis=1)
    edges = lag_edges(5.0, 62.5)
    for number, low in enumerate(pairs.starts[:-1]):
        part = away[low : pairs.starts[number + 1]]
        assert part.min() >= edges[number] - 1e-9 and part.max() < edges[number + 1] + 1e-9
        assert part.mean() == pytest.approx(pairs.lag_um[number])


def test_the_model_is_fitted_with_weights_pairs_over_lag_squared():
    rng = np.random.default_rng(2)
    lag, numbers = np.array([5.0, 8, 20, 70]), np.array([900.0, 2000, 5000, 400])
    rise, observed = 1 - np.exp(-3 * lag / 30), rng.uniform(0.5, 1.2, 4)
    # 250 blocks of mean square 1.1
    total = np.array([[*(observed * numbers), 275.0, 80.0], [*numbers, 250.0, 250.0]])
    design, weight = np.stack([np.ones(4), rise], axis=1), np.diag(numbers / lag**2)
    nugget, height = np.linalg.solve(design.T @ weight @ design, design.T @ weight @ observed)
    away = nugget + height * rise - observed
    assert _fit(total, lag, rise) == pytest.approx((1 - nugget / 1.1, away @ weight @ away))


@pytest.mark.parametrize("mask", ["none", "vessels"])
def test_the_patterned_share_is_the_variance_beyond_poisson(mask):
    """Clusters: 1 - mean / variance of the counts; uniform tissue: none."""
    settings = Tissue(shape=(12, 16, 16), strength=0.15)
    blocks = tissue("clusters", mask, 4, settings)
    expected = blocks.expected
    beyond = 1 - 1 / float(np.mean((blocks.counts - expected) ** 2 / expected))
    finding, curve = variogram(blocks, 99)
    assert finding.value == pytest.approx(beyond, abs=0.1) and finding.p == 0.01
    assert finding.low < finding.value <= finding.high
    assert "reaches" in finding.note
    assert curve.expected == pytest.approx(1, abs=0.1)
    uniform, _ = variogram(tissue("uniform", mask, 4, settings), 99)
    assert uniform.p > 0.05 and uniform.value < 0.2 and "no range" in uniform.note


def test_the_interval_claims_no_more_than_counting_leaves_and_no_less_than_neighbours_show():
    """Steep likeness of neighbours only: a model would continue it beyond all variance."""
    rng = np.random.default_rng(3)
    index = np.argwhere(np.ones((8, 16, 16), bool))
    pair = rng.gamma(25, 1 / 25, (8, 16, 8)).repeat(2, axis=2)
    counts = rng.poisson(100 * pair.ravel())
    blocks = DensityBlocks(counts, np.ones(2048), index, index * 5.0, (5.0, 5.0, 5.0))
    finding, curve = variogram(blocks, 99)
    most = 1 - 1 / (counts.var() / counts.mean())
    assert finding.p == 0.01 and 0 <= finding.low <= 1 - curve.y[0]
    assert finding.value <= most + 0.01 and finding.low <= finding.value <= finding.high <= most + 0.1
    uniform, _ = variogram(tissue("uniform", "random", 1), 99)
    assert uniform.low == 0 <= uniform.value <= uniform.high < 0.3


def test_the_range_grows_with_the_size_of_the_pattern():
    """A cosine along y of period 16 blocks: blocks 8 apart are the most unlike."""
    index = np.argwhere(np.ones((6, 48, 8), bool))
    rng = np.random.default_rng(0)
    counts = rng.poisson(200 * (1 + 0.3 * np.cos(2 * np.pi * index[:, 1] / 16)))
    blocks = DensityBlocks(counts, np.ones(len(index)), index, index * 5.0, (5.0, 5.0, 5.0))
    finding, curve = variogram(blocks, 99)
    peak = curve.x[curve.y.argmax()]
    assert 30 <= peak <= 60 and finding.p == 0.01
    outside = (curve.expected < curve.low) | (curve.expected > curve.high)
    assert outside[0] and outside[curve.y.argmax()]


def test_the_band_leaves_the_expected_curve_where_p_is_small_and_only_there():
    for seed in range(30):
        kind = "gradient" if seed % 3 == 0 else "uniform"
        finding, curve = variogram(tissue(kind, "random", seed, Tissue(strength=0.05)), 199, seed)
        outside = ((curve.expected < curve.low - 1e-12) | (curve.expected > curve.high + 1e-12)).any()
        if abs(finding.p - 0.05) > 0.011:
            assert outside == (finding.p < 0.05)


@pytest.mark.parametrize(("counts", "reason"), [(0, "no synapse"), (9, "same density")])
def test_no_number_where_there_is_nothing_to_compare(counts, reason):
    index = np.argwhere(np.ones((3, 4, 5), bool))
    blocks = DensityBlocks(np.full(60, counts), np.ones(60), index, index * 5.0, (5.0, 5.0, 5.0))
    finding, curve = variogram(blocks, 9)
    assert np.isnan([finding.value, finding.p]).all() and reason in finding.note and not len(curve.x)


def test_few_blocks_and_one_row_of_blocks():
    none, curve = variogram(tissue("uniform", "none", 1, Tissue(shape=(1, 1, 9))), 9)
    assert np.isnan(none.p) and "9 blocks" in none.note and not len(curve.y)
    index = np.stack([np.zeros(90), np.zeros(90), np.arange(90)], axis=1).astype(np.int64)
    counts = np.random.default_rng(1).poisson(50 + index[:, 2])
    row, curve = variogram(DensityBlocks(counts, np.ones(90), index, index * 5.0, (50.0, 40.0, 5.0)), 99)
    assert row.p == 0.01 and np.isfinite(curve.y).all() and curve.x[0] == 5


def test_two_lags_have_a_p_but_no_model_and_say_so():
    rng, index = np.random.default_rng(1), np.argwhere(np.ones((4, 4, 4), bool))
    counts = rng.poisson(np.where(index[:, 1] < 2, 60, 30))
    blocks = DensityBlocks(counts, np.full(64, 125.0), index, index * 5.0 + 2.5, (5.0, 5.0, 5.0))
    found, curve = variogram(blocks, 99)
    assert len(curve.x) < 3 and found.p <= 0.05 and np.isnan(found.value)
    assert f"a model needs 3 lags, there are {len(curve.x)}" in found.note and "within its band" not in found.note


def test_a_curve_that_departs_upwards_has_no_range():
    """Blocks by turns: those side by side are less alike than others, so no likeness fades with distance."""
    rng, index = np.random.default_rng(1), np.argwhere(np.ones((200, 1, 1), bool))
    counts = rng.poisson(np.where(index.sum(axis=1) % 2, 60, 30))
    blocks = DensityBlocks(counts, np.full(len(index), 125.0), index, index * 5.0 + 2.5, (5.0, 5.0, 5.0))
    found, _ = variogram(blocks, 99)
    assert found.p <= 0.05 and found.value == 0
    assert "not as likeness that fades with distance" in found.note and "reaches" not in found.note


def test_the_same_seed_gives_the_same_finding():
    blocks = tissue("uniform", "random", 2)
    assert variogram(blocks, 49, 3)[0] == variogram(blocks, 49, 3)[0]
