"""The graph while it is contracted: edges, clusters, and the lists of the clusters' edges.

An edge is one record, shared by its two clusters; it is gone where u < 0. A cluster is a *slot*, a row of ``clusters``
and ``slots``; ``name`` is its smallest member, ``into`` the slot it became a part of (itself while there).

A cluster's list repeats of each edge what the search for the best one needs, so that it rarely reads the edges: a key,
which is never below the edge's score (``REMOVED``: nothing here; ``DEAD``: never to be merged), and the other end,
maybe under an earlier name. The lists lie in one pool, each behind a header (slot, capacity). A list that outgrows its
capacity moves to the pool's end; when the pool is full, the lists move together.

When two lists become one, the edges to the same neighbour must be found. ``marks`` says where in a list a neighbour's
edge stands: in the second column for the list in hand, in the first one for a long list, whose marks are kept, because
the same cluster often goes on merging (``OWNER``). A *hub*'s list is too long even for that. It is summarised in
blocks, the leaves of a tree (``nodes``) whose root is the best of all, and a hash table finds its edges.
"""

# in a kernel, numpy's integers are integers
# mypy: disable-error-code="assignment, return-value, arg-type"

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bouton.segment.compiled import kernel
from bouton.segment.rules import Limits, score_of

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
        ("stuck", "i4"),
        ("hub", "i4"),
    ],
    align=True,
)
SLOT = np.dtype([("into", "i4"), ("name", "i4")], align=True)
ENTRY = np.dtype([("key", "f8"), ("edge", "i4"), ("to", "i4")], align=True)
NODE = np.dtype([("key", "f8"), ("name", "i4")], align=True)
BLOCK, HUB, LONG, HEADER = 64, 1024, 32, 1
REMOVED, DEAD = -1.0, -2.0
# state: the pool's end and where to collect; the table's entries in use and its size - 1; the count up to which an edge
# has exactly the score of another one if the rounded scores are equal; the long list that is marked
END, SOFT, USED, MASK, SURE, OWNER = 0, 1, 2, 3, 4, 5
UNKNOWN, NONE = -1, -2


class Graph(NamedTuple):
    """All there is, in arrays that never grow."""

    edges: np.ndarray
    clusters: np.ndarray
    slots: np.ndarray
    marks: np.ndarray
    pool: np.ndarray
    nodes: np.ndarray
    table: np.ndarray
    state: np.ndarray
    cells: np.ndarray
    heads: np.ndarray


def new_graph(
    edges: np.ndarray, clusters: np.ndarray, histograms: tuple[np.ndarray, np.ndarray], limits: Limits
) -> Graph:
    """Return the graph of ``EDGE`` and ``CLUSTER`` records with everybody's list; histograms are cells and heads."""
    # at most, after a collection: 2 entries an edge, the headers, a quarter of padding, one list to move
    room = 4 * len(edges) + HEADER * len(clusters) + 8 * BLOCK
    soft = (5 * len(edges)) // 2 + HEADER * len(clusters) + 8 * BLOCK
    entries = 1 << max(4, int(3 * len(edges)).bit_length())
    # means below 256 that differ, differ by at least 1 / (count * count), and when rounded by 2^-45
    sure = 2**44 // max(1, int(edges["count"].sum()))
    slots = np.zeros(len(clusters), SLOT)
    slots["into"] = slots["name"] = np.arange(len(clusters))
    graph = Graph(
        edges=edges,
        clusters=clusters,
        slots=slots,
        marks=np.zeros((len(clusters), 2), np.int32),
        pool=np.empty(room, ENTRY),
        nodes=np.empty(2 * (room // BLOCK) + 4, NODE),
        table=np.zeros(entries, np.int32),  # edge + 1, 0 where free; untouched pages cost nothing
        state=np.array([0, soft, 0, min(entries, max(16, entries // 16)) - 1, sure, -1], np.int64),
        cells=histograms[0],
        heads=histograms[1],
    )
    _list_all(graph, limits)
    _make_hubs(graph)
    return graph


@kernel
def _list_all(graph: Graph, limits: Limits) -> None:
    edges, clusters, pool = graph.edges, graph.clusters, graph.pool
    for e in range(len(edges)):
        clusters[edges[e].u].capacity += 1
        clusters[edges[e].v].capacity += 1
    end = 0
    for slot in range(len(clusters)):
        pool[end].edge, pool[end].to = slot, clusters[slot].capacity
        clusters[slot].start = end + HEADER
        end += HEADER + clusters[slot].capacity
    graph.state[END] = end
    for e in range(len(edges)):
        key = score_of(edges, e, limits)
        _write(graph, edges[e].u, key, e, edges[e].v)
        _write(graph, edges[e].v, key, e, edges[e].u)


@kernel
def _make_hubs(graph: Graph) -> None:
    for slot in range(len(graph.clusters)):
        if graph.clusters[slot].length > HUB:
            make_hub(graph, slot)


@kernel
def other(edges: np.ndarray, e: int, slot: int) -> int:
    """Return the cluster at the other end of edge e of ``slot``."""
    return np.int64(edges[e].u) + edges[e].v - slot


@kernel
def root_of(slots: np.ndarray, slot: int) -> int:
    """Return the cluster that a slot is a part of now."""
    while slots[slot].into != slot:
        above = np.int64(slots[slot].into)
        slots[slot].into = slots[above].into
        slot = above
    return slot


@kernel
def reserve(graph: Graph, slot: int, joining: int) -> None:
    """Make room in the list of ``slot`` for that of ``joining``; long lists grow by half."""
    if _needed(graph, slot, joining) > graph.clusters[slot].capacity:
        _grow(graph, slot, joining, graph.clusters[slot].hub)


@kernel
def _grow(graph: Graph, slot: int, joining: int, hub: int) -> None:
    """Move a list to the pool's end, with room for that of ``joining`` (-1: nothing), as that of a hub or not."""
    needed = _needed(graph, slot, joining)
    if graph.state[END] + HEADER + _wanted(hub, needed) > graph.state[SOFT]:
        _collect(graph)
        needed = _needed(graph, slot, joining)
    capacity = _wanted(hub, needed)
    if graph.state[END] + HEADER + capacity > len(graph.pool):
        capacity = (needed // BLOCK + 1) * BLOCK
    start = graph.state[END] + HEADER
    graph.pool[start - 1].edge, graph.pool[start - 1].to = slot, capacity
    graph.state[END] = start + capacity
    _move(graph, slot, start)
    graph.clusters[slot].capacity, graph.clusters[slot].hub = capacity, hub
    if hub:
        _plant(graph, slot)


@kernel
def _needed(graph: Graph, slot: int, joining: int) -> int:
    more = graph.clusters[joining].length if joining >= 0 else 0
    return np.int64(graph.clusters[slot].length) + more


@kernel
def _wanted(hub: int, needed: int) -> int:
    if hub:
        return ((needed + needed // 2) // BLOCK + 1) * BLOCK
    return needed + needed // 2 if needed >= LONG else np.int64(needed)


@kernel
def _move(graph: Graph, slot: int, start: int) -> None:
    """Copy the list of ``slot``, without what is removed, to a place below the old one or apart from it."""
    cluster, pool, length = graph.clusters[slot], graph.pool, 0
    for i in range(cluster.start, cluster.start + cluster.length):
        entry = pool[i]
        if entry.key == REMOVED or (cluster.hub and graph.edges[entry.edge].u < 0):
            continue
        target = pool[start + length]
        target.key, target.edge, target.to = entry.key, entry.edge, entry.to
        length += 1
    cluster.start, cluster.length = start, length
    if graph.state[OWNER] == slot:
        graph.state[OWNER] = -1


@kernel
def _collect(graph: Graph) -> None:
    """Move all lists to the pool's beginning."""
    pool, clusters = graph.pool, graph.clusters
    read, end, stop = 0, 0, graph.state[END]
    while read < stop:
        slot, capacity = np.int64(pool[read].edge), np.int64(pool[read].to)
        cluster = clusters[slot]
        if graph.slots[slot].into == slot and cluster.start == read + HEADER:
            _move(graph, slot, end + HEADER)
            cluster.capacity = cluster.length
            if cluster.hub:
                cluster.capacity = min(capacity, (cluster.length // BLOCK + 1) * BLOCK)
                _plant(graph, slot)
            pool[end].edge, pool[end].to = slot, cluster.capacity
            end += HEADER + cluster.capacity
        read += HEADER + capacity
    graph.state[END] = end
    graph.state[SOFT] = min(len(pool), max(graph.state[SOFT], end + end // 2))


@kernel
def make_hub(graph: Graph, slot: int) -> None:
    """Give a cluster of many edges a tree and a place in the table."""
    _grow(graph, slot, -1, 1)
    cluster = graph.clusters[slot]
    for i in range(cluster.start, cluster.start + cluster.length):
        if graph.edges[graph.pool[i].edge].u >= 0:
            put(graph, np.int64(graph.pool[i].edge))


@kernel
def tree_of(graph: Graph, slot: int) -> tuple[int, int]:
    """Return where the tree of a hub begins, and its number of leaves: node i has the children 2 i and 2 i + 1."""
    return 2 * (graph.clusters[slot].start // BLOCK), np.int64(graph.clusters[slot].capacity) // BLOCK


@kernel
def _plant(graph: Graph, slot: int) -> None:
    tree, leaves = tree_of(graph, slot)
    for k in range(leaves):
        node = graph.nodes[tree + leaves + k]
        node.key, node.name = np.inf if k * BLOCK < graph.clusters[slot].length else REMOVED, -1
    for i in range(leaves - 1, 0, -1):
        _raise(graph, tree, i)


@kernel
def _raise(graph: Graph, tree: int, i: int) -> bool:
    """Give a node the better of its children; return whether that changed it."""
    node, child, second = graph.nodes[tree + i], graph.nodes[tree + 2 * i], graph.nodes[tree + 2 * i + 1]
    if second.key > child.key or (second.key == child.key and second.name > child.name):
        child = second
    changed = node.key != child.key or node.name != child.name
    node.key, node.name = child.key, child.name
    return changed


@kernel
def set_leaf(graph: Graph, slot: int, k: int, key: float, name: int) -> None:
    """State the best key and name of a block of a hub's list."""
    tree, leaves = tree_of(graph, slot)
    i = leaves + k
    graph.nodes[tree + i].key, graph.nodes[tree + i].name = key, name
    i //= 2
    while i > 0 and _raise(graph, tree, i):
        i //= 2


@kernel
def append(graph: Graph, slot: int, key: float, e: int, to: int) -> None:
    """Add edge e to the list of a hub, which has room for it."""
    k, name = _write(graph, slot, key, e, to) // BLOCK, graph.slots[to].name
    tree, leaves = tree_of(graph, slot)
    leaf = graph.nodes[tree + leaves + k]
    if key > leaf.key or (key == leaf.key and name > leaf.name):
        set_leaf(graph, slot, k, key, name)


@kernel
def _write(graph: Graph, slot: int, key: float, e: int, to: int) -> int:
    cluster = graph.clusters[slot]
    at = np.int64(cluster.length)
    entry = graph.pool[cluster.start + at]
    entry.key, entry.edge, entry.to = key, e, to
    cluster.length += 1
    return at


@kernel
def find(graph: Graph, a: int, b: int) -> int:
    """Return the edge between two clusters, one of them a hub, or -1."""
    at = _first_place(a, b, graph.state[MASK])
    while graph.table[at] != 0:
        e = np.int64(graph.table[at]) - 1
        u, v = np.int64(graph.edges[e].u), np.int64(graph.edges[e].v)
        # an edge may have moved to other ends since it was put here: if they match, it is the right one all the same
        if (u == a and v == b) or (u == b and v == a):
            return e
        at = (at + 1) & graph.state[MASK]
    return -1


@kernel
def put(graph: Graph, e: int) -> None:
    """Let :func:`find` know edge e of a hub by its present ends."""
    if 2 * graph.state[USED] > graph.state[MASK]:
        _rebuild(graph)
    _enter(graph, e)


@kernel
def _enter(graph: Graph, e: int) -> None:
    at = _first_place(graph.edges[e].u, graph.edges[e].v, graph.state[MASK])
    # what is gone makes place: else edges between the same two hubs would pile up
    while graph.table[at] != 0 and graph.edges[graph.table[at] - 1].u >= 0:
        at = (at + 1) & graph.state[MASK]
    graph.state[USED] += graph.table[at] == 0
    graph.table[at] = e + 1


@kernel
def _rebuild(graph: Graph) -> None:
    known = 0
    for e in range(len(graph.edges)):
        known += _is_known(graph, e)
    size = graph.state[MASK] + 1
    for i in range(size):
        graph.table[i] = 0
    while size < 16 * known and size < len(graph.table):
        size *= 2
    graph.state[MASK], graph.state[USED] = size - 1, 0
    for e in range(len(graph.edges)):
        if _is_known(graph, e):
            _enter(graph, e)


@kernel
def _is_known(graph: Graph, e: int) -> bool:
    edge = graph.edges[e]
    return edge.u >= 0 and (graph.clusters[edge.u].hub != 0 or graph.clusters[edge.v].hub != 0)


@kernel
def _first_place(a: int, b: int, mask: int) -> int:
    low, high = np.uint64(min(a, b)), np.uint64(max(a, b))
    mixed = (low * np.uint64(0x9E3779B97F4A7C15)) ^ (high * np.uint64(0xC2B2AE3D27D4EB4F))
    return np.int64(mixed >> np.uint64(24)) & mask
