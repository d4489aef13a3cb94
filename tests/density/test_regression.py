"""Regression of counts on position: against statsmodels' own likelihood, calibration, power, bad input."""

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from bouton.density.regression import axis_findings, depth_finding, smooth
from density.tissue import patchy, tissue


def test_likelihood_ratio_is_that_of_two_fitted_models():
    rng = np.random.default_rng(0)
    blocks = tissue(rng, (7, 6, 5), 1.2, alpha=0.05, masked=0.6, trend=lambda at: np.exp(0.008 * at[:, 1]))
    found = axis_findings(blocks)[1]
    assert 0.001 < found.p < 0.3  # far from 1, where the degrees of freedom do not matter
    alpha = float(found.note.split("alpha ")[1].split(";")[0])
    designs = [smooth(a, blocks.centre_um[:, i], blocks.exposure_um3).design for i, a in enumerate("zyx")]
    family = sm.families.NegativeBinomial(alpha=alpha)

    def fit(parts):
        design = np.hstack([np.ones((len(blocks), 1)), *parts])
        return sm.GLM(blocks.counts, design, family, offset=np.log(blocks.exposure_um3)).fit()

    full, without = fit(designs), fit([designs[0], designs[2]])
    statistic, df = 2 * (full.llf - without.llf), designs[1].shape[1]
    assert df == 5
    assert found.p == pytest.approx(stats.f.sf(statistic / df, df, len(blocks) - 15), rel=0.02)
    assert full.pearson_chi2 == pytest.approx(len(blocks) - full.df_model - 1, rel=0.01)


def test_counts_no_more_varied_than_poisson_are_compared_with_chi_square():
    rng = np.random.default_rng(1)
    blocks = tissue(rng, (7, 6, 5), 1.2, masked=0.6)
    trend = np.exp(0.002 * blocks.centre_um[:, 0])
    counts = rng.binomial(np.round(2.4 * trend * blocks.exposure_um3).astype(int), 0.5)
    found = axis_findings(replace(blocks, counts=counts))[0]
    designs = [smooth(a, blocks.centre_um[:, i], blocks.exposure_um3).design for i, a in enumerate("zyx")]

    def likelihood(parts):
        design = np.hstack([np.ones((len(blocks), 1)), *parts])
        return sm.GLM(counts, design, sm.families.Poisson(), offset=np.log(blocks.exposure_um3)).fit().llf

    statistic = 2 * (likelihood(designs) - likelihood(designs[1:]))
    assert "alpha 0;" in found.note and 0.001 < found.p < 0.9
    assert found.p == pytest.approx(stats.chi2.sf(statistic, designs[0].shape[1]), rel=1e-4)


def test_two_layers_are_compared_as_two_rates():
    rng = np.random.default_rng(2)
    blocks = tissue(rng, (2, 1, 40), 1.0, masked=0.5)
    found = depth_finding(blocks, blocks.centre_um[:, 0])
    upper = blocks.index[:, 0] == 1
    rates = [blocks.counts[part].sum() / blocks.exposure_um3[part].sum() for part in (~upper, upper)]
    assert found.value == pytest.approx(rates[1] / rates[0], rel=0.02)
    assert found.low < found.value < found.high


@pytest.mark.parametrize(("alpha", "masked"), [(0.0, 0.0), (0.0, 0.75), (0.05, 0.75)])
def test_tissue_without_a_trend_is_rejected_at_the_level(alpha, masked):
    rng, runs = np.random.default_rng(11), 150
    p, covered = [], 0
    for _ in range(runs):
        found = axis_findings(tissue(rng, (6, 7, 8), 1.4, alpha=alpha, masked=masked))
        p.append([each.p for each in found])
        covered += sum(each.low <= 1 <= each.high for each in found)
    rejected = int((np.array(p) < 0.05).sum())
    assert stats.binomtest(rejected, 3 * runs, 0.05).pvalue > 0.001
    assert covered / (3 * runs) > 0.92


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "masked"), [(0.0, 0.0), (0.0, 0.75), (0.05, 0.75)])
def test_tissue_without_a_trend_is_rejected_in_5_percent(alpha, masked):
    """Slow: 2,000 tissues; 5 +/- 1.5 % each axis."""
    rng = np.random.default_rng(12)
    blocks = (tissue(rng, (8, 8, 8), 1.4, alpha=alpha, masked=masked) for _ in range(2000))
    p = np.array([[each.p for each in axis_findings(each_one)] for each_one in blocks])
    assert (np.abs((p < 0.05).mean(axis=0) - 0.05) < 0.015).all()


def test_a_gradient_is_found_along_its_axis_only_and_measured():
    rng, covered, others = np.random.default_rng(5), 0, 0
    for _ in range(40):
        blocks = tissue(rng, (10, 8, 8), 1.2, alpha=0.02, masked=0.5, trend=lambda at: np.exp(0.02 * at[:, 0]))
        z, y, x = axis_findings(blocks)
        assert z.p < 1e-6
        others += (y.p < 0.05) + (x.p < 0.05)
        # layers at 5 % and 95 % of the way: centres 2.5 and 47.5 um
        covered += z.low <= np.exp(0.02 * 45) <= z.high
    assert covered >= 35 and others <= 12


def test_a_layer_in_the_middle_is_found_though_both_ends_are_alike():
    rng = np.random.default_rng(6)
    blocks = tissue(rng, (12, 6, 6), 1.0, trend=lambda at: 1 + 0.3 * (np.abs(at[:, 0] - 30) < 8))
    z = axis_findings(blocks)[0]
    assert z.p < 1e-6 and 0.8 < z.value < 1.25


def test_one_layer_has_no_answer_and_does_not_disturb_the_others():
    found = axis_findings(tissue(np.random.default_rng(0), (1, 8, 8), 1.4))
    assert np.isnan(found[0].p) and "one layer" in found[0].note
    assert all(np.isfinite([f.value, f.low, f.high, f.p]).all() for f in found[1:])


def test_blocks_on_a_diagonal_do_not_tell_axes_apart():
    blocks = tissue(np.random.default_rng(0), (9, 9, 9), 1.4)
    diagonal = blocks.only((blocks.index == blocks.index[:, :1]).all(axis=1))
    doubled = blocks.only(blocks.index[:, 0] == blocks.index[:, 1])
    assert all(np.isnan(each.p) for each in axis_findings(diagonal))
    z, y, x = axis_findings(doubled)
    assert np.isnan([z.p, z.value, y.p, y.value]).all() and "do not tell" in z.note and np.isfinite(x.p)


def test_an_end_without_synapses_is_no_crash():
    blocks = tissue(np.random.default_rng(0), (8, 5, 5), 1.0, trend=lambda at: (at[:, 0] > 12) * 1.0)
    found = axis_findings(blocks)
    assert found[0].p < 1e-10 or "not available" in found[0].note
    assert not np.isnan(found[2].p)


@pytest.mark.parametrize(("shape", "density", "why"), [
    ((0, 1, 1), 1.0, "no block left"), ((1, 1, 1), 1.0, "1 block"), ((2, 2, 1), 1.0, "4 blocks"),
    ((3, 3, 3), 0.0, "no synapse"),
])  # fmt: skip
def test_where_nothing_can_be_said_it_says_why(shape, density, why):
    for found in axis_findings(tissue(np.random.default_rng(0), shape, density)):
        assert np.isnan([found.value, found.low, found.high, found.p]).all() and why in found.note


def test_constant_counts_show_no_change():
    blocks = tissue(np.random.default_rng(0), (5, 5, 5), 1.0)
    same = type(blocks)(np.full(125, 100), blocks.exposure_um3, blocks.index, blocks.centre_um, blocks.size_um)
    for found in axis_findings(same):
        assert found.value == pytest.approx(1) and found.p > 0.99


def test_patches_are_not_taken_for_trends_beyond_what_they_are():
    rng, covered, told = np.random.default_rng(8), [], []
    for _ in range(40):
        found = axis_findings(patchy(rng, (12, 14, 16), 1.4))
        covered += [each.low <= 1 <= each.high for each in found]
        told.append("neighbouring blocks are alike" in found[0].note)
    # without allowing for likeness, intervals cover about 60 %
    assert np.mean(covered) > 0.88 and np.mean(told) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "reach", "low", "high"), [
    ((12, 14, 16), 0.7, 0.10, 0.26), ((12, 14, 16), 1.5, 0.22, 0.52), ((12, 14, 16), 3.0, 0.45, 0.80),
    ((8, 10, 12), 0.7, 0.20, 0.55), ((8, 10, 12), 3.0, 0.70, 1.0),
])  # fmt: skip
def test_patches_are_rejected_too_often(shape, reach, low, high):
    """What the page of the stage says that these tests cannot do."""
    rng = np.random.default_rng(11)
    p = np.array([[f.p for f in axis_findings(patchy(rng, shape, 1.4, reach=reach))] for _ in range(200)])
    rejected = (p <= 0.05).mean(axis=0)
    assert (rejected >= low).all() and (rejected <= high).all(), rejected


def test_independent_blocks_are_not_called_alike():
    rng = np.random.default_rng(9)
    notes = [axis_findings(tissue(rng, (8, 8, 8), 1.0, alpha=0.05, masked=0.6))[0].note for _ in range(60)]
    assert sum("independently" in note for note in notes) >= 59
