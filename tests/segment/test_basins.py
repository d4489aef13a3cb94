"""Fragments: against brute force, and cases known on paper."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.errors import DataError, SpecError
from bouton.geometry import Box, Grid
from bouton.segment.basins import (
    Thresholds,
    Window,
    _label,
    cut_at_bounds,
    fragments_of,
    joined_edges,
    label_basins,
    narrow_fragments,
    threshold_levels,
)
from bouton.segment.components import label_joined
from bouton.segment.rows import labels_of
from segment import oracle


def random_affinities(seed, shape, levels=256):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, levels, (3, *shape)) * (255 // (levels - 1))).astype(np.uint8)


@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 7, 8), (6, 1, 5), (5, 6, 1), (1, 1, 9), (1, 1, 1)])
@pytest.mark.parametrize("levels", [2, 4, 256])
@pytest.mark.parametrize("rule", [(0.0, 1.0, 1.0), (0.3, 0.95, 0.4), (0.5, 0.6, 1.0), (0.1, 1.0, 0.0)])
def test_equals_brute_force(shape, levels, rule):
    affinities = random_affinities(5, shape, levels)
    np.testing.assert_array_equal(fragments_of(affinities, Thresholds(*rule)), oracle.fragments(affinities, *rule))


def test_a_flat_cell_is_one_fragment_and_a_flat_seam_is_none():
    affinities = np.full((3, 4, 6, 9), 200, np.uint8)
    affinities[:, :, :, 4:6] = 90
    whole = fragments_of(affinities, Thresholds(0.1, 0.99, 0.5))
    assert len(np.unique(whole[..., :4])) == 1
    assert len(np.unique(whole[..., 6:])) == 1
    assert whole[0, 0, 0] != whole[0, 0, 8]


def test_no_affinity_no_fragment():
    assert not fragments_of(np.zeros((3, 3, 4, 5), np.uint8), Thresholds(0.1, 0.9)).any()


def test_full_affinity_one_fragment():
    assert (fragments_of(np.full((3, 3, 4, 5), 255, np.uint8), Thresholds(0.1, 0.9)) == 1).all()


def test_edges_leaving_the_volume_do_not_exist():
    affinities = np.zeros((3, 1, 1, 3), np.uint8)
    affinities[:, 0, 0, 0] = 255
    affinities[2, 0, 0, 2] = 100
    assert fragments_of(affinities, Thresholds(0.1, 0.9)).ravel().tolist() == [0, 2, 2]


def test_two_hills():
    # along x: strong, weak, strong; the weak edge is nobody's best
    affinities = np.zeros((3, 1, 1, 4), np.uint8)
    affinities[2, 0, 0] = [0, 200, 100, 200]
    assert fragments_of(affinities, Thresholds(0.1, 0.9)).ravel().tolist() == [1, 1, 3, 3]
    assert fragments_of(affinities, Thresholds(0.1, 0.39)).ravel().tolist() == [1, 1, 1, 1]


def test_thresholds_are_exact():
    assert threshold_levels(Thresholds(0.2, 0.6, 0.5)) == (51, 153, 128)
    assert threshold_levels(Thresholds(0.0, 1.0)) == (0, 255, 255)


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (-0.1, 0.5), (0.1, 1.1), (float("nan"), 0.5)])
def test_bad_thresholds(low, high):
    with pytest.raises(SpecError, match="low"):
        fragments_of(np.zeros((3, 2, 2, 2), np.uint8), Thresholds(low, high))


@pytest.mark.parametrize("bad", [np.zeros((3, 2, 2, 2), np.float32), np.zeros((2, 2, 2, 2), np.uint8)])
def test_bad_affinities(bad):
    with pytest.raises(DataError, match="uint8"):
        fragments_of(bad, Thresholds(0.1, 0.9))


def tissue(seed, shape):
    """Affinities with many ties and long ways round: 0, 100, 200 and 255, more of the greater ones."""
    rng = np.random.default_rng(seed)
    return rng.choice(np.array([0, 100, 200, 255], np.uint8), (3, *shape), p=[0.3, 0.3, 0.25, 0.15])


@pytest.mark.parametrize("block", [(3, 4, 5), (1, 1, 1), (2, 9, 1), (20, 20, 20), (5, 1, 4)])
@pytest.mark.parametrize("high", [0.9, 1.0])
def test_a_block_in_one_pass_equals_bits_and_labels(block, high):
    affinities, bounds = tissue(7, (9, 10, 11)), Box((1, 0, 2), (9, 9, 11))
    for index in Grid(bounds, block):
        core = Grid(bounds, block).core(index)
        box = core.grow((1, 1, 1)) & bounds
        part = affinities[(slice(None), *box.slices)]
        labels = label_basins(part, Window(box, core, bounds), (9, 10, 11), Thresholds(0.2, high, 0.5))
        bits = joined_edges(cut_at_bounds(part, box, bounds), core.within(box), Thresholds(0.2, high, 0.5))
        assert labels.dtype == np.uint64
        np.testing.assert_array_equal(labels, label_joined(*bits, core, (9, 10, 11)))


@pytest.mark.parametrize("shape", [(4, 6, 7), (9, 8, 70)])
@pytest.mark.parametrize("seed", range(8))
def test_ties_and_long_ways_equal_brute_force(shape, seed):
    affinities = tissue(seed, shape)
    for flat in (0.4, 1.0):
        found = fragments_of(affinities, Thresholds(0.3, 1.0, flat))
        np.testing.assert_array_equal(found, oracle.fragments(affinities, 0.3, 1.0, flat))


def test_four_bytes_a_voxel_equal_eight():
    affinities, whole = tissue(3, (6, 7, 8)), Box.of_shape((6, 7, 8))
    narrow = narrow_fragments(affinities, Thresholds(0.2, 0.9))
    assert narrow.dtype == np.uint32
    parents = np.zeros(narrow.size + 1, np.uint64)
    _label(affinities, Window(whole, whole, whole).rows(), threshold_levels(Thresholds(0.2, 0.9)), parents)
    np.testing.assert_array_equal(labels_of(parents, narrow.shape), narrow)
