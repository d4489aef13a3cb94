"""CREMI's scores of clefts and partners: by hand, against its full matrix, and their traps."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from bouton.errors import DataError
from bouton.evaluate.cremi_synapses import (
    BACKGROUND,
    INVALID,
    PartnerSites,
    match_partners,
    score_clefts,
    score_partners,
)
from bouton.evaluate.matching import match_points

SIZE = (40.0, 4.0, 4.0)


def row(*marked, length=200, dtype=np.uint64):
    labels = np.zeros((1, 1, length), dtype)
    labels[0, 0, list(marked)] = 7
    return labels


def test_distances_by_hand():
    # Voxels of 4 nm: predictions at 10 and 100, truth at 12 and 13. 100 is 87 voxels = 348 nm away.
    found = score_clefts(row(12, 13), row(10, 100), SIZE)
    assert (found.predicted_voxels, found.true_voxels) == (2, 2)
    assert found.adgt_nm == pytest.approx((8 + 348) / 2)
    assert found.adf_nm == pytest.approx((8 + 12) / 2)
    assert (found.false_positives, found.false_negatives) == (1, 0)
    assert found.far_sum_nm == pytest.approx(348)
    assert found.mean_nm == pytest.approx((178 + 10) / 2)
    # One true positive, one false positive, no false negative: F1 = 2 / 3.
    assert found.one_minus_f1 == pytest.approx(1 / 3)


def test_distance_across_sections_counts_the_section():
    truth, found = np.zeros((3, 4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8)
    truth[0, 1, 1], found[2, 1, 1] = 1, 1
    assert score_clefts(truth, found, SIZE).adgt_nm == pytest.approx(80.0)


def test_exactly_200_nm_is_near():
    assert score_clefts(row(0), row(50), SIZE).false_positives == 0
    assert score_clefts(row(0), row(51), SIZE).false_positives == 1


def test_invalid_voxels_are_no_clefts_in_either():
    truth, found = row(12), row(12, 100)
    truth[0, 0, 95:] = INVALID
    masked = score_clefts(truth, found, SIZE)
    assert (masked.predicted_voxels, masked.true_voxels, masked.adgt_nm) == (1, 1, 0.0)


def test_in_the_challenges_files_zero_is_a_cleft():
    plain, theirs = row(12, 13), np.full((1, 1, 200), BACKGROUND)
    theirs[0, 0, 12], theirs[0, 0, 13], theirs[0, 0, 14] = 0, 5, INVALID
    assert score_clefts(theirs, plain, SIZE) == score_clefts(plain, plain, SIZE)
    # Without that background the 0s are background, and the volume would be all cleft if they were not.
    assert score_clefts(plain, theirs, SIZE).predicted_voxels == 2


def test_no_cleft_is_infinitely_far():
    found = score_clefts(row(12), row(), SIZE)
    assert np.isnan(found.adgt_nm) and found.adf_nm == np.inf and found.false_negatives == 1
    assert found.one_minus_f1 == 1.0
    assert score_clefts(row(), row(12), SIZE).false_positives == 1
    assert np.isnan(score_clefts(row(), row(), SIZE).one_minus_f1)
    with pytest.raises(DataError, match="shapes"):
        score_clefts(row(), row(length=100), SIZE)


def sites(pre, post, pre_ids, post_ids):
    return PartnerSites(
        np.asarray(pre, float), np.asarray(post, float), np.asarray(pre_ids, np.uint64), np.asarray(post_ids, np.uint64)
    )


def line(*x, ids=(1, 2)):
    at = np.array([[0.0, 0.0, v] for v in x]).reshape(-1, 3)
    return sites(at, at + np.array([0, 50, 0]), np.full(len(x), ids[0]), np.full(len(x), ids[1]))


def full_matrix(truth, predicted, reach=400.0):
    """The challenge's rule: a square matrix, padded with twice the reach; matches cost at most the reach."""
    n, m = len(truth.pre), len(predicted.pre)
    costs = np.full((max(n, m),) * 2, 2 * reach)
    for i in range(n):
        for j in range(m):
            pre = np.linalg.norm(truth.pre_nm[i] - predicted.pre_nm[j])
            post = np.linalg.norm(truth.post_nm[i] - predicted.post_nm[j])
            if (truth.pre[i], truth.post[i]) == (predicted.pre[j], predicted.post[j]) and max(pre, post) <= reach:
                costs[i, j] = 0.5 * (pre + post)
    rows, columns = linear_sum_assignment(costs - costs.max() - 1)
    return [(i, j) for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if costs[i, j] <= reach]


@pytest.mark.parametrize("seed", range(25))
def test_groups_give_what_the_full_matrix_gives(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = (
        sites(rng.random((n, 3)) * 900, rng.random((n, 3)) * 900, rng.integers(0, 3, n), rng.integers(0, 2, n))
        for n in rng.integers(1, 60, 2)
    )
    matches = match_partners(truth, predicted)
    expected = full_matrix(truth, predicted)
    assert list(zip(matches.truth.tolist(), matches.predicted.tolist(), strict=True)) == sorted(expected)


def test_both_ends_and_both_neurons_must_agree():
    assert score_partners(line(0), line(390)).tp == 1
    assert score_partners(line(0), line(401)).tp == 0
    assert score_partners(line(0), line(0, ids=(2, 1))).tp == 0
    shifted = line(0)
    shifted.post_nm[:] += 401
    assert score_partners(line(0), shifted).tp == 0
    found = score_partners(line(0, 2000), line(10, 20, 30))
    assert (found.tp, found.fp, found.fn) == (1, 2, 1)


def test_least_cost_is_not_always_most_pairs():
    # Truth 0, 400, 800 and predictions 400, 800, 1200: two pairs at 0 cost less than three at 400.
    truth, predicted = line(0, 400, 800), line(400, 800, 1200)
    assert len(full_matrix(truth, predicted)) == 2
    assert score_partners(truth, predicted).tp == 2
    assert len(match_points(truth.pre_nm, predicted.pre_nm, 400.0).truth) == 3


def test_no_partners_on_a_side():
    found = score_partners(line(), line(1))
    assert (found.tp, found.fp, found.fn) == (0, 1, 0)
