"""Brute force in plain Python: what the kernels must equal. Voxel by voxel, no blocks, fractions instead of floats."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np


def edges_of(affinities):
    """Yield (affinity, edge index, upper voxel, lower voxel) of every edge inside; voxels as flat indices."""
    shape = affinities.shape[1:]
    steps = (shape[1] * shape[2], shape[2], 1)
    for voxel in itertools.product(*(range(n) for n in shape)):
        flat = int(np.ravel_multi_index(voxel, shape))
        for c in range(3):
            if voxel[c] > 0:
                yield int(affinities[(c, *voxel)]), flat * 3 + c, flat, flat - steps[c]


def fragments(affinities, low, high, flat=1.0):
    shape = affinities.shape[1:]
    count = int(np.prod(shape))
    best = [None] * count
    for edge in edges_of(affinities):
        for voxel in edge[2:]:
            if Fraction(edge[0], 255) > Fraction(str(low)) and (best[voxel] is None or edge[:2] > best[voxel][:2]):
                best[voxel] = edge
    joined = [edge for edge in best if edge]
    for edge in edges_of(affinities):
        ends = [best[voxel] for voxel in edge[2:]]
        equal = all(end is not None and end[0] == edge[0] for end in ends)
        if Fraction(edge[0], 255) >= Fraction(str(high)) or (equal and Fraction(edge[0], 255) >= Fraction(str(flat))):
            joined.append(edge)
    root = roots(count, [edge[2:] for edge in joined])
    return np.array([root[i] + 1 if best[i] else 0 for i in range(count)], np.uint64).reshape(shape)


def roots(count, pairs):
    """Smallest member of each node's component."""
    group = {i: [i] for i in range(count)}
    root = list(range(count))
    for a, b in pairs:
        a, b = sorted((root[a], root[b]))
        if a != b:
            for member in group.pop(b):
                root[member] = a
                group[a].append(member)
    return root


def region_graph(affinities, labels):
    """Return {(a, b): [sum, count, max]} over edges between different fragments."""
    flat, graph = labels.ravel(), {}
    for affinity, _, upper, lower in edges_of(affinities):
        a, b = sorted((int(flat[upper]), int(flat[lower])))
        if a and a != b:
            row = graph.setdefault((a, b), [0, 0, 0])
            row[0] += affinity
            row[1] += 1
            row[2] = max(row[2], affinity)
    return graph


def greedy(graph, sizes, value, live):
    """Merge the greatest live pair until none is left: the definition, quadratic.

    ``value(row)`` is a pair's score; ties go to the pair with the greater (smaller id, greater id).
    ``live(score, size, size)`` says whether a pair may merge.
    Returns the merges [(a, b, sum, count, max)] in order; b vanishes into a.
    """
    graph, sizes, merges = {pair: list(row) for pair, row in graph.items()}, dict(sizes), []
    while True:
        alive = [(value(row), pair) for pair, row in graph.items()]
        alive = [(s, pair) for s, pair in alive if live(s, sizes[pair[0]], sizes[pair[1]])]
        if not alive:
            return merges, graph, sizes
        _, (a, b) = max(alive)
        merges.append((a, b, *graph.pop((a, b))))
        sizes[a] += sizes.pop(b)
        for pair in [pair for pair in graph if b in pair]:
            row = graph.pop(pair)
            other = pair[0] if pair[1] == b else pair[1]
            old = graph.setdefault((min(a, other), max(a, other)), [0, 0, 0])
            old[0] += row[0]
            old[1] += row[1]
            old[2] = max(old[2], row[2])


def small_joins(graph, sizes, floor, limit):
    """Return {fragment: its cluster's smallest}: edges in falling order (max, a, b), if one of the two is small."""
    cluster = {i: {i} for i in sizes}
    for (a, b), row in sorted(graph.items(), key=lambda edge: (edge[1][2], edge[0]), reverse=True):
        one, two = cluster[a], cluster[b]
        if one is two or Fraction(row[2], 255) < Fraction(str(floor)):
            continue
        if min(sum(sizes[i] for i in members) for members in (one, two)) < limit:
            for member in two:
                cluster[member] = one
            one |= two
    return {i: min(members) for i, members in cluster.items()}


def contracted(graph, root):
    """Replace each end by its root; drop what becomes a loop, add up what becomes parallel."""
    found = {}
    for (a, b), row in graph.items():
        pair = tuple(sorted((root[a], root[b])))
        if pair[0] != pair[1]:
            old = found.setdefault(pair, [0, 0, 0])
            found[pair] = [old[0] + row[0], old[1] + row[1], max(old[2], row[2])]
    return found


def added(sizes, root):
    """Add up sizes by root."""
    total = {}
    for i, size in sizes.items():
        total[root[i]] = total.get(root[i], 0) + size
    return total


def mean(row):
    return Fraction(row[0], row[1] * 255)


def strongest(row):
    return Fraction(row[2], 255)
