"""Resampling: known values, both ways, and the blocks do not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bouton.errors import DataError, SpecError
from bouton.geometry import Box
from bouton.learn.resample import Resampling

RNG = np.random.default_rng(0)


def whole(resampling: Resampling, values: np.ndarray) -> np.ndarray:
    bounds = Box.of_shape(values.shape[-3:])
    return resampling.apply(values, bounds, resampling.covers(bounds), bounds)


def test_equal_sizes_change_nothing() -> None:
    values = RNG.integers(0, 256, (5, 7, 6), np.uint8)
    same = Resampling((30.0, 10.0, 10.0), (30.0, 10.0, 10.0))
    np.testing.assert_array_equal(whole(same, values), values)
    box = Box((1, 2, 3), (4, 5, 6))
    assert same.reads(box, Box.of_shape(values.shape)) == box


def test_halving_the_voxels_interpolates_between_centres() -> None:
    values = np.zeros((1, 1, 4), np.float32)
    values[0, 0] = [0, 8, 8, 16]
    found = whole(Resampling((1.0, 1.0, 2.0), (1.0, 1.0, 1.0)), values)
    # centres at -0.25, 0.25, 0.75, ...: a quarter and three quarters, the ends held
    np.testing.assert_allclose(found[0, 0], [0, 2, 6, 8, 8, 10, 14, 16])


def test_greater_voxels_count_every_one() -> None:
    values = np.zeros((1, 1, 8), np.float32)
    values[0, 0, 3] = 8
    found = whole(Resampling((1.0, 1.0, 1.0), (1.0, 1.0, 2.0)), values)
    np.testing.assert_allclose(found[0, 0], [0, 4, 0, 0])
    # by 3: a quarter, a half and a quarter of what it covers
    found = whole(Resampling((1.0, 1.0, 1.0), (1.0, 1.0, 3.0)), values)
    np.testing.assert_allclose(found[0, 0], [0, 2, 0])
    values[0, 0, 3:5] = [0, 8]
    np.testing.assert_allclose(whole(Resampling((1.0, 1.0, 1.0), (1.0, 1.0, 3.0)), values)[0, 0], [0, 4, 0])


@pytest.mark.parametrize("target", [(33.0, 7.3, 12.0), (15.0, 20.0, 10.0), (90.0, 4.0, 3.0)])
def test_a_slope_stays_a_slope(target: tuple[float, float, float]) -> None:
    source = (30.0, 10.0, 10.0)
    centres = [(np.arange(n) + 0.5) * size for n, size in zip((12, 40, 40), source, strict=True)]
    z, y, x = np.meshgrid(*centres, indexing="ij")
    resampling = Resampling(source, target)
    found = whole(resampling, (z + 2 * y - 3 * x).astype(np.float32))
    box = resampling.covers(Box.of_shape(z.shape))
    places = [(np.arange(a, b) + 0.5) * size for a, b, size in zip(box.start, box.stop, target, strict=True)]
    z, y, x = np.meshgrid(*places, indexing="ij")
    inner = tuple(slice(n // 3, -(n // 3)) for n in found.shape)
    np.testing.assert_allclose(found[inner], (z + 2 * y - 3 * x)[inner], atol=2e-3)


@settings(max_examples=60, deadline=None)
@given(
    target=st.tuples(*[st.floats(2.0, 60.0)] * 3),
    start=st.tuples(*[st.integers(0, 9)] * 3),
    size=st.tuples(*[st.integers(1, 5)] * 3),
    origin=st.tuples(*[st.integers(-7, 9)] * 3),
)
def test_blocks_do_not_matter(target: tuple, start: tuple, size: tuple, origin: tuple) -> None:
    values = np.random.default_rng(1).integers(0, 256, (2, 9, 12, 11), np.uint8)
    bounds = Box.of_shape((9, 12, 11)).shift(origin)
    resampling = Resampling((30.0, 10.0, 12.0), target)
    everything = resampling.covers(bounds)
    expected = resampling.apply(values, bounds, everything, bounds)
    first = [a + s % max(1, b - a) for a, b, s in zip(everything.start, everything.stop, start, strict=True)]
    box = Box(tuple(first), tuple(f + s for f, s in zip(first, size, strict=True))) & everything
    needed = resampling.reads(box, bounds)
    assert bounds.contains(needed)
    part = values[:, *needed.within(bounds).slices]
    found = resampling.apply(part, needed, box, bounds)
    np.testing.assert_array_equal(found, expected[:, *box.within(everything).slices])


def test_there_and_back_covers_the_image() -> None:
    bounds = Box((3, 5, 7), (20, 31, 40))
    there = Resampling((30.0, 10.0, 10.0), (33.0, 7.0, 25.0))
    assert there.back.back == there
    model = there.covers(bounds)
    assert model.contains(there.back.reads(bounds, model))
    assert there.back.covers(model).contains(bounds)
    values = np.full(bounds.shape, 77, np.uint8)
    seen = there.apply(values, bounds, model, bounds)
    np.testing.assert_array_equal(there.back.apply(seen, model, bounds, model), values)


def test_a_shift_looks_that_much_higher() -> None:
    values = np.zeros((1, 1, 8), np.float32)
    values[0, 0] = np.arange(8)
    same = Resampling((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)).shifted((0.0, 0.0, 0.25))
    np.testing.assert_allclose(whole(same, values)[0, 0], [0.25, 1.25, 2.25, 3.25, 4.25, 5.25, 6.25, 7])
    assert same.reads(Box((0, 0, 2), (1, 1, 3)), Box.of_shape((1, 1, 8))) == Box((0, 0, 2), (1, 1, 4))
    assert same.back.shift == (0.0, 0.0, 0.0)


def test_what_is_missing_is_named() -> None:
    resampling = Resampling((1.0, 1.0, 1.0), (2.0, 2.0, 2.0))
    bounds = Box.of_shape((8, 8, 8))
    with pytest.raises(DataError, match="read a wider box"):
        resampling.apply(np.zeros((2, 8, 8)), Box((0, 0, 0), (2, 8, 8)), Box((0, 0, 0), (4, 4, 4)), bounds)
    with pytest.raises(SpecError, match="voxel sizes"):
        Resampling((0.0, 1.0, 1.0), (1.0, 1.0, 1.0))
