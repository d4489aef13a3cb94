"""Dispersion of counts, against hand-counted cases and simulated tissue."""

import numpy as np
import pytest
from scipy import stats

from bouton.density.blocks import DensityBlocks
from bouton.density.counts import extra_variance
from bouton.density.dispersion import _scale, density_variation, dispersion
from bouton.errors import DataError
from density.tissue import tissue


def blocks_of(counts, volume):
    n = len(counts)
    index = np.stack([np.arange(n), np.zeros(n, int), np.zeros(n, int)], axis=1)
    return DensityBlocks(np.array(counts), np.array(volume, float), index, index * 5.0 + 2.5, (5.0, 5.0, 5.0))


def test_hand_counted_case():
    # 60 synapses in 6 um3: expected 10, 20, 30; D = 4/10 + 16/20 + 4/30
    found = dispersion(blocks_of([12, 16, 32], [1, 2, 3]), permutations=39_999)
    d = 0.4 + 0.8 + 4 / 30
    assert found.value == pytest.approx(d / 2)
    # all ways to put 60 synapses into the three blocks
    a, b = np.meshgrid(np.arange(61), np.arange(61), indexing="ij")
    ways = np.stack([a, b, 60 - a - b], axis=-1)[a + b <= 60]
    share = np.array([1, 2, 3]) / 6
    chance = stats.multinomial(60, share).pmf(ways)
    each = ((ways - 60 * share) ** 2 / (60 * share)).sum(axis=1)
    tails = chance[each >= d - 1e-9].sum(), chance[each <= d + 1e-9].sum()
    assert found.p == pytest.approx(min(1, 2 * min(tails)), abs=0.02)
    assert found.low < found.value < found.high and found.n == 3


def test_chi_square_has_the_variance_given_the_total():
    # four times the blocks of 10, 20 and 30 expected: 2 * 11 + 4 * (1/10 + 1/20 + 1/30) - (144 + 22) / 240
    counts = [12, 16, 32, 9, 24, 27, 6, 22, 32, 14, 17, 29]
    found = dispersion(blocks_of(counts, [1, 2, 3] * 4))
    expected = np.array([10, 20, 30] * 4)
    d = ((np.array(counts) - expected) ** 2 / expected).sum()
    scale = (22 + 44 / 60 - 166 / 240) / 22
    law = stats.chi2(11 / scale)
    assert found.p == pytest.approx(2 * min(law.sf(d / scale), law.cdf(d / scale)))


def test_few_blocks_that_hold_the_same_by_chance_are_no_lattice():
    # 7 and 7 of 14: 3432 / 2^14, which chi-square takes to be impossible
    found = dispersion(blocks_of([7, 7], [1, 1]), permutations=9999)
    assert found.p == pytest.approx(2 * 3432 / 2**14, abs=0.03)
    spread = density_variation(blocks_of([7, 7], [1, 1]))
    assert spread.value == 0 and np.isnan([spread.low, spread.high]).all() and "no interval" in spread.note


def test_few_synapses_have_the_exact_law():
    # 2 synapses in 2 equal blocks: (2, 0) or (0, 2) with probability 1/2, D = 2; else D = 0
    above = dispersion(blocks_of([2, 0], [1, 1]), permutations=3999)
    assert above.value == pytest.approx(2) and above.p == pytest.approx(1.0, abs=0.03)
    # 4 synapses all in one of 4 blocks: probability 4 / 4^4, nothing is more extreme
    rare = dispersion(blocks_of([4, 0, 0, 0], [1, 1, 1, 1]), permutations=39999)
    assert rare.p == pytest.approx(2 * 4 / 4**4, rel=0.15)
    assert "drawing" in rare.note


def test_drawn_and_chi_square_p_agree_where_both_hold():
    rng = np.random.default_rng(0)
    counts = rng.poisson(4.9, 400)
    # fewer than 5 expected: drawn. The chi-square approximation is good with so many blocks.
    found = dispersion(blocks_of(counts, np.ones(400)), permutations=9999)
    d = found.value * 399
    assert found.p == pytest.approx(2 * min(stats.chi2.sf(d, 399), stats.chi2.cdf(d, 399)), abs=0.03)


@pytest.mark.parametrize("masked", [0.0, 0.75])
@pytest.mark.parametrize("density", [1.4, 0.01])
def test_uniform_tissue_is_rejected_at_the_level(masked, density):
    rng = np.random.default_rng(7)
    runs = 400 if density > 1 else 200
    p = [dispersion(tissue(rng, (5, 6, 7), density, masked=masked), 199).p for _ in range(runs)]
    rejected = int((np.array(p) < 0.05).sum())
    assert stats.binomtest(rejected, runs, 0.05).pvalue > 0.001


def many_p(rng, volume, expected, runs):
    """Return p of uniform tissues in blocks of these volumes, the smallest of which expects so many synapses."""
    mean = expected * volume / volume.min()
    return np.array([dispersion(blocks_of(rng.poisson(mean), volume)).p for _ in range(runs)])


def test_variance_given_the_total_is_that_of_draws():
    rng, mean = np.random.default_rng(2), np.array([5.0, 8, 20, 60, 7, 5])
    drawn = ((rng.multinomial(105, mean / 105, 100_000) - mean) ** 2 / mean).sum(axis=1)
    law = stats.chi2(5 / _scale(mean))
    assert drawn.mean() == pytest.approx(5, rel=0.02)
    assert drawn.var() == pytest.approx(_scale(mean) ** 2 * law.var(), rel=0.03)


@pytest.mark.parametrize(
    "runs", [1500, pytest.param(20_000, marks=pytest.mark.slow)], ids=["short", "long"]
)  # fmt: skip
def test_few_unequal_blocks_are_rejected_at_the_level(runs):
    """64 blocks that expect 5.7 synapses but for 8 large ones: chi-square as it is rejects 5.6 % of 20,000."""
    rng, volume = np.random.default_rng(12), np.where(np.arange(64) < 56, 0.25, 10.0)
    rejected = int((many_p(rng, volume, 5.72, runs) <= 0.05).sum())
    assert stats.binomtest(rejected, runs, 0.05).pvalue > 0.01
    assert rejected / runs < (0.065 if runs < 2000 else 0.0535)


def test_intervals_cover_the_truth():
    rng, alpha, runs = np.random.default_rng(3), 0.04, 300
    ratio = sd = 0
    for _ in range(runs):
        blocks = tissue(rng, (6, 6, 6), 1.4, alpha=alpha, masked=0.5)
        found, spread = dispersion(blocks), density_variation(blocks)
        ratio += found.low <= 1 + alpha * (1.4 * blocks.exposure_um3).mean() <= found.high
        sd += spread.low <= 1.4 * alpha**0.5 <= spread.high
    assert ratio / runs > 0.92 and sd / runs > 0.92


def test_counts_of_a_lattice_have_no_variation_beyond_noise_and_no_interval():
    lattice = blocks_of([100] * 20, [70.0] * 20)
    found = density_variation(lattice)
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.note.startswith("not available: counts vary less than Poisson noise (variance over mean 0)")
    ratio = dispersion(lattice)
    assert ratio.value == 0 and ratio.p < 1e-6 and np.isnan([ratio.low, ratio.high]).all()
    assert "no interval: every block holds exactly as many" in ratio.note


def test_counts_that_vary_less_than_chance_are_told_apart_from_drift():
    rng = np.random.default_rng(4)
    even = blocks_of(rng.binomial(20, 0.8, 100), np.ones(100))  # variance over mean 0.2
    more = blocks_of(rng.negative_binomial(8, 1 / 3, 100), np.ones(100))  # 3
    note = dispersion(even).note
    assert "keep a distance" in note and "drift" not in note
    assert "drift of the detector" in dispersion(more).note and "distance" not in dispersion(more).note
    assert np.isnan(density_variation(even).value) and density_variation(more).low > 0


def test_no_variation_beyond_noise_has_an_upper_bound_that_holds():
    """Of uniform tissue that comes out at 0 the bound is above it: 0 to 0 would be said to be certain."""
    rng, zero = np.random.default_rng(8), 0
    for _ in range(100):
        found = density_variation(blocks_of(rng.poisson(20, 60), np.ones(60)))
        assert np.isnan(found.value) or found.high > 0
        zero += found.value == 0
    assert 30 < zero < 70


def test_extra_variance_makes_the_statistic_its_degrees_of_freedom():
    rng = np.random.default_rng(1)
    expected = rng.uniform(20, 200, 500)
    counts = rng.poisson(expected * rng.gamma(5, 0.2, 500))
    alpha = extra_variance(counts, expected, 3)
    assert ((counts - expected) ** 2 / (expected + alpha * expected**2)).sum() == pytest.approx(497)
    assert 0.12 < alpha < 0.28
    assert extra_variance(np.array([5, 5, 5]), np.array([5.0, 5, 5]), 1) == 0


@pytest.mark.parametrize(
    ("counts", "why"),
    [([], "no block left"), ([7], "1 block"), ([0, 0, 0], "no synapse")],
)
def test_where_nothing_can_be_said_it_says_why(counts, why):
    for test in (dispersion, density_variation):
        found = test(blocks_of(counts, [1.0] * len(counts)) if counts else tissue(None, (0, 1, 1), 1.0))
        assert np.isnan([found.value, found.low, found.high, found.p]).all() and why in found.note


def test_constant_counts_are_less_than_random():
    found = dispersion(blocks_of([50] * 30, [40.0] * 30))
    assert found.value == 0 and found.p < 1e-6


def test_negative_counts_are_refused():
    with pytest.raises(DataError, match="-1 synapses"):
        blocks_of([3, -1], [1, 1])
