"""Fragments: against brute force, and cases known on paper."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.errors import DataError, SpecError
from bouton.segment.basins import fragments_of, threshold_levels
from segment import oracle


def random_affinities(seed, shape, levels=256):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, levels, (3, *shape)) * (255 // (levels - 1))).astype(np.uint8)


@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 7, 8), (6, 1, 5), (5, 6, 1), (1, 1, 9), (1, 1, 1)])
@pytest.mark.parametrize("levels", [2, 4, 256])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.3, 0.95), (0.5, 0.6)])
def test_equals_brute_force(shape, levels, low, high):
    affinities = random_affinities(5, shape, levels)
    np.testing.assert_array_equal(fragments_of(affinities, low, high), oracle.fragments(affinities, low, high))


def test_no_affinity_no_fragment():
    assert not fragments_of(np.zeros((3, 3, 4, 5), np.uint8), 0.1, 0.9).any()


def test_full_affinity_one_fragment():
    assert (fragments_of(np.full((3, 3, 4, 5), 255, np.uint8), 0.1, 0.9) == 1).all()


def test_edges_leaving_the_volume_do_not_exist():
    affinities = np.zeros((3, 1, 1, 3), np.uint8)
    affinities[:, 0, 0, 0] = 255
    affinities[2, 0, 0, 2] = 100
    assert fragments_of(affinities, 0.1, 0.9).ravel().tolist() == [0, 2, 2]


def test_two_hills():
    # along x: strong, weak, strong; the weak edge is nobody's best
    affinities = np.zeros((3, 1, 1, 4), np.uint8)
    affinities[2, 0, 0] = [0, 200, 100, 200]
    assert fragments_of(affinities, 0.1, 0.9).ravel().tolist() == [1, 1, 3, 3]
    assert fragments_of(affinities, 0.1, 0.39).ravel().tolist() == [1, 1, 1, 1]


def test_thresholds_are_exact():
    assert threshold_levels(0.2, 0.6) == (51, 153)
    assert threshold_levels(0.0, 1.0) == (0, 255)


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (-0.1, 0.5), (0.1, 1.1), (float("nan"), 0.5)])
def test_bad_thresholds(low, high):
    with pytest.raises(SpecError, match="low"):
        fragments_of(np.zeros((3, 2, 2, 2), np.uint8), low, high)


@pytest.mark.parametrize("bad", [np.zeros((3, 2, 2, 2), np.float32), np.zeros((2, 2, 2, 2), np.uint8)])
def test_bad_affinities(bad):
    with pytest.raises(DataError, match="uint8"):
        fragments_of(bad, 0.1, 0.9)
