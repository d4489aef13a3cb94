"""Every threshold of a sweep scores like the relabelled volume; bootstrap and recommendation against plain loops."""

import numpy as np
import pytest

from bouton.cli.sweep_inputs import merge_steps
from bouton.errors import DataError, SpecError
from bouton.evaluate.contingency import Contingency, count_pairs
from bouton.evaluate.partition import adapted_rand, variation_of_information
from bouton.evaluate.skeletons import overlap, skeleton_scores
from bouton.evaluate.sweep import CHOICES, bootstrap, recommend, sweep, weighted_scores
from bouton.evaluate.threshold_walk import MergeSteps
from bouton.segment.components import relabel
from bouton.segment.contraction import HISTORY_COLUMNS
from bouton.segment.history import MERGE_COLUMNS, cut, join_histories, merge_rows

THRESHOLDS = np.round(np.arange(0.9, 0.05, -0.05), 2)


def history(fragments, rng):
    """A random merge history in which scores fall: clusters are named after their smallest fragments."""
    ids = np.unique(fragments)
    ids = ids[ids != 0]
    clusters, rows = ids.tolist(), []
    for mean in np.sort(rng.integers(30, 250, len(ids) - 3))[::-1]:
        a, b = sorted(rng.choice(np.array(clusters, np.uint64), 2, replace=False).tolist())
        clusters.remove(b)
        count = int(rng.integers(1, 5))
        rows.append((a, b, mean * count, count, 255))
    columns = {n: np.array(c, d) for (n, d), c in zip(HISTORY_COLUMNS.items(), zip(*rows, strict=True), strict=True)}
    small, rest = ({n: c[part] for n, c in columns.items()} for part in (slice(2), slice(2, None)))
    merges = join_histories([merge_rows(small, True, 0.1), merge_rows(rest, False, 0.1)], MERGE_COLUMNS)
    order = rng.permutation(len(rows))
    return {name: values[order] for name, values in merges.items()}


def case(seed):
    rng = np.random.default_rng(seed)
    fragments = np.kron(rng.integers(0, 60, (4, 5, 6)), np.ones((2, 3, 3), np.int64)).astype(np.uint64)
    fragments[fragments != 0] += np.uint64(2**62)
    truth = np.where(rng.random(fragments.shape) < 0.8, fragments % np.uint64(7), rng.integers(0, 9, fragments.shape))
    return rng, fragments, truth.astype(np.uint64), history(fragments, rng)


def some_skeletons(rng, n=60):
    skeleton = np.sort(rng.integers(1, 5, n)).astype(np.uint64)
    place = skeleton.astype(int) * 400 + np.arange(n)
    first = np.flatnonzero(np.diff(skeleton.astype(int), prepend=0))
    parent = np.arange(n) - 1
    parent[first] = -1
    nm = {f"{axis}_nm": rng.random(n) * 1000 for axis in "zyx"}
    return {"skeleton": skeleton, "node": np.arange(n), "parent": parent, **nm}, place


@pytest.mark.parametrize("seed", range(6))
def test_every_threshold_scores_like_the_relabelled_volume(seed):
    rng, fragments, truth, merges = case(seed)
    table, place = some_skeletons(rng)
    at_nodes = fragments.ravel()[place]
    found = sweep(count_pairs(truth, fragments), merge_steps(merges, THRESHOLDS), THRESHOLDS, overlap(table, at_nodes))
    assert len(set(found.scores["segments"].tolist())) > 5
    for row, threshold in enumerate(THRESHOLDS):
        moves = cut(merges, float(threshold))
        segments = relabel(fragments, *moves)
        counted = count_pairs(truth, segments)
        voi, rand = variation_of_information(counted), adapted_rand(counted)
        got = {name: float(values[row]) for name, values in found.scores.items()}
        assert got["segments"] == np.count_nonzero(np.unique(counted.segment))
        assert got["voi_split"] == pytest.approx(voi.split, abs=1e-12)
        assert got["voi_merge"] == pytest.approx(voi.merge, abs=1e-12)
        assert got["voi_sum"] == pytest.approx(voi.total, abs=1e-12)
        assert got["adapted_rand_error"] == pytest.approx(rand.error, abs=1e-12)
        assert got["cremi_score"] == pytest.approx(np.sqrt(voi.total * rand.error), abs=1e-12)
        expected = skeleton_scores(overlap(table, relabel(at_nodes, *moves)))
        for score in expected:
            if score.metric in got:
                assert got[score.metric] == pytest.approx(score.value, rel=1e-12), score.metric


def test_weights_multiply_what_each_neuron_adds():
    rng, fragments, truth, merges = case(10)
    table = count_pairs(truth, fragments)
    found = sweep(table, merge_steps(merges, THRESHOLDS), THRESHOLDS)
    objects = np.unique(table.truth)
    weights = rng.integers(0, 4, (len(objects), 9)).astype(float)
    weights[0] += 1
    got = weighted_scores(found.neurons, weights)
    for row in range(0, len(THRESHOLDS), 4):
        whole = count_pairs(truth, relabel(fragments, *cut(merges, float(THRESHOLDS[row]))))
        segment_ids, of_segment = whole.segment_sums()
        n, sizes = whole.count.astype(float), of_segment[np.searchsorted(segment_ids, whole.segment)]
        of_truth = whole.truth_sums().astype(float)
        index = np.searchsorted(objects, whole.truth)
        for column in range(9):
            w = weights[index, column]
            total = (w * n).sum()
            assert got["voi_split"][row, column] == pytest.approx((w * n * np.log2(of_truth[index] / n)).sum() / total)
            assert got["voi_merge"][row, column] == pytest.approx((w * n * np.log2(sizes / n)).sum() / total)
            lone = whole.segment == 0
            both = (w * np.where(lone, n, n * n)).sum()
            pairs = (w * np.where(lone, n, n * sizes)).sum() + (weights[:, column] * of_truth**2).sum()
            assert got["adapted_rand_error"][row, column] == pytest.approx(1 - 2 * both / pairs)


def two_neurons():
    """Two neurons of 10 voxels in 2 fragments each; right merges at 0.8, the wrong one at 0.4."""
    table = Contingency(np.array([1, 1, 2, 2], np.uint64), np.array([1, 2, 3, 4], np.uint64), np.full(4, 5))
    thresholds = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    merges = MergeSteps(np.array([1, 3, 1], np.uint64), np.array([2, 4, 3], np.uint64), np.array([1, 1, 5]))
    return sweep(table, merges, thresholds)


def test_the_best_threshold_of_a_case_counted_by_hand():
    found = two_neurons()
    assert found.scores["segments"].tolist() == [4, 2, 2, 2, 2, 1, 1]
    assert found.scores["voi_split"].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert found.scores["voi_merge"].tolist() == [0, 0, 0, 0, 0, 1, 1]
    drawn = bootstrap(found, 50)
    for metric in found.choices:
        best = recommend(found, drawn, metric)
        # 0.8 to 0.5 are equally good: the one with the fewest merges
        assert (best.threshold, best.value, best.at_end) == (0.8, 0.0, False)
        # a replicate of one neuron alone does not mind the wrong merge, and still takes the greatest
        assert (best.low, best.high) == (0.8, 0.8)


def test_bootstrap_draws_with_replacement_and_is_seeded():
    rng, fragments, truth, merges = case(20)
    table, place = some_skeletons(rng)
    skeletons = overlap(table, fragments.ravel()[place])
    found = sweep(count_pairs(truth, fragments), merge_steps(merges, THRESHOLDS), THRESHOLDS, skeletons)
    one, two, other = bootstrap(found, 300, seed=1), bootstrap(found, 300, seed=1), bootstrap(found, 300, seed=2)
    for metric in CHOICES:
        assert one.scores[metric].shape == (len(THRESHOLDS), 300)
        assert np.array_equal(one.scores[metric], two.scores[metric])
        assert not np.array_equal(one.scores[metric], other.scores[metric])
        low, high = one.band(metric)
        assert ((low <= found.scores[metric]) & (found.scores[metric] <= high)).all()
        best = recommend(found, one, metric)
        assert best.low <= best.high
        assert best.threshold in THRESHOLDS
    assert (one.neurons, one.skeletons) == (len(np.unique(truth)) - 1, 4)


def test_replicates_scatter_around_the_score_itself():
    """Not below it, as they would if a merge vanished whenever one of its two neurons is not drawn."""
    n = 200
    # pairs of equal neurons, each pair in one segment: a merge entropy of 1 bit, whichever neurons are drawn
    truth = np.arange(1, n + 1, dtype=np.uint64)
    table = Contingency(truth, (truth + np.uint64(1)) // np.uint64(2), np.full(n, 50))
    none = np.zeros(0, np.uint64)
    found = sweep(table, MergeSteps(none, none, np.zeros(0, np.int64)), np.array([0.5]))
    drawn = bootstrap(found, 100).scores
    assert found.scores["voi_merge"][0] == pytest.approx(1.0)
    assert drawn["voi_merge"] == pytest.approx(np.ones((1, 100)))
    # half of them alone: 0.5 bits +- the binomial scatter of 200 draws
    alone = Contingency(truth, np.where(truth > 100, truth, table.segment), table.count)
    drawn = bootstrap(sweep(alone, MergeSteps(none, none, np.zeros(0, np.int64)), np.array([0.5])), 2000).scores
    assert drawn["voi_merge"].mean() == pytest.approx(0.5, abs=0.005)
    assert drawn["voi_merge"].std() == pytest.approx(np.sqrt(0.25 / 200), rel=0.1)


def test_background_is_never_merged_and_stays_background():
    fragments = np.array([0, 0, 5, 5, 6, 6], np.uint64).reshape(1, 1, -1)
    truth = np.array([1, 1, 1, 1, 2, 2], np.uint64).reshape(1, 1, -1)
    none = np.zeros(0, np.uint64)
    found = sweep(count_pairs(truth, fragments), MergeSteps(none, none, np.zeros(0, np.int64)), np.array([0.5, 0.4]))
    rand = adapted_rand(count_pairs(truth, fragments))
    assert found.scores["adapted_rand_error"] == pytest.approx([rand.error] * 2)
    assert found.scores["segments"].tolist() == [2, 2]
    bad = MergeSteps(np.array([0], np.uint64), np.array([5], np.uint64), np.zeros(1, np.int64))
    with pytest.raises(DataError, match="background"):
        sweep(count_pairs(truth, fragments), bad, np.array([0.5]))


def test_bad_input_is_named():
    found = two_neurons()
    drawn = bootstrap(found, 10)
    with pytest.raises(SpecError, match=r"erl_tolerance_0.*skeletons"):
        recommend(found, drawn, "erl_tolerance_0")
    with pytest.raises(SpecError, match="voi_sum"):
        recommend(found, drawn, "voi_split")
    empty = Contingency(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))
    none = MergeSteps(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))
    with pytest.raises(DataError, match="no voxel"):
        sweep(empty, none, np.array([0.5]))
    with pytest.raises(SpecError, match="fall"):
        sweep(empty_but_one(), none, np.array([0.5, 0.6]))


def empty_but_one():
    return Contingency(np.ones(1, np.uint64), np.ones(1, np.uint64), np.ones(1, np.int64))
