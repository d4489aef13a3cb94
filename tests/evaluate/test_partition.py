"""Partition scores on cases counted by hand, and against a plain dense computation."""

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.evaluate.contingency import add, count_pairs
from bouton.evaluate.partition import adapted_rand, variation_of_information


def volume(*values):
    return np.array(values, dtype=np.uint64).reshape(1, 1, -1)


def dense(truth, seg):
    """The definitions, written over a dense table."""
    keep = truth.reshape(-1) != 0
    gt, sg = truth.reshape(-1)[keep], seg.reshape(-1)[keep]
    gts, segs = np.unique(gt), np.unique(sg)
    n = np.array([[((gt == i) & (sg == j)).sum() for j in segs] for i in gts], dtype=float)
    p, a, b = n / n.sum(), n.sum(1) / n.sum(), n.sum(0) / n.sum()
    rows, cols = np.nonzero(n)
    split = -sum(p[i, j] * np.log2(p[i, j] / a[i]) for i, j in zip(rows, cols, strict=True))
    merge = -sum(p[i, j] * np.log2(p[i, j] / b[j]) for i, j in zip(rows, cols, strict=True))
    fg, bg = segs != 0, n[:, segs == 0].sum()
    s_ab = (n[:, fg] ** 2).sum() + bg
    s_b, s_a = (n.sum(0)[fg] ** 2).sum() + bg, (n.sum(1) ** 2).sum()
    precision, recall = s_ab / s_b, s_ab / s_a
    return split, merge, 1 - 2 * precision * recall / (precision + recall), precision, recall


def test_contingency_counts_by_hand():
    table = count_pairs(volume(0, 1, 1, 2, 2, 1, 0), volume(5, 5, 5, 5, 0, 7, 0))
    assert table.truth.tolist() == [1, 1, 2, 2]
    assert table.segment.tolist() == [5, 7, 0, 5]
    assert table.count.tolist() == [2, 1, 1, 1]
    assert table.count.dtype == np.int64
    assert table.truth.dtype == np.uint64


def test_ids_beyond_float_precision_stay_apart():
    big = 2**63 + 1
    table = count_pairs(volume(big, big + 1), volume(big + 1, big))
    assert table.truth.tolist() == [big, big + 1]
    assert variation_of_information(table).total == 0.0


def test_perfect_segmentation():
    labels = volume(1, 1, 2, 2, 3)
    table = count_pairs(labels, labels + np.uint64(10))
    voi, rand = variation_of_information(table), adapted_rand(table)
    assert (voi.split, voi.merge) == (0.0, 0.0)
    assert (rand.error, rand.precision, rand.recall) == (0.0, 1.0, 1.0)


def test_everything_merged_lowers_the_precision_not_the_recall():
    # Two objects of 2 voxels in one segment: S_a = 8, S_b = 16, S_ab = 8.
    table = count_pairs(volume(1, 1, 2, 2), volume(9, 9, 9, 9))
    voi, rand = variation_of_information(table), adapted_rand(table)
    assert (voi.split, voi.merge) == (0.0, 1.0)
    assert (rand.precision, rand.recall) == (0.5, 1.0)
    assert rand.error == pytest.approx(1 / 3)


def test_one_object_split_in_four_costs_two_bits_and_recall():
    table = count_pairs(volume(1, 1, 1, 1), volume(1, 2, 3, 4))
    voi, rand = variation_of_information(table), adapted_rand(table)
    assert (voi.split, voi.merge) == (2.0, 0.0)
    assert (voi.normalised_split, voi.normalised_merge) == (1.0, 0.0)
    assert (rand.precision, rand.recall) == (1.0, 0.25)
    assert rand.error == pytest.approx(1 - 2 * 0.25 / 1.25)


def test_each_background_voxel_of_the_segmentation_is_a_singleton():
    # Object of 4 voxels, 2 in segment 1, 2 in segment 0: S_a = 16, S_b = 4 + 2, S_ab = 4 + 2.
    rand = adapted_rand(count_pairs(volume(1, 1, 1, 1), volume(1, 1, 0, 0)))
    assert (rand.precision, rand.recall) == (1.0, 6 / 16)
    # As singletons the two would be segments 2 and 3: the same numbers.
    assert rand == adapted_rand(count_pairs(volume(1, 1, 1, 1), volume(1, 1, 2, 3)))
    # VOI keeps segment 0 as one label.
    voi = variation_of_information(count_pairs(volume(1, 1, 1, 1), volume(1, 1, 0, 0)))
    assert (voi.split, voi.merge) == (1.0, 0.0)


def test_background_of_the_truth_is_left_out():
    inside = count_pairs(volume(1, 1, 2, 2), volume(3, 3, 3, 4))
    padded = count_pairs(volume(0, 1, 1, 2, 2, 0, 0), volume(3, 3, 3, 3, 4, 4, 0))
    assert variation_of_information(padded) == variation_of_information(inside)
    assert adapted_rand(padded) == adapted_rand(inside)


def test_against_the_dense_definition():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 5, (6, 7, 8)).astype(np.uint32)
    seg = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, 6, truth.shape)).astype(np.uint16)
    table = count_pairs(truth, seg)
    voi, rand = variation_of_information(table), adapted_rand(table)
    got = (voi.split, voi.merge, rand.error, rand.precision, rand.recall)
    assert got == pytest.approx(dense(truth, seg), abs=1e-12)


@pytest.mark.parametrize("cuts", [[1], [3, 4], [2, 5, 6]])
def test_tables_of_disjoint_boxes_add_up(cuts):
    rng = np.random.default_rng(4)
    truth, seg = rng.integers(0, 9, (7, 5, 6)), rng.integers(0, 9, (7, 5, 6))
    whole = count_pairs(truth, seg)
    parts = [count_pairs(t, s) for t, s in zip(np.split(truth, cuts), np.split(seg, cuts), strict=True)]
    for order in (parts, parts[::-1], [add(parts[:1]), add(parts[1:])]):
        total = add(order)
        assert np.array_equal(total.truth, whole.truth)
        assert np.array_equal(total.segment, whole.segment)
        assert np.array_equal(total.count, whole.count)


def test_nothing_to_count_gives_nan_not_zero():
    table = count_pairs(volume(0, 0), volume(1, 2))
    assert table.voxels == 0
    assert np.isnan(variation_of_information(table).total)
    assert np.isnan(adapted_rand(table).error)


def test_bad_input_is_named():
    with pytest.raises(DataError, match="shape"):
        count_pairs(volume(1, 2), volume(1))
    with pytest.raises(DataError, match="float"):
        count_pairs(volume(1), volume(1).astype(float))
    with pytest.raises(DataError, match="-1"):
        count_pairs(volume(1), np.array([[[-1]]]))


@pytest.mark.real
def test_real_fib25_over_segmentation_against_the_dense_formulae(fib25_labels):
    truth, seg = fib25_labels("neuron_ids"), fib25_labels("neuroproof_oversegmentation")
    table = count_pairs(truth, seg)
    voi, rand = variation_of_information(table), adapted_rand(table)
    import scipy.sparse as sp

    keep = truth.reshape(-1) != 0
    _, g = np.unique(truth.reshape(-1)[keep], return_inverse=True)
    _, s = np.unique(seg.reshape(-1)[keep], return_inverse=True)
    n = sp.coo_matrix((np.ones(g.size), (g, s))).tocsr()
    n.sum_duplicates()
    p = n.data / n.sum()
    joint = -(p * np.log2(p)).sum()
    a, b = (np.asarray(n.sum(axis)).ravel() / n.sum() for axis in (1, 0))
    assert voi.split == pytest.approx(joint + (a * np.log2(a)).sum(), abs=1e-9)
    assert voi.merge == pytest.approx(joint + (b * np.log2(b)).sum(), abs=1e-9)
    # An over-segmentation: split far above merge, precision above recall.
    assert voi.split > 4 * voi.merge
    assert rand.precision > rand.recall
