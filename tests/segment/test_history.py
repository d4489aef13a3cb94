"""The merge history: cuts, sizes and the dendrogram, against the quadratic greedy algorithm and plain sets."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from bouton.errors import DataError, SpecError
from bouton.segment.components import join
from bouton.segment.history import (
    DENDROGRAM_COLUMNS,
    MERGE_COLUMNS,
    cut,
    dendrogram,
    segment_sizes,
    threshold_curve,
    without_dust,
)
from segment import oracle

SMALL, FLOOR = 9, 0.1
ROW = ("a", "b", "affinity_sum", "affinity_count", "affinity_max", "small")


def random_history(rng, nodes, edges, levels):
    """Merge small segments, then by mean, down to FLOOR; return rows (a, b, sum, count, max, small), and sizes."""
    ids = np.sort(rng.choice(10**6, nodes, replace=False) + 1 + 2**60).tolist()
    sizes, graph = {i: int(rng.integers(1, 12)) for i in ids}, {}
    for _ in range(edges):
        a, b = sorted(rng.choice(nodes, 2, replace=False).tolist())
        values = rng.integers(0, levels, rng.integers(1, 4)) * (255 // levels)
        graph[ids[a], ids[b]] = [int(values.sum()), len(values), int(values.max())]
    first, graph, left = oracle.greedy(graph, sizes, oracle.strongest, lambda s, a, b: s >= 0.4 and min(a, b) < SMALL)
    then, _, _ = oracle.greedy(graph, left, oracle.mean, lambda s, a, b: s >= Fraction(str(FLOOR)))
    return [(*merge, 1) for merge in first] + [(*merge, 0) for merge in then], sizes


def tables(history, sizes, rng):
    """Return the history as a table with its rows shuffled, and the sizes as a table."""
    rows = [history[i] for i in rng.permutation(len(history))]
    columns = [*zip(*rows, strict=True)] or [()] * 6
    merges = {n: np.array(v, MERGE_COLUMNS[n]) for n, v in zip(ROW, columns, strict=True)}
    merges["affinity_quantile"] = np.full(len(rows), -1)
    score = np.where(merges["small"], merges["affinity_max"], merges["affinity_sum"] / merges["affinity_count"]) / 255
    ids = sorted(sizes)
    known = {"id": np.array(ids, np.uint64), "voxels": np.array([sizes[i] for i in ids], np.int64)}
    return merges | {"score": score, "floor": np.full(len(rows), FLOOR)}, known


def replay(history, sizes):
    """Return the sizes of both partners and of the whole at each merge, by moving sets about."""
    clusters, found = {i: {i} for i in sizes}, []
    for a, b, *_ in history:
        parts = [sum(sizes[i] for i in clusters[c]) for c in (a, b)]
        clusters[a] |= clusters.pop(b)
        found.append((*parts, sum(parts)))
    return found, clusters


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_dendrogram_is_the_greedy_algorithm_step_by_step(levels):
    rng = np.random.default_rng(levels)
    for _ in range(40):
        history, sizes = random_history(rng, int(rng.integers(2, 25)), int(rng.integers(0, 60)), levels)
        tree = dendrogram(*tables(history, sizes, rng))
        assert list(tree) == list(DENDROGRAM_COLUMNS)
        assert [tree[name].dtype for name in tree] == [np.dtype(dtype) for dtype in DENDROGRAM_COLUMNS.values()]
        assert list(zip(*(tree[name].tolist() for name in ROW), strict=True)) == history
        grown = list(zip(*(tree[name].tolist() for name in ("a_voxels", "b_voxels", "voxels")), strict=True))
        assert grown == replay(history, sizes)[0]


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_cut_sizes_and_curve(levels):
    rng = np.random.default_rng(10 + levels)
    thresholds = (0.1, 0.2, 0.4, 0.5, 0.75, 1.0)
    for _ in range(20):
        history, sizes = random_history(rng, int(rng.integers(2, 25)), int(rng.integers(0, 60)), levels)
        merges, known = tables(history, sizes, rng)
        curve = threshold_curve(dendrogram(merges, known), known, thresholds)
        for row, threshold in enumerate(thresholds):
            applied = [m for m in history if m[5] or Fraction(m[2], m[3] * 255) >= Fraction(str(threshold))]
            _, clusters = replay(applied, sizes)
            ids, roots = cut(merges, threshold)
            assert dict(zip(ids.tolist(), roots.tolist(), strict=True)) == {
                member: root for root, members in clusters.items() for member in members if member != root
            }
            assert (np.diff(ids.astype(object)) > 0).all()
            segments, voxels = segment_sizes(known, ids, roots)
            expected = {root: sum(sizes[i] for i in members) for root, members in clusters.items()}
            assert dict(zip(segments.tolist(), voxels.tolist(), strict=True)) == expected
            assert curve["segments"][row] == len(clusters)
            assert curve["largest_voxels"][row] == max(expected.values())


def test_cut_equals_union_find_on_a_large_forest():
    rng = np.random.default_rng(5)
    n = 30_000
    b = rng.permutation(n - 1) + 1
    a = (rng.random(n - 1) * b).astype(np.int64)
    ids = np.sort(rng.choice(2**50, n, replace=False)).astype(np.uint64) + np.uint64(1)
    values = rng.integers(26, 256, n - 1)
    merges = {"a": ids[a], "b": ids[b], "affinity_sum": values, "affinity_count": np.ones(n - 1, np.int64)}
    merges |= {"small": (rng.random(n - 1) < 0.2).astype(np.uint8), "floor": np.full(n - 1, 0.1)}
    merges |= {"affinity_quantile": np.full(n - 1, -1), "affinity_max": values}
    applied = (values >= 0.5 * 255) | (merges["small"] == 1)
    found, expected = cut(merges, 0.5), join(merges["a"][applied], merges["b"][applied])
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_dust_is_background():
    known = {"id": np.array([3, 5, 8, 9], np.uint64), "voxels": np.array([4, 1, 2, 9])}
    ids, roots = np.array([5, 9], np.uint64), np.array([3, 8], np.uint64)
    # segments: 3 with 4 + 1 voxels, 8 with 2 + 9
    for dust, expected in ((5, {5: 3, 9: 8}), (6, {3: 0, 5: 0, 9: 8}), (12, {3: 0, 5: 0, 8: 0, 9: 0})):
        kept = without_dust(known, ids, roots, dust)
        assert dict(zip(*(values.tolist() for values in kept), strict=True)) == expected


def test_scores_that_are_equal_as_floats_stand_in_their_true_order():
    n = 2**50
    assert (n + 1) / n == (n + 2) / (n + 1)
    # (n + 1) / n is greater; the ids alone would put (5, 6) first
    history = [(1, 2, n + 1, n, 200, 0), (5, 6, n + 2, n + 1, 200, 0), (3, 4, n + 2, n + 1, 200, 0)]
    for seed in range(6):
        tree = dendrogram(*tables(history, dict.fromkeys(range(1, 7), 1), np.random.default_rng(seed)))
        assert tree["b"].tolist() == [2, 6, 4]


def test_nothing_to_cut():
    merges, known = tables([], {7: 3}, np.random.default_rng(0))
    ids, roots = cut(merges, 0.5)
    assert (len(ids), len(roots), ids.dtype) == (0, 0, np.uint64)
    assert [values.tolist() for values in segment_sizes(known, ids, roots)] == [[7], [3]]
    tree = dendrogram(merges, known)
    assert threshold_curve(tree, known, [0.5])["largest_voxels"].tolist() == [3]


@pytest.mark.parametrize("threshold", [0.05, -0.1, 1.5, float("nan")])
def test_thresholds_that_cannot_be_cut(threshold):
    merges, _ = tables([(1, 2, 100, 1, 100, 0)], {1: 1, 2: 1}, np.random.default_rng(0))
    with pytest.raises(SpecError, match=str(threshold)):
        cut(merges, threshold)


def test_a_history_with_the_sizes_of_another():
    merges, known = tables([(1, 2, 100, 1, 100, 0)], {1: 1, 3: 1}, np.random.default_rng(0))
    for function in (lambda: dendrogram(merges, known), lambda: segment_sizes(known, *cut(merges, 0.1))):
        with pytest.raises(DataError, match="fragment 2 has no size"):
            function()
