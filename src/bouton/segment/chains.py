"""Nearest-neighbour chains: the kernel of :mod:`contraction`.

A chain of clusters, each followed by the other end of its best live edge, goes strictly upwards in the total order, so
it ends in a pair of reciprocal best neighbours. They merge, and what was before them in the chain remains a chain.

A cluster's best edge is kept and believed as long as it is there, its score is the one found then, and, where it was
the best by its name only, its other end has not changed its name: all other edges can only have become worse.
(Two edges of a cluster with equal scores are in the order of their other ends' names, the greater first, whatever the
cluster's own name is.) Edges that become parallel are joined at once, into the record of the better one.
"""

# in a kernel, numpy's integers are integers
# mypy: disable-error-code="assignment, return-value, arg-type"

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bouton.segment.adjacency import (
    BLOCK,
    DEAD,
    HUB,
    LONG,
    NONE,
    OWNER,
    REMOVED,
    SURE,
    UNKNOWN,
    Graph,
    append,
    find,
    make_hub,
    other,
    put,
    reserve,
    root_of,
    set_leaf,
    tree_of,
)
from bouton.segment.compiled import kernel
from bouton.segment.histograms import join_cells, quantile_of
from bouton.segment.rules import MEAN, QUANTILE, Limits, compare_scores, is_live, score_of


class Best(NamedTuple):
    """The best live edge found so far, or ``NONE``; its score, its other end's name; does another have that score?"""

    edge: int
    score: float
    name: int
    tied: bool


def run_chains(graph: Graph, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
    """Merge reciprocal best neighbours until none is left.

    Returns
    -------
    numpy.ndarray
        int64 (merges, 2): names a < b; b became a part of a.
    numpy.ndarray
        int64 (merges, 4): sum, count, maximum and level of the edge between them at that moment.
    """
    n = len(graph.clusters)
    merged, at_merge = np.empty((n, 2), np.int64), np.empty((n, 4), np.int64)
    merges = _run(graph, limits, np.empty(n + 1, np.int32), merged, at_merge)
    return merged[:merges], at_merge[:merges]


@kernel
def _run(graph: Graph, limits: Limits, chain: np.ndarray, merged: np.ndarray, at_merge: np.ndarray) -> int:
    clusters, edges, slots = graph.clusters, graph.edges, graph.slots
    merges = 0
    for first in range(len(clusters)):
        chain[0], depth = first, 1
        while depth:
            x = np.int64(chain[depth - 1])
            if slots[x].into != x or clusters[x].stuck:
                depth -= 1
                continue
            e = best_edge(graph, x, limits)
            if e < 0:
                depth -= 1
                continue
            y = other(edges, e, x)
            if clusters[y].stuck:
                clusters[x].stuck = 1
                continue
            if best_edge(graph, y, limits) != e:
                chain[depth] = y
                depth += 1
                continue
            a, b = slots[x].name, slots[y].name
            merged[merges, 0], merged[merges, 1] = min(a, b), max(a, b)
            at_merge[merges, 0], at_merge[merges, 1] = edges[e].sum, edges[e].count
            at_merge[merges, 2], at_merge[merges, 3] = edges[e].max, edges[e].level
            merges += 1
            keep = _merge(graph, e, limits)
            # the other one is the chain's last but one, or not in it
            depth -= 1
            if depth and chain[depth - 1] == y:
                depth -= 1
            if depth == 0:
                chain[0], depth = keep, 1
    return merges


@kernel
def best_edge(graph: Graph, slot: int, limits: Limits) -> int:
    """Return the best live edge of a cluster, or ``NONE``."""
    cluster = graph.clusters[slot]
    if cluster.best == NONE or (cluster.best >= 0 and _holds(graph, slot, limits)):
        return np.int64(cluster.best)
    if cluster.hub:
        best = _search_hub(graph, slot, limits)
    else:
        best = _search(graph, slot, cluster.start, cluster.start + cluster.length, _nothing(limits), limits)
    cluster.best = best.edge
    if best.edge >= 0:
        cluster.stamp = _stamp(graph.edges, best.edge, limits)
        cluster.tie = best.name if best.tied else -1
    return best.edge


@kernel
def _nothing(limits: Limits) -> Best:
    return Best(np.int64(NONE), limits.floor.value, np.int64(-1), False)


@kernel
def _stamp(edges: np.ndarray, e: int, limits: Limits) -> int:
    """Return a number that stays the same only if the edge's score does."""
    return edges[e].count if limits.score == MEAN else np.int64(edges[e].level)


@kernel
def _holds(graph: Graph, slot: int, limits: Limits) -> bool:
    """Return whether what the cluster believes to be its best edge still is."""
    edges, cluster = graph.edges, graph.clusters[slot]
    e = np.int64(cluster.best)
    if edges[e].u < 0 or _stamp(edges, e, limits) != cluster.stamp:
        return False
    if cluster.tie >= 0 and graph.slots[other(edges, e, slot)].name != cluster.tie:
        return False
    return limits.by_score_alone or is_live(edges, graph.clusters, e, score_of(edges, e, limits), limits)


@kernel
def _search(graph: Graph, slot: int, start: int, stop: int, so_far: Best, limits: Limits) -> Best:
    """Return the best live edge of a part of a list, or what was found so far.

    Keys and names in the list are never below the true ones: what is below the best by them needs no closer look.
    """
    edges, pool, slots = graph.edges, graph.pool, graph.slots
    best, top, name, tied = so_far
    for i in range(start, stop):
        entry = pool[i]
        if entry.key < top:
            continue
        if entry.key == top and slots[entry.to].name < name and _is_sure(graph, best, limits):
            tied = True
            continue
        e = np.int64(entry.edge)
        if edges[e].u < 0:
            entry.key = REMOVED
            continue
        y = other(edges, e, slot)
        score = score_of(edges, e, limits)
        entry.key, entry.to = score, y
        if score < top:
            continue
        if not is_live(edges, graph.clusters, e, score, limits):
            entry.key = DEAD
            continue
        order = 1
        if best >= 0 and score == top:
            order = compare_scores(edges, e, best, limits)
        if order > 0:
            best, top, name, tied = e, score, np.int64(slots[y].name), False
        elif order == 0:
            tied = True
            if slots[y].name > name:
                best, name = e, np.int64(slots[y].name)
    return Best(best, top, name, tied)


@kernel
def _is_sure(graph: Graph, e: int, limits: Limits) -> bool:
    """Return whether a rounded score equal to that of edge e is exactly equal."""
    return limits.score != MEAN or graph.edges[e].count <= graph.state[SURE]


@kernel
def _search_hub(graph: Graph, slot: int, limits: Limits) -> Best:
    """The same for a hub: the block that promises most, until none promises more than was found."""
    nodes, best = graph.nodes, _nothing(limits)
    tree, leaves = tree_of(graph, slot)
    root, sure = nodes[tree + 1], True
    while root.key >= best.score:
        if best.edge >= 0 and root.key == best.score:
            sure = _is_sure(graph, best.edge, limits)
            if not sure or root.name <= best.name:
                break
        i = 1
        while i < leaves:
            i *= 2
            i += nodes[tree + i].key != nodes[tree + i // 2].key or nodes[tree + i].name != nodes[tree + i // 2].name
        best = _search_block(graph, slot, i - leaves, best, limits)
    for k in range(0 if sure else leaves):
        # rounded scores that are equal, and may differ
        if nodes[tree + leaves + k].key == best.score:
            best = _search_block(graph, slot, k, best, limits)
    return Best(best.edge, best.score, best.name, True)


@kernel
def _search_block(graph: Graph, slot: int, k: int, so_far: Best, limits: Limits) -> Best:
    cluster = graph.clusters[slot]
    begin = cluster.start + k * BLOCK
    end = min(cluster.start + cluster.length, begin + BLOCK)
    best = _search(graph, slot, begin, end, so_far, limits)
    key, name = REMOVED, np.int64(-1)
    for i in range(begin, end):
        entry = graph.pool[i]
        if entry.key > key:
            key, name = entry.key, np.int64(graph.slots[entry.to].name)
        elif entry.key == key:
            name = max(name, np.int64(graph.slots[entry.to].name))
    set_leaf(graph, slot, k, key, name)
    return best


@kernel
def _merge(graph: Graph, e: int, limits: Limits) -> int:
    """Merge the ends of edge e, the one with the shorter list into the other one; return the one that stays."""
    edges, clusters, slots = graph.edges, graph.clusters, graph.slots
    keep, gone = np.int64(edges[e].u), np.int64(edges[e].v)
    if clusters[keep].length < clusters[gone].length:
        keep, gone = gone, keep
    edges[e].u = -1
    clusters[keep].size += clusters[gone].size
    clusters[keep].soma = max(clusters[keep].soma, clusters[gone].soma)
    clusters[keep].best = UNKNOWN
    slots[keep].name = min(slots[keep].name, slots[gone].name)
    reserve(graph, keep, gone)
    slots[gone].into = keep
    if clusters[keep].hub:
        _join_hub(graph, keep, gone, limits)
    else:
        _join_lists(graph, keep, gone, limits)
    _pass_mark(graph, keep, gone)
    if not clusters[keep].hub and clusters[keep].length > HUB:
        make_hub(graph, keep)
    return keep


@kernel
def _join_lists(graph: Graph, keep: int, gone: int, limits: Limits) -> None:
    edges, clusters, pool, marks = graph.edges, graph.clusters, graph.pool, graph.marks
    marked = graph.state[OWNER] == keep
    column = 0 if marked or clusters[keep].length >= LONG else 1
    if not marked:
        _mark_all(graph, keep, column)
    start, length = clusters[keep].start, np.int64(clusters[keep].length)
    for i in range(clusters[gone].start, clusters[gone].start + clusters[gone].length):
        e = np.int64(pool[i].edge)
        if pool[i].key == REMOVED or edges[e].u < 0:
            continue
        y = _rename(edges, e, gone, keep)
        at = np.int64(marks[y, column])
        if at < length and pool[start + at].to == y:
            if _join_edges(graph, np.int64(pool[start + at].edge), e, limits) != e:
                continue
        else:
            at = length
            marks[y, column] = at
            length += 1
        entry = pool[start + at]
        entry.key, entry.edge, entry.to = pool[i].key, e, y
        if clusters[y].hub:
            put(graph, e)
    clusters[keep].length = length


@kernel
def _mark_all(graph: Graph, slot: int, column: int) -> None:
    """Mark where each neighbour stands in a list, and leave out what is gone."""
    edges, pool, slots, marks = graph.edges, graph.pool, graph.slots, graph.marks
    start, length = graph.clusters[slot].start, 0
    for i in range(start, start + graph.clusters[slot].length):
        key, e, y = pool[i].key, np.int64(pool[i].edge), np.int64(pool[i].to)
        if key == REMOVED:
            continue
        if slots[y].into != y:
            y = root_of(slots, y)
        if y == slot:
            continue
        at = np.int64(marks[y, column])
        if at < length and pool[start + at].to == y:
            # an edge that its other end has joined to another one stands here twice
            if edges[e].u < 0:
                continue
        else:
            at = length
            marks[y, column] = at
            length += 1
        entry = pool[start + at]
        entry.key, entry.edge, entry.to = key, e, y
    graph.clusters[slot].length = length
    if column == 0:
        graph.state[OWNER] = slot


@kernel
def _pass_mark(graph: Graph, keep: int, gone: int) -> None:
    """Let the mark of a cluster that is gone, in the long list that is marked, become that of the one that keeps it."""
    owner, pool, marks = graph.state[OWNER], graph.pool, graph.marks
    if owner == gone:
        graph.state[OWNER] = -1
    if owner < 0 or owner in (gone, keep):
        return
    start, length = graph.clusters[owner].start, graph.clusters[owner].length
    old, new = np.int64(marks[gone, 0]), np.int64(marks[keep, 0])
    if old >= length or pool[start + old].to != gone:
        return
    if new < length and pool[start + new].to == keep and graph.edges[pool[start + new].edge].u >= 0:
        return
    marks[keep, 0], pool[start + old].to = old, keep


@kernel
def _join_hub(graph: Graph, keep: int, gone: int, limits: Limits) -> None:
    edges, clusters, pool = graph.edges, graph.clusters, graph.pool
    for i in range(clusters[gone].start, clusters[gone].start + clusters[gone].length):
        e, key = np.int64(pool[i].edge), pool[i].key
        if key == REMOVED or edges[e].u < 0:
            continue
        f = find(graph, keep, other(edges, e, gone))
        y = _rename(edges, e, gone, keep)
        if f < 0 or _join_edges(graph, f, e, limits) == e:
            append(graph, keep, key, e, y)
            put(graph, e)


@kernel
def _rename(edges: np.ndarray, e: int, gone: int, keep: int) -> int:
    """Move an end of edge e from one cluster to another; return the other end."""
    if edges[e].u == gone:
        edges[e].u = keep
        return np.int64(edges[e].v)
    edges[e].v = keep
    return np.int64(edges[e].u)


@kernel
def _join_edges(graph: Graph, e: int, f: int, limits: Limits) -> int:
    """Join parallel edges into the better one, which others may have noted: no note may be below the truth."""
    edges = graph.edges
    one, two = score_of(edges, e, limits), score_of(edges, f, limits)
    if one < two or (one == two and compare_scores(edges, e, f, limits) < 0):
        e, f = f, e
    edges[e].sum += edges[f].sum
    edges[e].count += edges[f].count
    edges[e].max = max(edges[e].max, edges[f].max)
    edges[f].u = -1
    if limits.score == QUANTILE:
        graph.heads[e] = join_cells(graph.cells, np.int64(graph.heads[e]), np.int64(graph.heads[f]))
        edges[e].level = quantile_of(graph.cells, np.int64(graph.heads[e]), edges[e].count, limits.share)
    return e
