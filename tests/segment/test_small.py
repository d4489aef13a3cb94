"""Joins of small segments: against Kruskal's sweep in plain Python, and what a box may settle by itself."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.segment.components import join
from bouton.segment.ratios import level
from bouton.segment.region_graph import EDGE_COLUMNS, SIZE_COLUMNS
from bouton.segment.small import SmallRule, join_small, small_edges, small_sizes
from segment import oracle


def tables(graph, sizes, somata=()):
    pairs = sorted(graph)
    columns = [*zip(*pairs, strict=True)] or [(), ()]
    rows = [[graph[pair][i] for pair in pairs] for i in range(3)]
    values = zip(EDGE_COLUMNS.items(), [*columns, *rows], strict=True)
    edges = {name: np.array(column, dtype) for (name, dtype), column in values}
    ids = sorted(sizes)
    box = {name: np.zeros(len(ids), np.int64) for name in SIZE_COLUMNS}
    box |= {"id": np.array(ids, np.uint64), "voxels": np.array([sizes[i] for i in ids], np.int64)}
    box["soma"] = np.array([int(i in somata) for i in ids], np.int64)
    return small_edges(edges), small_sizes(box)


def clusters(moves):
    return dict(zip(*(column.tolist() for column in join(moves["a"], moves["b"])), strict=True))


@pytest.mark.parametrize("levels", [2, 6, 256])
@pytest.mark.parametrize(("floor", "limit"), [(0.0, 9), (0.5, 15), (0.3, 1), (0.2, 10**6)])
def test_equals_kruskal(levels, floor, limit):
    rng = np.random.default_rng(levels)
    for _ in range(60):
        nodes, edges = int(rng.integers(2, 25)), int(rng.integers(0, 60))
        ids = np.sort(rng.choice(10**6, nodes, replace=False) + 1 + 2**60).tolist()
        ends = [sorted(rng.choice(nodes, 2, replace=False).tolist()) for _ in range(edges)]
        graph = {(ids[a], ids[b]): [0, 1, int(rng.integers(0, levels)) * (255 // levels)] for a, b in ends}
        sizes = {i: int(rng.integers(1, 12)) for i in ids}
        done = join_small(*tables(graph, sizes), np.zeros(nodes, bool), SmallRule(limit, level(floor)))
        expected = oracle.small_joins(graph, sizes, floor, limit)
        assert clusters(done.moves) == {i: root for i, root in expected.items() if i != root}
        assert not len(done.edges["a"])
        assert not len(done.sizes["id"])


def test_a_small_segment_joins_a_large_frozen_one_at_once():
    graph, sizes = {(1, 5): [0, 1, 90], (2, 5): [0, 1, 80]}, {1: 3, 2: 4, 5: 100}
    done = join_small(*tables(graph, sizes), np.array([False, False, True]), SmallRule(10, level(0.1)))
    assert clusters(done.moves) == {2: 1, 5: 1}
    # other boxes know the cluster by its frozen fragment; its smallest one goes along
    assert (done.sizes["id"].tolist(), done.sizes["name"].tolist(), done.sizes["voxels"].tolist()) == ([5], [1], [107])


def test_what_hangs_on_a_small_frozen_segment_waits():
    graph, sizes = {(1, 5): [0, 1, 90], (1, 2): [0, 1, 80], (2, 3): [0, 1, 95]}, {1: 3, 2: 4, 3: 50, 5: 6}
    done = join_small(*tables(graph, sizes), np.array([False, False, False, True]), SmallRule(10, level(0.1)))
    # 2 joins 3, its strongest; 1 waits for 5, and so does what 1 would do next
    assert clusters(done.moves) == {3: 2}
    assert list(zip(done.edges["a"].tolist(), done.edges["b"].tolist(), strict=True)) == [(1, 2), (1, 5)]


def test_a_segment_with_a_soma_is_never_small():
    graph, sizes = {(1, 2): [0, 1, 90], (2, 3): [0, 1, 80]}, {1: 3, 2: 4, 3: 5}
    done = join_small(*tables(graph, sizes, somata={1, 3}), np.zeros(3, bool), SmallRule(10, level(0.1)))
    assert clusters(done.moves) == {2: 1}
