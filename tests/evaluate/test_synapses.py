"""Synapse matching and its scores, counted by hand."""

import itertools

import numpy as np
import pytest

from bouton.evaluate.detection import Detection, wilson
from bouton.evaluate.matching import match_points
from bouton.evaluate.synapses import MatchRule, SynapseSet, score_synapses

BOX = {"start_nm": (0.0, 0.0, 0.0), "stop_nm": (1e4, 1e4, 1e4)}


def synapses(*rows):
    """Rows of (x_nm, pre, post[, type]) on the line z = y = 5000."""
    rows = [(*row, "excitatory")[:4] for row in rows]
    centre = np.array([[5000.0, 5000.0, row[0]] for row in rows]).reshape(-1, 3)
    ids = np.array([[row[1], row[2]] for row in rows], dtype=np.uint64).reshape(-1, 2)
    return SynapseSet(centre, ids[:, 0], ids[:, 1], np.array([row[3] for row in rows], dtype=object))


def rule(distance=400.0, margin=0.0):
    return MatchRule(max_distance_nm=distance, margin_nm=margin, **BOX)


def counts(detection):
    return detection.tp, detection.fp, detection.fn


def points(*x):
    return np.array([[0.0, 0.0, v] for v in x]).reshape(-1, 3)


def test_distance_is_inclusive_and_each_point_is_used_once():
    matches = match_points(points(0), points(400.0), 400.0)
    assert (matches.truth.tolist(), matches.predicted.tolist(), matches.distance_nm.tolist()) == ([0], [0], [400.0])
    assert match_points(points(0), points(400.5), 400.0).truth.size == 0
    assert match_points(points(0), points(10, 20, 30), 400.0).predicted.tolist() == [0]


def test_as_many_pairs_as_possible_even_where_the_nearest_would_block():
    # Truth 0 and 300; predictions 290 and 650: greedy by distance (300-290) would leave 650 and truth 0 alone.
    matches = match_points(points(0, 300), points(290, 650), 400.0)
    assert matches.predicted.tolist() == [0, 1]


def test_least_total_distance_among_full_matchings():
    matches = match_points(points(0, 100), points(95, 10), 400.0)
    assert matches.predicted.tolist() == [1, 0]


def test_matching_against_all_permutations():
    rng = np.random.default_rng(5)
    for _ in range(40):
        truth, predicted = rng.random((5, 3)) * 100, rng.random((5, 3)) * 100
        d = np.linalg.norm(truth[:, None] - predicted[None], axis=2)
        best = min(
            (-sum(ok), sum(v for v, keep in zip(values, ok, strict=True) if keep))
            for order in itertools.permutations(range(5))
            for values in [[d[i, j] for i, j in enumerate(order)]]
            for ok in [[v <= 60 for v in values]]
        )
        matches = match_points(truth, predicted, 60.0)
        assert len(matches.truth) == -best[0]
        assert matches.distance_nm.sum() == pytest.approx(best[1])


def test_empty_sides():
    none = synapses()
    for truth, predicted, expected in [
        (none, none, (0, 0, 0)),
        (synapses((10, 1, 2)), none, (0, 0, 1)),
        (none, synapses((10, 1, 2)), (0, 1, 0)),
    ]:
        scores = score_synapses(truth, predicted, rule())
        assert all(counts(found) == expected for found in scores.levels.values())
    assert np.isnan(score_synapses(none, none, rule()).levels["location"].f1.value)


def test_levels_by_hand():
    truth = synapses((1000, 1, 2), (2000, 3, 4), (3000, 5, 6, "inhibitory"), (4000, 7, 8), (5000, 9, 10))
    predicted = synapses(
        (1010, 1, 2),  # all right
        (2010, 4, 3),  # right neurons, wrong direction
        (3010, 5, 6),  # wrong type
        (4010, 7, 99),  # wrong partner
        (8000, 1, 2),  # no synapse there
    )
    scores = score_synapses(truth, predicted, rule())
    assert counts(scores.levels["location"]) == (4, 1, 1)
    assert counts(scores.levels["pair"]) == (3, 2, 2)
    assert counts(scores.levels["partners"]) == (2, 3, 3)
    assert counts(scores.levels["type"]) == (1, 4, 4)
    assert (scores.partners_right.value, scores.partners_right.n) == (0.5, 4)
    assert (scores.polarity_right.value, scores.polarity_right.n) == (2 / 3, 3)
    assert (scores.type_right.value, scores.type_right.n) == (0.75, 4)
    assert scores.levels["location"].f1.value == pytest.approx(0.8)


def test_partners_choose_the_candidate_that_fits_not_the_nearest():
    truth = synapses((1000, 1, 2), (1100, 3, 4))
    predicted = synapses((1010, 3, 4), (1110, 1, 2))
    scores = score_synapses(truth, predicted, rule())
    assert counts(scores.levels["partners"]) == (2, 0, 0)
    assert scores.partners_right.value == 0.0


def test_background_is_nobodys_partner():
    scores = score_synapses(synapses((1000, 0, 2)), synapses((1000, 0, 2)), rule())
    assert counts(scores.levels["location"]) == (1, 0, 0)
    assert counts(scores.levels["partners"]) == (0, 1, 1)


def test_true_type_unknown_is_not_held_against_the_prediction():
    scores = score_synapses(synapses((1000, 1, 2, "unknown")), synapses((1000, 1, 2)), rule())
    assert counts(scores.levels["type"]) == (1, 0, 0)
    assert scores.type_right.n == 0


def test_synapses_near_the_border_are_neutral():
    truth = synapses((50, 1, 2), (5000, 3, 4))
    # First: matched with a neutral one, itself inside. Second: alone, in the margin. Third: alone, inside.
    predicted = synapses((150, 9, 9), (9990, 1, 2), (7000, 1, 2))
    assert counts(score_synapses(truth, predicted, rule(margin=100)).levels["location"]) == (0, 1, 1)
    assert counts(score_synapses(truth, predicted, rule(margin=0)).levels["location"]) == (1, 2, 1)
    # Wrong partners do not turn a neutral prediction into a false positive.
    assert counts(score_synapses(truth, predicted, rule(margin=100)).levels["partners"]) == (0, 1, 1)


def test_order_of_rows_does_not_matter():
    rng = np.random.default_rng(6)
    n = 60
    centre = rng.random((n, 3)) * 3000
    truth = SynapseSet(centre, *(rng.integers(1, 5, (2, n)).astype(np.uint64)), np.full(n, "excitatory", dtype=object))
    noisy = SynapseSet(centre + rng.normal(0, 80, (n, 3)), truth.pre, truth.post, truth.type)
    order = rng.permutation(n)
    shuffled = SynapseSet(noisy.centre_nm[order], noisy.pre[order], noisy.post[order], noisy.type[order])
    assert score_synapses(truth, noisy, rule()).levels == score_synapses(truth, shuffled, rule()).levels


def test_wilson_interval_by_hand():
    # n = 10, 8 successes, z = 1.96: centre (0.8 + 0.19207) / 1.38415, half-width from the published formula.
    found = wilson(8, 10)
    assert (found.value, found.n) == (0.8, 10)
    assert (found.low, found.high) == pytest.approx((0.49016, 0.94332), abs=1e-5)
    assert wilson(0, 0).n == 0
    assert (wilson(0, 5).low, wilson(5, 5).high) == (0.0, 1.0)


def test_f1_and_its_interval():
    f1 = Detection(tp=80, fp=20, fn=10).f1
    assert f1.value == pytest.approx(160 / 190)
    assert f1.low < f1.value < f1.high
    assert f1.n == 110
