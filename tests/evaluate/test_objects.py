"""VESICLE's rule on objects counted by hand."""

import numpy as np
import pytest

from bouton.errors import SpecError
from bouton.evaluate.detection import Detection
from bouton.evaluate.objects import match_objects


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
