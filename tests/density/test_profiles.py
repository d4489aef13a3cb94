"""Profiles and the histogram of density, against sums by hand and exact laws."""

import numpy as np
import pytest

from bouton.density.counts import extra_variance
from bouton.density.profiles import axis_curves, depth_curve, histogram_curve
from density.tissue import patchy, tissue


def test_axis_curves_are_sums_over_sums():
    blocks = tissue(np.random.default_rng(0), (3, 4, 5), 1.3, masked=0.7)
    for axis, curve in enumerate(axis_curves(blocks)):
        layers = [blocks.only(blocks.index[:, axis] == k) for k in range(blocks.index[:, axis].max() + 1)]
        assert curve.y == pytest.approx([layer.counts.sum() / layer.exposure_um3.sum() for layer in layers])
        assert curve.weight == pytest.approx([layer.exposure_um3.sum() for layer in layers])
        assert curve.x == pytest.approx([2.5 + 5 * k for k in range(len(layers))])
        assert curve.expected == pytest.approx(np.full(len(layers), blocks.rate))
        assert (curve.low < curve.y).all() and (curve.y < curve.high).all()


@pytest.mark.parametrize("alpha", [0.0, 0.05])
def test_intervals_of_profiles_cover_the_density(alpha):
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(150):
        z = axis_curves(tissue(rng, (6, 6, 6), 0.8, alpha=alpha, masked=0.6))[0]
        covered.append((z.low <= 0.8) & (z.high >= 0.8))
    assert 0.92 < np.mean(covered) < 0.98


def test_intervals_of_profiles_allow_for_patches():
    rng, covered = np.random.default_rng(3), []
    for _ in range(60):
        y = axis_curves(patchy(rng, (12, 14, 16), 0.8))[1]
        covered.append((y.low <= 0.8) & (y.high >= 0.8))
    assert np.mean(covered) > 0.88


def test_depth_curve_has_a_point_each_step():
    blocks = tissue(np.random.default_rng(0), (2, 8, 2), 1.3)
    along, depth = axis_curves(blocks)[1], depth_curve(blocks, blocks.centre_um[:, 1] - 0.0, 5.0)
    assert depth.name == "depth" and depth.y == pytest.approx(along.y)
    halved = depth_curve(blocks, blocks.centre_um[:, 1], 10.0)
    assert halved.y.size == 4 and halved.weight.sum() == pytest.approx(blocks.exposure_um3.sum())


def test_histogram_counts_every_block_and_expects_as_many():
    rng = np.random.default_rng(3)
    blocks = tissue(rng, (12, 12, 12), 1.4, masked=0.7)
    curve = histogram_curve(blocks)
    assert curve.y.sum() == len(blocks) and curve.expected.sum() == pytest.approx(len(blocks))
    assert curve.weight.sum() == pytest.approx(blocks.exposure_um3.sum())
    # the expectation is the average of many draws
    draws = np.zeros(curve.y.size)
    step = curve.x[1] - curve.x[0]
    for _ in range(200):
        density = rng.poisson(blocks.expected) / blocks.exposure_um3
        draws += np.bincount(np.minimum((density / step).astype(int), draws.size - 1), minlength=draws.size)
    assert draws / 200 == pytest.approx(curve.expected, abs=0.1 * len(blocks) ** 0.5)


def test_over_dispersed_tissue_fits_the_second_histogram_only():
    blocks = tissue(np.random.default_rng(4), (14, 14, 14), 1.4, alpha=0.08, masked=0.5)
    alpha = extra_variance(blocks.counts, blocks.expected, 1)
    poisson, wider = histogram_curve(blocks), histogram_curve(blocks, alpha)
    assert (poisson.name, wider.name) == ("histogram", "histogram over-dispersed")

    def misfit(curve):
        kept = curve.expected > 5
        return ((curve.y - curve.expected)[kept] ** 2 / curve.expected[kept]).mean()

    assert misfit(poisson) > 20 and misfit(wider) < 3


def test_few_synapses_show_no_empty_bins():
    blocks = tissue(np.random.default_rng(5), (8, 8, 8), 0.01)
    curve = histogram_curve(blocks)
    assert curve.y.size == blocks.counts.max() and curve.expected.sum() == pytest.approx(512)
    assert abs(curve.y[0] - curve.expected[0]) < 60


def test_no_blocks_have_no_curves():
    none = tissue(None, (0, 1, 1), 1.0)
    assert axis_curves(none) == [] and histogram_curve(none).x.size == 0
    empty = tissue(np.random.default_rng(0), (3, 3, 3), 0.0)
    assert histogram_curve(empty).x.size == 0
    z = axis_curves(empty)[0]
    assert (z.y == 0).all() and (z.low == 0).all() and (z.high > 0).all()
