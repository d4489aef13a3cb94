"""Contraction of a region graph by merging reciprocal best neighbours, exact for any order and any tiling.

Pairs of clusters are totally ordered by (score, smaller id, greater id), a cluster's id being its smallest member's.
When a and b merge, the pairs (a, c) and (b, c) become one, which never comes before the better of the two in the order:

- the mean of integer sums and counts is a mediant, and lies between the two means;
- the maximum is the greater maximum;
- the quantile q by rank is at most the greater of the two: the smallest affinity x that at least the share q does not
  exceed. Where x is the greater of the two quantiles, at least q of either contact is at most x, so at least q of both.
  (An interpolated quantile would not do: at q = 0.75, {0, 10} gives 7.5, but twice {0, 10} gives 10.);
- the smaller and the greater id only fall. (Hence ties go to the *greater* ids. With the smaller ones first, a merge
  could lift a pair over its rivals, and the order of merges would matter.)

And it is dead if the better of the two was (:mod:`bouton.segment.rules`). A pair that is the best live one for both its
clusters therefore stays so until it is merged, and merging such pairs in any order gives one result: that of the greedy
algorithm. This holds for all scores and accept rules offered here; the tests compare them with the greedy algorithm.

A frozen cluster takes part in no merge, because not all of its edges are known. A cluster whose best live pair leads to
a frozen or a blocked cluster is blocked. What is neither frozen nor blocked at the end is finished for good: it leaves
the graph.

Reciprocal nearest neighbours: Murtagh 1983, doi:10.1093/comjnl/26.4.354; RAC: Sumengen et al. 2021, arXiv:2105.11653;
frozen faces: Lu et al. 2021 (abiss), arXiv:2106.10795; quantiles: Funke et al. 2019, doi:10.1109/TPAMI.2018.2835450.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from bouton.errors import DataError, SpecError
from bouton.segment.adjacency import CLUSTER, EDGE, UNKNOWN, Graph, new_graph
from bouton.segment.chains import run_chains
from bouton.segment.histograms import CELL, contract_histograms, new_cells, quantiles_of
from bouton.segment.region_graph import EDGE_COLUMNS, TableData, both_in, contract_sizes, rows_where
from bouton.segment.rules import (
    MAXIMUM,
    MEAN,
    NO_LIMIT,
    QUANTILE,
    Accept,
    LargeRule,
    Rule,
    TwigRule,
    limits_of,
)

__all__ = [
    "HISTORY_COLUMNS",
    "MAXIMUM",
    "MEAN",
    "NO_LIMIT",
    "QUANTILE",
    "Accept",
    "Contraction",
    "LargeRule",
    "Rule",
    "TwigRule",
    "contract",
]

HISTORY_COLUMNS = EDGE_COLUMNS


@dataclass(frozen=True)
class Contraction:
    """What :func:`contract` returns.

    Attributes
    ----------
    history : dict of str -> numpy.ndarray
        ``HISTORY_COLUMNS``: the merges, in an order in which parts precede wholes. Cluster b became a part of cluster
        a < b (smallest members' ids); sum, count and maximum of the affinities between them at that moment. With
        ``QUANTILE`` also ``affinity_quantile`` (int64).
    edges, sizes : dict of str -> numpy.ndarray
        The residual graph, of frozen and blocked clusters, sorted.
    histograms : dict of str -> numpy.ndarray, optional
        With ``QUANTILE``: the residual graph's.
    """

    history: TableData
    edges: TableData
    sizes: TableData
    histograms: TableData | None = None


def contract(
    edges: TableData, sizes: TableData, frozen: np.ndarray, rule: Rule, histograms: TableData | None = None
) -> Contraction:
    """Merge reciprocal best neighbours until none is left.

    Parameters
    ----------
    edges : dict of str -> numpy.ndarray
        ``EDGE_COLUMNS``, each pair once, a < b, all ends in ``sizes``.
    sizes : dict of str -> numpy.ndarray
        ``SIZE_COLUMNS``, sorted by id, and ``soma`` (int64, 0: none) if the rule keeps somata apart.
    frozen : numpy.ndarray
        bool, one for each row of ``sizes``.
    rule : Rule
    histograms : dict of str -> numpy.ndarray, optional
        ``HISTOGRAM_COLUMNS`` of the same edges; needed by ``QUANTILE``, and by it alone.

    Raises
    ------
    DataError
        An end of an edge has no row in ``sizes``, an affinity is above 255, there is no column of somata, or histograms
        and edges do not agree.
    SpecError
        Histograms are missing, or the rule makes no sense.
    """
    limits = limits_of(rule)
    if rule.score == QUANTILE and histograms is None:
        raise SpecError("a quantile score without histograms", expected="histograms of the region graph's affinities")
    ids = sizes["id"]
    records, clusters = _new_edges(edges, ids), _new_clusters(sizes, frozen, rule)
    cells, heads = np.zeros(0, CELL), np.zeros(0, np.int32)
    if histograms is not None and rule.score == QUANTILE:
        cells, heads = new_cells(edges, histograms)
        records["level"] = quantiles_of(cells, heads, records["count"], limits.share)
    elif rule.score == MAXIMUM:
        records["level"] = records["max"]
    graph = new_graph(records, clusters, (cells, heads), limits)
    merged, at_merge = run_chains(graph, limits)
    history = {"a": ids[merged[:, 0]], "b": ids[merged[:, 1]]}
    names = [*list(EDGE_COLUMNS)[2:], *(["affinity_quantile"] if rule.score == QUANTILE else [])]
    history |= {name: at_merge[:, i].copy() for i, name in enumerate(names)}
    stuck = _stuck_names(graph)
    if not stuck.any():
        empty = {name: values[:0] for name, values in sizes.items()}
        return Contraction(history, {name: edges[name][:0] for name in EDGE_COLUMNS}, empty, _none_of(histograms))
    kept, moved = _residual_moves(merged, stuck)
    left = _residual_edges(graph, ids)
    pair = ids[moved[:, 0]], ids[moved[:, 1]]
    left_sizes = contract_sizes({name: values[kept] for name, values in sizes.items()}, *pair)
    return Contraction(history, left, left_sizes, _residual_histograms(histograms, ids[kept], pair))


def _none_of(histograms: TableData | None) -> TableData | None:
    return None if histograms is None else {name: values[:0] for name, values in histograms.items()}


def _new_edges(edges: TableData, ids: np.ndarray) -> np.ndarray:
    greatest = np.max(edges["affinity_max"], initial=0)
    if greatest > 255:
        raise DataError(f"maximum affinity {greatest} in the region graph", expected="0 to 255")
    records = np.zeros(len(edges["a"]), EDGE)
    columns = [np.ascontiguousarray(edges[name]) for name in EDGE_COLUMNS]
    missing = _fill(records, np.ascontiguousarray(ids), *columns)
    if missing >= 0:
        end = edges["a"][missing] if edges["a"][missing] not in ids else edges["b"][missing]
        raise DataError(f"fragment {end} of the region graph has no size", expected="a row of sizes for every end")
    return records


@njit(cache=True, nogil=True)
def _fill(
    records: np.ndarray,
    ids: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    sums: np.ndarray,
    counts: np.ndarray,
    maxima: np.ndarray,
) -> int:
    """Fill the records; return a row that has an end without a size, or -1."""
    bits = 4
    while (1 << bits) < 2 * len(ids):
        bits += 1
    table, mask = np.zeros(1 << bits, np.int32), (1 << bits) - 1
    for row in range(len(ids)):
        at = int(_hash(ids[row], bits))
        while table[at]:
            at = (at + 1) & mask
        table[at] = row + 1
    last, u = np.uint64(0), np.int64(-1)
    for e in range(len(a)):
        if a[e] != last or u < 0:
            last, u = a[e], _row_of(table, ids, a[e], bits)
        v = _row_of(table, ids, b[e], bits)
        if u < 0 or v < 0:
            return e
        record = records[e]
        record.u, record.v, record.level = u, v, -1
        record.sum, record.count, record.max = sums[e], counts[e], maxima[e]
    return -1


@njit(cache=True, nogil=True)
def _hash(value: np.uint64, bits: int) -> np.int64:
    return np.int64((value * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits))


@njit(cache=True, nogil=True)
def _row_of(table: np.ndarray, ids: np.ndarray, value: np.uint64, bits: int) -> np.int64:
    at = _hash(value, bits)
    while table[at]:
        if ids[table[at] - 1] == value:
            return np.int64(table[at]) - 1
        at = (at + 1) & (len(table) - 1)
    return np.int64(-1)


def _new_clusters(sizes: TableData, frozen: np.ndarray, rule: Rule) -> np.ndarray:
    clusters = np.zeros(len(sizes["id"]), CLUSTER)
    clusters["size"], clusters["stuck"], clusters["best"] = sizes["voxels"], frozen, UNKNOWN
    if rule.accept.somata_apart:
        if "soma" not in sizes:
            raise DataError("sizes without somata", expected="a column soma (0: none), by which to keep somata apart")
        clusters["soma"] = sizes["soma"]
    return clusters


def _stuck_names(graph: Graph) -> np.ndarray:
    named = np.zeros(len(graph.slots), np.bool_)
    named[graph.slots["name"][graph.clusters["stuck"] != 0]] = True
    return named


def _residual_moves(merged: np.ndarray, stuck: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows of sizes the residual graph holds, and those of them that moved with their roots."""
    root = _root_of(merged, len(stuck))
    kept = stuck[root]
    moved = np.flatnonzero(kept & (root != np.arange(len(stuck))))
    return kept, np.stack([moved, root[moved]], axis=1)


@njit(cache=True, nogil=True)
def _root_of(merged: np.ndarray, n: int) -> np.ndarray:
    root = np.arange(n)
    for i in range(len(merged)):
        root[merged[i, 1]] = merged[i, 0]
    for i in range(n):
        # a root's index is always smaller, so it is final already
        root[i] = root[root[i]]
    return root


def _residual_edges(graph: Graph, ids: np.ndarray) -> TableData:
    stuck, name = graph.clusters["stuck"] != 0, graph.slots["name"].astype(np.int64)
    records = graph.edges[graph.edges["u"] >= 0]
    records = records[stuck[records["u"]] & stuck[records["v"]]]
    u, v = name[records["u"]], name[records["v"]]
    a, b = np.minimum(u, v), np.maximum(u, v)
    order = np.argsort(a * len(ids) + b)
    records = records[order]
    values = (ids[a[order]], ids[b[order]], records["sum"], records["count"], records["max"].astype(np.int64))
    return {name: np.ascontiguousarray(column) for name, column in zip(EDGE_COLUMNS, values, strict=True)}


def _residual_histograms(
    histograms: TableData | None, kept: np.ndarray, pair: tuple[np.ndarray, np.ndarray]
) -> TableData | None:
    if histograms is None:
        return None
    return contract_histograms(rows_where(histograms, both_in(histograms, kept)), *pair)
