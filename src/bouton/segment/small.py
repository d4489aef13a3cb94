"""Small segments join along their strongest affinity: Kruskal's sweep with a size rule, out of core.

The edges of the region graph stand in one total order that never changes: greatest affinity first, then the greater ids
of the two *fragments*. They are taken in falling order. An edge joins its two clusters if one of them is small: if it
has fewer voxels than the limit, and no soma.

A box knows all edges of a cluster only if none of its fragments touches a face (else it is *frozen*). What can be said
of an edge, once all greater ones are settled:

* Two large clusters never join: clusters only grow.
* A small cluster all of whose greater edges are settled is still as it was, so it joins whatever the other one has
  become by then. If the other one is large, they may join at once, even if it is frozen: that it grows early changes
  nothing for its other edges, because a large cluster counts as large whatever its size.
* If the other one is small and frozen, they must wait: the sizes at that moment are not known. Then the first one's
  smaller edges have to wait, too: it is *uncertain*, and so is what depends on it.

So cells that cross many blocks, which are large in each of them, do not keep their neighbours waiting, and only what
hangs on small fragments at a face goes up to the parent node.

A cluster is referred to by its frozen fragment, which other boxes know by its id (there is at most one: two frozen
clusters do not join), else by its smallest one. What is kept of the joins are pairs of ids; united, over the nodes that
hold a block, they give the smallest fragment of each cluster that has fragments there.

Size rule: Zlateski & Seung 2015, arXiv:1505.00249; large segments at the faces of chunks: Lu et al. 2021 (abiss),
arXiv:2106.10795.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numba import njit

from bouton.segment.components import find
from bouton.segment.equivalences import PAIR_COLUMNS
from bouton.segment.region_graph import SIZE_COLUMNS, TableData, add_sizes, both_in, concatenate, rows_where

SMALL_EDGE_COLUMNS = {"a": "uint64", "b": "uint64", "affinity_max": "int64", "key_a": "uint64", "key_b": "uint64"}
SMALL_SIZE_COLUMNS = {**SIZE_COLUMNS, "soma": "int64", "name": "uint64"}
SMALL, LARGE, UNCERTAIN = 0, 1, 2


@dataclass(frozen=True)
class SmallRule:
    """What is small, and what it joins along.

    Attributes
    ----------
    size_limit_voxels : int
        Clusters of fewer voxels are small, unless they hold a soma.
    floor : Fraction
        Least greatest affinity, in 1/255 (:func:`bouton.segment.ratios.level`).
    """

    size_limit_voxels: int
    floor: Fraction


@dataclass(frozen=True)
class SmallJoins:
    """What :func:`join_small` returns.

    Attributes
    ----------
    moves : dict of str -> numpy.ndarray
        ``PAIR_COLUMNS``, sorted: fragments of one cluster, a < b.
    edges, sizes : dict of str -> numpy.ndarray
        ``SMALL_EDGE_COLUMNS`` and ``SMALL_SIZE_COLUMNS``, sorted: what is left to be settled.
    """

    moves: TableData
    edges: TableData
    sizes: TableData


def small_edges(graph: TableData) -> TableData:
    """Return a region graph's edges as ``SMALL_EDGE_COLUMNS``."""
    a, b = graph["a"], graph["b"]
    return {"a": a, "b": b, "affinity_max": graph["affinity_max"], "key_a": a, "key_b": b}


def small_sizes(sizes: TableData) -> TableData:
    """Return fragment sizes as ``SMALL_SIZE_COLUMNS``."""
    soma = sizes.get("soma", np.zeros(len(sizes["id"]), np.int64))
    return {name: sizes[name] for name in SIZE_COLUMNS} | {"soma": soma, "name": sizes["id"]}


def gather(tables: Sequence[TableData]) -> TableData:
    """Concatenate edges; of several between the same two clusters only the greatest counts. Sorted by (a, b)."""
    rows = concatenate(tables, SMALL_EDGE_COLUMNS)
    order = np.lexsort((rows["key_b"], rows["key_a"], rows["affinity_max"], rows["b"], rows["a"]))
    rows = rows_where(rows, order)
    last = np.ones(len(order), np.bool_)
    last[:-1] = (rows["a"][1:] != rows["a"][:-1]) | (rows["b"][1:] != rows["b"][:-1])
    return rows_where(rows, last)


def gather_sizes(tables: Sequence[TableData]) -> TableData:
    """Concatenate sizes and add up those of equal id; the smallest name is kept. Sorted by id."""
    added = add_sizes(tables)
    names = added["id"].copy()
    for table in tables:
        np.minimum.at(names, np.searchsorted(added["id"], table["id"]), table["name"])
    return added | {"name": names}


def join_small(edges: TableData, sizes: TableData, frozen: np.ndarray, rule: SmallRule) -> SmallJoins:
    """Join what is settled inside of a box.

    Parameters
    ----------
    edges : dict of str -> numpy.ndarray
        ``SMALL_EDGE_COLUMNS``, a pair once; those with an end that has no size lead out of the box.
    sizes : dict of str -> numpy.ndarray
        ``SMALL_SIZE_COLUMNS``, sorted by id.
    frozen : numpy.ndarray
        bool, one for each row of ``sizes``.
    rule : SmallRule
    """
    ids = sizes["id"]
    enough = edges["affinity_max"] * rule.floor.denominator >= rule.floor.numerator
    edges = rows_where(edges, enough)
    u, v = (np.searchsorted(ids, edges[name]) for name in "ab")
    inside = both_in(edges, ids)
    crossing = rows_where(edges, ~inside)
    edges, u, v = rows_where(edges, inside), u[inside], v[inside]
    order = np.lexsort((edges["key_b"], edges["key_a"], edges["affinity_max"]))
    large = (sizes["voxels"] >= rule.size_limit_voxels) | (sizes["soma"] != 0)
    state = np.where(large, LARGE, np.where(frozen, UNCERTAIN, SMALL)).astype(np.uint8)
    parent, open_ends = np.arange(len(ids)), frozen.copy()
    waits, joined = _sweep(order, (u, v), parent, (sizes["voxels"].copy(), state), rule.size_limit_voxels)
    root = _flat(parent)
    held = np.full(len(ids), -1, np.int64)
    held[root[frozen]] = np.flatnonzero(frozen)
    # the smallest row of a cluster is its root
    known_as = ids[np.where(held[root] >= 0, held[root], root)]
    left = rows_where(edges, waits)
    left["a"], left["b"] = _ordered(known_as[u[waits]], known_as[v[waits]])
    clusters = gather_sizes([sizes | {"id": known_as}])
    for ends in (u[waits], v[waits]):
        open_ends[ends] = True
    still = np.isin(clusters["id"], known_as[open_ends | (state[root] == UNCERTAIN)])
    moves = [(edges["a"][joined], edges["b"][joined]), _names(clusters, known_as[frozen])]
    return SmallJoins(_pairs(moves), gather([left, crossing]), rows_where(clusters, still))


def _names(clusters: TableData, frozen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (smallest fragment, id) of the clusters that are known by another id and not frozen."""
    other = (clusters["name"] != clusters["id"]) & ~np.isin(clusters["id"], frozen)
    return clusters["name"][other], clusters["id"][other]


def _pairs(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> TableData:
    a, b = _ordered(*(np.concatenate([pair[i] for pair in pairs]) for i in range(2)))
    order = np.lexsort((b, a))
    return dict(zip(PAIR_COLUMNS, (a[order], b[order]), strict=True))


def _ordered(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.minimum(a, b), np.maximum(a, b)


@njit(cache=True, nogil=True)
def _sweep(
    order: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
    parent: np.ndarray,
    clusters: tuple[np.ndarray, np.ndarray],
    limit: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Take the edges from the last in ``order`` to the first; return which wait, and which joined (bool).

    ``clusters`` are the voxels and the state of each root; the smaller row is always the root.
    """
    u, v = ends
    voxels, state = clusters
    waits, joined = np.zeros(len(order), np.bool_), np.zeros(len(order), np.bool_)
    for i in range(len(order) - 1, -1, -1):
        e = order[i]
        x, y = find(parent, u[e]), find(parent, v[e])
        if x == y or (state[x] == LARGE and state[y] == LARGE):
            continue
        if state[x] == UNCERTAIN or state[y] == UNCERTAIN:
            waits[e] = True
            for end in (x, y):
                if state[end] == SMALL:
                    state[end] = UNCERTAIN
            continue
        if y < x:
            x, y = y, x
        joined[e] = True
        parent[y] = x
        voxels[x] += voxels[y]
        if state[y] == LARGE or voxels[x] >= limit:
            state[x] = LARGE
    return waits, joined


@njit(cache=True, nogil=True)
def _flat(parent: np.ndarray) -> np.ndarray:
    root = np.empty_like(parent)
    for i in range(len(parent)):
        # parents are always smaller, so theirs is final already
        root[i] = i if parent[i] == i else root[parent[i]]
    return root
