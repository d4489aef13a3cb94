"""Contraction: against the quadratic greedy algorithm on random graphs, whole and in pieces with frozen clusters."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from bouton.errors import DataError, SpecError
from bouton.segment.contraction import HISTORY_COLUMNS, MAXIMUM, MEAN, Rule, contract
from bouton.segment.history import cut, join_histories, merge_rows
from bouton.segment.ratios import compare_ratios, level, reaches
from bouton.segment.region_graph import EDGE_COLUMNS, SIZE_COLUMNS
from harness import assert_same
from segment import oracle


def random_graph(rng, nodes, edges, levels, counts):
    """A graph as {(a, b): [sum, count, max]} with many equal scores, and sizes; ids are scattered."""
    ids = np.sort(rng.choice(10**6, nodes, replace=False) + 1 + 2**60).tolist()
    graph = {}
    for _ in range(edges):
        a, b = sorted(rng.choice(nodes, 2, replace=False).tolist())
        values = rng.integers(0, levels, rng.integers(1, counts + 1)) * (255 // (levels - 1))
        graph[ids[a], ids[b]] = [int(values.sum()), len(values), int(values.max())]
    return graph, {i: int(rng.integers(1, 12)) for i in ids}


def tables(graph, sizes):
    pairs = sorted(graph)
    columns = [*zip(*pairs, strict=True)] or [(), ()]
    rows = [[graph[pair][i] for pair in pairs] for i in range(3)]
    edges = {
        name: np.array(values, dtype)
        for (name, dtype), values in zip(EDGE_COLUMNS.items(), [*columns, *rows], strict=True)
    }
    ids = sorted(sizes)
    box = {name: np.zeros(len(ids), np.int64) for name in SIZE_COLUMNS}
    return edges, box | {"id": np.array(ids, np.uint64), "voxels": np.array([sizes[i] for i in ids], np.int64)}


def history_of(merges):
    columns = [*zip(*merges, strict=True)] or [()] * 5
    rows = {
        name: np.array(values, dtype) for (name, dtype), values in zip(HISTORY_COLUMNS.items(), columns, strict=True)
    }
    return join_histories([rows], HISTORY_COLUMNS)


def greedy(graph, sizes, rule):
    value = oracle.mean if rule.score == MEAN else oracle.strongest

    def live(score, a, b):
        return score * 255 >= rule.floor and min(a, b) < rule.size_limit_voxels

    return oracle.greedy(graph, sizes, value, live)


RULES = [
    Rule(MEAN, level(0.0)),
    Rule(MEAN, level(0.4)),
    Rule(MAXIMUM, level(0.0), 9),
    Rule(MAXIMUM, level(0.5), 15),
    Rule(MAXIMUM, level(0.3), 1),
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("levels", [2, 5, 256])
def test_equals_greedy(rule, levels):
    rng = np.random.default_rng(levels)
    for _ in range(40):
        graph, sizes = random_graph(rng, int(rng.integers(2, 25)), int(rng.integers(0, 60)), levels, 3)
        edges, size_rows = tables(graph, sizes)
        done = contract(edges, size_rows, np.zeros(len(sizes), bool), rule)
        merges, _, _ = greedy(graph, sizes, rule)
        expected = history_of(merges)
        assert_same({"": join_histories([done.history], HISTORY_COLUMNS)}, {"": expected}, [""])
        assert not len(done.edges["a"])
        assert not len(done.sizes["id"])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("levels", [2, 5, 256])
def test_random_frozen_sets_in_stages(rule, levels):
    rng = np.random.default_rng(100 + levels)
    for _ in range(40):
        graph, sizes = random_graph(rng, int(rng.integers(2, 25)), int(rng.integers(0, 60)), levels, 3)
        edges, size_rows = tables(graph, sizes)
        histories = []
        for share in (0.6, 0.5, 0.0):
            done = contract(edges, size_rows, rng.random(len(size_rows["id"])) < share, rule)
            histories.append(done.history)
            edges, size_rows = done.edges, done.sizes
        expected = history_of(greedy(graph, sizes, rule)[0])
        assert_same({"": join_histories(histories, HISTORY_COLUMNS)}, {"": expected}, [""])


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_a_cut_is_the_greedy_result_at_its_threshold(levels):
    rng = np.random.default_rng(200 + levels)
    for _ in range(20):
        graph, sizes = random_graph(rng, 20, 50, levels, 3)
        done = contract(*tables(graph, sizes), np.zeros(len(sizes), bool), Rule(MEAN, level(0.1)))
        merges = merge_rows(done.history, False, 0.1)
        for threshold in (0.1, 0.2, 0.4, 0.5, 0.75, 1.0):
            ids, roots = cut(merges, threshold)
            rule = Rule(MEAN, level(threshold))
            pairs = [merge[:2] for merge in greedy(graph, sizes, rule)[0]]
            names = sorted(sizes)
            root = oracle.roots(len(names), [(names.index(a), names.index(b)) for a, b in pairs])
            expected = {names[i]: names[r] for i, r in enumerate(root) if r != i}
            assert dict(zip(ids.tolist(), roots.tolist(), strict=True)) == expected


def test_a_large_star_and_a_long_chain():
    n = 3000
    star = {(1, i): [i % 256, 1, i % 256] for i in range(2, n)}
    chain = {(n + i, n + i + 1): [(i * 37) % 256, 1, (i * 37) % 256] for i in range(n)}
    sizes = dict.fromkeys(range(1, 2 * n + 1), 1)
    done = contract(*tables(star | chain, sizes), np.zeros(len(sizes), bool), Rule(MEAN, level(0.0)))
    assert len(done.history["a"]) == 2 * n - 2


def test_ratios_are_compared_exactly():
    rng = np.random.default_rng(0)
    big = 2**62
    cases = [(big - 1, big, big - 2, big - 1), (3, 7, 6, 14), (0, 5, 0, 9), (0, 1, 1, big), (5, 1, 4, 1)]
    cases += [tuple(row) for row in rng.integers(1, 50, (500, 4)).tolist()]
    for a, b, c, d in cases:
        one, two = Fraction(a, b), Fraction(c, d)
        assert compare_ratios(a, b, c, d) == (one > two) - (one < two)


def test_scores_that_are_equal_as_floats():
    n = 2**50
    graph = {(1, 2): [n + 1, n, 200], (2, 3): [n + 2, n + 1, 200]}
    assert (n + 1) / n == (n + 2) / (n + 1)
    done = contract(*tables(graph, dict.fromkeys((1, 2, 3), 1)), np.zeros(3, bool), RULES[0])
    # the ids would put (2, 3) first
    assert done.history["b"].tolist() == [2, 3]


def test_scores_of_a_hub_that_are_equal_as_floats():
    n, leaves = 2**50, 1500
    graph = {(1, 2 + i): [n + i + 1, n + i, 200] for i in range(leaves)}
    done = contract(*tables(graph, dict.fromkeys(range(1, leaves + 2), 1)), np.zeros(leaves + 1, bool), RULES[0])
    # 1 + 1 / (n + i) falls with i, where the ids would put the last one first
    assert done.history["b"].tolist() == list(range(2, leaves + 2))


def test_a_star_of_equal_scores_is_no_trap():
    leaves = 40000
    graph = {(1, 2 + i): [i % 2, 1, i % 2] for i in range(leaves)}
    done = contract(*tables(graph, dict.fromkeys(range(1, leaves + 2), 1)), np.zeros(leaves + 1, bool), RULES[0])
    assert done.history["b"].tolist() == [*range(leaves + 1, 1, -2), *range(leaves, 1, -2)]


def test_the_threshold_is_the_decimal_number_written():
    # 0.7 * 255 = 178.5: sums 357 / 2 reach it, and nothing below does
    limit = level(0.7)
    sums, counts = np.array([357, 356, 357 * 10**9 - 1]), np.array([2, 2, 2 * 10**9])
    assert reaches(sums, counts, limit.numerator, limit.denominator).tolist() == [True, False, False]


@pytest.mark.parametrize("known", [[], [1], [1, 3]])
def test_an_end_without_a_size(known):
    edges, sizes = tables({(1, 2): [5, 1, 5]}, dict.fromkeys(known, 1))
    with pytest.raises(DataError, match="has no size"):
        contract(edges, sizes, np.zeros(len(known), bool), RULES[0])


def test_threshold_outside_0_1():
    with pytest.raises(SpecError, match="affinity"):
        level(1.5)
