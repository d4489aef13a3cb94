"""Truth for training, counted by hand."""

import numpy as np

from bouton.learn.edges import NEAREST
from bouton.learn.targets import (
    CLEFT,
    EXCITATORY,
    POST,
    PRE,
    SynapseTruth,
    affinity_truth,
    fill_unlabelled,
    interior,
    synapse_classes,
    synapse_truth,
)


def row(*values: int) -> np.ndarray:
    return np.array(values, np.uint64).reshape(1, 1, -1)


def test_gaps_are_filled_up_to_the_distance() -> None:
    np.testing.assert_array_equal(fill_unlabelled(row(1, 0, 0, 0, 0, 0, 2), 2), row(1, 1, 1, 0, 2, 2, 2))
    np.testing.assert_array_equal(fill_unlabelled(row(0, 0), 2), row(0, 0))


def test_interior_is_away_from_label_changes() -> None:
    inside = interior(row(1, 1, 1, 2, 2, 0, 3), (1, 1, 1))
    np.testing.assert_array_equal(inside[0, 0], [1, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(interior(row(1, 1, 1, 2, 2, 2, 2), (1, 1, 2))[0, 0], [1, 0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(interior(row(1, 2, 0), (1, 1, 0))[0, 0], [1, 1, 0])


def test_affinities_against_brute_force() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (3, 4, 5))
    inside, known = rng.random(labels.shape) < 0.8, rng.random(labels.shape) < 0.8
    offsets = (*NEAREST, (0, -2, 1))
    truth, weight = affinity_truth(labels, inside, known, offsets)
    for c, offset in enumerate(offsets):
        for p in np.ndindex(labels.shape):
            q = tuple(a + b for a, b in zip(p, offset, strict=True))
            there = all(0 <= a < n for a, n in zip(q, labels.shape, strict=True))
            assert weight[(c, *p)] == (there and known[p] and known[q])
            assert truth[(c, *p)] == (there and labels[p] == labels[q] and inside[p] and inside[q])


def test_synapse_evidence_of_one_synapse() -> None:
    cells, clefts = row(5, 5, 5, 5, 6, 6, 6, 7), row(0, 0, 0, 9, 9, 0, 0, 0)
    one = SynapseTruth(np.array([9, 77]), np.array([5, 1]), np.array([6, 2]), np.array([True, False]))
    classes = synapse_classes(clefts, cells, one, reach_nm=20, voxel_size_nm=(30, 10, 10))
    both = CLEFT | EXCITATORY
    np.testing.assert_array_equal(classes[0, 0], [0, PRE, PRE, PRE | both, POST | both, POST, POST, 0])
    truth, weight = synapse_truth(classes)
    np.testing.assert_array_equal(truth.sum((1, 2, 3)), [2, 3, 3, 2])
    np.testing.assert_array_equal(weight.sum((1, 2, 3)), [8, 8, 8, 2])


def test_an_inhibitory_synapse_is_not_excitatory() -> None:
    one = SynapseTruth(np.array([9]), np.array([5]), np.array([6]), np.array([False]))
    classes = synapse_classes(row(0, 9, 9), row(5, 5, 6), one, reach_nm=10, voxel_size_nm=(10, 10, 10))
    assert not (classes & EXCITATORY).any()
    assert (classes & CLEFT).sum() == 2
