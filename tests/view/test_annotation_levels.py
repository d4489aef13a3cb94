"""Levels of annotation cells by brute force: every line once, in all cells it crosses; one share everywhere."""

from itertools import pairwise

import numpy as np
import pytest

from bouton.view.annotation_levels import morton_codes, scrambled, spatial_levels

SHAPE, SIZE = (60, 400, 300), (40.0, 4.0, 8.0)


def lines(count, seed=0, away=8.0, clustered=False):
    rng = np.random.default_rng(seed)
    extent = np.array(SHAPE)[[2, 1, 0]]
    middle = rng.uniform(0, extent, (count, 3))
    if clustered:
        middle[: count // 2] = extent / 3 + rng.normal(0, 2, (count // 2, 3))
    ends = np.concatenate([middle - rng.normal(0, away, (count, 3)), middle + rng.normal(0, away, (count, 3))], axis=1)
    return ends.astype(np.float32), rng.permutation(count).astype(np.uint64) * np.uint64(7) + np.uint64(1)


def rows_of(level):
    return {tuple(cell): level.at(tuple(cell)).tolist() for cell in level.cells().tolist()}


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("limit", [5, 40, 1000])
def test_each_line_lies_in_one_level_and_in_every_cell_it_crosses(limit, clustered):
    ends, ids = lines(600, away=20.0, clustered=clustered)
    levels = spatial_levels(ends, ids, SHAPE, SIZE, limit)
    extent = np.array(SHAPE, dtype=float)[[2, 1, 0]]
    clipped = np.clip(ends.astype(float).reshape(-1, 2, 3), 0, extent)
    along = np.linspace(0, 1, 3001)[:, None]
    seen = np.concatenate([np.unique(level.rows) for level in levels])
    assert sorted(seen.tolist()) == list(range(600))
    for level in levels:
        np.testing.assert_allclose(np.array(level.cell) * level.grid, extent)
        cells = rows_of(level)
        for row in np.unique(level.rows)[::7].tolist():
            points = clipped[row, 0] + along * (clipped[row, 1] - clipped[row, 0])
            crossed = np.minimum((points / level.cell).astype(int), np.array(level.grid) - 1)
            listed = {cell for cell, rows in cells.items() if row in rows}
            assert {tuple(cell) for cell in crossed.tolist()} <= listed
            for cell in listed:
                low = np.array(cell) * level.cell
                gap = np.maximum(np.maximum(low - points, points - low - level.cell), 0).max(axis=1).min()
                assert gap < 0.05, "a cell far from the line"


@pytest.mark.parametrize("limit", [5, 40])
def test_a_level_takes_the_same_share_everywhere_and_as_much_as_fits(limit):
    ends, ids = lines(800, clustered=True)
    levels = spatial_levels(ends, ids, SHAPE, SIZE, limit)
    ranks = scrambled(ids)
    assert levels[0].grid == (1, 1, 1) and len(levels[0].rows) == limit
    for level, below in pairwise(levels):
        assert level.limit == limit
        assert ranks[level.rows].max() < ranks[below.rows].min()
        assert all(b in (a, 2 * a) for a, b in zip(level.grid, below.grid, strict=True))
    for rows in rows_of(levels[1]).values():
        assert ranks[rows].tolist() == sorted(ranks[rows].tolist())


def test_the_order_of_the_rows_does_not_matter():
    ends, ids = lines(500)
    other = np.random.default_rng(1).permutation(500)
    first, second = (spatial_levels(e, i, SHAPE, SIZE, 20) for e, i in ((ends, ids), (ends[other], ids[other])))
    assert len(first) == len(second) > 1
    for a, b in zip(first, second, strict=True):
        assert {c: ids[r].tolist() for c, r in rows_of(a).items()} == {
            c: ids[other][r].tolist() for c, r in rows_of(b).items()
        }


def test_lines_on_one_spot_end_in_small_cells():
    ends = np.full((300, 6), 10.5, dtype=np.float32)
    levels = spatial_levels(ends, np.arange(1, 301, dtype=np.uint64), SHAPE, SIZE, 5)
    assert sum(len(level.rows) for level in levels) == 300 and levels[-1].limit > 5
    assert min(levels[-1].cell) >= 4


def test_no_lines_are_one_empty_level():
    levels = spatial_levels(np.zeros((0, 6)), np.zeros(0, np.uint64), SHAPE, SIZE)
    assert len(levels) == 1 and len(levels[0].at((0, 0, 0))) == 0 and levels[0].limit == 1


def test_cells_come_near_to_cubes():
    ends, ids = lines(3000)
    levels = spatial_levels(ends, ids, SHAPE, SIZE, 10)
    sides = np.array(levels[-1].cell) * (8, 4, 40)
    assert sides.max() / sides.min() < 2.1


def test_codes_are_neuroglancer_s():
    # Bits x0 y0 z0 x1 y1 x2: axes without that bit are left out, as its documentation of volumes says.
    grid = (5, 3, 2)
    cells = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 0), (0, 2, 0), (4, 0, 0), (4, 2, 1)])
    assert morton_codes(cells, grid) == [0, 1, 2, 4, 8, 16, 32, 52]
    every = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), axis=-1).reshape(-1, 3)
    assert len(set(morton_codes(every, grid))) == 30
