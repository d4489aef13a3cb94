"""Histograms of the affinities between fragments, for quantile scores: sparse, 256 bins, mergeable.

A row says how often an affinity occurs between two fragments. Counts add up, so blocks may come in any order; an edge
of the voxel graph belongs to the block that owns its upper voxel, as in :mod:`region_graph`.

While a graph is contracted, a histogram is a linked list of cells in the order of affinities. Joining two lists needs
no more cells than they have.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from bouton.errors import DataError
from bouton.geometry import Box
from bouton.segment.compiled import kernel
from bouton.segment.region_graph import TableData, check_affinities, concatenate, move_pairs, rows_where
from bouton.segment.rules import Level

HISTOGRAM_COLUMNS = {"a": "uint64", "b": "uint64", "affinity": "uint8", "affinity_count": "int64"}
CELL = np.dtype([("count", "i8"), ("affinity", "i4"), ("next", "i4")], align=True)


def histogram_rows(labels: np.ndarray, affinities: np.ndarray, core: Box) -> TableData:
    """Return how often each affinity occurs between different fragments, over the edges that the core owns.

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
        ``HISTOGRAM_COLUMNS``, a < b, sorted by (a, b, affinity). Background (0) has no edges.
    """
    check_affinities(affinities, core)
    rows: list[TableData] = []
    for axis in range(3):
        upper = core.slices
        lower = list(upper)
        skip = 1 if core.start[axis] == 0 else 0
        lower[axis] = slice(upper[axis].start + skip - 1, upper[axis].stop - 1)
        inside = [slice(None)] * 3
        inside[axis] = slice(skip, None)
        one, two = labels[upper][tuple(inside)], labels[tuple(lower)]
        between = (one != two) & (one != 0) & (two != 0)
        one, two = one[between], two[between]
        counted = np.ones(len(one), np.int64)
        values = (np.minimum(one, two), np.maximum(one, two), affinities[axis][tuple(inside)][between], counted)
        rows.append(add_histograms([dict(zip(HISTOGRAM_COLUMNS, values, strict=True))]))
    return add_histograms(rows)


def add_histograms(tables: Sequence[TableData]) -> TableData:
    """Concatenate histograms and add up the rows of equal (a, b, affinity); sorted by (a, b, affinity)."""
    rows = concatenate(tables, HISTOGRAM_COLUMNS)
    order = np.lexsort((rows["affinity"], rows["b"], rows["a"]))
    rows = rows_where(rows, order)
    new = np.ones(len(order), np.bool_)
    for name in ("a", "b", "affinity"):
        same = rows[name][1:] == rows[name][:-1]
        new[1:] = ~same if name == "a" else new[1:] | ~same
    first = np.flatnonzero(new)
    counts = np.add.reduceat(rows["affinity_count"], first) if len(first) else rows["affinity_count"]
    return rows_where(rows, first) | {"affinity_count": counts}


def contract_histograms(histograms: TableData, ids: np.ndarray, roots: np.ndarray) -> TableData:
    """Replace the ids of histograms by their roots, drop rows inside of one root, add up the others."""
    return add_histograms([move_pairs(histograms, ids, roots)])


def new_cells(edges: TableData, histograms: TableData) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells of all histograms, and each edge's first one (int32).

    Raises
    ------
    DataError
        The histograms do not count exactly the affinities of each edge.
    """
    histograms = add_histograms([histograms])
    cells = np.zeros(len(histograms["a"]), CELL)
    cells["count"], cells["affinity"] = histograms["affinity_count"], histograms["affinity"]
    heads = np.full(len(edges["a"]), -1, np.int32)
    order = np.lexsort((edges["b"], edges["a"]))
    wrong = _link(cells, heads, order, *(table[name] for table in (histograms, edges) for name in ("a", "b")))
    bad = np.flatnonzero(_totals(cells, heads) != edges["affinity_count"])
    if wrong >= 0 or len(bad):
        table, row = (histograms, wrong) if wrong >= 0 else (edges, bad[0])
        raise DataError(
            f"histogram and edge between fragments {table['a'][row]} and {table['b'][row]} do not agree",
            expected="histograms that count the affinities of each edge of the region graph",
        )
    return cells, heads


@njit(cache=True, nogil=True)
def _link(
    cells: np.ndarray,
    heads: np.ndarray,
    order: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    edge_a: np.ndarray,
    edge_b: np.ndarray,
) -> int:
    """Link the cells of each edge; return a row of the histograms that has no edge, or -1."""
    at = 0
    for i in range(len(cells)):
        cells[i].next = -1
        while at < len(order):
            e = order[at]
            if edge_a[e] > a[i] or (edge_a[e] == a[i] and edge_b[e] >= b[i]):
                break
            at += 1
        if at == len(order) or edge_a[order[at]] != a[i] or edge_b[order[at]] != b[i]:
            return i
        if heads[order[at]] < 0:
            heads[order[at]] = i
        else:
            cells[i - 1].next = i
    return -1


@njit(cache=True, nogil=True)
def _totals(cells: np.ndarray, heads: np.ndarray) -> np.ndarray:
    totals = np.zeros(len(heads), np.int64)
    for e in range(len(heads)):
        cell = heads[e]
        while cell >= 0:
            totals[e] += cells[cell].count
            cell = cells[cell].next
    return totals


@kernel
def join_cells(cells: np.ndarray, one: np.int64, two: np.int64) -> np.int64:
    """Join two lists of cells in the order of affinities, adding up equal ones; return the first cell."""
    first, last = np.int64(-1), np.int64(-1)
    while one >= 0 or two >= 0:
        if two < 0 or (one >= 0 and cells[one].affinity <= cells[two].affinity):
            if two >= 0 and cells[one].affinity == cells[two].affinity:
                cells[one].count += cells[two].count
                two = np.int64(cells[two].next)
            cell, one = np.int64(one), np.int64(cells[one].next)
        else:
            cell, two = np.int64(two), np.int64(cells[two].next)
        if last < 0:
            first = cell
        else:
            cells[last].next = cell
        last = cell
    return first


@kernel
def quantile_of(cells: np.ndarray, head: int, count: int, share: Level) -> np.int64:
    """Return the smallest affinity that at least the share of ``count`` affinities does not exceed."""
    rank = (count * share.numerator + share.denominator - 1) // share.denominator
    cell, seen = np.int64(head), np.int64(cells[head].count)
    while seen < rank:
        cell = np.int64(cells[cell].next)
        seen += cells[cell].count
    return np.int64(cells[cell].affinity)


@njit(cache=True, nogil=True)
def quantiles_of(cells: np.ndarray, heads: np.ndarray, counts: np.ndarray, share: Level) -> np.ndarray:
    """Return int32 (edges,): :func:`quantile_of` for each edge."""
    values = np.empty(len(heads), np.int32)
    for e in range(len(heads)):
        values[e] = quantile_of(cells, np.int64(heads[e]), counts[e], share)
    return values
