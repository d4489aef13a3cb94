"""Voxel scores against counting by hand and by brute force."""

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.evaluate.voxels import voxel_scores


def brute(values, truth, known):
    """Average precision and best F1, threshold by threshold."""
    points = []
    for level in range(255, -1, -1):
        found = (values >= level) & known
        hits = np.count_nonzero(found & truth)
        points.append((hits / max(1, np.count_nonzero(found)), hits / np.count_nonzero(truth & known), level))
    average, before = 0.0, 0.0
    for precision, recall, _ in points:
        average += (recall - before) * precision
        before = recall
    f1 = [(2 * p * r / (p + r) if p + r else 0.0) for p, r, _ in points]
    return average, max(f1), points[int(np.argmax(f1))][2] / 255


def test_by_brute_force():
    rng = np.random.default_rng(0)
    for share in (0.01, 0.3, 0.9):
        truth = rng.random((6, 20, 20)) < share
        known = rng.random(truth.shape) < 0.8
        values = np.clip(rng.normal(110, 40, truth.shape) + 50 * truth, 0, 255).astype(np.uint8)
        found = voxel_scores(values, truth, known)
        assert (found.average_precision, found.f1, found.threshold) == pytest.approx(brute(values, truth, known))


def test_by_hand():
    values = np.array([250, 200, 150, 100], np.uint8)
    truth = np.array([True, False, True, False])
    found = voxel_scores(values, truth, np.ones(4, bool))
    # precision 1 at recall 1/2, 2/3 at recall 1
    assert found.average_precision == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert found.f1 == pytest.approx(0.8) and found.threshold == pytest.approx(150 / 255)


def test_unknown_voxels_do_not_count_and_a_class_without_voxels_has_no_score():
    values = np.array([10, 250], np.uint8)
    truth = np.array([True, False])
    assert voxel_scores(values, truth, np.array([True, False])).average_precision == 1
    assert np.isnan(voxel_scores(values, truth, np.array([False, True])).average_precision)
    with pytest.raises(DataError, match="uint8"):
        voxel_scores(values.astype(float), truth, truth)
