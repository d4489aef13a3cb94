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

from collections import namedtuple
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numba import njit

from bouton.errors import DataError, SpecError
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
        A pair is live only if its score is at least this, in 1/255 (see :func:`level`).
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


def level(affinity: float) -> Fraction:
    """Return an affinity in [0, 1], taken as the decimal number it is written as, in 1/255.

    Raises
    ------
    SpecError
        It does not lie in [0, 1].
    """
    if not 0 <= affinity <= 1:
        raise SpecError(f"affinity {affinity}", expected="a number from 0 to 1")
    return (Fraction(str(affinity)) * 255).limit_denominator(10**9)


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
    limits = np.array([rule.score, rule.floor.numerator, rule.floor.denominator, rule.size_limit_voxels], np.int64)
    merged, at_merge, stuck = _contract(ends, values, sizes["voxels"].copy(), frozen.copy(), limits)
    a, b = ids[merged[:, 0]], ids[merged[:, 1]]
    history = {"a": a, "b": b}
    history |= {name: at_merge[:, i].copy() for i, name in enumerate(list(EDGE_COLUMNS)[2:])}
    return Contraction(history, *_residual(edges, sizes, merged, stuck))


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


@njit(cache=True, nogil=True)
def reaches(sums: np.ndarray, counts: np.ndarray, numerator: int, denominator: int) -> np.ndarray:
    """Return bool (n,): sum / count >= numerator / denominator, exactly. All int64, counts and denominator positive."""
    answer = np.empty(len(sums), np.bool_)
    for i in range(len(sums)):
        answer[i] = compare_ratios(sums[i], counts[i], numerator, denominator) >= 0
    return answer


@njit(cache=True, nogil=True)
def compare_ratios(a: int, b: int, c: int, d: int) -> int:
    """Return the sign of a / b - c / d, exactly, for int64 a, c >= 0 and b, d > 0: by continued fractions."""
    if a == c and b == d:
        return 0
    sign = 1
    while True:
        whole, other = a // b, c // d
        if whole != other:
            return sign if whole > other else -sign
        a, c = a - whole * b, c - other * d
        if a == 0 or c == 0:
            return sign * (min(a, 1) - min(c, 1))
        # both remainders lie in (0, 1): compare the reciprocals the other way round
        a, b, c, d, sign = b, a, d, c, -sign


# Graph of the clusters while they are contracted. A cluster is a *slot*; edge e joins slots ends[2 e], ends[2 e + 1];
# half edges h = 2 e + side of a slot form a linked list head -> following. Keys are what the heap sorts by: an edge's
# score and ids when it was last pushed, never below its present ones.
_Graph = namedtuple(
    "_Graph",
    "ends value alive head tail following degree name size stuck key_score key_ratio key_ids limits",
)


@njit(cache=True, nogil=True)
def _contract(
    pairs: np.ndarray, value: np.ndarray, size: np.ndarray, stuck: np.ndarray, limits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, m = len(size), len(pairs)
    graph = _build(pairs, value, size, stuck, limits)
    heap, filled = np.empty(m, np.int64), 0
    for e in range(m):
        if _above_floor(graph, e):
            _set_key(graph, e)
            heap[filled] = e
            filled += 1
    for i in range(filled // 2 - 1, -1, -1):
        _sink(graph, heap, i, filled)
    table = _new_table(graph)
    merged, at_merge, merges = np.empty((n, 2), np.int64), np.empty((n, 3), np.int64), 0
    while filled:
        e = heap[0]
        outcome = _judge(graph, e)
        if outcome == 1:
            _set_key(graph, e)
        else:
            graph.key_score[e] = OUT
            filled -= 1
            heap[0] = heap[filled]
        _sink(graph, heap, 0, filled)
        if outcome == 2:
            at_merge[merges] = graph.value[e]
            a, b = graph.name[graph.ends[2 * e]], graph.name[graph.ends[2 * e + 1]]
            merged[merges, 0], merged[merges, 1] = min(a, b), max(a, b)
            merges += 1
            table = _merge(graph, e, table)
    return merged[:merges], at_merge[:merges], _stuck_names(graph)


@njit(cache=True, nogil=True)
def _stuck_names(graph: _Graph) -> np.ndarray:
    named = np.zeros(len(graph.stuck), np.bool_)
    for slot in range(len(graph.stuck)):
        if graph.stuck[slot]:
            named[graph.name[slot]] = True
    return named


@njit(cache=True, nogil=True)
def _build(pairs: np.ndarray, value: np.ndarray, size: np.ndarray, stuck: np.ndarray, limits: np.ndarray) -> _Graph:
    n, m = len(size), len(pairs)
    ends, following = np.empty(2 * m, np.int64), np.full(2 * m, -1, np.int64)
    head, tail, degree = np.full(n, -1, np.int64), np.full(n, -1, np.int64), np.zeros(n, np.int64)
    keys = np.full(m, OUT), np.ones((m, 2), np.int64), np.zeros((m, 2), np.int64)
    graph = _Graph(
        ends, value.copy(), np.ones(m, np.bool_), head, tail, following, degree, np.arange(n), size, stuck,
        *keys, limits,
    )  # fmt: skip
    for e in range(m):
        for side in range(2):
            ends[2 * e + side] = pairs[e, side]
            _append(graph, pairs[e, side], 2 * e + side)
    return graph


@njit(cache=True, nogil=True)
def _append(graph: _Graph, slot: int, half: int) -> None:
    graph.following[half] = -1
    if graph.head[slot] < 0:
        graph.head[slot] = half
    else:
        graph.following[graph.tail[slot]] = half
    graph.tail[slot] = half
    graph.degree[slot] += 1


@njit(cache=True, nogil=True)
def _ratio(graph: _Graph, e: int) -> tuple[int, int]:
    if graph.limits[0] == MEAN:
        return graph.value[e, 0], graph.value[e, 1]
    return graph.value[e, 2], 1


@njit(cache=True, nogil=True)
def _above_floor(graph: _Graph, e: int) -> bool:
    num, den = _ratio(graph, e)
    return compare_ratios(num, den, graph.limits[1], graph.limits[2]) >= 0


@njit(cache=True, nogil=True)
def _names(graph: _Graph, e: int) -> tuple[int, int]:
    a, b = graph.name[graph.ends[2 * e]], graph.name[graph.ends[2 * e + 1]]
    return min(a, b), max(a, b)


@njit(cache=True, nogil=True)
def _set_key(graph: _Graph, e: int) -> None:
    num, den = _ratio(graph, e)
    graph.key_ratio[e, 0], graph.key_ratio[e, 1] = num, den
    # correctly rounded division is monotone: unequal quotients are in the true order, equal ones are compared exactly
    graph.key_score[e] = num / den
    graph.key_ids[e, 0], graph.key_ids[e, 1] = _names(graph, e)


@njit(cache=True, nogil=True)
def _fresh(graph: _Graph, e: int) -> bool:
    num, den = _ratio(graph, e)
    low, high = _names(graph, e)
    key, ids = graph.key_ratio[e], graph.key_ids[e]
    return key[0] == num and key[1] == den and ids[0] == low and ids[1] == high


@njit(cache=True, nogil=True)
def _better(graph: _Graph, e: int, f: int) -> bool:
    if graph.key_score[e] != graph.key_score[f]:
        return graph.key_score[e] > graph.key_score[f]
    one, two = graph.key_ratio[e], graph.key_ratio[f]
    order = compare_ratios(one[0], one[1], two[0], two[1])
    if order != 0:
        return order > 0
    if graph.key_ids[e, 0] != graph.key_ids[f, 0]:
        return graph.key_ids[e, 0] > graph.key_ids[f, 0]
    return graph.key_ids[e, 1] > graph.key_ids[f, 1]


@njit(cache=True, nogil=True)
def _sink(graph: _Graph, heap: np.ndarray, i: int, filled: int) -> None:
    if i >= filled:
        return
    e = heap[i]
    while 2 * i + 1 < filled:
        child = 2 * i + 1
        if child + 1 < filled and _better(graph, heap[child + 1], heap[child]):
            child += 1
        if not _better(graph, heap[child], e):
            break
        heap[i] = heap[child]
        i = child
    heap[i] = e


@njit(cache=True, nogil=True)
def _judge(graph: _Graph, e: int) -> int:
    """Return what to do with the heap's first edge: 0 drop it, 1 push it again with its present key, 2 merge."""
    if not graph.alive[e]:
        return 0
    if not _fresh(graph, e):
        return 1 if _above_floor(graph, e) else 0
    a, b = graph.ends[2 * e], graph.ends[2 * e + 1]
    if min(graph.size[a], graph.size[b]) >= graph.limits[3]:
        return 0
    if graph.stuck[a] or graph.stuck[b]:
        graph.stuck[a] = graph.stuck[b] = True
        return 0
    return 2


@njit(cache=True, nogil=True)
def _merge(graph: _Graph, e: int, table: np.ndarray) -> np.ndarray:
    """Merge the slot with the shorter list of edges into the other one."""
    keep, gone = graph.ends[2 * e], graph.ends[2 * e + 1]
    if graph.degree[keep] < graph.degree[gone]:
        keep, gone = gone, keep
    graph.alive[e] = False
    graph.size[keep] += graph.size[gone]
    graph.name[keep] = min(graph.name[keep], graph.name[gone])
    half = graph.head[gone]
    while half >= 0:
        following = graph.following[half]
        if graph.alive[half >> 1]:
            table = _attach(graph, half, keep, table)
        half = following
    return table


@njit(cache=True, nogil=True)
def _attach(graph: _Graph, half: int, slot: int, table: np.ndarray) -> np.ndarray:
    """Give half edge ``half`` to ``slot``; where the slot has an edge to the same neighbour, make one of both."""
    e, other = half >> 1, graph.ends[half ^ 1]
    at = _place(table, min(slot, other) * len(graph.size) + max(slot, other))
    f = table[at, 1]
    if f >= 0:
        # the survivor keeps its place in the heap, so its key must not be below that of the edge made of both
        e, f = (e, f) if _better(graph, e, f) else (f, e)
        graph.value[e, 0] += graph.value[f, 0]
        graph.value[e, 1] += graph.value[f, 1]
        graph.value[e, 2] = max(graph.value[e, 2], graph.value[f, 2])
        graph.alive[f] = False
        if f == half >> 1:
            return table
    graph.ends[half] = slot
    _append(graph, slot, half)
    return _enter(graph, table, e)


# The table finds the edge between two slots: rows (smaller slot * n + greater slot, edge), open addressing, -1 empty.
# Its last row counts the rows in use. Keys of slots that are gone stay until it grows: nobody asks for them.
@njit(cache=True, nogil=True)
def _new_table(graph: _Graph) -> np.ndarray:
    capacity = 64
    while capacity < 4 * np.sum(graph.alive):
        capacity *= 2
    table = np.full((capacity + 1, 2), -1, np.int64)
    table[capacity] = 0
    for e in range(len(graph.alive)):
        if graph.alive[e]:
            _put(graph, table, e)
    return table


@njit(cache=True, nogil=True)
def _place(table: np.ndarray, key: int) -> np.int64:
    mask = len(table) - 2
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    at = np.int64(mixed >> np.uint64(20)) & np.int64(mask)
    while table[at, 0] != key and table[at, 0] >= 0:
        at = (at + 1) & np.int64(mask)
    return at


@njit(cache=True, nogil=True)
def _put(graph: _Graph, table: np.ndarray, e: int) -> None:
    a, b = graph.ends[2 * e], graph.ends[2 * e + 1]
    key = min(a, b) * len(graph.size) + max(a, b)
    at = _place(table, key)
    if table[at, 0] < 0:
        table[-1, 0] += 1
    table[at, 0], table[at, 1] = key, e


@njit(cache=True, nogil=True)
def _enter(graph: _Graph, table: np.ndarray, e: int) -> np.ndarray:
    _put(graph, table, e)
    return table if table[-1, 0] * 2 < len(table) else _new_table(graph)
