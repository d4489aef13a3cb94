"""The spatial index of Neuroglancer's annotation format: levels of cells, coarse to fine, each line in one level.

The first level is one cell with a thinned-out choice of all lines, so that a viewer opens on a few of them wherever it
looks and however many there are; zooming in adds the levels below. A line lies in every cell of its level that it
crosses. The choice follows a hash of the ids: the same lines give the same files.
Format: https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/annotations.md
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.geometry import NM, ZYX, to_xyz

LINES_PER_CELL = 1000
MOST_LEVELS = 20
_SMALLEST_VOXELS = 4.0
# Cells are a little larger than they are, so that rounding drops no line between two of them.
_ROUNDING = 1e-6
_LAST = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class Level:
    """One level of cells.

    Attributes
    ----------
    grid : (x, y, z)
        Cells along each axis.
    cell : (x, y, z)
        Size of a cell, voxels.
    codes : numpy.ndarray
        uint64 (cells,), sorted: the cells with lines, ``x + grid_x * (y + grid_y * z)``.
    starts : numpy.ndarray
        int64 (cells + 1,): where the rows of each cell begin.
    rows : numpy.ndarray
        int64: rows of the table, in a random order within a cell.
    """

    grid: ZYX
    cell: NM
    codes: np.ndarray
    starts: np.ndarray
    rows: np.ndarray

    @property
    def limit(self) -> int:
        """The most lines in a cell."""
        return int(np.diff(self.starts).max(initial=1))

    def at(self, xyz: tuple[int, int, int]) -> np.ndarray:
        """Return the rows in the cell ``xyz``."""
        code = np.uint64(xyz[0] + self.grid[0] * (xyz[1] + self.grid[1] * xyz[2]))
        place = int(np.searchsorted(self.codes, code))
        if place == len(self.codes) or self.codes[place] != code:
            return self.rows[:0]
        return self.rows[self.starts[place] : self.starts[place + 1]]

    def cells(self) -> np.ndarray:
        """Return the cells with lines, int64 (cells, 3), x, y, z."""
        x, rest = self.codes % np.uint64(self.grid[0]), self.codes // np.uint64(self.grid[0])
        return np.stack([x, rest % np.uint64(self.grid[1]), rest // np.uint64(self.grid[1])], axis=1).astype(np.int64)


def spatial_levels(
    ends: np.ndarray, ids: np.ndarray, shape: ZYX, voxel_size_nm: NM, limit: int = LINES_PER_CELL
) -> list[Level]:
    """Distribute lines over levels of cells.

    In each level the same share of the lines that are left is taken everywhere: the largest one with no more than
    ``limit`` lines in a cell. The last of ``MOST_LEVELS``, or of cells of a few voxels, takes what is left.

    Parameters
    ----------
    ends : numpy.ndarray
        float (n, 6), x, y, z of both ends, voxels; an end outside the data set counts as on its face.
    ids : numpy.ndarray
        uint64 (n,), each once.
    shape : (z, y, x)
        Of the data set, voxels.
    voxel_size_nm : (z, y, x)
    limit : int

    Returns
    -------
    list of Level
        Coarse to fine; at least one.
    """
    extent = np.array(to_xyz(shape), dtype=np.float64)
    size_nm = np.array(to_xyz(voxel_size_nm))
    lines = np.clip(np.asarray(ends, dtype=np.float64).reshape(-1, 2, 3), 0.0, extent)
    order = scrambled(ids)
    rows, cells, grid = np.arange(len(ids)), np.zeros((len(ids), 3), dtype=np.int64), np.ones(3, dtype=np.int64)
    levels = []
    while True:
        halved = _longest(extent / grid * size_nm) & (extent / grid >= 2 * _SMALLEST_VOXELS)
        last = len(levels) + 1 == MOST_LEVELS or not halved.any()
        level, taken = _emit((rows, cells, order), (grid, extent / grid), None if last else limit)
        levels.append(level)
        rows, cells = rows[~taken], cells[~taken]
        if not len(rows):
            return levels
        grid = np.where(halved, 2 * grid, grid)
        rows, cells = _children(rows, cells, halved, lines, extent / grid)


def scrambled(ids: np.ndarray) -> np.ndarray:
    """Return a pseudo-random uint64 for each id, another for another id (splitmix64, doi:10.1145/2714064.2660195)."""
    mixed = np.asarray(ids, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def morton_codes(cells: np.ndarray, grid: tuple[int, int, int]) -> list[int]:
    """Return Neuroglancer's compressed Morton code of cells, int64 (n, 3), x, y, z, in a grid (x, y, z)."""
    codes = np.zeros(len(cells), dtype=np.uint64)
    place = 0
    for bit in range(max(grid).bit_length()):
        for axis in range(3):
            if (grid[axis] - 1) >> bit:
                codes |= (cells[:, axis].astype(np.uint64) >> np.uint64(bit) & np.uint64(1)) << np.uint64(place)
                place += 1
    return codes.tolist()


def _longest(sides_nm: np.ndarray) -> np.ndarray:
    """Return which sides to halve so that cells come near to cubes."""
    return sides_nm > sides_nm.max() / np.sqrt(2)


def _emit(
    lines: tuple[np.ndarray, np.ndarray, np.ndarray], grid: tuple[np.ndarray, np.ndarray], limit: int | None
) -> tuple[Level, np.ndarray]:
    """Return a level, and which of the (row, cell) pairs it took."""
    rows, cells, order = lines
    counts = grid[0].astype(np.uint64)
    column = [cells[:, axis].astype(np.uint64) for axis in range(3)]
    codes = column[0] + counts[0] * (column[1] + counts[1] * column[2])
    sort = np.lexsort((order[rows], codes))
    codes, ranks = codes[sort], order[rows[sort]]
    firsts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]])) if len(codes) else np.zeros(0, np.int64)
    sizes = np.diff(np.append(firsts, len(codes)))
    end = _LAST
    if limit is not None and (sizes > limit).any():
        # The line after the last that the fullest cell has room for ends the share of all cells.
        end = ranks[firsts[sizes > limit] + limit].min() - np.uint64(1)
    kept = ranks <= end
    taken = np.zeros(len(rows), dtype=bool)
    taken[sort[kept]] = True
    found, starts = np.unique(codes[kept], return_index=True)
    edges = tuple(counts.astype(np.int64).tolist()), tuple(grid[1].tolist())
    return Level(*edges, found, np.append(starts, int(kept.sum())), rows[sort[kept]]), taken


def _children(
    rows: np.ndarray, cells: np.ndarray, halved: np.ndarray, lines: np.ndarray, cell: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the (row, cell) pairs one level down: every smaller cell that a line crosses."""
    here = lines[rows]
    middle = (2 * cells + 1) * cell
    # Most lines lie on one side of each middle: only the others need the exact test for several cells.
    sides = here.min(axis=1) <= middle + _ROUNDING, here.max(axis=1) >= middle - _ROUNDING
    found = []
    for number in range(8):
        half = [number >> axis & 1 for axis in range(3)]
        if any(half[axis] and not halved[axis] for axis in range(3)):
            continue
        near = np.flatnonzero(np.all([sides[half[axis]][:, axis] for axis in range(3) if halved[axis]], axis=0))
        inner = np.where(halved, 2 * cells[near] + half, cells[near])
        crossed = _crossed(here[near], inner, cell)
        found.append((rows[near[crossed]], inner[crossed]))
    return np.concatenate([each[0] for each in found]), np.concatenate([each[1] for each in found])


def _crossed(lines: np.ndarray, cells: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return, bool (n,), whether each line, (n, 2, 3), meets its cell: some of it lies between all faces."""
    start, along = lines[:, 0], lines[:, 1] - lines[:, 0]
    low, high = cells * cell - _ROUNDING, (cells + 1) * cell + _ROUNDING
    flat = along == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (low - start) / along, (high - start) / along
    inside = (start >= low) & (start <= high)
    enter = np.where(flat, np.where(inside, -np.inf, np.inf), np.minimum(first, second)).max(axis=1)
    leave = np.where(flat, np.inf, np.maximum(first, second)).min(axis=1)
    return np.maximum(enter, 0.0) <= np.minimum(leave, 1.0)
