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
from bouton.segment.pair_sums import order_of_pairs, pair_sums

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
    check_affinities(affinities, core)
    labels, affinities = np.ascontiguousarray(labels), np.ascontiguousarray(affinities)
    return dict(zip(EDGE_COLUMNS, pair_sums(labels, affinities, core.start), strict=True))


def check_affinities(affinities: np.ndarray, core: Box) -> None:
    """Raise :class:`DataError` unless the affinities are uint8 (3, z, y, x) over ``core`` alone."""
    if affinities.dtype != np.uint8 or affinities.shape != (3, *core.shape):
        raise DataError(f"affinities {affinities.dtype} {affinities.shape}", expected=f"uint8 {(3, *core.shape)}")


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
    labels = np.ascontiguousarray(labels)
    # a row of voxels fills a quarter of the first table at most
    table = _new_table(max(1 << 12, 1 << (4 * labels.shape[2]).bit_length()))
    used, row = 0, 0
    while row < labels.shape[0] * labels.shape[1]:
        if row:
            table = _grown(table)
        used, row = _add_size_rows(labels, np.asarray(box.start), table, (used, row))
    return _size_rows(table)


def add_edges(tables: Sequence[TableData]) -> TableData:
    """Concatenate region graphs and add up the rows of equal (a, b); sorted by (a, b)."""
    rows = concatenate(tables, EDGE_COLUMNS)
    order = order_of_pairs(rows["a"], rows["b"])
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
    rows = concatenate(tables, columns)
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
    return add_edges([move_pairs(edges, ids, roots)])


def contract_sizes(sizes: TableData, ids: np.ndarray, roots: np.ndarray) -> TableData:
    """Replace the ids of a size table by their roots and add up."""
    return add_sizes([sizes | {"id": move(sizes["id"], ids, roots)}])


def move(values: np.ndarray, ids: np.ndarray, roots: np.ndarray) -> np.ndarray:
    """Return ``values`` (uint64) with each of the sorted ``ids`` replaced by its root."""
    if not len(ids):
        return values
    at = np.minimum(np.searchsorted(ids, values), len(ids) - 1)
    return np.where(ids[at] == values, roots[at], values)


def move_pairs(pairs: TableData, ids: np.ndarray, roots: np.ndarray) -> TableData:
    """Return rows about pairs (a < b) with ``ids`` replaced by their roots, without those inside of one root."""
    a, b = move(pairs["a"], ids, roots), move(pairs["b"], ids, roots)
    return rows_where(pairs | {"a": np.minimum(a, b), "b": np.maximum(a, b)}, a != b)


def both_in(pairs: TableData, ids: np.ndarray) -> np.ndarray:
    """Return bool (n,): whether both ends, a and b, of each pair are among ``ids``."""
    return np.isin(pairs["a"], ids) & np.isin(pairs["b"], ids)


def rows_where(table: TableData, chosen: np.ndarray) -> TableData:
    """Return the rows of a table that ``chosen`` names: bool, one a row, or row numbers in a new order."""
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


def concatenate(tables: Sequence[TableData], columns: dict[str, str]) -> TableData:
    """Return the rows of all tables, in order; of none, empty columns."""
    empty = {name: np.zeros(0, dtype) for name, dtype in columns.items()}
    return {name: np.concatenate([table[name] for table in (empty, *tables)]) for name in columns}


def _firsts(changes: np.ndarray, n: int) -> np.ndarray:
    return np.flatnonzero(np.concatenate([np.ones(min(n, 1), np.bool_), changes]))


def _reduce(function: np.ufunc, values: np.ndarray, first: np.ndarray) -> np.ndarray:
    return function.reduceat(values, first) if len(first) else values[:0]


def _size_rows(table: np.ndarray) -> TableData:
    filled = np.flatnonzero(table[:, 0])
    order = filled[np.argsort(table[filled, 0])]
    return {name: table[order, i].astype(dtype) for i, (name, dtype) in enumerate(SIZE_COLUMNS.items())}


def _new_table(length: int) -> np.ndarray:
    # numpy asks for large pages for empty arrays only
    table = np.empty((length, len(SIZE_COLUMNS)), np.uint64)
    table.fill(0)
    return table


def _grown(table: np.ndarray) -> np.ndarray:
    grown = _new_table(2 * len(table))
    _copy_table(table, grown)
    return grown


# A table of sizes is a matrix of uint64 with open addressing, one row an entry (64 bytes: a line of the cache), its
# length a power of two. Column 0 is the label, 0 where a row is empty; the others as in SIZE_COLUMNS.


@njit(cache=True, nogil=True)
def _slot(table: np.ndarray, label: np.uint64) -> np.uint64:
    """Return where the label is, or goes."""
    mask, mixed = np.uint64(len(table) - 1), label * np.uint64(0x9E3779B97F4A7C15)
    slot = (mixed ^ (mixed >> np.uint64(29))) & mask
    while table[slot, 0] != 0 and table[slot, 0] != label:
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit(cache=True, nogil=True)
def _copy_table(table: np.ndarray, grown: np.ndarray) -> None:
    for i in range(len(table)):
        if table[i, 0] != 0:
            grown[_slot(grown, table[i, 0])] = table[i]


@njit(cache=True, nogil=True)
def _add_size_rows(labels: np.ndarray, start: np.ndarray, table: np.ndarray, state: tuple[int, int]) -> tuple[int, int]:
    """Add the rows of voxels from ``state`` on, until the table could become too full; return the new state."""
    nz, ny, nx = labels.shape
    used, row = state
    ends = np.empty(nx + 1, np.uint32)
    while row < nz * ny and (used + nx) * 4 <= len(table) * 3:
        z, y = row // ny, row % ny
        voxels, begin = labels[z, y], np.int64(0)
        for i in range(_ends_of_runs(voxels, ends)):
            end = np.int64(ends[i])
            if voxels[begin] != 0:
                run = (start[0] + z, start[1] + y, start[2] + begin, start[2] + end)
                used += _add_run(table, np.uint64(voxels[begin]), run)
            begin = end
        row += 1
    return used, row


@njit(cache=True, nogil=True)
def _ends_of_runs(voxels: np.ndarray, ends: np.ndarray) -> np.int64:
    count, last = np.int64(0), len(voxels) - 1
    for x in range(last):
        ends[count] = x + 1
        count += np.int64(voxels[x] != voxels[x + 1])
    if last >= 0:
        ends[count] = last + 1
        count += np.int64(1)
    return count


@njit(cache=True, nogil=True)
def _add_run(table: np.ndarray, label: np.uint64, run: tuple[int, int, int, int]) -> int:
    z, y, begin, end = np.uint64(run[0]), np.uint64(run[1]), np.uint64(run[2]), np.uint64(run[3])
    slot, one = _slot(table, label), np.uint64(1)
    entry = table[slot]
    new = entry[0] == 0
    if new:
        entry[0], entry[1] = label, end - begin
        entry[2], entry[3], entry[4] = z, y, begin
        entry[5], entry[6], entry[7] = z + one, y + one, end
        return 1
    entry[1] += end - begin
    entry[2], entry[3], entry[4] = min(entry[2], z), min(entry[3], y), min(entry[4], begin)
    entry[5], entry[6], entry[7] = max(entry[5], z + one), max(entry[6], y + one), max(entry[7], end)
    return 0
