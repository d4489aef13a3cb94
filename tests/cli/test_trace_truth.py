"""Doubts about the truth, on rows that are counted by hand."""

from __future__ import annotations

import numpy as np

from bouton.cli.trace_truth import doubted, twice_in_truth
from bouton.evaluate.synapses import SynapseSet, synapse_set


def synapses(rows: list[tuple[float, int, int]]) -> SynapseSet:
    """Return synapses along x: (x_nm, pre, post)."""
    x, pre, post = (np.array(values) for values in zip(*rows, strict=True))
    zero = np.zeros(len(rows))
    ids = {"pre_id": pre.astype(np.uint64), "post_id": post.astype(np.uint64)}
    return synapse_set({"id": np.arange(1, len(rows) + 1), "z_nm": zero, "y_nm": zero, "x_nm": x.astype(float), **ids})


ROWS = [(0, 1, 2), (30, 1, 2), (60, 2, 1), (90, 1, 3), (1000, 1, 2), (1149, 1, 2), (3000, 1, 2), (3151, 1, 2)]


def test_the_same_two_neurons_nearer_than_150_nm_are_there_twice() -> None:
    true, rows = synapses(ROWS), np.arange(len(ROWS))
    assert twice_in_truth(true, rows, np.array([], int)).tolist() == [-1, 0, -1, -1, -1, 4, -1, -1]
    # the one that was found is the true one, whatever comes first
    assert twice_in_truth(true, rows, np.array([1, 4])).tolist() == [1, -1, -1, -1, -1, 4, -1, -1]
    assert twice_in_truth(true, rows[:0], rows).tolist() == []


def test_without_two_known_partners_is_in_doubt() -> None:
    true = synapses([(0, 1, 1), (500, 0, 2), (900, 1, 0), (1500, 1, 2)])
    assert doubted(true, np.arange(4), 400.0, None).tolist() == [True, True, True, False]
