"""Neural reconstruction integrity: counted by hand, as published, and against all pairs of ends."""

import itertools

import numpy as np
import pytest

from bouton.evaluate.matching import Matches
from bouton.evaluate.nri import Integrity, integrity


def ids(*values):
    return np.array(values, dtype=np.uint64)


def pairs(*rows):
    table = np.array(rows, dtype=np.int64).reshape(-1, 2)
    return Matches(table[:, 0], table[:, 1], np.zeros(len(table)))


def test_all_right():
    # Neuron 1 has three ends, 2 has two, 3 has one: 3 + 1 pairs.
    truth = ids(1, 1, 1), ids(2, 2, 3)
    found = integrity(truth, (ids(10, 10, 10), ids(20, 20, 30)), pairs((0, 0), (1, 1), (2, 2)))
    assert found == Integrity(4, 0, 0)
    assert found.nri == 1.0


def test_a_deletion_and_an_insertion():
    # Truth 2 is missed: neuron 1 loses 2 of its 3 pairs, 2 its only one. A false synapse gives 10 one more end, and 30.
    truth = ids(1, 1, 1), ids(2, 3, 2)
    detected = ids(10, 10, 10), ids(20, 30, 30)
    found = integrity(truth, detected, pairs((0, 0), (1, 1)))
    assert found == Integrity(tp=1, fp=2 + 1, fn=2 + 1)
    assert found.nri == pytest.approx(2 / (2 + 3 + 3))


def test_two_deletions_of_one_neuron_are_a_pair_that_is_lost():
    found = integrity((ids(1, 1), ids(2, 3)), (ids(), ids()), pairs())
    assert found == Integrity(0, 0, 1)
    assert integrity((ids(), ids()), (ids(1, 1), ids(2, 3)), pairs()) == Integrity(0, 1, 0)


def test_ends_without_a_neuron_are_not_there():
    # The detected pre end of synapse 1 lies in no segment: a deletion of that end only.
    truth = ids(1, 1), ids(2, 2)
    assert integrity(truth, (ids(10, 0), ids(20, 20)), pairs((0, 0), (1, 1))) == Integrity(tp=1, fp=0, fn=1)
    assert integrity((ids(1, 0), ids(2, 2)), (ids(10, 10), ids(20, 20)), pairs((0, 0), (1, 1))) == Integrity(1, 1, 0)
    assert np.isnan(integrity((ids(1), ids(2)), (ids(0), ids(0)), pairs()).nri)


def split(pieces, n=600):
    """One neuron with n ends in equal pieces; the other ends each in a neuron of its own."""
    truth = np.ones(n, np.uint64), np.arange(2, n + 2, dtype=np.uint64)
    detected = np.arange(n) % pieces + 10**6, truth[1]
    return integrity(truth, (detected[0].astype(np.uint64), detected[1]), pairs(*[(i, i) for i in range(n)]))


def test_published_scores_of_equal_splits():
    # The table of scenarios in doi:10.3389/fninf.2018.00074: two equal pieces have precision 1, recall 0.5, NRI 0.67.
    found = split(2)
    assert found.fp == 0 and found.tp / (found.tp + found.fn) == pytest.approx(0.5, abs=0.002)
    assert found.nri == pytest.approx(0.67, abs=0.005)
    assert split(3).nri == pytest.approx(0.5, abs=0.005)


def test_the_known_script_would_say_more():
    found = split(2, 40)
    # x (x - 1) within a neuron, but halved across: TP twice, the errors once.
    trap = 2 * (2 * found.tp) / (2 * (2 * found.tp) + found.fp + found.fn)
    assert found.nri < trap - 0.1


@pytest.mark.parametrize("seed", range(8))
def test_against_all_pairs_of_ends(seed):
    rng = np.random.default_rng(seed)
    n, m, k = 12, 11, 7
    truth = tuple(rng.integers(0, 4, n).astype(np.uint64) for _ in range(2))
    detected = tuple(rng.integers(0, 4, m).astype(np.uint64) for _ in range(2))
    matches = pairs(*zip(rng.permutation(n)[:k], rng.permutation(m)[:k], strict=True))
    ends = []
    for t, d in zip(truth, detected, strict=True):
        ends += [(t[i], d[j]) for i, j in zip(matches.truth, matches.predicted, strict=True)]
        ends += [(t[i], 0) for i in set(range(n)) - set(matches.truth.tolist())]
        ends += [(0, d[j]) for j in set(range(m)) - set(matches.predicted.tolist())]
    together = [(a[0] == b[0] != 0, a[1] == b[1] != 0) for a, b in itertools.combinations(ends, 2)]
    expected = Integrity(together.count((True, True)), together.count((False, True)), together.count((True, False)))
    assert integrity(truth, detected, matches) == expected
