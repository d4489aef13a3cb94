"""Right, wrong, missed and false: every synapse in one of them, counted as the scores count."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.evaluate.synapses import MatchRule, SynapseSet, score_synapses
from bouton.evaluate.trace_matching import sort_synapses

RULE = MatchRule(300.0, (0.0, 0.0, 0.0), (5000.0, 5000.0, 5000.0), 100.0)


def some(rows: list[tuple]) -> SynapseSet:
    """Return synapses from (x_nm, pre, post, type), all at z = y = 2000."""
    centre = np.array([[2000.0, 2000.0, row[0]] for row in rows]).reshape(-1, 3)
    ids = np.array([[row[1], row[2]] for row in rows], np.uint64).reshape(-1, 2)
    return SynapseSet(centre, ids[:, 0], ids[:, 1], np.array([row[3] for row in rows], object))


def test_by_hand() -> None:
    truth = some(
        [(500, 1, 2, "e"), (1500, 3, 4, "e"), (2500, 5, 6, "e"), (3500, 7, 8, "e"), (4500, 9, 10, "e"), (50, 1, 9, "e")]
    )
    predicted = some(
        [(510, 1, 2, "e"), (1510, 4, 3, "e"), (2510, 5, 6, "i"), (3510, 7, 9, "e"), (3000, 1, 2, "e"), (60, 1, 9, "e")]
    )
    found = sort_synapses(truth, predicted, RULE)
    assert found.truth.tolist() == [0, 1, 2, 3, 5]
    assert found.predicted.tolist() == [0, 1, 2, 3, 5]
    assert found.right.tolist() == [True, False, False, False, True]
    assert found.reversed.tolist() == [False, True, False, False, False]
    assert found.type_right.tolist() == [True, True, False, True, True]
    assert (found.missed.tolist(), found.false.tolist()) == ([4], [4])
    counts = found.counts()
    # the last pair is neutral; three wrong pairs count on both sides
    assert (counts.tp, counts.fp, counts.fn) == (1, 4, 4)


def test_partners_come_before_distance() -> None:
    """Two posts of one site: each goes to its own, though the other one is nearer."""
    truth = some([(1000, 1, 2, "e"), (1040, 1, 3, "e")])
    predicted = some([(1000, 1, 3, "e"), (1040, 1, 2, "e")])
    assert sort_synapses(truth, predicted, RULE).predicted.tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(6))
def test_the_right_ones_are_those_of_the_scores(seed: int) -> None:
    random = np.random.default_rng(seed)

    def draw(n: int) -> SynapseSet:
        ids = random.integers(0, 4, (2, n)).astype(np.uint64)
        return SynapseSet(random.uniform(0, 3000, (n, 3)), *ids, random.choice(["e", "i", "unknown"], n).astype(object))

    truth, predicted = draw(60), draw(70)
    found = sort_synapses(truth, predicted, RULE)
    scores = score_synapses(truth, predicted, RULE)
    assert found.counts().tp == scores.levels["type"].tp
    assert sorted([*found.truth, *found.missed]) == list(range(60))
    assert sorted([*found.predicted, *found.false]) == list(range(70))


def test_types_are_not_asked_where_none_is_predicted() -> None:
    truth, predicted = some([(500, 1, 2, "e")]), some([(500, 1, 2, "unknown")])
    assert sort_synapses(truth, predicted, RULE).right.tolist() == [True]
    mixed = some([(500, 1, 2, "unknown"), (4000, 1, 2, "i")])
    assert sort_synapses(truth, mixed, RULE).right.tolist() == [False]


def test_empty_sets() -> None:
    none, one = some([]), some([(500, 1, 2, "e")])
    assert sort_synapses(none, one, RULE).counts().fp == 1
    assert sort_synapses(one, none, RULE).counts().fn == 1
    assert sort_synapses(none, none, RULE).counts().tp == 0
