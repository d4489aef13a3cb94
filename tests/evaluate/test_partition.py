"""Partition scores on cases counted by hand, and against a plain dense computation."""

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.evaluate.contingency import Contingency, add, add_all, count_pairs
from bouton.evaluate.partition import (
    adapted_rand,
    adapted_rand_cremi,
    adapted_rand_one_background,
    cremi_score,
    v_info,
    v_rand,
    variation_of_information,
)


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


def test_tables_that_come_one_by_one_add_up():
    rng = np.random.default_rng(5)
    truth, seg = rng.integers(0, 2**40, (40, 50, 60)), rng.integers(0, 9, (40, 50, 60))
    whole = count_pairs(truth, seg)
    parts = (count_pairs(t, s) for t, s in zip(truth, seg, strict=True))
    total = add_all(parts)
    assert whole.count.size > 100_000, "too few rows to be added up on the way"
    assert np.array_equal(total.truth, whole.truth)
    assert np.array_equal(total.segment, whole.segment)
    assert np.array_equal(total.count, whole.count)


def test_many_pairs_are_counted_as_numpy_counts_them():
    rng = np.random.default_rng(6)
    truth = rng.integers(0, 2**63, 300, dtype=np.uint64)[rng.integers(0, 300, (9, 50, 80))]
    seg = rng.integers(0, 90, truth.shape).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = 0
    pairs, counts = np.unique(
        np.stack([truth.ravel(), seg.ravel().astype(np.uint64)], axis=1)[truth.ravel() != 0], axis=0, return_counts=True
    )
    table = count_pairs(truth, seg)
    assert len(pairs) > 10_000
    assert np.array_equal(np.stack([table.truth, table.segment], axis=1), pairs)
    assert np.array_equal(table.count, counts)


def four_half_unsegmented():
    """Two objects of 4 voxels: one half in segment 1, half in 0; one in segment 2 but for one voxel in 1."""
    return count_pairs(volume(1, 1, 1, 1, 2, 2, 2, 2), volume(1, 1, 0, 0, 2, 2, 2, 1))


def test_variants_of_the_adapted_rand_error_by_hand():
    # n_11 = 2, n_10 = 2, n_22 = 3, n_21 = 1; S_a = 16 + 16; segment sums 3 (of 1), 3 (of 2), 2 (of 0).
    table = four_half_unsegmented()
    # Singletons: S_ab = 4 + 9 + 1 + 2, S_b = 9 + 9 + 2.
    rand = adapted_rand(table)
    assert (rand.precision, rand.recall) == (16 / 20, 16 / 32)
    # One segment: S_ab = 4 + 4 + 9 + 1, S_b = 9 + 9 + 4.
    rand = adapted_rand_one_background(table)
    assert (rand.precision, rand.recall) == (18 / 22, 18 / 32)
    assert rand.error == pytest.approx(1 - 2 * 18 / (22 + 32))
    # CREMI: 2 voxels of 0 over 8 voxels, or over 10 of the whole volume.
    rand = adapted_rand_cremi(table)
    assert (rand.precision, rand.recall) == (14.25 / 18.25, 14.25 / 32)
    assert adapted_rand_cremi(table, 10).precision == pytest.approx(14.2 / 18.2)


def test_cremi_score_by_hand():
    table = four_half_unsegmented()
    split = 0.5 * 1.0 + 0.5 * (0.75 * np.log2(4 / 3) + 0.25 * 2)
    merge = 3 / 8 * (2 / 3 * np.log2(3 / 2) + 1 / 3 * np.log2(3))
    error = 1 - 2 * 14.25 / (18.25 + 32)
    assert cremi_score(table) == pytest.approx(np.sqrt((split + merge) * error))


def cremi_program(seg, gt):
    """The challenge program's arithmetic, over a dense table: https://github.com/cremi/cremi_python (rand.py)."""
    n = np.zeros((gt.max() + 1, seg.max() + 1))
    np.add.at(n, (gt.ravel(), seg.ravel()), 1)
    c = n[1:, 0].sum() / gt.size
    sum_a = (n[1:].sum(1) ** 2).sum()
    sum_b, sum_ab = (n[1:, 1:].sum(0) ** 2).sum() + c, (n[1:, 1:] ** 2).sum() + c
    precision, recall = sum_ab / sum_b, sum_ab / sum_a
    return 1 - 2 * precision * recall / (precision + recall)


def scikit_image_like(seg, gt):
    """What scikit-image 0.26 computes: no diagonal, segment 0 is one segment, precision and recall swapped."""
    keep = gt != 0
    n = np.zeros((gt.max() + 1, seg.max() + 1))
    np.add.at(n, (gt[keep], seg[keep]), 1)
    total = n.sum()
    both, segments, truth = ((m**2).sum() - total for m in (n, n.sum(0), n.sum(1)))
    return 1 - 2 * both / (segments + truth), both / truth, both / segments


def test_other_programs_differ_where_the_page_says_so():
    rng = np.random.default_rng(7)
    truth = np.kron(rng.integers(0, 6, (3, 4, 4)), np.ones((2, 3, 3), int))
    seg = np.where(rng.random(truth.shape) < 0.8, truth, rng.integers(0, 7, truth.shape))
    seg[rng.random(truth.shape) < 0.1] = 0
    table = count_pairs(truth, seg)
    assert adapted_rand_cremi(table, truth.size).error == pytest.approx(cremi_program(seg, truth), abs=1e-14)
    assert adapted_rand_cremi(table).error != pytest.approx(adapted_rand(table).error, abs=1e-4)
    # One segment without the diagonal approaches the same with it; precision and recall go by each other's names.
    error, called_precision, called_recall = scikit_image_like(seg, truth)
    plain = adapted_rand_one_background(table)
    assert error == pytest.approx(plain.error, abs=0.02)
    assert error != pytest.approx(adapted_rand(table).error, abs=5e-3)
    assert (called_precision, called_recall) == pytest.approx((plain.recall, plain.precision), abs=0.03)
    merged = count_pairs(volume(*[1] * 500, *[2] * 500), volume(*[9] * 1000))
    assert (adapted_rand(merged).precision, adapted_rand(merged).recall) == (0.5, 1.0)
    _, called_precision, called_recall = scikit_image_like(np.repeat(9, 1000), np.repeat([1, 2], 500))
    assert (called_precision, called_recall) == pytest.approx((1.0, 0.4995), abs=1e-4)


def test_scores_of_isbi_2012_by_hand():
    table = four_half_unsegmented()
    assert v_rand(table) == pytest.approx(1 - adapted_rand(table).error)
    assert v_rand(table, 0.0) == adapted_rand(table).recall
    assert v_rand(table, 1.0) == adapted_rand(table).precision
    # As segments of their own the two voxels of 0 would be 3 and 4.
    alone = count_pairs(volume(1, 1, 1, 1, 2, 2, 2, 2), volume(1, 1, 3, 4, 2, 2, 2, 1))
    assert v_info(table) == pytest.approx(v_info(alone))
    # H(truth) = 1; segments of 3, 3, 1, 1; joint of 2, 1, 1, 3, 1 voxels of 8.
    entropy = lambda *n: -sum(k / 8 * np.log2(k / 8) for k in n)  # noqa: E731
    shared = 1 + entropy(3, 3, 1, 1) - entropy(2, 1, 1, 3, 1)
    assert v_info(table) == pytest.approx(2 * shared / (1 + entropy(3, 3, 1, 1)))
    assert v_info(table, 1.0) == pytest.approx(shared)


def test_perfect_and_single_labels_score_one():
    for labels in (volume(1, 1, 2, 2, 3), volume(4, 4, 4)):
        table = count_pairs(labels, labels)
        assert (v_rand(table), v_info(table), cremi_score(table)) == (1.0, 1.0, 0.0)
        assert variation_of_information(table).distance == 0.0


def test_information_distance_by_hand():
    # Truth 1 1 2 2 in one segment: nothing is shared. Cut in four: I = 1 of H = 2.
    assert variation_of_information(count_pairs(volume(1, 1, 2, 2), volume(9, 9, 9, 9))).distance == 1.0
    assert variation_of_information(count_pairs(volume(1, 1, 2, 2), volume(1, 2, 3, 4))).distance == 0.5


def test_segmented_leaves_out_the_rows_of_segment_0():
    table = four_half_unsegmented().segmented()
    assert table.count.tolist() == [2, 1, 3]
    assert isinstance(table, Contingency)


def test_nothing_to_count_gives_nan_not_zero():
    table = count_pairs(volume(0, 0), volume(1, 2))
    assert table.voxels == 0
    assert np.isnan(variation_of_information(table).total)
    assert np.isnan(adapted_rand(table).error)
    assert np.isnan([v_rand(table), v_info(table), cremi_score(table), adapted_rand_cremi(table).error]).all()
    assert np.isnan(adapted_rand_one_background(table).error)


def test_nothing_segmented_is_worst_not_an_error():
    table = count_pairs(volume(1, 1, 2), volume(0, 0, 0))
    assert adapted_rand(table).precision == 1.0
    assert v_info(table) == pytest.approx(2 * 0.9182958 / (0.9182958 + np.log2(3)))
    assert np.isfinite(cremi_score(table))


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
