"""Boxes and grids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bouton.errors import SpecError
from bouton.geometry import Box, Grid, centres_nm, nm_to_voxels, to_xyz, to_zyx, voxel_ids

triples = st.tuples(*[st.integers(0, 9)] * 3)
shapes = st.tuples(*[st.integers(1, 6)] * 3)


@given(triples, shapes, shapes)
def test_cores_tile_the_bounds_once(start: tuple, shape: tuple, block: tuple) -> None:
    bounds = Box(start, tuple(a + b for a, b in zip(start, shape, strict=True)))
    count = np.zeros((16, 16, 16), int)
    grid = Grid(bounds, block)
    for index in grid:
        count[grid.core(index).slices] += 1
    inside = np.zeros_like(count)
    inside[bounds.slices] = 1
    assert (count == inside).all()
    assert len(grid) == len(list(grid))


@given(triples, shapes, shapes, triples, shapes)
def test_blocks_in_finds_every_block_that_meets_a_box(start, shape, block, other, size) -> None:
    bounds = Box(start, tuple(a + b for a, b in zip(start, shape, strict=True)))
    box = Box(other, tuple(a + b for a, b in zip(other, size, strict=True)))
    grid = Grid(bounds, block)
    assert set(grid.blocks_in(box)) == {index for index in grid if not (grid.core(index) & box).is_empty}


def test_blocks_of_a_small_box_coincide_with_those_of_the_whole() -> None:
    whole, part = Grid(Box.of_shape((40, 40, 40)), (8, 8, 8)), Grid(Box((5, 8, 16), (24, 24, 32)), (8, 8, 8))
    same = [index for index in part if part.core(index) == whole.core(index)]
    assert len(same) == 2 * 2 * 2


def test_parse_and_print() -> None:
    assert str(Box.parse("0:64,1:2,3:9")) == "0:64,1:2,3:9"
    for bad in ["", "1:2", "0:1,0:1,0:1,0:1", "a:b,0:1,0:1", "5:5,0:1,0:1", "-1:3,0:1,0:1", "3:1,0:1,0:1"]:
        with pytest.raises(SpecError, match="box"):
            Box.parse(bad)


def test_voxel_ids_are_global_and_c_ordered() -> None:
    shape = (3, 4, 5)
    everything = voxel_ids(Box.of_shape(shape), shape)
    assert everything.ravel().tolist() == list(range(1, 61))
    box = Box((1, 2, 3), (3, 4, 5))
    assert (voxel_ids(box, shape) == everything[box.slices]).all()


def test_units() -> None:
    assert centres_nm(np.array([[0, 1, 2]]), (40.0, 4.0, 4.0)).tolist() == [[20.0, 6.0, 10.0]]
    assert nm_to_voxels(100, (40.0, 4.0, 10.0)) == (3, 25, 10)
    assert to_xyz((1, 2, 3)) == (3, 2, 1)
    assert to_zyx(to_xyz((1, 2, 3))) == (1, 2, 3)
