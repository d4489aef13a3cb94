"""The region graph: per pair of touching fragments the sum, the number and the maximum of the affinities between them.

Integer sums, counts and maxima are associative, so blocks may be added up in any order. An edge of the voxel graph
belongs to the block that owns its upper voxel, the one its affinity is stored at; each is counted once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from bouton.errors import DataError
from bouton.geometry import Box

EDGE_COLUMNS = {
    "a": "uint64",
    "b": "uint64",
    "affinity_sum": "int64",
    "affinity_count": "int64",
    "affinity_max": "int64",
}
SIZE_COLUMNS = {
    "id": "uint64",
    "voxels": "int64",
    "z_start": "int64",
    "y_start": "int64",
    "x_start": "int64",
    "z_stop": "int64",
    "y_stop": "int64",
    "x_stop": "int64",
}
TableData = dict[str, np.ndarray]


def region_graph(labels: np.ndarray, affinities: np.ndarray, core: Box) -> TableData:
    """Return the edges between different fragments that the core owns, added up per pair.

    Parameters
    ----------
    labels : numpy.ndarray
        uint64 (z, y, x): the core with one voxel more on the lower sides, where the bounds allow.
    affinities : numpy.ndarray
        uint8 (3, z, y, x): the core alone.
    core : Box
        The core in coordinates of ``labels``.

    Returns
    -------
    dict of str -> numpy.ndarray
        ``EDGE_COLUMNS``, a < b, sorted by (a, b); affinities in 1/255. Background (0) has no edges.
    """
    if affinities.dtype != np.uint8 or affinities.shape != (3, *core.shape):
        raise DataError(f"affinities {affinities.dtype} {affinities.shape}", expected=f"uint8 {(3, *core.shape)}")
    start = np.asarray(core.start)
    labels, affinities = np.ascontiguousarray(labels), np.ascontiguousarray(affinities)
    capacity = 1 << 12
    while True:
        keys, values, used = _collect_edges(labels, affinities, start, capacity)
        if used * 2 <= capacity:
            break
        capacity *= 8
    return _rows(EDGE_COLUMNS, keys, values)


def fragment_sizes(labels: np.ndarray, box: Box) -> TableData:
    """Return voxels and bounding box of each label.

    Parameters
    ----------
    labels : numpy.ndarray
        uint64 (z, y, x), the voxels of ``box``; 0 is background.
    box : Box
        Where the labels lie in the data set.

    Returns
    -------
    dict of str -> numpy.ndarray
        ``SIZE_COLUMNS``, sorted by id; the bounding box is half-open, in voxels of the data set.
    """
    labels, capacity = np.ascontiguousarray(labels), 1 << 12
    while True:
        keys, values, used = _collect_sizes(labels, np.asarray(box.start), capacity)
        if used * 2 <= capacity:
            break
        capacity *= 8
    return _rows(SIZE_COLUMNS, keys[:, :1], values)


def add_edges(tables: Sequence[TableData]) -> TableData:
    """Concatenate region graphs and add up the rows of equal (a, b); sorted by (a, b)."""
    rows = _concatenate(tables, EDGE_COLUMNS)
    order = np.lexsort((rows["b"], rows["a"]))
    a, b = rows["a"][order], rows["b"][order]
    first = _firsts((a[1:] != a[:-1]) | (b[1:] != b[:-1]), len(a))
    added = {"a": a[first], "b": b[first]}
    added["affinity_sum"] = _reduce(np.add, rows["affinity_sum"][order], first)
    added["affinity_count"] = _reduce(np.add, rows["affinity_count"][order], first)
    added["affinity_max"] = _reduce(np.maximum, rows["affinity_max"][order], first)
    return added


def add_sizes(tables: Sequence[TableData]) -> TableData:
    """Concatenate size tables and add up the rows of equal id; sorted by id. A column ``soma`` keeps its maximum."""
    columns = SIZE_COLUMNS | ({"soma": "int64"} if tables and all("soma" in table for table in tables) else {})
    rows = _concatenate(tables, columns)
    order = np.argsort(rows["id"], kind="stable")
    ids = rows["id"][order]
    first = _firsts(ids[1:] != ids[:-1], len(ids))
    added = {"id": ids[first], "voxels": _reduce(np.add, rows["voxels"][order], first)}
    for name in columns:
        if name.endswith("_start"):
            added[name] = _reduce(np.minimum, rows[name][order], first)
        elif name.endswith("_stop") or name == "soma":
            added[name] = _reduce(np.maximum, rows[name][order], first)
    return added


def contract_edges(edges: TableData, ids: np.ndarray, roots: np.ndarray) -> TableData:
    """Replace the ids of a region graph by their roots, drop edges inside of one root, add up the others."""
    a, b = move(edges["a"], ids, roots), move(edges["b"], ids, roots)
    outside = a != b
    moved = {name: values[outside] for name, values in edges.items()}
    moved["a"], moved["b"] = np.minimum(a, b)[outside], np.maximum(a, b)[outside]
    return add_edges([moved])


def contract_sizes(sizes: TableData, ids: np.ndarray, roots: np.ndarray) -> TableData:
    """Replace the ids of a size table by their roots and add up."""
    return add_sizes([sizes | {"id": move(sizes["id"], ids, roots)}])


def move(values: np.ndarray, ids: np.ndarray, roots: np.ndarray) -> np.ndarray:
    """Return ``values`` (uint64) with each of the sorted ``ids`` replaced by its root."""
    if not len(ids):
        return values
    at = np.minimum(np.searchsorted(ids, values), len(ids) - 1)
    return np.where(ids[at] == values, roots[at], values)


def rows_where(table: TableData, chosen: np.ndarray) -> TableData:
    """Return the rows of a table where ``chosen`` (bool, one a row) is true."""
    return {name: values[chosen] for name, values in table.items()}


def touches_face(sizes: TableData, box: Box, bounds: Box) -> np.ndarray:
    """Return bool (n,): whether the bounding box touches a face of ``box`` that is no face of ``bounds``."""
    touching = np.zeros(len(sizes["id"]), np.bool_)
    for axis, name in enumerate("zyx"):
        if box.start[axis] > bounds.start[axis]:
            touching |= sizes[f"{name}_start"] <= box.start[axis]
        if box.stop[axis] < bounds.stop[axis]:
            touching |= sizes[f"{name}_stop"] >= box.stop[axis]
    return touching


def _concatenate(tables: Sequence[TableData], columns: dict[str, str]) -> TableData:
    empty = {name: np.zeros(0, dtype) for name, dtype in columns.items()}
    return {name: np.concatenate([table[name] for table in (empty, *tables)]) for name in columns}


def _firsts(changes: np.ndarray, n: int) -> np.ndarray:
    return np.flatnonzero(np.concatenate([np.ones(min(n, 1), np.bool_), changes]))


def _reduce(function: np.ufunc, values: np.ndarray, first: np.ndarray) -> np.ndarray:
    return function.reduceat(values, first) if len(first) else values[:0]


def _rows(columns: dict[str, str], keys: np.ndarray, values: np.ndarray) -> TableData:
    used = keys[:, 0] != 0
    keys, values = keys[used], values[used]
    order = np.lexsort(tuple(keys[:, i] for i in reversed(range(keys.shape[1]))))
    data = [*(keys[order, i] for i in range(keys.shape[1])), *(values[order, i] for i in range(values.shape[1]))]
    return {name: np.ascontiguousarray(column) for name, column in zip(columns, data, strict=True)}


@njit(cache=True, nogil=True)
def _slot(keys: np.ndarray, a: np.uint64, b: np.uint64) -> np.int64:
    """Return where (a, b) is, or goes, in an open-addressing table whose size is a power of two; key 0 is empty."""
    mask = np.uint64(len(keys) - 1)
    mixed = a * np.uint64(0x9E3779B97F4A7C15) ^ (b + np.uint64(0x632BE59BD9B4E019)) * np.uint64(0xC2B2AE3D27D4EB4F)
    slot = (mixed ^ (mixed >> np.uint64(29))) & mask
    while keys[slot, 0] != 0 and (keys[slot, 0] != a or keys[slot, 1] != b):
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)


@njit(cache=True, nogil=True)
def _collect_edges(
    labels: np.ndarray, affinities: np.ndarray, start: np.ndarray, capacity: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Fill a table of ``capacity`` slots; stop early, with used * 2 > capacity, when it is half full."""
    keys, values, used = np.zeros((capacity, 2), np.uint64), np.zeros((capacity, 3), np.int64), 0
    _, nz, ny, nx = affinities.shape
    z0, y0, x0 = start
    for z in range(nz):
        for y in range(ny):
            row = labels[z0 + z, y0 + y]
            if y0 + y > 0:
                lower = labels[z0 + z, y0 + y - 1]
                used += _add_row(keys, values, row[x0:], lower[x0:], affinities[1, z, y])
            if z0 + z > 0:
                lower = labels[z0 + z - 1, y0 + y]
                used += _add_row(keys, values, row[x0:], lower[x0:], affinities[0, z, y])
            skip = 1 if x0 == 0 else 0
            used += _add_row(keys, values, row[x0 + skip :], row[x0 + skip - 1 :], affinities[2, z, y, skip:])
            if (used + 3 * nx) * 2 > capacity:
                return keys, values, max(used, capacity)
    return keys, values, used


@njit(cache=True, nogil=True)
def _add_row(keys: np.ndarray, values: np.ndarray, upper: np.ndarray, lower: np.ndarray, affinities: np.ndarray) -> int:
    slot, new, last_a, last_b = np.int64(0), 0, np.uint64(0), np.uint64(0)
    for x in range(len(affinities)):
        a, b = upper[x], lower[x]
        if a == b or a == 0 or b == 0:
            continue
        if a > b:
            a, b = b, a
        if a != last_a or b != last_b:
            slot, last_a, last_b = _slot(keys, a, b), a, b
            if keys[slot, 0] == 0:
                keys[slot, 0], keys[slot, 1] = a, b
                new += 1
        values[slot, 0] += affinities[x]
        values[slot, 1] += 1
        values[slot, 2] = max(values[slot, 2], np.int64(affinities[x]))
    return new


@njit(cache=True, nogil=True)
def _collect_sizes(labels: np.ndarray, start: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Fill a table of ``capacity`` slots; stop early, with used * 2 > capacity, when it is half full."""
    keys, values, used = np.zeros((capacity, 2), np.uint64), np.zeros((capacity, 7), np.int64), 0
    nz, ny, nx = labels.shape
    for z in range(nz):
        for y in range(ny):
            row, x = labels[z, y], 0
            while x < nx:
                begin, label = x, row[x]
                while x < nx and row[x] == label:
                    x += 1
                if label != 0:
                    run = (start[0] + z, start[1] + y, start[2] + begin, start[2] + x)
                    used += _add_run(keys, values, label, run)
            if (used + nx) * 2 > capacity:
                return keys, values, max(used, capacity)
    return keys, values, used


@njit(cache=True, nogil=True)
def _add_run(keys: np.ndarray, values: np.ndarray, label: np.uint64, run: tuple[int, int, int, int]) -> int:
    z, y, begin, end = run
    slot = _slot(keys, label, np.uint64(0))
    row = values[slot]
    if keys[slot, 0] == 0:
        keys[slot, 0] = label
        row[0] = end - begin
        row[1:4] = (z, y, begin)
        row[4:7] = (z + 1, y + 1, end)
        return 1
    row[0] += end - begin
    row[1], row[2], row[3] = min(row[1], z), min(row[2], y), min(row[3], begin)
    row[4], row[5], row[6] = max(row[4], z + 1), max(row[5], y + 1), max(row[6], end)
    return 0
