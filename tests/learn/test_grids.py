"""Two grids: what is read, what comes back, and where the borders lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bouton.geometry import Box
from bouton.learn.grids import Grids
from bouton.learn.info import ModelInfo
from bouton.learn.tiles import Tiling
from tiny_model import INFO, SHAPE

LONG = replace(
    INFO,
    architecture=replace(SHAPE, outputs=6),
    heads={"affinities": 3, "long_affinities": 2, "boundaries": 1},
    long_offsets=((0, 0, -3), (-2, 4, 0)),
)


def at(info: ModelInfo, *size: float) -> ModelInfo:
    return replace(info, voxel_size_nm=size)


@settings(max_examples=150, deadline=None)
@given(
    image=st.tuples(*[st.floats(2.0, 60.0)] * 3),
    start=st.tuples(*[st.integers(0, 30)] * 3),
    size=st.tuples(*[st.integers(1, 9)] * 3),
    origin=st.tuples(*[st.integers(0, 200)] * 3),
    blend=st.integers(0, 2),
)
def test_what_is_read_lies_in_the_halo(image: tuple, start: tuple, size: tuple, origin: tuple, blend: int) -> None:
    bounds = Box(origin, tuple(o + 40 for o in origin))
    first = tuple(o + s for o, s in zip(origin, start, strict=True))
    core = Box(first, tuple(f + n for f, n in zip(first, size, strict=True)))
    tiling, grids = Tiling((6, 8, 8), (2, 4, 3), (blend, blend, blend)), Grids(LONG, image)
    tiles = list(grids.tiles(tiling, core, bounds))
    read = []

    def reader(box: Box) -> np.ndarray:
        read.append(box)
        return np.zeros(box.shape, np.uint8)

    view = grids.view(reader, tiles, bounds)
    assert (core.grow(grids.halo(tiling.halo)) & bounds).contains(read[0])
    wanted = grids.wanted(core, bounds)
    # tiles of one voxel without context
    assert core.grow(grids.halo((0, 0, 0))).contains(grids.there.reads(wanted, bounds))
    assert view.box.contains(wanted)
    for tile in tiles:
        # each is run for some voxel of the core; one that no voxel needs would be an error of `dependents` or `tiles`
        assert not grids.dependents(tile, core).is_empty


@settings(max_examples=60, deadline=None)
@given(image=st.tuples(*[st.floats(3.0, 60.0)] * 3), voxel=st.tuples(*[st.integers(0, 19)] * 3))
def test_dependents_hold_every_voxel_that_a_tile_reaches(image: tuple, voxel: tuple) -> None:
    bounds, grids = Box.of_shape((20, 20, 20)), Grids(LONG, image)
    core = Box(voxel, tuple(v + 1 for v in voxel))
    for tile in Tiling((4, 8, 8), (2, 4, 4)).tiles(grids.wanted(core, bounds), grids.there.covers(bounds)):
        assert grids.dependents(tile, bounds).contains(core)


@pytest.mark.parametrize(("model", "image"), [(32.0, 16.0), (16.0, 32.0), (32.0, 8.0), (24.0, 16.0)])
def test_borders_stay_in_place(model: float, image: float) -> None:
    # a wall across x at 960 nm, which is a face of voxels on either grid
    grids = Grids(at(LONG, 40.0, 10.0, model), (40.0, 10.0, image))
    bounds = Box.of_shape((2, 2, round(1920 / image)))
    place = grids.there.covers(bounds)
    wall, here = round(960 / model), round(960 / image)
    layers = {
        "affinities": np.full((3, *place.shape), 255, np.uint8),
        "long_affinities": np.full((2, *place.shape), 255, np.uint8),
    }
    layers["affinities"][2, ..., wall] = 0
    layers["long_affinities"][0, ..., wall : wall + 3] = 0
    found = grids.back(layers, place, bounds, bounds)
    assert found["affinities"][:2].min() == 255
    nearest = found["affinities"][2, 0, 0].astype(int)
    assert nearest.argmin() == here
    assert nearest[here] < 85
    around = np.arange(1, 6)
    assert np.abs(nearest[here - around] - nearest[here + around]).max() <= 1
    # edges of three voxels have their middle one and a half voxels below their upper end's centre
    long = found["long_affinities"][0, 0, 0].astype(int)
    assert np.abs(long[here + 1 - around] - long[here + 1 + around]).max() <= 1
    assert long[here + 1] == long.min()


def test_the_same_grid_gives_the_same_values() -> None:
    grids, bounds = Grids(LONG, LONG.voxel_size_nm), Box((2, 3, 4), (9, 15, 17))
    random = np.random.default_rng(0)
    core = Box((3, 5, 5), (6, 11, 12))
    layers = {name: random.integers(0, 256, (n, *core.shape), np.uint8) for name, n in LONG.heads.items()}
    assert grids.wanted(core, bounds) == core
    assert grids.there.covers(bounds) == bounds
    found = grids.back(layers, core, core, bounds)
    assert list(found) == list(layers)
    for name, values in layers.items():
        np.testing.assert_array_equal(found[name], values)
    assert grids.density == 1


def test_without_tiles_nothing_is_read() -> None:
    def reader(box: Box) -> np.ndarray:
        raise AssertionError(f"read {box}")

    assert Grids(INFO, (15.0, 5.0, 5.0)).view(reader, [], Box.of_shape((9, 9, 9))).image.size == 0
