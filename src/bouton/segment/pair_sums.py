"""Sum, number and maximum of the affinities between each pair of touching fragments.

The voxels are walked tile by tile, all planes of a tile after one another, so that few pairs are in use at a time:
their sums stand in a small open-addressing table that stays in the processor's cache. A table that is full is emptied
into a list of rows; a pair may come back later. At the end the rows are sorted and added up.
"""

from __future__ import annotations

import numpy as np
from numba import njit

TILE_YX = (32, 256)
SLOTS = 1 << 14
WIDTH = 4  # columns of a row: a, b, sum, count * 256 + maximum: half a line of the cache
BYTE = np.uint64(255)


def pair_sums(labels: np.ndarray, affinities: np.ndarray, start: tuple[int, int, int]) -> tuple[np.ndarray, ...]:
    """Add up the affinities between different labels.

    Parameters
    ----------
    labels : numpy.ndarray
        uint32 or uint64 (z, y, x); 0 is background.
    affinities : numpy.ndarray
        uint8 (3, z, y, x): of a part of the labels, to the lower neighbours.
    start : (z, y, x)
        Where this part begins in the labels.

    Returns
    -------
    tuple of numpy.ndarray
        a, b (uint64, a < b, sorted by a, then b), sums, counts, maxima (int64).
    """
    places = np.empty(TILE_YX[1] + 1, np.uint32)
    table, rows, filled = np.zeros((SLOTS, WIDTH), np.uint64), np.empty((SLOTS, WIDTH), np.uint64), 0
    state = (0, 0)
    while state[0] >= 0:
        state = _fill(labels, affinities, np.asarray(start), state, table, places)
        if len(rows) < filled + SLOTS:
            rows.resize((len(rows) * 5 // 4 + SLOTS, WIDTH), refcheck=False)
        filled += _empty(table, rows[filled:])
    return add_rows(rows[:filled])


def add_rows(rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sort rows of a, b, sum, count * 256 + maximum (uint64) and add up those of equal pairs, as five columns."""
    order = order_of_pairs(rows[:, 0], rows[:, 1])
    ends, values = np.empty((2, len(rows)), np.uint64), np.empty((3, len(rows)), np.int64)
    n = _add_sorted(rows, order, ends, values)
    return ends[0, :n], ends[1, :n], values[0, :n], values[1, :n], values[2, :n]


def order_of_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the order that sorts pairs of uint64 by a, then b; equal pairs in any order. Five times numpy.lexsort."""
    order = np.argsort(a)
    _sort_ties(order, a[order], b[order])
    return order


@njit(cache=True, nogil=True)
def _fill(
    labels: np.ndarray,
    affinities: np.ndarray,
    start: np.ndarray,
    state: tuple[int, int],
    table: np.ndarray,
    places: np.ndarray,
) -> tuple[int, int]:
    """Add the tiles from ``state`` (tile, row of the tile) on until the table could become too full, or to the end."""
    _, nz, ny, nx = affinities.shape
    used, (tile, row) = 0, state
    across = (nx + TILE_YX[1] - 1) // TILE_YX[1]
    tiles = across * ((ny + TILE_YX[0] - 1) // TILE_YX[0])
    while tile < tiles:
        y0, x0 = tile // across * TILE_YX[0], tile % across * TILE_YX[1]
        height, stop = min(TILE_YX[0], ny - y0), min(x0 + TILE_YX[1], nx)
        while row < nz * height:
            if (used + 3 * (stop - x0)) * 2 > len(table):
                return tile, row
            at = (row // height, y0 + row % height, x0, stop)
            used += _add_edges(labels, affinities, start, at, table, places)
            row += 1
        tile, row = tile + 1, 0
    return -1, 0


@njit(cache=True, nogil=True)
def _add_edges(
    labels: np.ndarray,
    affinities: np.ndarray,
    start: np.ndarray,
    at: tuple[int, int, int, int],
    table: np.ndarray,
    places: np.ndarray,
) -> int:
    """Add the edges of voxels x to stop of row z, y; return how many pairs are new."""
    z, y, x, stop = at
    up_z, up_y, up_x = start[0] + z, start[1] + y, start[2] + x
    upper, new = labels[up_z, up_y, up_x:], 0
    if up_y > 0:
        new += _add_row(table, upper, labels[up_z, up_y - 1, up_x:], affinities[1, z, y, x:stop], places)
    if up_z > 0:
        new += _add_row(table, upper, labels[up_z - 1, up_y, up_x:], affinities[0, z, y, x:stop], places)
    skip = 0 if up_x > 0 else 1
    lower = labels[up_z, up_y, up_x + skip - 1 :]
    return new + _add_row(table, upper[skip:], lower, affinities[2, z, y, x + skip : stop], places)


@njit(cache=True, nogil=True)
def _add_row(
    table: np.ndarray, upper: np.ndarray, lower: np.ndarray, affinities: np.ndarray, places: np.ndarray
) -> int:
    new = 0
    for i in range(_places(upper, lower, len(affinities), places)):
        x = places[i]
        one, other, affinity = np.uint64(upper[x]), np.uint64(lower[x]), np.uint64(affinities[x])
        a, b = min(one, other), max(one, other)
        entry = table[_slot(table, a, b)]
        if entry[0] == 0:
            entry[0], entry[1] = a, b
            new += 1
        entry[2] += affinity
        entry[3] = max(entry[3] & ~BYTE | affinity, entry[3]) + (BYTE + np.uint64(1))
    return new


@njit(cache=True, nogil=True)
def _places(upper: np.ndarray, lower: np.ndarray, n: int, places: np.ndarray) -> np.int64:
    """List where the labels differ and none is 0, without a branch."""
    count = np.int64(0)
    for x in range(n):
        places[count] = x
        count += np.int64((upper[x] != lower[x]) & (upper[x] != 0) & (lower[x] != 0))
    return count


@njit(cache=True, nogil=True)
def _slot(table: np.ndarray, a: np.uint64, b: np.uint64) -> np.uint64:
    """Return where the pair (a, b) is, or goes."""
    mask = np.uint64(len(table) - 1)
    mixed = a * np.uint64(0x9E3779B97F4A7C15) ^ (b + np.uint64(0x632BE59BD9B4E019)) * np.uint64(0xC2B2AE3D27D4EB4F)
    slot = (mixed ^ (mixed >> np.uint64(29))) & mask
    while table[slot, 0] != 0 and (table[slot, 0] != a or table[slot, 1] != b):
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit(cache=True, nogil=True)
def _empty(table: np.ndarray, rows: np.ndarray) -> int:
    n = 0
    for slot in range(len(table)):
        if table[slot, 0] != 0:
            rows[n] = table[slot]
            n += 1
    table[:] = 0
    return n


@njit(cache=True, nogil=True)
def _add_sorted(rows: np.ndarray, order: np.ndarray, ends: np.ndarray, values: np.ndarray) -> int:
    n = -1
    for i in order:
        a, b, total, packed = rows[i]
        count, greatest = packed >> np.uint64(8), packed & BYTE
        if n < 0 or ends[0, n] != a or ends[1, n] != b:
            n += 1
            ends[0, n], ends[1, n] = a, b
            values[0, n], values[1, n], values[2, n] = 0, 0, 0
        values[0, n] += np.int64(total)
        values[1, n] += np.int64(count)
        values[2, n] = max(values[2, n], np.int64(greatest))
    return n + 1


@njit(cache=True, nogil=True)
def _sort_ties(order: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """Sort ``order`` within each run of equal ``a`` by ``b``, both given in that order; ``b`` is used up."""
    first = 0
    while first < len(order):
        stop = first + 1
        while stop < len(order) and a[stop] == a[first]:
            stop += 1
        if stop - first > 20:
            order[first:stop] = order[first:stop][np.argsort(b[first:stop])]
        else:
            _insertion_sort(order[first:stop], b[first:stop])
        first = stop


@njit(cache=True, nogil=True)
def _insertion_sort(order: np.ndarray, values: np.ndarray) -> None:
    for i in range(1, len(order)):
        moving, value, at = order[i], values[i], i
        while at > 0 and values[at - 1] > value:
            order[at], values[at] = order[at - 1], values[at - 1]
            at -= 1
        order[at], values[at] = moving, value
