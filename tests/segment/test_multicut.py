"""Multicut by hand, against all partitions of small graphs, and for any order of the edges."""

import itertools
import math
from importlib.util import find_spec

import numpy as np
import pytest

from bouton.errors import SpecError
from bouton.segment.multicut import cost_of, cut_costs, multicut

needs_package = pytest.mark.skipif(
    find_spec("bioimage_cpp") is None, reason="bioimage-cpp is not installed: pip install 'bouton[multicut]'"
)


def table(*rows):
    """Rows (a, b, mean affinity in 1/255, contact)."""
    a, b, mean, count = (np.array(column, kind) for column, kind in zip(zip(*rows, strict=True), "QQqq", strict=True))
    return {
        "a": a,
        "b": b,
        "affinity_sum": mean * count,
        "affinity_count": count,
    }


def partitions(n):
    """Every partition of n nodes, as arrays of segments."""

    def grow(labels, most):
        if len(labels) == n:
            yield np.array(labels)
            return
        for label in range(most + 1):
            yield from grow([*labels, label], max(most, label + 1))

    yield from grow([], 0)


def random_graph(rng, n):
    pairs = [pair for pair in itertools.combinations(range(n), 2) if rng.random() < 0.7] or [(0, 1)]
    return table(*[(a + 10, b + 10, int(rng.integers(0, 256)), int(rng.integers(1, 9))) for a, b in pairs])


def segments_of(graph, found):
    """Return the graph as pairs of nodes, and each node's root."""
    ids = np.unique(np.concatenate([graph["a"], graph["b"]]))
    root = ids.copy()
    root[np.searchsorted(ids, found[0])] = found[1]
    return np.stack([np.searchsorted(ids, graph["a"]), np.searchsorted(ids, graph["b"])]), root


def test_costs_by_hand():
    costs = cut_costs(table((1, 2, 255, 2), (2, 3, 0, 2), (3, 4, 127, 3), (4, 5, 200, 1)), 0.5)
    most = round(1000 * math.log(511))
    assert costs.tolist()[:2] == [2 * most, -2 * most]
    assert costs[2] == -3 * round(1000 * math.log(128.5 / 127.5))
    assert costs[3] == round(1000 * math.log(200.5 / 55.5))


def test_the_boundary_is_where_costs_change_sign():
    costs = cut_costs(table((1, 2, 76, 5), (2, 3, 77, 5)), 0.3)
    assert costs[0] < 0 < costs[1]


@needs_package
def test_a_large_contact_counts_for_more():
    """1-2 and 2-3 hold together a little; 1-3 pulls apart: more strongly over 40 voxels than over 4."""
    weak = table((1, 2, 200, 10), (1, 3, 30, 4), (2, 3, 190, 9))
    strong = table((1, 2, 200, 10), (1, 3, 30, 40), (2, 3, 190, 9))
    assert [v.tolist() for v in multicut(weak, 0.5, 10)] == [[2, 3], [1, 1]]
    assert [v.tolist() for v in multicut(strong, 0.5, 10)] == [[2], [1]]


@needs_package
def test_costs_are_near_the_least_of_all_partitions():
    """The solvers are heuristics: greedy is seldom far off, moves never make it worse, and both are mostly best."""
    rng = np.random.default_rng(5)
    every = list(partitions(6))
    best = 0
    for _ in range(60):
        graph = random_graph(rng, 6)
        costs = cut_costs(graph, 0.5)
        pairs, greedy = segments_of(graph, multicut(graph, 0.5, 0))
        _, moved = segments_of(graph, multicut(graph, 0.5, 20))
        least = min(cost_of(pairs, costs, partition) for partition in every)
        assert least <= cost_of(pairs, costs, moved) <= cost_of(pairs, costs, greedy) <= 0
        best += cost_of(pairs, costs, moved) == least
    assert best > 50


@needs_package
def test_moves_never_make_it_worse():
    """On large random graphs the moves of bioimage-cpp 0.9.0 end in a worse answer than the one they start from."""
    rng = np.random.default_rng(0)
    pairs = np.unique(np.sort(rng.integers(0, 5000, (30000, 2)), axis=1), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    rows = [(a + 1, b + 1, int(rng.integers(0, 256)), 1) for a, b in pairs.tolist()]
    graph = table(*rows)
    costs = cut_costs(graph, 0.5)
    nodes, greedy = segments_of(graph, multicut(graph, 0.5, 0))
    _, moved = segments_of(graph, multicut(graph, 0.5, 5))
    assert cost_of(nodes, costs, moved) <= cost_of(nodes, costs, greedy)


@needs_package
def test_the_order_of_the_edges_does_not_matter():
    rng = np.random.default_rng(6)
    for _ in range(20):
        graph = random_graph(rng, 9)
        order = rng.permutation(len(graph["a"]))
        shuffled = {name: values[order] for name, values in graph.items()}
        for one, two in zip(multicut(graph, 0.4, 5), multicut(shuffled, 0.4, 5), strict=True):
            np.testing.assert_array_equal(one, two)


@needs_package
def test_roots_are_the_smallest_fragments_and_ids_may_be_large():
    far = 2**63 + 7
    ids, roots = multicut(table((5, far, 250, 3), (2, 5, 3, 3)), 0.5, 3)
    assert (ids.tolist(), roots.tolist()) == ([far], [5])
    assert ids.dtype == roots.dtype == np.uint64


@needs_package
def test_no_edges():
    empty = {name: values[:0] for name, values in table((1, 2, 3, 4)).items()}
    assert [len(v) for v in multicut(empty, 0.5, 3)] == [0, 0]


@pytest.mark.parametrize("boundary", [0.0, 1.0, -1.0])
def test_a_boundary_outside_is_refused(boundary):
    with pytest.raises(SpecError, match="boundary"):
        cut_costs(table((1, 2, 3, 4)), boundary)
