"""Skeleton scores: cases counted by hand, a brute-force reference, and the traps."""

from collections import defaultdict
from math import inf

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.evaluate.skeletons import (
    CORRECT,
    MERGED,
    OMITTED,
    SPLIT,
    explain,
    overlap,
    skeleton_errors,
    skeleton_scores,
)


def line(skeleton, n, y=0.0, step=10.0):
    """A straight skeleton of n nodes along x."""
    return {
        "skeleton": np.full(n, skeleton, np.uint64),
        "node": np.arange(n),
        "parent": np.arange(n) - 1,
        "z_nm": np.zeros(n),
        "y_nm": np.full(n, y),
        "x_nm": step * np.arange(n),
    }


def joined(*tables):
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def scores(table, segments, **options):
    found = skeleton_scores(overlap(table, np.array(segments, np.uint64)), **options)
    return {score.metric: score.value for score in found}


def test_perfect():
    found = scores(joined(line(1, 5), line(2, 3)), [7] * 5 + [8] * 3)
    # Lengths 40 and 20: (1600 + 400) / 60.
    assert found["erl_perfect"] == found["erl_tolerance_0"] == pytest.approx(2000 / 60)
    assert found["nerl_tolerance_0"] == found["edge_accuracy_count_tolerance_0"] == 1.0
    assert (found["splits"], found["merges_tolerance_0"], found["omit_rate"]) == (0, 0, 0)
    assert found["split_rate"] == found["merge_rate_tolerance_0"] == inf


def test_one_split():
    # Of 4 edges the second is cut: runs of 10 and 20 nm.
    found = scores(line(1, 5), [7, 7, 8, 8, 8])
    assert found["erl_tolerance_0"] == (100 + 400) / 40
    assert (found["splits"], found["edges_split"], found["split_rate"]) == (1, 1, 40)
    assert found["edge_accuracy_count_tolerance_0"] == 0.75
    assert found["erl_lost_to_splits"] == 40 - 12.5
    assert found["erl_lost_to_merges_tolerance_0"] == 0


def test_one_omission_cuts_in_two_and_omits_two_edges():
    found = scores(line(1, 5), [7, 7, 0, 7, 7])
    # Both ends lie in segment 7, and ERL counts by segment: 20 nm in one.
    assert found["erl_tolerance_0"] == 400 / 40
    assert (found["edges_omitted"], found["edges_split"], found["omit_rate"]) == (2, 0, 0.5)
    # Two pieces remain of one.
    assert found["splits"] == 1
    # An omitted end cuts nothing in two.
    assert scores(line(1, 5), [0, 7, 7, 7, 7])["splits"] == 0
    # Nothing found at all: no piece, no split.
    nothing = scores(line(1, 5), [0] * 5)
    assert (nothing["splits"], nothing["omit_rate"], nothing["erl_tolerance_0"]) == (0, 1, 0)


def test_one_merge_and_its_tolerance():
    table = joined(line(1, 10), line(2, 10, y=50))
    # Segment 5 holds skeleton 1 and four nodes of skeleton 2.
    segments = [5] * 10 + [5] * 4 + [6] * 6
    found = scores(table, segments, tolerances=(0, 3, 4))
    assert [found[f"merges_tolerance_{t}"] for t in (0, 3, 4)] == [1, 1, 0]
    # Merged: 9 and 3 edges; split: 1; correct: 5.
    assert found["edges_merged_tolerance_0"] == 12
    assert found["edges_correct_tolerance_0"] == 5
    assert found["erl_tolerance_0"] == found["erl_tolerance_3"] == pytest.approx(50**2 / 180)
    assert found["erl_tolerance_4"] == pytest.approx((90**2 + 30**2 + 50**2) / 180)
    assert found["merge_rate_tolerance_0"] == 180
    # perfect = ERL + lost to splits + lost to merges
    for tolerance in (0, 4):
        parts = [found[f"{name}_tolerance_{tolerance}"] for name in ("erl", "erl_lost_to_merges")]
        assert sum(parts) + found["erl_lost_to_splits"] == pytest.approx(found["erl_perfect"])


def test_edge_accuracy_by_count_and_by_length_differ():
    table = line(1, 3)
    table["x_nm"] = np.array([0.0, 10.0, 100.0])
    found = scores(table, [5, 5, 6])
    assert found["edge_accuracy_count_tolerance_0"] == 0.5
    assert found["edge_accuracy_length_tolerance_0"] == 0.1


def test_naive_erl_cannot_see_merges_with_objects_without_skeletons():
    table = joined(line(1, 5), line(2, 5, y=50))
    naive = scores(table, [5] * 5 + [6] * 5)
    assert naive["nerl_tolerance_0"] == 1.0
    # Segment 5 is known to hold a glial cell, too; 9 touches no skeleton.
    known = scores(table, [5] * 5 + [6] * 5, known_merging=np.array([5, 9], np.uint64))
    assert known["nerl_tolerance_0"] == 0.5
    assert (known["edges_merged_tolerance_0"], known["merges_tolerance_0"]) == (4, 1)


def test_segment_0_merges_nothing_and_unmerged_runs_of_a_merged_skeleton_count():
    table = joined(line(1, 6), line(2, 3, y=50))
    # Segment 0 touches both; segment 5 merges; segment 6 of skeleton 1 does not.
    found = scores(table, [6, 6, 6, 5, 5, 0, 5, 5, 0])
    assert found["erl_tolerance_0"] == pytest.approx(20**2 / 70)
    assert (found["edges_omitted"], found["edges_merged_tolerance_0"], found["edges_correct_tolerance_0"]) == (2, 2, 2)


def test_a_skeleton_of_two_trees_is_not_split_by_that():
    table = line(1, 6)
    table["parent"][3] = -1
    assert scores(table, [5] * 6)["splits"] == 0
    assert scores(table, [5, 5, 5, 6, 6, 7])["splits"] == 1
    assert scores(table, [5, 5, 5, 0, 0, 0])["splits"] == 0


def brute_force(table, segments, tolerance):
    """The definitions, node by node and edge by edge."""
    key = list(zip(table["skeleton"].tolist(), table["node"].tolist(), strict=True))
    segment = dict(zip(key, segments.tolist(), strict=True))
    place = {k: np.array([table[f"{a}_nm"][i] for a in "zyx"]) for i, k in enumerate(key)}
    parents = zip(key, table["parent"].tolist(), strict=True)
    edges = [(k, (k[0], parent)) for k, parent in parents if parent >= 0]
    inside = defaultdict(lambda: defaultdict(int))
    for node, s in segment.items():
        inside[s][node[0]] += 1
    merging = {s for s, mates in inside.items() if s and sum(n > tolerance for n in mates.values()) > 1}
    classes, runs, total = defaultdict(int), defaultdict(float), defaultdict(float)
    neighbours = defaultdict(set)
    for u, v in edges:
        a, b, length = segment[u], segment[v], np.linalg.norm(place[u] - place[v])
        total[u[0]] += length
        if 0 in (a, b):
            classes[u[0], OMITTED] += 1
        elif a != b:
            classes[u[0], SPLIT] += 1
        else:
            neighbours[u].add(v)
            neighbours[v].add(u)
            classes[u[0], MERGED if a in merging else CORRECT] += 1
            if a not in merging:
                runs[u[0], a] += length
    erl = sum(length**2 for length in runs.values()) / sum(total.values())
    seen, pieces = set(), defaultdict(int)
    for start in key:
        if segment[start] and start not in seen:
            pieces[start[0]] += 1
            stack = [start]
            while stack:
                node = stack.pop()
                if node not in seen:
                    seen.add(node)
                    stack += neighbours[node]
    merges = sum(sum(n > tolerance for n in inside[s].values()) - 1 for s in merging)
    return classes, erl, sum(pieces.values()) - len(pieces), merges


@pytest.mark.parametrize("seed", range(20))
def test_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    tables = []
    for skeleton in rng.integers(5, 2**63, rng.integers(1, 6)):
        n = int(rng.integers(1, 40))
        node = rng.permutation(1000)[:n]
        parent = np.array([-1] + [node[rng.integers(0, i)] for i in range(1, n)])
        place = rng.normal(size=(3, n)) * 100
        columns = dict(zip(("z_nm", "y_nm", "x_nm"), place, strict=True))
        tables.append({"skeleton": np.full(n, skeleton, np.uint64), "node": node, "parent": parent, **columns})
    table = joined(*tables)
    order = rng.permutation(len(table["node"]))
    table = {name: values[order] for name, values in table.items()}
    base = table["skeleton"] % np.uint64(3) * np.uint64(4)
    segments = base + rng.integers(0, 3 + seed % 3, len(order)).astype(np.uint64)
    found = overlap(table, segments)
    for tolerance in (0, 1, 5):
        classes, erl, splits, merges = brute_force(table, segments, tolerance)
        errors = skeleton_errors(found, tolerance)
        for row, skeleton in enumerate(found.skeleton.tolist()):
            assert errors.count[row].tolist() == [classes[skeleton, kind] for kind in range(4)]
        total = found.length_nm.sum()
        if total:
            assert errors.run_nm2.sum() / total == pytest.approx(erl)
        assert errors.splits.sum() == splits
        assert errors.total_merges == merges


def test_bad_skeletons_are_named():
    twice = line(3, 4)
    twice["node"][1] = 0
    with pytest.raises(DataError, match="node 0 of skeleton 3 occurs twice"):
        overlap(twice, np.ones(4, np.uint64))
    missing = line(3, 4)
    missing["parent"][2] = 77
    with pytest.raises(DataError, match="parent 77"):
        overlap(missing, np.ones(4, np.uint64))
    ring = joined(line(2, 3), line(3, 4))
    ring["parent"][3] = 3
    with pytest.raises(DataError, match="skeleton 3 form a ring"):
        overlap(ring, np.ones(7, np.uint64))
    with pytest.raises(DataError, match="3 segments for 4 nodes"):
        overlap(line(1, 4), np.ones(3, np.uint64))


def test_no_skeleton_at_all():
    found = scores({name: values[:0] for name, values in line(1, 1).items()}, [])
    assert found["skeletons"] == 0
    assert np.isnan(found["erl_tolerance_0"])


def test_every_score_explains_itself():
    for metric in scores(line(1, 3), [1, 1, 1]):
        assert explain(metric), metric
    assert explain("unheard_of_tolerance_0") == ""
