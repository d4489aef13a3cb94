"""Blocks of tissue: the published numbers, and what each block of the computation meets."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.density.grid import AnalysisGrid
from bouton.errors import SpecError
from bouton.geometry import Box

BOCK_NM = (45.0, 128.0, 128.0)
BOCK = Box((0, 0, 0), (1239, 3744, 4232))


def test_the_published_grid():
    grid = AnalysisGrid.over(BOCK, BOCK_NM, (5.0, 5.0, 5.0), (2.0, 2.0, 2.0))
    assert grid.block == (111, 39, 39)
    assert grid.pad == (45, 16, 16)
    assert grid.counts == (10, 95, 107)
    assert len(grid) == 101_650
    assert grid.start == (45, 16, 16)


def test_the_published_loops_make_the_same_blocks():
    """The study's ranges, with the volume at z offset 2917."""
    x, y = range(16, 4232 - 16 - 39, 39), range(16, 3744 - 16 - 39, 39)
    z = range(2917 + 45, 4156 - 45 - 111, 111)
    grid = AnalysisGrid.over(BOCK, BOCK_NM, (5.0, 5.0, 5.0), (2.0, 2.0, 2.0))
    assert (len(z), len(y), len(x)) == grid.counts
    last = grid.index(np.array([len(grid) - 1]))[0] * grid.block + grid.start
    assert last.tolist() == [z[-1] - 2917, y[-1], x[-1]]


def test_without_surround_the_grid_begins_at_the_bounds():
    grid = AnalysisGrid.over(Box((7, 3, 0), (7 + 230, 3 + 38, 78)), BOCK_NM, (5.0, 4.9, 5.0))
    assert (grid.start, grid.block, grid.counts) == ((7, 3, 0), (111, 38, 39), (2, 1, 2))
    assert grid.block_voxels == 111 * 38 * 39
    assert grid.box == Box((7, 3, 0), (229, 41, 78))


def test_every_voxel_of_a_block_is_met_once():
    grid = AnalysisGrid((2, 3, 1), (3, 4, 5), (2, 2, 3))
    volume = np.zeros((10, 12, 18), int)
    for z in range(0, 10, 4):
        for y in range(0, 12, 5):
            for x in range(0, 18, 6):
                core = Box((z, y, x), (z + 4, y + 5, x + 6)) & Box.of_shape(volume.shape)
                numbers = grid.numbers(grid.met(core)).reshape(grid.met(core).shape)
                edges = [grid.edges(core, axis) for axis in range(3)]
                for i, number in np.ndenumerate(numbers):
                    where = tuple(slice(e[n] + s, e[n + 1] + s) for e, n, s in zip(edges, i, core.start, strict=True))
                    volume[where] += number + 1
    expected = np.zeros_like(volume)
    for number, index in enumerate(np.ndindex(2, 2, 3)):
        start = np.array(grid.start) + np.array(index) * grid.block
        expected[tuple(slice(a, a + b) for a, b in zip(start, grid.block, strict=True))] = number + 1
    np.testing.assert_array_equal(volume, expected)


def test_a_box_outside_meets_nothing():
    grid = AnalysisGrid((2, 3, 1), (3, 4, 5), (2, 2, 3))
    for box in (Box((0, 0, 0), (2, 20, 20)), Box((8, 0, 0), (20, 20, 20))):
        assert grid.met(box).is_empty
        assert grid.numbers(grid.met(box)).size == 0


@pytest.mark.parametrize(
    ("block_um", "message"), [((0.04, 5.0, 5.0), "at least a voxel"), ((5.0, 5.0, 600.0), "no whole block")]
)
def test_blocks_that_cannot_be_are_told(block_um, message):
    with pytest.raises(SpecError, match=message):
        AnalysisGrid.over(BOCK, BOCK_NM, block_um, (2.0, 2.0, 2.0))


def test_a_surround_that_ends_at_the_bounds_fits():
    one = Box((0, 0, 0), (111 + 90, 39 + 32, 39 + 32))
    assert AnalysisGrid.over(one, BOCK_NM, (5.0, 5.0, 5.0), (2.0, 2.0, 2.0)).counts == (1, 1, 1)
