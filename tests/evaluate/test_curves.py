"""Precision-recall curves: every prefix against a matching made for it alone."""

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.evaluate.curves import Curve, curve_table, score_curves
from bouton.evaluate.matching import assign, candidates
from bouton.evaluate.prefix_matching import match_prefixes
from bouton.evaluate.synapses import LEVELS, MatchRule, SynapseSet, score_synapses, take_synapses

BOX = {"start_nm": (0.0, 0.0, 0.0), "stop_nm": (1000.0, 1000.0, 1000.0)}
TYPES = np.array(["excitatory", "inhibitory", "unknown"], dtype=object)


def random_sets(seed, n_truth=40, n_predicted=60, size=1000.0):
    rng = np.random.default_rng(seed)
    sets = [
        SynapseSet(
            rng.random((n, 3)) * size,
            rng.integers(0, 4, n).astype(np.uint64),
            rng.integers(1, 4, n).astype(np.uint64),
            TYPES[rng.integers(0, 3, n)],
        )
        for n in (n_truth, n_predicted)
    ]
    return *sets, np.round(rng.random(n_predicted), 1)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("distance", "margin"), [(150.0, 0.0), (400.0, 80.0)])
def test_every_point_is_the_score_of_its_prefix(seed, distance, margin):
    truth, predicted, score = random_sets(seed)
    rule = MatchRule(distance, BOX["start_nm"], BOX["stop_nm"], margin)
    curves = score_curves(truth, predicted, score, rule, LEVELS)
    for i, threshold in enumerate(curves["location"].score):
        alone = score_synapses(truth, take_synapses(predicted, score >= threshold), rule)
        for level in LEVELS:
            curve = curves[level]
            assert curve.score[i] == threshold
            expected = alone.levels[level]
            assert (curve.tp[i], curve.fp[i], curve.fn[i]) == (expected.tp, expected.fp, expected.fn), level
            assert curve.at(threshold) == expected


def test_prefix_matchings_cost_as_little_as_those_made_alone():
    rng = np.random.default_rng(3)
    for _ in range(30):
        truth, predicted = rng.random((7, 3)), rng.random((9, 3))
        pairs, cost = candidates(truth, predicted, 0.6)
        changes = match_prefixes(pairs, cost, 7, 9)
        held = np.full(9, -1)
        lookup = {tuple(pair): c for pair, c in zip(pairs.tolist(), cost, strict=True)}
        for p in range(9):
            now = changes.step == p
            held[changes.predicted[now]] = changes.truth[now]
            chosen = [(t, q) for q, t in enumerate(held.tolist()) if t >= 0]
            assert len({t for t, _ in chosen}) == len(chosen)
            some = pairs[:, 1] <= p
            best = assign(pairs[some], cost[some])
            assert len(chosen) == best.size
            assert sum(lookup[pair] for pair in chosen) == pytest.approx(cost[some][best].sum())


def line(*x):
    n = len(x)
    centre = np.array([[500.0, 500.0, v] for v in x]).reshape(-1, 3)
    return SynapseSet(centre, np.ones(n, np.uint64), np.full(n, 2, np.uint64), np.full(n, "unknown", dtype=object))


def test_average_precision_by_hand():
    # In order of score: right, wrong, right; one true synapse is never found.
    truth, predicted = line(100, 400, 900), line(100, 700, 400)
    curve = score_curves(truth, predicted, np.array([0.9, 0.8, 0.3]), MatchRule(50.0, **BOX, margin_nm=0.0))["location"]
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert curve.recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert curve.average_precision == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)
    point = curve.best()
    assert (point.score, point.found.tp, point.found.fp, point.found.fn) == (0.3, 2, 1, 1)
    assert curve.at(0.95).fn == 3 and curve.at(0.5).fp == 1


def test_a_later_prediction_takes_over_by_an_alternating_path():
    # The first takes the truth at 100; the second can only have that one, and pushes it on to the truth at 300.
    truth, predicted = line(100, 300), line(180, 20)
    curve = score_curves(truth, predicted, np.array([0.9, 0.8]), MatchRule(130.0, **BOX, margin_nm=0.0))["location"]
    assert curve.tp.tolist() == [1, 2]


def test_empty_sides_and_bad_scores():
    rule = MatchRule(50.0, **BOX, margin_nm=0.0)
    none = line()
    nothing = score_curves(line(100), none, np.zeros(0), rule)["location"]
    assert nothing.average_precision == 0.0 and nothing.at(0.5).fn == 1
    with pytest.raises(DataError, match="no synapse to choose"):
        nothing.best()
    no_truth = score_curves(none, line(100), np.ones(1), rule)["location"]
    assert np.isnan(no_truth.average_precision) and (no_truth.tp[0], no_truth.fp[0]) == (0, 1)
    with pytest.raises(DataError, match="row 1 has score nan"):
        score_curves(line(1), line(1, 2), np.array([1, np.nan]), rule)


def test_a_long_curve_keeps_its_ends_and_its_best_point():
    n = 5000
    tp = np.minimum(np.arange(1, n + 1), 1234)
    curve = Curve(np.linspace(1, 0, n), tp, np.arange(1, n + 1) - tp, 2000)
    table = curve_table({"location": curve, "partners": curve}, 100)
    assert table["score"].size <= 200
    half = table["score"][table["level"] == "location"]
    assert {1.0, 0.0, curve.best().score} <= set(half.tolist())
    assert list(curve_table({})["score"]) == []
