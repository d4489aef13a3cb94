"""The graph while it is contracted: edges, clusters, and the lists of the clusters' edges.

An edge is one record, shared by its two clusters; a cluster is a *slot*, a row of ``clusters``, and ``name`` is its
smallest member. The lists lie in one pool of integers, each behind a header of two (slot, capacity); a list that
outgrows its capacity moves to the pool's end, and when the pool is full, the lists move together. Holes in a list (-1)
and edges that are gone (u < 0) do no harm.

A *hub* has many edges. Its list is summarised in blocks (``nodes``), so that finding its best edge does not read all
of them, and a hash table finds the edge between it and any other cluster. Elsewhere ``mark`` does that, which remembers
where in the current list a cluster's edge stands.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

EDGE = np.dtype(
    [("u", "i4"), ("v", "i4"), ("sum", "i8"), ("count", "i8"), ("max", "i4"), ("level", "i4")],
    align=True,
)
CLUSTER = np.dtype(
    [
        ("start", "i8"),
        ("size", "i8"),
        ("stamp", "i8"),
        ("soma", "i8"),
        ("length", "i4"),
        ("capacity", "i4"),
        ("best", "i4"),
        ("tie", "i4"),
        ("name", "i4"),
        ("stuck", "i4"),
        ("hub", "i4"),
        ("gone", "i4"),
    ],
    align=True,
)
# the best edge of a block of a hub's list: never better than this, whatever has happened since
NODE = np.dtype([("score", "f8"), ("stamp", "i8"), ("best", "i4"), ("tie", "i4")], align=True)
BLOCK, HUB, HEADER = 32, 128, 2
END, USED, MASK = 0, 1, 2  # state: the pool's end, entries of the table in use, the table's size - 1
UNKNOWN, NONE = -1, -2


class Graph(NamedTuple):
    """All there is, in arrays that never grow."""

    edges: np.ndarray
    clusters: np.ndarray
    pool: np.ndarray
    nodes: np.ndarray
    table: np.ndarray
    mark: np.ndarray
    state: np.ndarray
    cells: np.ndarray
    heads: np.ndarray


def new_graph(edges: np.ndarray, clusters: np.ndarray, cells: np.ndarray, heads: np.ndarray) -> Graph:
    """Return the graph of ``EDGE`` and ``CLUSTER`` records with everybody's list; cells and heads are histograms."""
    # after a collection at most: 2 entries an edge, two words a header, a quarter of padding, one list to move
    room = 4 * len(edges) + HEADER * len(clusters) + 8 * BLOCK
    entries = 1 << max(4, int(3 * len(edges)).bit_length())
    graph = Graph(
        edges=edges,
        clusters=clusters,
        pool=np.empty(room, np.int32),
        nodes=np.zeros(room // BLOCK + 2, NODE),
        table=np.zeros(entries, np.int32),  # edge + 1, 0 where free; untouched pages cost nothing
        mark=np.zeros(len(clusters), np.int64),
        state=np.array([0, 0, min(entries, max(16, entries // 16)) - 1], np.int64),
        cells=cells,
        heads=heads,
    )
    _list_all(graph)
    _make_hubs(graph)
    return graph


@njit(cache=True, nogil=True)
def _list_all(graph: Graph) -> None:
    edges, clusters, pool = graph.edges, graph.clusters, graph.pool
    for e in range(len(edges)):
        clusters[edges[e].u].capacity += 1
        clusters[edges[e].v].capacity += 1
    end = 0
    for slot in range(len(clusters)):
        pool[end], pool[end + 1] = slot, clusters[slot].capacity
        clusters[slot].start = end + HEADER
        end += HEADER + clusters[slot].capacity
    graph.state[END] = end
    for e in range(len(edges)):
        for slot in (edges[e].u, edges[e].v):
            pool[clusters[slot].start + clusters[slot].length] = e
            clusters[slot].length += 1


@njit(cache=True, nogil=True)
def _make_hubs(graph: Graph) -> None:
    for slot in range(len(graph.clusters)):
        if graph.clusters[slot].length > HUB:
            make_hub(graph, slot)


@njit(cache=True, nogil=True)
def other(edges: np.ndarray, e: int, slot: int) -> int:
    """Return the cluster at the other end of edge e of ``slot``."""
    return np.int64(edges[e].u) + edges[e].v - slot


@njit(cache=True, nogil=True)
def reserve(graph: Graph, slot: int, joining: int) -> None:
    """Make room in the list of ``slot`` for that of ``joining`` (-1: nothing); a hub's capacity grows by half."""
    hub, needed = graph.clusters[slot].hub, _needed(graph, slot, joining)
    if needed <= graph.clusters[slot].capacity:
        return
    if graph.state[END] + HEADER + _wanted(hub, needed) > len(graph.pool):
        _collect(graph)
        needed = _needed(graph, slot, joining)
    capacity = _wanted(hub, needed)
    if graph.state[END] + HEADER + capacity > len(graph.pool):
        capacity = (needed // BLOCK + 1) * BLOCK
    start = graph.state[END] + HEADER
    graph.pool[start - 2], graph.pool[start - 1] = slot, capacity
    graph.state[END] = start + capacity
    _move(graph, slot, start, capacity)


@njit(cache=True, nogil=True)
def _needed(graph: Graph, slot: int, joining: int) -> int:
    more = graph.clusters[joining].length if joining >= 0 else 0
    return np.int64(graph.clusters[slot].length) + more


@njit(cache=True, nogil=True)
def _wanted(hub: int, needed: int) -> int:
    return ((needed + needed // 2) // BLOCK + 1) * BLOCK if hub else np.int64(needed)


@njit(cache=True, nogil=True)
def _move(graph: Graph, slot: int, start: int, capacity: int) -> None:
    """Copy the list of ``slot``, without holes, to a place below the old one or apart from it."""
    cluster, length = graph.clusters[slot], 0
    for i in range(cluster.start, cluster.start + cluster.length):
        e = graph.pool[i]
        if e >= 0 and graph.edges[e].u >= 0:
            graph.pool[start + length] = e
            length += 1
    cluster.start, cluster.length, cluster.capacity = start, length, capacity
    if cluster.hub:
        forget(graph, slot)


@njit(cache=True, nogil=True)
def forget(graph: Graph, slot: int) -> None:
    """Declare all blocks of a hub's list unknown."""
    first = graph.clusters[slot].start // BLOCK
    for k in range(first, first + graph.clusters[slot].capacity // BLOCK):
        graph.nodes[k].score = np.inf


@njit(cache=True, nogil=True)
def _collect(graph: Graph) -> None:
    """Move all lists to the pool's beginning, without holes."""
    pool, clusters = graph.pool, graph.clusters
    read, end, stop = 0, 0, graph.state[END]
    while read < stop:
        slot, capacity = np.int64(pool[read]), np.int64(pool[read + 1])
        cluster = clusters[slot]
        if not cluster.gone and cluster.start == read + HEADER:
            _move(graph, slot, end + HEADER, capacity)
            if cluster.hub:
                cluster.capacity = min(capacity, (cluster.length // BLOCK + 1) * BLOCK)
            else:
                cluster.capacity = cluster.length
            pool[end], pool[end + 1] = slot, cluster.capacity
            end += HEADER + cluster.capacity
        read += HEADER + capacity
    graph.state[END] = end


@njit(cache=True, nogil=True)
def make_hub(graph: Graph, slot: int) -> None:
    """Give a cluster of many edges blocks and a place in the table."""
    cluster = graph.clusters[slot]
    cluster.hub, cluster.capacity = 1, 0
    reserve(graph, slot, -1)
    for i in range(cluster.start, cluster.start + cluster.length):
        put(graph, np.int64(graph.pool[i]))


@njit(cache=True, nogil=True)
def append(graph: Graph, slot: int, e: int) -> None:
    """Add edge e to the list of ``slot``, which has room for it."""
    cluster = graph.clusters[slot]
    graph.pool[cluster.start + cluster.length] = e
    if cluster.hub:
        graph.nodes[cluster.start // BLOCK + cluster.length // BLOCK].score = np.inf
    cluster.length += 1


@njit(cache=True, nogil=True)
def find(graph: Graph, a: int, b: int) -> int:
    """Return the edge between two clusters, one of them a hub, or -1."""
    at = _first_place(a, b, graph.state[MASK])
    while graph.table[at] != 0:
        e = np.int64(graph.table[at]) - 1
        u, v = np.int64(graph.edges[e].u), np.int64(graph.edges[e].v)
        # an entry may have moved to other ends since it was put here: if they match, it is the right one all the same
        if (u == a and v == b) or (u == b and v == a):
            return e
        at = (at + 1) & graph.state[MASK]
    return -1


@njit(cache=True, nogil=True)
def put(graph: Graph, e: int) -> None:
    """Let :func:`find` know edge e of a hub by its present ends."""
    if 2 * graph.state[USED] > graph.state[MASK]:
        _rebuild(graph)
    _enter(graph, e)


@njit(cache=True, nogil=True)
def _enter(graph: Graph, e: int) -> None:
    at = _first_place(graph.edges[e].u, graph.edges[e].v, graph.state[MASK])
    while graph.table[at] != 0:
        at = (at + 1) & graph.state[MASK]
    graph.table[at] = e + 1
    graph.state[USED] += 1


@njit(cache=True, nogil=True)
def _rebuild(graph: Graph) -> None:
    known = 0
    for e in range(len(graph.edges)):
        known += _is_known(graph, e)
    graph.table[: graph.state[MASK] + 1] = 0
    size = graph.state[MASK] + 1
    while size < 6 * known and size < len(graph.table):
        size *= 2
    graph.state[MASK], graph.state[USED] = size - 1, 0
    for e in range(len(graph.edges)):
        if _is_known(graph, e):
            _enter(graph, e)


@njit(cache=True, nogil=True)
def _is_known(graph: Graph, e: int) -> bool:
    edge = graph.edges[e]
    return edge.u >= 0 and (graph.clusters[edge.u].hub != 0 or graph.clusters[edge.v].hub != 0)


@njit(cache=True, nogil=True)
def _first_place(a: int, b: int, mask: int) -> int:
    low, high = np.uint64(min(a, b)), np.uint64(max(a, b))
    mixed = (low * np.uint64(0x9E3779B97F4A7C15)) ^ (high * np.uint64(0xC2B2AE3D27D4EB4F))
    return np.int64(mixed >> np.uint64(24)) & mask
