"""Contraction of a region graph by merging reciprocal best neighbours, exact for any order and any tiling.

Pairs of clusters are totally ordered by (score, smaller id, greater id), a cluster's id being its smallest member's.
Merging clusters can only lower the order of a pair relative to the better of the two pairs it came from: means of
integer sums and counts are mediants, maxima are maxima, and the smallest member's id only falls. (Hence ties must go to
the *greater* ids. With the smaller ones a merge could lift a pair over its rivals, and the order of merges would
matter.) A pair that is the best live one for both its clusters therefore stays so until it is merged, and merging such
pairs in any order gives one result: that of the greedy algorithm.

A frozen cluster takes part in no merge, because not all of its edges are known. A cluster whose best live pair leads to
a frozen or a blocked cluster is blocked. What is neither frozen nor blocked at the end is finished for good: it leaves
the graph.

Reciprocal nearest neighbours: Murtagh 1983, doi:10.1093/comjnl/26.4.354; RAC: Sumengen et al. 2021, arXiv:2105.11653;
frozen faces: Lu et al. 2021 (abiss), arXiv:2106.10795; size rule: Zlateski & Seung 2015, arXiv:1505.00249.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numba import njit

from bouton.errors import DataError
from bouton.segment.ratios import compare_ratios
from bouton.segment.region_graph import EDGE_COLUMNS, SIZE_COLUMNS, TableData, contract_edges, contract_sizes

HISTORY_COLUMNS = EDGE_COLUMNS
NO_LIMIT = np.iinfo(np.int64).max
MEAN, MAXIMUM = 0, 1
OUT = -1.0  # key score of an edge that is not in the heap


@dataclass(frozen=True)
class Rule:
    """Which pairs are live, and which of them is better.

    Attributes
    ----------
    score : int
        ``MEAN`` (affinity sum / count) or ``MAXIMUM`` (greatest affinity), both in 1/255.
    floor : Fraction
        A pair is live only if its score is at least this, in 1/255 (see :func:`bouton.segment.ratios.level`).
    size_limit_voxels : int
        A pair is live only if one of its clusters has fewer voxels.
    """

    score: int
    floor: Fraction
    size_limit_voxels: int = NO_LIMIT


@dataclass(frozen=True)
class Contraction:
    """What :func:`contract` returns.

    Attributes
    ----------
    history : dict of str -> numpy.ndarray
        ``HISTORY_COLUMNS``: the merges, in an order in which parts precede wholes. Cluster b became a part of cluster
        a < b (smallest members' ids); sum, count and maximum of the affinities between them at that moment.
    edges, sizes : dict of str -> numpy.ndarray
        The residual graph, of frozen and blocked clusters, sorted.
    """

    history: TableData
    edges: TableData
    sizes: TableData


def contract(edges: TableData, sizes: TableData, frozen: np.ndarray, rule: Rule) -> Contraction:
    """Merge reciprocal best neighbours until none is left.

    Parameters
    ----------
    edges : dict of str -> numpy.ndarray
        ``EDGE_COLUMNS``, each pair once, a < b, all ends in ``sizes``.
    sizes : dict of str -> numpy.ndarray
        ``SIZE_COLUMNS``, sorted by id.
    frozen : numpy.ndarray
        bool, one for each row of ``sizes``.
    rule : Rule

    Raises
    ------
    DataError
        An end of an edge has no row in ``sizes``.
    """
    ids = sizes["id"]
    ends = np.stack([_rows_of(ids, edges["a"]), _rows_of(ids, edges["b"])], axis=1)
    values = np.stack([edges[name] for name in ("affinity_sum", "affinity_count", "affinity_max")], axis=1)
    limits = (rule.score, rule.floor.numerator, rule.floor.denominator, rule.size_limit_voxels)
    clusters = _new_clusters(sizes["voxels"], frozen)
    merged, at_merge, stuck = _contract(_new_edges(ends, values), clusters, limits)
    a, b = ids[merged[:, 0]], ids[merged[:, 1]]
    history = {"a": a, "b": b}
    history |= {name: at_merge[:, i].copy() for i, name in enumerate(list(EDGE_COLUMNS)[2:])}
    return Contraction(history, *_residual(edges, sizes, merged, stuck))


def _new_edges(ends: np.ndarray, values: np.ndarray) -> np.ndarray:
    edges = np.zeros((len(ends), EDGE_WIDTH), np.int64)
    edges[:, :2], edges[:, SUM : MAX + 1] = ends, values
    edges[:, ALIVE], edges[:, NEXT], edges[:, NEXT + 1], edges[:, DENOMINATOR] = 1, -1, -1, 1
    return edges


def _new_clusters(voxels: np.ndarray, frozen: np.ndarray) -> np.ndarray:
    clusters = np.zeros((len(voxels), CLUSTER_WIDTH), np.int64)
    clusters[:, HEAD] = clusters[:, TAIL] = -1
    clusters[:, NAME], clusters[:, SIZE], clusters[:, STUCK] = np.arange(len(voxels)), voxels, frozen
    return clusters


def _rows_of(ids: np.ndarray, ends: np.ndarray) -> np.ndarray:
    rows = np.searchsorted(ids, ends).astype(np.int64)
    missing = ends[rows >= len(ids)] if len(ids) == 0 else ends[ids[np.minimum(rows, len(ids) - 1)] != ends]
    if len(missing):
        raise DataError(
            f"fragment {missing[0]} of the region graph has no size", expected="a row of sizes for every end"
        )
    return rows


def _residual(edges: TableData, sizes: TableData, merged: np.ndarray, stuck: np.ndarray) -> tuple[TableData, TableData]:
    ids = sizes["id"]
    root = _root_of(merged, len(ids))
    kept = stuck[root]
    moved = root != np.arange(len(ids))
    inside = np.searchsorted(ids, edges["a"]), np.searchsorted(ids, edges["b"])
    open_edges = kept[inside[0]] & kept[inside[1]]
    pair = ids[moved], ids[root][moved]
    left = contract_edges({name: edges[name][open_edges] for name in EDGE_COLUMNS}, *pair)
    return left, contract_sizes({name: sizes[name][kept] for name in SIZE_COLUMNS}, *pair)


@njit(cache=True, nogil=True)
def _root_of(merged: np.ndarray, n: int) -> np.ndarray:
    root = np.arange(n)
    for i in range(len(merged)):
        root[merged[i, 1]] = merged[i, 0]
    for i in range(n):
        # a root's index is always smaller, so it is final already
        root[i] = root[root[i]]
    return root


# The graph while it is contracted: two int64 matrices, for rows that lie together in memory.
#
# A cluster is a *slot*, a row of ``clusters``; NAME is its smallest member. Edge e, a row of ``edges``, joins the slots
# in its columns 0 and 1. Half edge h = 2 e + side is element (e, side); a slot's half edges form a linked list from
# HEAD to TAIL through the columns NEXT + side. Column NUMERATOR to HIGH and ``score`` are the edge's key in the heap:
# its order when it was last pushed, never below its present one.
SUM, COUNT, MAX, ALIVE, NEXT, NUMERATOR, DENOMINATOR, LOW, HIGH, EDGE_WIDTH = 2, 3, 4, 5, 6, 8, 9, 10, 11, 12
HEAD, TAIL, DEGREE, NAME, SIZE, STUCK, CLUSTER_WIDTH = 0, 1, 2, 3, 4, 5, 6
DROP, AGAIN, MERGE = 0, 1, 2


@njit(cache=True, nogil=True)
def _contract(
    edges: np.ndarray, clusters: np.ndarray, limits: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, merges = len(clusters), 0
    _link_all(edges, clusters)
    score, heap, filled = _new_heap(edges, clusters, limits)
    table = _new_table(edges, n)
    merged, at_merge = np.empty((n, 2), np.int64), np.empty((n, 3), np.int64)
    while filled:
        e = heap[0]
        outcome = _judge(edges, clusters, e, limits)
        if outcome == AGAIN:
            _set_key(edges, score, clusters, e, limits)
        else:
            score[e] = OUT
            filled -= 1
            heap[0] = heap[filled]
        _sink(edges, score, heap, 0, filled)
        if outcome == MERGE:
            at_merge[merges] = edges[e, SUM : MAX + 1]
            merged[merges] = _names(edges, clusters, e)
            merges += 1
            table = _merge(edges, score, clusters, e, table)
    return merged[:merges], at_merge[:merges], _stuck_names(clusters)


@njit(cache=True, nogil=True)
def _stuck_names(clusters: np.ndarray) -> np.ndarray:
    named = np.zeros(len(clusters), np.bool_)
    for slot in range(len(clusters)):
        if clusters[slot, STUCK]:
            named[clusters[slot, NAME]] = True
    return named


@njit(cache=True, nogil=True)
def _link_all(edges: np.ndarray, clusters: np.ndarray) -> None:
    for e in range(len(edges)):
        for side in range(2):
            _append(edges, clusters, edges[e, side], 2 * e + side)


@njit(cache=True, nogil=True)
def _append(edges: np.ndarray, clusters: np.ndarray, slot: int, half: int) -> None:
    edges[half >> 1, NEXT + (half & 1)] = -1
    if clusters[slot, HEAD] < 0:
        clusters[slot, HEAD] = half
    else:
        tail = clusters[slot, TAIL]
        edges[tail >> 1, NEXT + (tail & 1)] = half
    clusters[slot, TAIL] = half
    clusters[slot, DEGREE] += 1


@njit(cache=True, nogil=True)
def _new_heap(
    edges: np.ndarray, clusters: np.ndarray, limits: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray, int]:
    score, heap, filled = np.full(len(edges), OUT), np.empty(len(edges), np.int64), 0
    for e in range(len(edges)):
        if _above_floor(edges, e, limits):
            _set_key(edges, score, clusters, e, limits)
            heap[filled] = e
            filled += 1
    for i in range(filled // 2 - 1, -1, -1):
        _sink(edges, score, heap, i, filled)
    return score, heap, filled


@njit(cache=True, nogil=True)
def _ratio(edges: np.ndarray, e: int, limits: tuple[int, int, int, int]) -> tuple[int, int]:
    if limits[0] == MEAN:
        return edges[e, SUM], edges[e, COUNT]
    return edges[e, MAX], 1


@njit(cache=True, nogil=True)
def _above_floor(edges: np.ndarray, e: int, limits: tuple[int, int, int, int]) -> bool:
    numerator, denominator = _ratio(edges, e, limits)
    return compare_ratios(numerator, denominator, limits[1], limits[2]) >= 0


@njit(cache=True, nogil=True)
def _names(edges: np.ndarray, clusters: np.ndarray, e: int) -> tuple[int, int]:
    a, b = clusters[edges[e, 0], NAME], clusters[edges[e, 1], NAME]
    return min(a, b), max(a, b)


@njit(cache=True, nogil=True)
def _set_key(
    edges: np.ndarray, score: np.ndarray, clusters: np.ndarray, e: int, limits: tuple[int, int, int, int]
) -> None:
    numerator, denominator = _ratio(edges, e, limits)
    edges[e, NUMERATOR], edges[e, DENOMINATOR] = numerator, denominator
    edges[e, LOW], edges[e, HIGH] = _names(edges, clusters, e)
    # correctly rounded division is monotone: unequal quotients are in the true order, equal ones are compared exactly
    score[e] = numerator / denominator


@njit(cache=True, nogil=True)
def _fresh(edges: np.ndarray, clusters: np.ndarray, e: int, limits: tuple[int, int, int, int]) -> bool:
    now, then = _ratio(edges, e, limits), (edges[e, NUMERATOR], edges[e, DENOMINATOR])
    return now == then and _names(edges, clusters, e) == (edges[e, LOW], edges[e, HIGH])


@njit(cache=True, nogil=True)
def _better(edges: np.ndarray, score: np.ndarray, e: int, f: int) -> bool:
    if score[e] != score[f]:
        return score[e] > score[f]
    order = compare_ratios(edges[e, NUMERATOR], edges[e, DENOMINATOR], edges[f, NUMERATOR], edges[f, DENOMINATOR])
    if order != 0:
        return order > 0
    if edges[e, LOW] != edges[f, LOW]:
        return edges[e, LOW] > edges[f, LOW]
    return edges[e, HIGH] > edges[f, HIGH]


@njit(cache=True, nogil=True)
def _sink(edges: np.ndarray, score: np.ndarray, heap: np.ndarray, i: int, filled: int) -> None:
    if i >= filled:
        return
    e = heap[i]
    while 2 * i + 1 < filled:
        child = 2 * i + 1
        if child + 1 < filled and _better(edges, score, heap[child + 1], heap[child]):
            child += 1
        if not _better(edges, score, heap[child], e):
            break
        heap[i] = heap[child]
        i = child
    heap[i] = e


@njit(cache=True, nogil=True)
def _judge(edges: np.ndarray, clusters: np.ndarray, e: int, limits: tuple[int, int, int, int]) -> int:
    """Return what to do with the heap's first edge: drop it, push it again with its present key, or merge."""
    if not edges[e, ALIVE]:
        return DROP
    if not _fresh(edges, clusters, e, limits):
        return AGAIN if _above_floor(edges, e, limits) else DROP
    a, b = edges[e, 0], edges[e, 1]
    if min(clusters[a, SIZE], clusters[b, SIZE]) >= limits[3]:
        return DROP
    if clusters[a, STUCK] or clusters[b, STUCK]:
        clusters[a, STUCK] = clusters[b, STUCK] = 1
        return DROP
    return MERGE


@njit(cache=True, nogil=True)
def _merge(edges: np.ndarray, score: np.ndarray, clusters: np.ndarray, e: int, table: np.ndarray) -> np.ndarray:
    """Merge the slot with the shorter list of edges into the other one."""
    keep, gone = edges[e, 0], edges[e, 1]
    if clusters[keep, DEGREE] < clusters[gone, DEGREE]:
        keep, gone = gone, keep
    edges[e, ALIVE] = 0
    clusters[keep, SIZE] += clusters[gone, SIZE]
    clusters[keep, NAME] = min(clusters[keep, NAME], clusters[gone, NAME])
    half = clusters[gone, HEAD]
    while half >= 0:
        following = edges[half >> 1, NEXT + (half & 1)]
        if edges[half >> 1, ALIVE] and not _absorbed(edges, score, half, keep, table, len(clusters)):
            _append(edges, clusters, keep, half)
            table = _enter(edges, table, half >> 1, len(clusters))
        half = following
    return table


@njit(cache=True, nogil=True)
def _absorbed(edges: np.ndarray, score: np.ndarray, half: int, slot: int, table: np.ndarray, n: int) -> bool:
    """Give half edge ``half`` to ``slot``; return whether an edge of the slot to the same neighbour took it in."""
    e, side = half >> 1, half & 1
    edges[e, side] = slot
    f = table[_place(table, _pair(edges, e, n)), 1]
    if f < 0:
        return False
    # the survivor keeps its place in the heap, so its key must not be below that of the edge made of both
    keep, gone = (e, f) if _better(edges, score, e, f) else (f, e)
    edges[keep, SUM] += edges[gone, SUM]
    edges[keep, COUNT] += edges[gone, COUNT]
    edges[keep, MAX] = max(edges[keep, MAX], edges[gone, MAX])
    edges[gone, ALIVE] = 0
    return gone == e


# The table finds the edge between two slots: rows (smaller slot * n + greater slot, edge), open addressing, -1 empty.
# Its last row counts the rows in use. Keys of slots that are gone stay until it grows: nobody asks for them.
@njit(cache=True, nogil=True)
def _new_table(edges: np.ndarray, n: int) -> np.ndarray:
    # never much smaller than the number of edges ever, which is what building it costs
    needed, capacity = max(4 * np.sum(edges[:, ALIVE]), len(edges)), 64
    while capacity < needed:
        capacity *= 2
    table = np.full((capacity + 1, 2), -1, np.int64)
    table[capacity, 0] = 0
    for e in range(len(edges)):
        if edges[e, ALIVE]:
            _put(edges, table, e, n)
    return table


@njit(cache=True, nogil=True)
def _pair(edges: np.ndarray, e: int, n: int) -> int:
    return min(edges[e, 0], edges[e, 1]) * n + max(edges[e, 0], edges[e, 1])


@njit(cache=True, nogil=True)
def _place(table: np.ndarray, key: int) -> np.int64:
    mask = np.int64(len(table) - 2)
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    at = np.int64(mixed >> np.uint64(20)) & mask
    while table[at, 0] != key and table[at, 0] >= 0:
        at = (at + 1) & mask
    return at


@njit(cache=True, nogil=True)
def _put(edges: np.ndarray, table: np.ndarray, e: int, n: int) -> None:
    key = _pair(edges, e, n)
    at = _place(table, key)
    if table[at, 0] < 0:
        table[-1, 0] += 1
    table[at, 0], table[at, 1] = key, e


@njit(cache=True, nogil=True)
def _enter(edges: np.ndarray, table: np.ndarray, e: int, n: int) -> np.ndarray:
    _put(edges, table, e, n)
    return table if table[-1, 0] * 2 < len(table) else _new_table(edges, n)
