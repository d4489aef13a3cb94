"""Exposed voxels against distances by brute force, as bits and as counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from bouton.density.exposure import (
    ball,
    bits_between,
    count_voxels,
    exposed_at,
    exposure,
    hide_rim,
    nothing_masked,
    pack,
    reach_voxels,
)
from bouton.density.grid import AnalysisGrid
from bouton.geometry import Box


def shown(mask, core, reach, size):
    """Return the exposed voxels of a core, bool (z, y, x), from the bits."""
    found = exposure(mask, core, reach, size)
    places = np.stack(np.meshgrid(*(np.arange(n) for n in core.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    return exposed_at(found, places).reshape(core.shape)


def blobs(rng, shape, share):
    """Return a mask of boxes of all sizes, some as large as the volume."""
    mask = (rng.random(shape) < share).astype(np.uint8)
    for _ in range(rng.integers(0, 4)):
        at = [rng.integers(0, n) for n in shape]
        mask[tuple(slice(a, a + rng.integers(1, n + 1)) for a, n in zip(at, shape, strict=True))] = 255
    return mask


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    share=st.sampled_from([0.0, 0.0005, 0.02, 0.5]),
    size=st.sampled_from([(1.0, 1.0, 1.0), (45.0, 128.0, 128.0), (40.0, 4.0, 4.0), (7.0, 16.0, 3.0)]),
    reach=st.integers(0, 70),
)
def test_exposed_voxels_are_farther_than_the_reach(seed, share, size, reach):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 9)), int(rng.integers(1, 25)), int(rng.integers(1, 150)))
    mask = blobs(rng, shape, share)
    reach_nm = reach * min(size) / 10
    whole = Box.of_shape(shape)
    expected = np.ones(shape, bool)
    if mask.any():
        expected = distance_transform_edt(mask == 0, sampling=size) > reach_nm
    np.testing.assert_array_equal(shown(mask, whole, reach_nm, size), expected)
    low = [int(rng.integers(0, n)) for n in shape]
    core = Box(tuple(low), tuple(int(rng.integers(a + 1, n + 1)) for a, n in zip(low, shape, strict=True)))
    around = core.grow(reach_voxels(reach_nm, size)) & whole
    np.testing.assert_array_equal(
        shown(mask[around.slices], core.within(around), reach_nm, size), expected[core.slices]
    )


def test_a_distance_that_equals_the_reach_hides():
    mask = np.zeros((1, 1, 9), np.uint8)
    mask[0, 0, 4] = 1
    whole = Box.of_shape(mask.shape)
    assert shown(mask, whole, 20.0, (45.0, 10.0, 10.0))[0, 0].tolist() == [True] * 2 + [False] * 5 + [True] * 2
    assert shown(mask, whole, 19.9, (45.0, 10.0, 10.0))[0, 0].tolist() == [True] * 3 + [False] * 3 + [True] * 3
    # 4.35 * 100 is 434.99999999999994 nm by floats: still 435.
    assert not shown(mask, whole, 4.35 * 100, (45.0, 10.0, 435 / 4))[0, 0, 0]


def test_the_ball_of_the_study():
    rows = ball(300.0, (45.0, 128.0, 128.0))
    assert reach_voxels(300.0, (45.0, 128.0, 128.0)) == (6, 2, 2)
    assert (0, 0, 2) in map(tuple, rows.tolist())
    assert (6, 0, 1) in map(tuple, rows.tolist())  # (270, 0, 128) nm is 298.8 nm away
    assert (6, 1, 1) not in map(tuple, rows.tolist())
    assert ball(0.0, (45.0, 128.0, 128.0)).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint64, bool])
def test_bits_are_the_voxels_above_zero(dtype):
    rng = np.random.default_rng(0)
    mask = (rng.random((3, 4, 130)) < 0.3).astype(dtype)
    if dtype == np.uint16:
        mask[0, 0, 0] = 256  # not above 0 in its low byte
    packed = pack(mask)
    assert packed.shape == (3, 4, 3)
    for start, stop in [(0, 130), (5, 5), (3, 64), (64, 128), (63, 65), (1, 129), (129, 130)]:
        assert bits_between(packed[0, 0], start, stop) == np.sum(mask[0, 0, start:stop] > 0)


@pytest.mark.parametrize("seed", range(5))
def test_counts_of_blocks(seed):
    rng = np.random.default_rng(seed)
    shape, size, reach = (9, 21, 140), (30.0, 10.0, 10.0), 41.0
    mask = blobs(rng, shape, 0.001)
    grid = AnalysisGrid((1, 2, 3), (3, 6, 37), (2, 3, 3))
    core = Box((2, 3, 1), (9, 20, 131))
    around = core.grow(reach_voxels(reach, size)) & Box.of_shape(shape)
    found = exposure(mask[around.slices], core.within(around), reach, size)
    masked, exposed = count_voxels(found, grid, core)
    far = distance_transform_edt(mask == 0, sampling=size) > reach if mask.any() else np.ones(shape, bool)
    for number, index in enumerate(np.ndindex(2, 3, 3)):
        start = np.array(grid.start) + np.array(index) * grid.block
        where = Box(tuple(start.tolist()), tuple((start + grid.block).tolist())) & core
        assert masked[number] == np.sum(mask[where.slices] > 0)
        assert exposed[number] == np.sum(far[where.slices])


def test_without_a_mask_all_is_exposed():
    grid = AnalysisGrid((0, 0, 0), (3, 6, 37), (2, 3, 3))
    core = Box((2, 3, 1), (6, 18, 80))
    masked, exposed = count_voxels(nothing_masked(core), grid, core)
    assert not masked.any()
    assert exposed.sum() == core.voxels
    empty = exposure(np.zeros((6, 18, 80), np.uint8), core, 100.0, (30.0, 10.0, 10.0))
    assert empty.none


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_the_rim_of_the_bounds_is_hidden(seed, masked):
    rng = np.random.default_rng(seed)
    low = [int(n) for n in rng.integers(0, 5, 3)]
    bounds = Box(tuple(low), tuple(a + int(rng.integers(1, n)) for a, n in zip(low, (8, 12, 150), strict=True)))
    low = [int(rng.integers(a, b)) for a, b in zip(bounds.start, bounds.stop, strict=True)]
    core = Box(tuple(low), tuple(int(rng.integers(a + 1, b + 1)) for a, b in zip(low, bounds.stop, strict=True)))
    reach = tuple(int(n) for n in rng.integers(0, 7, 3))
    around = core.grow(reach) & bounds
    mask = (rng.random(around.shape) < 0.01 * masked).astype(np.uint8)
    found = exposure(mask, core.within(around), 0.0, (1.0, 1.0, 1.0)) if masked else nothing_masked(core)
    places = np.stack(np.indices(core.shape), axis=-1).reshape(-1, 3)
    at = places + core.start
    expected = ((at - reach >= bounds.start) & (at + reach < bounds.stop)).all(axis=1)
    expected &= mask[core.within(around).slices].ravel() == 0
    np.testing.assert_array_equal(exposed_at(hide_rim(found, core, bounds, reach), places), expected)
