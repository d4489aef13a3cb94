"""VESICLE's rule on objects counted by hand."""

import numpy as np
import pytest

from bouton.errors import SpecError
from bouton.evaluate.detection import Detection
from bouton.evaluate.objects import match_centres, match_iou, match_objects


def line(*runs: tuple[int, int]) -> np.ndarray:
    return np.repeat([value for value, _ in runs], [n for _, n in runs]).astype(np.uint64).reshape(1, 1, -1)


def test_found_missed_false_and_fragments() -> None:
    truth = line((0, 5), (1, 20), (0, 10), (2, 20), (0, 10), (3, 20), (0, 15))
    found = line((7, 15), (8, 10), (0, 10), (9, 9), (0, 11), (0, 30), (4, 15))
    # 1: 7 and 8 share 10 voxels each, one is taken, the other a fragment; 2: 9 voxels are too few; 9 and 4 are false
    assert match_objects(truth, found) == Detection(tp=1, fp=2, fn=2)
    assert match_objects(truth, found, least_voxels=9) == Detection(tp=2, fp=1, fn=1)


def test_one_detection_over_two_objects_finds_one() -> None:
    truth, found = line((1, 12), (2, 30)), line((5, 42))
    assert match_objects(truth, found) == Detection(tp=1, fp=0, fn=1)
    assert match_objects(truth, np.zeros_like(found)) == Detection(tp=0, fp=0, fn=2)
    assert match_objects(np.zeros_like(truth), found) == Detection(tp=0, fp=1, fn=0)


def test_no_voxels_are_no_overlap() -> None:
    with pytest.raises(SpecError, match="least_voxels"):
        match_objects(line((1, 3)), line((1, 3)), least_voxels=0)


def test_intersection_over_union_by_hand():
    truth = line((0, 5), (1, 20), (0, 10), (2, 20), (0, 10), (3, 10))
    found = line((0, 8), (7, 17), (0, 10), (8, 8), (9, 12), (0, 10), (4, 5), (5, 5))
    # 1 with 7: 17 of 20; 2 with 9: 12 of 20, with 8: 8 of 20; 3 with 4 and 5: 5 of 10 each, only one can have it.
    counts, mean = match_iou(truth, found)
    assert counts == Detection(tp=3, fp=2, fn=0)
    assert mean == pytest.approx((17 / 20 + 12 / 20 + 5 / 10) / 3)
    assert match_iou(truth, found, least_iou=0.7)[0] == Detection(tp=1, fp=4, fn=2)
    assert match_iou(truth, truth)[1] == 1.0
    assert np.isnan(match_iou(truth, np.zeros_like(truth))[1])
    with pytest.raises(SpecError, match="least_iou"):
        match_iou(truth, found, least_iou=0)


def test_as_many_objects_as_possible_below_one_half():
    # A overlaps both finds, B only the one that A likes better.
    truth, found = line((1, 10), (2, 10)), line((5, 4), (6, 12), (0, 4))
    assert match_iou(truth, found, least_iou=0.2)[0] == Detection(tp=2, fp=0, fn=0)


def test_centres_in_nm():
    truth, found = np.zeros((5, 9, 9), np.uint8), np.zeros((5, 9, 9), np.uint8)
    truth[0, 1:4, 2], truth[4, 8, 8] = 1, 2
    found[1, 2, 2:5] = 3
    counts, mean = match_centres(truth, found, (40.0, 4.0, 4.0), 100.0)
    assert counts == Detection(tp=1, fp=0, fn=1)
    assert mean == pytest.approx(np.hypot(40, 4))
    assert match_centres(truth, found, (40.0, 4.0, 4.0), 40.0)[0] == Detection(tp=0, fp=1, fn=2)
