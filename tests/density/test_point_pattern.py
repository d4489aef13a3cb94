"""Nearest neighbours and Ripley's K against loops, patterns of known kind, windows with masks, and bad input."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.density.point_pattern import (
    PointOptions,
    nearest_neighbour,
    nearest_um,
    pairs_within,
    patterns,
    ripley,
    samples_of,
)
from bouton.density.simulate import Tissue, point_tissue, tissue
from bouton.density.window import Window, apart, block_window, box_window, hard_core_points
from bouton.errors import DataError, SpecError

SMALL = Tissue(shape=(3, 4, 4), density_um3=0.1, strength=0.4)
FEW = PointOptions(simulations=99)


def test_points_kept_apart_are_those_that_a_loop_keeps():
    points = np.random.default_rng(0).random((400, 3)) * (4, 5, 3)
    kept: list[np.ndarray] = []
    for point in points:
        if all(((point - other) ** 2).sum() >= 0.5**2 for other in kept):
            kept.append(point)
    assert np.array_equal(apart(points, 0.5), np.array(kept)) and len(kept) < 300


def test_distances_and_pairs_equal_those_of_all_pairs():
    points = np.random.default_rng(1).random((150, 3)) * 4
    away = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert nearest_um(points) == pytest.approx(np.where(np.eye(150), np.inf, away).min(axis=1))
    radii = np.array([0.2, 0.7, 1.5])
    assert pairs_within(points, radii).tolist() == [((away <= r).sum() - 150) / 2 for r in radii]


def test_drawn_points_lie_in_the_window_and_keep_their_distance():
    _, window = point_tissue("uniform", "vessels", 1, SMALL)
    points = hard_core_points(window, 500, 0.9, np.random.default_rng(2))
    assert points.shape == (500, 3) and window.holds(points).all() and nearest_um(points).min() >= 0.9
    assert not window.exposed.all()


def test_drawn_points_fill_the_window_evenly():
    window = Window(np.array([[[True, False, True, True]]]), (2.0, 3.0, 5.0), (7.0, 0.0, -10.0))
    points = hard_core_points(window, 30_000, 0.0, np.random.default_rng(3))
    share = np.histogram(points[:, 2], bins=[-10, -5, 0, 5, 10])[0] / 30_000
    assert share == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=0.01)
    assert points.min(axis=0) == pytest.approx([7, 0, -10], abs=0.01)
    assert points.max(axis=0) == pytest.approx([9, 3, 10], abs=0.01)
    assert window.volume_um3 == 90


@pytest.mark.parametrize("mask", ["none", "vessels"])
def test_clusters_are_nearer_and_a_hard_core_is_random(mask):
    drawn = patterns(*point_tissue("clusters", mask, 1, SMALL), FEW)
    near, (k, curve) = nearest_neighbour(drawn), ripley(drawn)
    assert near.p == 0.01 and near.high < 1 and k.p == 0.01 and k.low > 1
    assert (curve.low > curve.expected).any()
    apart_near = nearest_neighbour(patterns(*point_tissue("hard core", mask, 1, SMALL), FEW))
    assert apart_near.p > 0.05 and apart_near.low < 1 < apart_near.high


def test_a_lattice_is_regular():
    points = np.argwhere(np.ones((6, 6, 6), bool)) + 0.5 + np.random.default_rng(0).normal(scale=0.05, size=(216, 3))
    options = PointOptions(simulations=99, hard_core_um=0.2)
    drawn = patterns(points, box_window((6.0, 6.0, 6.0)), options)
    near, (k, _) = nearest_neighbour(drawn), ripley(drawn)
    assert near.value > 1.2 and near.low > 1 and near.p == 0.01 and k.p == 0.01


def test_a_mask_is_not_taken_for_clusters():
    """Uniform points outside vessels: rejected if the window were a box, not in theirs."""
    p = []
    for seed in range(8):
        points, window = point_tissue("uniform", "random", seed, SMALL)
        p.append(nearest_neighbour(patterns(points, window, FEW)).p)
    assert sum(value <= 0.05 for value in p) <= 2
    settings = Tissue(shape=(6, 6, 6), density_um3=0.1)
    points, window = point_tissue("uniform", "vessels", 3, settings)
    box = Window(np.ones_like(window.exposed), window.voxel_um)
    assert ripley(patterns(points, box, FEW))[0].p < 0.05 < ripley(patterns(points, window, FEW))[0].p


def test_an_overlap_beyond_the_given_hard_core_shows():
    """Detections split in two: as many points closer than synapses can be."""
    points, window = point_tissue("hard core", "none", 2, SMALL)
    double = points[:40] + np.array([0.0, 0.0, 0.1])
    every = np.concatenate([points, double[window.holds(double)]])
    finding = nearest_neighbour(patterns(every, window, PointOptions(simulations=99, hard_core_um=0.4)))
    assert finding.p == 0.01 and finding.high < 1 and "(given)" in finding.note


def test_many_points_are_looked_at_in_boxes_that_do_not_overlap():
    settings = Tissue(shape=(8, 8, 8), density_um3=0.3)
    points, window = point_tissue("uniform", "vessels", 1, settings)
    options = PointOptions(simulations=49, max_points=1600, parts=4)
    samples, reason = samples_of(points, window, options)
    assert not reason and len(samples) == 4
    every = np.concatenate([sample.points_um for sample in samples])
    assert len(np.unique(every, axis=0)) == len(every) and 800 < len(every) < 2400
    for sample in samples:
        assert sample.window.holds(sample.points_um).all()
        low = np.array(sample.window.origin_um)
        high = low + np.array(sample.window.voxel_um) * sample.window.exposed.shape
        inside = points[((points >= low) & (points < high)).all(axis=1)]
        assert len(inside) == len(sample.points_um)
    finding = nearest_neighbour(patterns(points, window, options))
    assert "in 4 boxes" in finding.note and finding.n == len(every) and finding.p > 0.01


def test_a_box_is_cut_into_parts_too():
    points = np.random.default_rng(4).random((6000, 3)) * (20.0, 30.0, 40.0)
    finding = nearest_neighbour(
        patterns(points, box_window((20.0, 30.0, 40.0)), PointOptions(49, max_points=1000, parts=5))
    )
    assert 600 < finding.n < 1500 and finding.p > 0.02


def test_whole_blocks_are_a_window():
    blocks = tissue("uniform", "vessels", 2)
    window = block_window(blocks)
    whole = blocks.exposure_um3 == 125
    assert window.volume_um3 == pytest.approx(125 * whole.sum())
    assert window.holds(blocks.centre_um).tolist() == whole.tolist()
    layer = blocks.only(blocks.index[:, 0] == 3)
    assert block_window(layer).voxel_um == pytest.approx((5, 5, 5))
    assert block_window(layer).holds(layer.centre_um).sum() == (layer.exposure_um3 == 125).sum()


def test_no_number_for_few_points():
    near = nearest_neighbour(patterns(np.ones((3, 3)), box_window((2.0, 2.0, 2.0)), FEW))
    assert np.isnan([near.value, near.p]).all() and "3 synapses" in near.note and near.n == 3
    k, curve = ripley(patterns(np.zeros((0, 3)), box_window((2.0, 2.0, 2.0)), FEW))
    assert np.isnan(k.p) and "0 synapses" in k.note and not len(curve.x)


def test_points_at_one_place_have_no_hard_core():
    points = np.concatenate([np.random.default_rng(0).random((50, 3)) * 5, np.ones((2, 3))])
    finding = nearest_neighbour(patterns(points, box_window((5.0, 5.0, 5.0)), FEW))
    assert "0.000 um apart" in finding.note and np.isfinite(finding.p)


def test_bad_input_is_refused():
    points = np.random.default_rng(0).random((100, 3))
    box = box_window((1.0, 1.0, 1.0))
    with pytest.raises(DataError, match=r"positions of shape \(100, 2\)"):
        nearest_neighbour(patterns(points[:, :2], box, FEW))
    with pytest.raises(DataError, match="finite numbers"):
        ripley(patterns(points * np.nan, box, FEW))
    with pytest.raises(DataError, match="found room"):
        nearest_neighbour(patterns(points, box, PointOptions(9, hard_core_um=0.5)))
    with pytest.raises(DataError, match="at least 0 um"):
        nearest_neighbour(patterns(points, box, PointOptions(9, hard_core_um=-1.0)))
    with pytest.raises(DataError, match="3 axes"):
        Window(np.ones((2, 2), bool), (1.0, 1.0, 1.0))
    with pytest.raises(SpecError, match="3 sizes above 0"):
        box_window((1.0, 0.0, 1.0))
    blocks = tissue("uniform", "random", 1)
    with pytest.raises(DataError, match="no block is wholly exposed"):
        block_window(blocks)
