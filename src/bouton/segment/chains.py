"""Nearest-neighbour chains: the kernel of :mod:`contraction`.

A chain of clusters, each followed by the other end of its best live edge, goes strictly upwards in the total order, so
it ends in a pair of reciprocal best neighbours. They merge, and what was before them in the chain remains a chain.

A cluster's best edge is kept and believed as long as it is there, its score is the one found then, and, where it was
the best by its name only, its other end has not changed its name: all other edges can only have become worse.
(Two edges of a cluster with equal scores are in the order of their other ends' names, the greater first, whatever the
cluster's own name is.) Edges that become parallel are joined at once, into the record of the better one.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bouton.segment.adjacency import (
    BLOCK,
    HUB,
    NONE,
    UNKNOWN,
    Graph,
    append,
    find,
    make_hub,
    other,
    put,
    reserve,
)
from bouton.segment.rules import MEAN, QUANTILE, Limits, compare_scores, is_live, score_of
from bouton.segment.histograms import join_cells, quantile_of


@njit(cache=True, nogil=True)
def run_chains(graph: Graph, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
    """Merge reciprocal best neighbours until none is left.

    Returns
    -------
    numpy.ndarray
        int64 (merges, 2): names a < b; b became a part of a.
    numpy.ndarray
        int64 (merges, 4): sum, count, maximum and level of the edge between them at that moment.
    """
    clusters, edges = graph.clusters, graph.edges
    merged, at_merge = np.empty((len(clusters), 2), np.int64), np.empty((len(clusters), 4), np.int64)
    chain, merges = np.empty(len(clusters) + 1, np.int32), 0
    for first in range(len(clusters)):
        chain[0], depth = first, 1
        while depth:
            x = np.int64(chain[depth - 1])
            if clusters[x].gone or clusters[x].stuck:
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
            a, b = clusters[x].name, clusters[y].name
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
    return merged[:merges], at_merge[:merges]


@njit(cache=True, nogil=True)
def best_edge(graph: Graph, slot: int, limits: Limits) -> int:
    """Return the best live edge of a cluster, or ``NONE``."""
    cluster = graph.clusters[slot]
    if cluster.best == NONE or (
        cluster.best >= 0 and _holds(graph, slot, cluster.best, cluster.stamp, cluster.tie, limits)
    ):
        return np.int64(cluster.best)
    if cluster.hub:
        best, tied = _best_of_hub(graph, slot, limits)
    else:
        best, tied = _best_within(graph, slot, cluster.start, cluster.start + cluster.length, limits)
    cluster.best = best
    if best >= 0:
        cluster.stamp = _stamp(graph.edges, best, limits)
        cluster.tie = graph.clusters[other(graph.edges, best, slot)].name if tied else -1
    return best


@njit(cache=True, nogil=True)
def _stamp(edges: np.ndarray, e: int, limits: Limits) -> int:
    """Return a number that stays the same only if the edge's score does."""
    return edges[e].count if limits.score == MEAN else np.int64(edges[e].level)


@njit(cache=True, nogil=True)
def _holds(graph: Graph, slot: int, e: int, stamp: int, tie: int, limits: Limits) -> bool:
    edges, clusters = graph.edges, graph.clusters
    if edges[e].u < 0 or _stamp(edges, e, limits) != stamp:
        return False
    if tie >= 0 and clusters[other(edges, e, slot)].name != tie:
        return False
    return limits.by_score_alone or is_live(edges, clusters, e, score_of(edges, e, limits), limits)


@njit(cache=True, nogil=True, error_model="numpy")
def _best_within(graph: Graph, slot: int, start: int, stop: int, limits: Limits) -> tuple[int, bool]:
    """Return the best live edge of a part of a list, or ``NONE``, and whether another one has the same score."""
    edges, clusters, pool = graph.edges, graph.clusters, graph.pool
    best, tied, top = np.int64(NONE), False, limits.floor.value
    for i in range(start, stop):
        e = np.int64(pool[i])
        if e < 0:
            continue
        if edges[e].u < 0:
            pool[i] = -1
            continue
        score = score_of(edges, e, limits)
        if score < top:
            continue
        order = 1
        if best >= 0 and score == top:
            order = compare_scores(edges, e, best, limits)
        if order < 0 or not is_live(edges, clusters, e, score, limits):
            continue
        if order > 0:
            best, tied, top = e, False, score
            continue
        tied = True
        if clusters[other(edges, e, slot)].name > clusters[other(edges, best, slot)].name:
            best = e
    return best, tied


@njit(cache=True, nogil=True)
def _best_of_hub(graph: Graph, slot: int, limits: Limits) -> tuple[int, bool]:
    """The same for the whole list of a hub. A block's score is never below its present one: look from the top down."""
    edges, clusters, nodes = graph.edges, graph.clusters, graph.nodes
    first = clusters[slot].start // BLOCK
    stop = first + (clusters[slot].length + BLOCK - 1) // BLOCK
    while True:
        top = -1.0
        for k in range(first, stop):
            top = max(top, nodes[k].score)
        if top < 0:
            return np.int64(NONE), False
        best, tied = np.int64(NONE), False
        for k in range(first, stop):
            if nodes[k].score != top:
                continue
            node = nodes[k]
            if top == np.inf or not _holds(graph, slot, node.best, node.stamp, node.tie, limits):
                _refresh(graph, slot, k - first, limits)
                if nodes[k].score != top:
                    continue
            e = np.int64(node.best)
            order = 1 if best < 0 else compare_scores(edges, e, best, limits)
            if order > 0:
                best, tied = e, node.tie >= 0
            elif order == 0:
                tied = True
                if clusters[other(edges, e, slot)].name > clusters[other(edges, best, slot)].name:
                    best = e
        if best >= 0:
            return best, tied


@njit(cache=True, nogil=True)
def _refresh(graph: Graph, slot: int, k: int, limits: Limits) -> None:
    cluster = graph.clusters[slot]
    node, start = graph.nodes[cluster.start // BLOCK + k], cluster.start + k * BLOCK
    stop = min(start + BLOCK, cluster.start + cluster.length)
    best, tied = _best_within(graph, slot, start, stop, limits)
    node.best, node.score = best, -1.0
    if best >= 0:
        node.score, node.stamp = score_of(graph.edges, best, limits), _stamp(graph.edges, best, limits)
        node.tie = graph.clusters[other(graph.edges, best, slot)].name if tied else -1


@njit(cache=True, nogil=True)
def _merge(graph: Graph, e: int, limits: Limits) -> int:
    """Merge the ends of edge e, the one with the shorter list into the other one; return the one that stays."""
    edges, clusters = graph.edges, graph.clusters
    keep, gone = np.int64(edges[e].u), np.int64(edges[e].v)
    if clusters[keep].length < clusters[gone].length:
        keep, gone = gone, keep
    edges[e].u = -1
    clusters[keep].size += clusters[gone].size
    clusters[keep].soma = max(clusters[keep].soma, clusters[gone].soma)
    clusters[keep].name = min(clusters[keep].name, clusters[gone].name)
    clusters[keep].best = UNKNOWN
    reserve(graph, keep, gone)
    if clusters[keep].hub:
        _join_hub(graph, keep, gone, limits)
    else:
        _join_lists(graph, keep, gone, limits)
    clusters[gone].gone = 1
    if not clusters[keep].hub and clusters[keep].length > HUB:
        make_hub(graph, keep)
    return keep


@njit(cache=True, nogil=True)
def _join_lists(graph: Graph, keep: int, gone: int, limits: Limits) -> None:
    edges, clusters, pool, mark = graph.edges, graph.clusters, graph.pool, graph.mark
    start = clusters[keep].start
    end = start
    for i in range(start, start + clusters[keep].length):
        e = pool[i]
        if e >= 0 and edges[e].u >= 0:
            pool[end] = e
            mark[other(edges, e, keep)] = end
            end += 1
    marked = end
    for i in range(clusters[gone].start, clusters[gone].start + clusters[gone].length):
        e = np.int64(pool[i])
        if e < 0 or edges[e].u < 0:
            continue
        y = _rename(edges, e, gone, keep)
        at = mark[y]
        if start <= at < marked and other(edges, np.int64(pool[at]), keep) == y:
            if _join_edges(graph, np.int64(pool[at]), e, limits) != e:
                continue
            pool[at] = e
        else:
            pool[end] = e
            end += 1
        if clusters[y].hub:
            put(graph, e)
    clusters[keep].length = end - start


@njit(cache=True, nogil=True)
def _join_hub(graph: Graph, keep: int, gone: int, limits: Limits) -> None:
    edges, clusters, pool = graph.edges, graph.clusters, graph.pool
    for i in range(clusters[gone].start, clusters[gone].start + clusters[gone].length):
        e = np.int64(pool[i])
        if e < 0 or edges[e].u < 0:
            continue
        y = other(edges, e, gone)
        f = find(graph, keep, y)
        _rename(edges, e, gone, keep)
        if f < 0 or _join_edges(graph, f, e, limits) == e:
            append(graph, keep, e)
            put(graph, e)


@njit(cache=True, nogil=True)
def _rename(edges: np.ndarray, e: int, gone: int, keep: int) -> int:
    """Move an end of edge e from one cluster to another; return the other end."""
    if edges[e].u == gone:
        edges[e].u = keep
        return np.int64(edges[e].v)
    edges[e].v = keep
    return np.int64(edges[e].u)


@njit(cache=True, nogil=True)
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
        graph.heads[e] = join_cells(graph.cells, graph.heads[e], graph.heads[f])
        edges[e].level = quantile_of(graph.cells, graph.heads[e], edges[e].count, limits.share)
    return e
