"""Scores and accept rules against the definition on random graphs, whole and in stages with frozen clusters."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np
import pytest

from bouton.errors import DataError, SpecError
from bouton.geometry import Box
from bouton.segment.contraction import (
    HISTORY_COLUMNS,
    MAXIMUM,
    MEAN,
    QUANTILE,
    Accept,
    LargeRule,
    Rule,
    TwigRule,
    contract,
)
from bouton.segment.histograms import HISTOGRAM_COLUMNS, add_histograms, contract_histograms, histogram_rows
from bouton.segment.ratios import level
from bouton.segment.region_graph import EDGE_COLUMNS, SIZE_COLUMNS, contract_edges, region_graph

ACCEPT = [
    Accept(),
    Accept(somata_apart=True),
    Accept(large=LargeRule(0.7, 3, 12)),
    Accept(twig=TwigRule(0.6, 8, 2)),
    Accept(True, LargeRule(0.5, 4, 15), TwigRule(0.8, 20, 3)),
]
SCORES = [(MEAN, 0.5), (MAXIMUM, 0.5), (QUANTILE, 0.5), (QUANTILE, 0.25), (QUANTILE, 1.0), (QUANTILE, 0.3)]


def score_of(values, rule):
    """A contact is the list of its affinities: nothing else is known about it."""
    if rule.score == MEAN:
        return Fraction(sum(values), len(values))
    if rule.score == MAXIMUM:
        return Fraction(max(values))
    return Fraction(sorted(values)[ceil(Fraction(str(rule.quantile)) * len(values)) - 1])


def is_live(values, one, two, rule):
    score, smaller, together = score_of(values, rule), min(one[0], two[0]), one[0] + two[0]
    large, twig = rule.accept.large, rule.accept.twig
    if score < rule.floor or smaller >= rule.size_limit_voxels:
        return False
    if rule.accept.somata_apart and one[1] and two[1] and one[1] != two[1]:
        return False
    if large and score < level(large.affinity) and smaller > large.smaller_voxels and together > large.together_voxels:
        return False
    return not (
        twig and score < level(twig.affinity) and not (smaller < twig.smaller_voxels and len(values) <= twig.faces)
    )


def greedy(graph, clusters, rule):
    """Merge the greatest live pair until none is left; return {b: (a, sum, count, max)}."""
    graph, clusters, merges = {pair: list(values) for pair, values in graph.items()}, dict(clusters), {}
    while True:
        live = [
            (score_of(values, rule), pair)
            for pair, values in graph.items()
            if is_live(values, clusters[pair[0]], clusters[pair[1]], rule)
        ]
        if not live:
            return merges
        a, b = max(live)[1]
        values, one, two = graph.pop((a, b)), clusters[a], clusters.pop(b)
        merges[b] = (a, sum(values), len(values), max(values))
        clusters[a] = (one[0] + two[0], max(one[1], two[1]))
        for pair in [pair for pair in graph if b in pair]:
            c = pair[0] if pair[1] == b else pair[1]
            graph.setdefault((min(a, c), max(a, c)), []).extend(graph.pop(pair))


def random_graph(rng, nodes, edges, levels, faces):
    ids = np.sort(rng.choice(10**6, nodes, replace=False) + 2**60).tolist()
    graph = {}
    for _ in range(edges):
        a, b = sorted(rng.choice(nodes, 2, replace=False).tolist())
        graph[ids[a], ids[b]] = (rng.integers(0, levels, rng.integers(1, faces + 1)) * (255 // (levels - 1))).tolist()
    somata = rng.integers(0, 4, nodes) * (rng.random(nodes) < 0.4)
    return graph, {i: (int(rng.integers(1, 12)), int(soma)) for i, soma in zip(ids, somata, strict=True)}


def tables(graph, clusters):
    rows = [(*pair, sum(values), len(values), max(values)) for pair, values in sorted(graph.items())]
    edges = {name: np.array([row[i] for row in rows], dtype) for i, (name, dtype) in enumerate(EDGE_COLUMNS.items())}
    bins = [(*pair, affinity, 1) for pair, values in sorted(graph.items()) for affinity in values]
    histograms = {
        name: np.array([row[i] for row in bins], dtype) for i, (name, dtype) in enumerate(HISTOGRAM_COLUMNS.items())
    }
    ids = sorted(clusters)
    sizes = {name: np.zeros(len(ids), dtype) for name, dtype in SIZE_COLUMNS.items()}
    sizes["id"] = np.array(ids, np.uint64)
    sizes["voxels"], sizes["soma"] = (np.array([clusters[i][k] for i in ids], np.int64) for k in range(2))
    return edges, sizes, add_histograms([histograms])


def merges_of(history):
    return {
        row[1]: (row[0], *row[2:]) for row in zip(*(history[name].tolist() for name in HISTORY_COLUMNS), strict=True)
    }


@pytest.mark.parametrize("accept", ACCEPT)
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("shares", [(0.0,), (0.6, 0.4, 0.0)])
def test_equals_greedy(accept, score, shares):
    rng = np.random.default_rng(len(shares))
    for trial in range(25):
        limit = 14 if trial % 3 == 0 else np.iinfo(np.int64).max
        rule = Rule(score[0], level((0.0, 0.3)[trial % 2]), limit, accept, score[1])
        graph, clusters = random_graph(
            rng, int(rng.integers(2, 22)), int(rng.integers(1, 55)), (2, 5, 256)[trial % 3], 4
        )
        edges, sizes, histograms = tables(graph, clusters)
        given, found = histograms if score[0] == QUANTILE else None, {}
        for share in shares:
            done = contract(edges, sizes, rng.random(len(sizes["id"])) < share, rule, given)
            found |= merges_of(done.history)
            edges, sizes, given = done.edges, done.sizes, done.histograms
        assert found == greedy(graph, clusters, rule)


def test_each_rule_changes_something():
    rng, found = np.random.default_rng(0), []
    graph, clusters = random_graph(rng, 60, 200, 256, 4)
    for accept in ACCEPT:
        done = contract(*tables(graph, clusters)[:2], np.zeros(60, bool), Rule(MEAN, level(0.1), accept=accept))
        found.append(merges_of(done.history))
    assert all(found[i] != found[k] for i in range(len(found)) for k in range(i))


def test_two_somata_never_meet():
    # a chain a - b - c of strong contacts, somata in a and c: the middle goes with the stronger one, the rest stays
    graph, clusters = {(1, 2): [250], (2, 3): [240]}, {1: (5, 7), 2: (5, 0), 3: (5, 9)}
    rule = Rule(MEAN, level(0.1), accept=Accept(somata_apart=True))
    assert merges_of(contract(*tables(graph, clusters)[:2], np.zeros(3, bool), rule).history) == {2: (1, 250, 1, 250)}


def test_quantiles_by_rank_are_reducible_and_interpolated_ones_are_not():
    rng = np.random.default_rng(5)
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9, 1.0):
        rule = Rule(QUANTILE, level(0.0), quantile=quantile)
        for _ in range(300):
            one, two = (rng.integers(0, 6, rng.integers(1, 7)).tolist() for _ in range(2))
            assert score_of(one + two, rule) <= max(score_of(one, rule), score_of(two, rule))
    # a merges with b at 9; {0, 10} to c is 7.5 from either, less than c's pair with d at 8, and then rises to 10: where
    # c goes would depend on whether a and b have merged already, in a block
    assert np.quantile([0, 10], 0.75) < 8 < np.quantile([0, 10, 0, 10], 0.75)


def greedy_of_large(graph, ids):
    """Mean affinity, without a floor, in time for large graphs: every pair's scores once more after every merge."""
    import heapq

    near, heap, merges = {i: {} for i in ids}, [], {}
    for (a, b), (total, count) in graph.items():
        near[a][b] = near[b][a] = (total, count)
        heap.append((-total / count, -a, -b))
    heapq.heapify(heap)
    while heap:
        score, a, b = heapq.heappop(heap)
        a, b = -a, -b
        if a not in near or b not in near[a] or near[a][b][0] / near[a][b][1] != -score:
            continue
        merges[b] = (a, *near[a].pop(b))
        for c, (total, count) in near.pop(b).items():
            if c == a:
                continue
            del near[c][b]
            more = near[a].get(c, (0, 0))
            near[a][c] = near[c][a] = (total + more[0], count + more[1])
            heapq.heappush(heap, (-near[a][c][0] / near[a][c][1], -min(a, c), -max(a, c)))
    return merges


def hubs(rng, nodes, hubs, edges, reach):
    """Clusters with thousands of neighbours, near ones among the others, many equal scores."""
    graph = {}
    for _ in range(edges):
        a = int(rng.integers(0, nodes))
        b = int(rng.integers(0, nodes)) // reach * reach if rng.random() < 0.5 else a + int(rng.integers(1, 30))
        b = b if b < nodes and rng.random() < 0.7 else int(rng.integers(0, hubs)) * (nodes // hubs) + 7
        if a != b:
            values = rng.integers(0, 12, rng.integers(1, 4)) * 20
            graph[min(a, b) + 1, max(a, b) + 1] = [int(values.sum()), len(values)]
    return graph


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shares", [(0.0,), (0.01, 0.003, 0.0)])
def test_large_graphs_with_hubs(seed, shares):
    rng = np.random.default_rng(seed)
    nodes = 6000
    graph = hubs(rng, nodes, (1, 3, 40, 400)[seed], 30000, (1, 50, 700, 6)[seed])
    names = list(EDGE_COLUMNS)
    rows = np.array([(*pair, *values, values[0] // values[1]) for pair, values in sorted(graph.items())], np.int64)
    edges = {name: rows[:, i].astype(EDGE_COLUMNS[name]) for i, name in enumerate(names)}
    sizes = {name: np.ones(nodes, dtype) for name, dtype in SIZE_COLUMNS.items()}
    sizes["id"] = np.arange(1, nodes + 1, dtype=np.uint64)
    found = {}
    for share in shares:
        done = contract(edges, sizes, rng.random(len(sizes["id"])) < share, Rule(MEAN, level(0.0)))
        found |= {b: values[:3] for b, values in merges_of(done.history).items()}
        edges, sizes = done.edges, done.sizes
    assert found == greedy_of_large(graph, range(1, nodes + 1))


def test_histograms_count_what_the_region_graph_adds_up():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 6, (7, 8, 9)).astype(np.uint64) * np.uint64(2**60)
    affinities = rng.integers(0, 9, (3, 5, 6, 9)).astype(np.uint8)
    for core in (Box((0, 0, 0), (5, 6, 9)), Box((1, 1, 0), (6, 7, 9))):
        graph, bins = region_graph(labels, affinities, core), histogram_rows(labels, affinities, core)
        assert {name: values.dtype for name, values in bins.items()} == HISTOGRAM_COLUMNS
        for i, pair in enumerate(zip(graph["a"], graph["b"], strict=True)):
            here = (bins["a"] == pair[0]) & (bins["b"] == pair[1])
            affinity, counts = bins["affinity"][here].astype(np.int64), bins["affinity_count"][here]
            assert (np.diff(affinity) > 0).all()
            expected = [graph[name][i] for name in ("affinity_sum", "affinity_count", "affinity_max")]
            assert [(affinity * counts).sum(), counts.sum(), affinity.max()] == expected
        ids, roots = np.unique(labels)[2:4], np.unique(labels)[[1, 1]]
        moved, moved_bins = contract_edges(graph, ids, roots), contract_histograms(bins, ids, roots)
        assert moved_bins["affinity_count"].sum() == moved["affinity_count"].sum()


def test_pieces_of_a_histogram_add_up():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 4, (6, 5, 5)).astype(np.uint64)
    affinities = rng.integers(0, 9, (3, 6, 5, 5)).astype(np.uint8)
    whole = histogram_rows(labels, affinities, Box((0, 0, 0), (6, 5, 5)))
    lower = histogram_rows(labels[:3], affinities[:, :3], Box((0, 0, 0), (3, 5, 5)))
    upper = histogram_rows(labels[2:], affinities[:, 3:], Box((1, 0, 0), (4, 5, 5)))
    for name, values in add_histograms([upper, lower]).items():
        assert np.array_equal(values, whole[name])


def test_what_makes_no_sense_is_refused():
    edges, sizes, histograms = tables({(1, 2): [5, 9], (2, 3): [4]}, dict.fromkeys((1, 2, 3), (1, 0)))
    free = np.zeros(3, bool)
    with pytest.raises(SpecError, match="without histograms"):
        contract(edges, sizes, free, Rule(QUANTILE, level(0.0)))
    with pytest.raises(SpecError, match="quantile 0"):
        contract(edges, sizes, free, Rule(QUANTILE, level(0.0), quantile=0.0), histograms)
    with pytest.raises(SpecError, match="score 7"):
        contract(edges, sizes, free, Rule(7, level(0.0)))
    with pytest.raises(SpecError, match=r"affinity 1\.5"):
        contract(edges, sizes, free, Rule(MEAN, level(0.0), accept=Accept(large=LargeRule(1.5))))
    bare = {name: sizes[name] for name in SIZE_COLUMNS}
    with pytest.raises(DataError, match="somata"):
        contract(edges, bare, free, Rule(MEAN, level(0.0), accept=Accept(somata_apart=True)))
    for rows in (slice(1, None), slice(0, 2)):
        part = {name: values[rows] for name, values in histograms.items()}
        with pytest.raises(DataError, match="do not agree"):
            contract(edges, sizes, free, Rule(QUANTILE, level(0.0)), part)
    large = edges | {"affinity_max": edges["affinity_max"] + 250}
    with pytest.raises(DataError, match="maximum affinity 259"):
        contract(large, sizes, free, Rule(MEAN, level(0.0)))
    other = histograms | {"b": histograms["b"] + np.uint64(1)}
    with pytest.raises(DataError, match="do not agree"):
        contract(edges, sizes, free, Rule(QUANTILE, level(0.0)), other)
