"""Tiles: every voxel has weight 1, nothing but the tiles of a block is needed, aligned blocks repeat nothing."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bouton.errors import SpecError
from bouton.geometry import Box, Grid
from bouton.learn.tiles import Tiling

SIDES = st.tuples(st.integers(1, 30), st.integers(0, 6), st.integers(0, 6)).filter(lambda v: v[2] <= v[1] <= 2 * v[0])


def axis_tiling(tile: int, overlap: int, blend: int, multiple: int = 1) -> Tiling:
    """Return a tiling that matters along x only."""
    return Tiling((8, 8, tile), (0, 0, overlap), (0, 0, blend), (1, 1, multiple))


@settings(max_examples=200, deadline=None)
@given(
    sides=SIDES,
    start=st.integers(0, 50),
    size=st.integers(1, 90),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    multiple=st.sampled_from([1, 2, 4]),
)
def test_weights_add_up_and_tiles_stay_within_the_halo(
    sides: tuple[int, int, int], start: int, size: int, cut: tuple[float, float], multiple: int
) -> None:
    tiling = axis_tiling(4 * sides[0], sides[1], sides[2], multiple)
    bounds = Box((0, 0, start), (8, 8, start + size))
    low, high = sorted(start + round(part * size) for part in cut)
    core = Box((0, 0, low), (8, 8, max(high, low + 1))) & bounds
    if core.is_empty:
        return
    total, tiles = np.zeros(bounds.shape), list(tiling.tiles(core, bounds))
    assert len(tiles) == len({t.box for t in tiles})
    for t in tiles:
        assert not (t.owned & core).is_empty
        assert bounds.contains(t.owned) and t.box.contains(t.owned)
        assert t.box.shape[2] <= tiling.tile[2] and t.box.shape[2] % multiple == 0
        assert core.grow(tiling.halo).contains(t.box & bounds)
        total[t.owned.within(bounds).slices] += t.weights(t.owned)
        assert t.weights(t.owned).min() > 0
    np.testing.assert_allclose(total[core.within(bounds).slices], 1, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(sides=SIDES, cut=st.integers(1, 40), start=st.integers(0, 20))
def test_a_tile_is_the_same_whoever_asks(sides: tuple[int, int, int], cut: int, start: int) -> None:
    tiling = axis_tiling(4 * sides[0], sides[1], sides[2])
    bounds = Box((0, 0, start), (8, 8, start + 67))
    whole = {t.box: t for t in tiling.tiles(bounds, bounds)}
    found = set()
    for index in (grid := Grid(bounds, (8, 8, cut))):
        for t in tiling.tiles(grid.core(index), bounds):
            found.add(t.box)
            assert t.owned == whole[t.box].owned
            np.testing.assert_array_equal(t.ramps[2], whole[t.box].ramps[2])
    assert found == set(whole)


def test_aligned_blocks_compute_no_tile_twice() -> None:
    tiling = Tiling((40, 40, 40), (8, 8, 8), (0, 0, 0), (8, 8, 8))
    assert tiling.stride == (32, 32, 32)
    bounds = Box((0, 0, 0), (96, 64, 100))
    for block in [(32, 32, 32), (64, 32, 96), (96, 64, 128)]:
        grid = Grid(bounds, block)
        boxes = [t.box for index in grid for t in tiling.tiles(grid.core(index), bounds)]
        assert len(boxes) == len(set(boxes)) == 3 * 2 * 4


def test_hand_counted() -> None:
    # stride 6: borders at 6, 12, 18; two voxels of context below, two above; a ramp of 3: one voxel below, two above
    tiling = axis_tiling(10, 4, 3)
    bounds = Box((0, 0, 3), (8, 8, 17))
    tiles = list(tiling.tiles(bounds, bounds))
    assert [(t.box.start[2], t.box.stop[2]) for t in tiles] == [(1, 8), (4, 14), (10, 19)]
    assert [(t.owned.start[2], t.owned.stop[2]) for t in tiles] == [(3, 8), (5, 14), (11, 17)]
    np.testing.assert_allclose(tiles[0].ramps[2], [1, 1, 0.75, 0.5, 0.25])
    np.testing.assert_allclose(tiles[1].ramps[2], [0.25, 0.5, 0.75, 1, 1, 1, 0.75, 0.5, 0.25])
    np.testing.assert_allclose(tiles[2].ramps[2], [0.25, 0.5, 0.75, 1, 1, 1])
    # one block in the middle needs the two tiles that reach it
    middle = list(tiling.tiles(Box((0, 0, 6), (8, 8, 8)), bounds))
    assert [t.box for t in middle] == [t.box for t in tiles[:2]]
    assert tiling.halo == (7, 7, 5 + 2 + 2)


def test_tiles_see_no_further_beyond_the_bounds_than_their_context() -> None:
    tiling = Tiling((64, 64, 64), (8, 8, 8), (0, 0, 0), (8, 8, 8))
    (tile,) = tiling.tiles(Box((0, 0, 20), (8, 8, 23)), Box((0, 0, 20), (8, 8, 23)))
    assert tile.box == Box((-4, -4, 12), (12, 12, 28))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (((7, 8, 8), (0, 0, 0), (0, 0, 0)), "tile_zyx"),
        (((8, 8, 8), (0, 5, 0), (0, 0, 0)), "overlap_zyx"),
        (((8, 8, 8), (2, 2, 2), (0, 3, 0)), "blend_zyx"),
        (((8, 8, 8), (2, 2, 2), (0, -1, 0)), "blend_zyx"),
        (((0, 8, 8), (0, 0, 0), (0, 0, 0)), "tile_zyx"),
    ],
)
def test_impossible_tilings_are_refused(values: tuple, found: str) -> None:
    with pytest.raises(SpecError, match=found):
        Tiling(*values, multiple=(2, 2, 2))


def test_order_is_that_of_the_array() -> None:
    tiling = Tiling((4, 4, 4), (0, 0, 0))
    bounds = Box.of_shape((8, 8, 8))
    starts = [t.box.start for t in tiling.tiles(bounds, bounds)]
    assert starts == list(itertools.product((0, 4), repeat=3))
