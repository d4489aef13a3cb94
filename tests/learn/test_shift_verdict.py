"""Verdicts: each reason with its number, its place and a way out."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.geometry import NM, Box
from bouton.learn.shift import Reference, ReferenceSource, Remedy
from bouton.learn.shift_calibration import Calibration
from bouton.learn.shift_features import FEATURES, BoxReading
from bouton.learn.shift_verdict import DOUBT, FITS, MISFIT, NOTE, Evidence, judge

SHAPE = (16, 32, 32)
NM10: NM = (10.0, 10.0, 10.0)
ROWS = np.random.default_rng(0).normal(size=(40, len(FEATURES))) * 0.2 - 3
REFERENCE = Reference("a" * 64, SHAPE, NM10, (ReferenceSource("im", "0:1,0:1,0:1", ROWS),))


def readings(
    count: int, off: int = 0, far: float = 0.0, feature: str = "entropy", std: float = 40.0
) -> list[BoxReading]:
    """Return readings of which the first ``off`` lie ``far`` spreads away in one feature."""
    found = []
    for i in range(count):
        features = REFERENCE.rows.mean(axis=0).copy()
        if i < off:
            features[FEATURES.index("entropy")] += far * REFERENCE.spread[FEATURES.index("entropy")]
        plain = {
            "mean": 128.0,
            "std": std,
            "noise": 5.0,
            "entropy": 0.2,
            "disagreement": 0.03 - i / 1000,
            "repeated": 0.0,
        }
        box = Box((i, 0, 0), (i + 16, 32, 32))
        found.append(BoxReading(box, features, plain, np.zeros(20, np.int64)))
    return found


def evidence(found: list[BoxReading], **more) -> Evidence:
    return Evidence(**{"model_nm": NM10, "image_nm": NM10, "box_zyx": SHAPE, "wanted_zyx": SHAPE, "readings": found,
                       "reference": REFERENCE, **more})  # fmt: skip


def test_training_data_fit() -> None:
    assert judge(evidence(readings(16))) == (FITS, [])


@pytest.mark.parametrize(
    ("size", "verdict", "words"),
    [
        ((10.5, 10.0, 9.5), FITS, ""),
        ((10.0, 12.0, 12.0), DOUBT, "10 x 12 x 12"),
        ((50.0, 4.6, 4.6), MISFIT, "50 x 4.6 x 4.6"),
    ],
)
def test_voxel_size(size: NM, verdict: str, words: str) -> None:
    found, reasons = judge(evidence(readings(16), image_nm=size))
    assert found == verdict
    assert not reasons or (words in reasons[0].found and "resample" in reasons[0].fix)


def test_a_strange_region_is_a_doubt_with_its_place() -> None:
    found, [reason] = judge(evidence(readings(16, off=2, far=9.0)))
    assert found == DOUBT
    assert reason.where == (Box((0, 0, 0), (16, 32, 32)), Box((1, 0, 0), (17, 32, 32)))
    assert "2 of 16 boxes score 2.75 or more" in reason.found and "entropy" in reason.found and "mask" in reason.fix


def test_most_boxes_strange_is_a_misfit() -> None:
    found, [reason] = judge(evidence(readings(16, off=12, far=9.0)))
    assert found == MISFIT and "median of 16 boxes" in reason.found and "finetune" in reason.fix
    # sqrt(3 / 4 * 81 / 5)
    assert "3.49" in reason.found


def test_a_slight_shift_of_all_is_a_doubt() -> None:
    found, [reason] = judge(evidence(readings(16, off=16, far=4.0)))
    assert found == DOUBT and "median of 16 boxes scores 1.55" in reason.found


def test_a_single_doubtful_box_is_a_note() -> None:
    found, [reason] = judge(evidence(readings(16, off=1, far=6.0)))
    assert (found, reason.verdict) == (FITS, NOTE) and "1 of 16" in reason.found
    assert judge(evidence(readings(4, off=1, far=6.0)))[0] == FITS
    assert judge(evidence(readings(8, off=2, far=6.0)))[0] == DOUBT


def test_causes_come_before_effects() -> None:
    both = readings(4, off=4, far=9.0)
    for one in both:
        one.features[FEATURES.index("noise")] += 3 * REFERENCE.spread[FEATURES.index("noise")]
    _, [reason] = judge(evidence(both))
    assert reason.found.index("noise") < reason.found.index("entropy") and reason.fix.startswith("denoise")


def test_a_remedy_that_helps_is_advised() -> None:
    helps = Remedy("contrast matched", 2.0, -100.0, 3.0, 0.8)
    useless = Remedy("inverted, contrast matched", -2.0, 355.0, 3.0, 2.9)
    _, [reason] = judge(evidence(readings(8, off=8, far=9.0), remedies=(useless, helps)))
    assert "v -> 2 v -100 (contrast matched)" in reason.fix and "down to 0.80" in reason.fix


def test_blank_boxes() -> None:
    blank, tissue = readings(2, std=0.0), readings(6)
    found, [reason] = judge(evidence(blank + tissue))
    assert found == DOUBT and "2 of 8 boxes are blank" in reason.found and len(reason.where) == 2
    found, [reason] = judge(evidence(blank))
    assert found == MISFIT and "2 of 2" in reason.found


def test_repeated_sections() -> None:
    found = readings(8)
    for i, share in ((2, 0.3), (5, 0.5)):
        found[i].plain["repeated"] = share  # type: ignore[index]
    verdict, [reason] = judge(evidence(found))
    assert verdict == DOUBT and "2 of 8 boxes" in reason.found and "50%" in reason.found
    assert [box.start[0] for box in reason.where] == [5, 2]


def test_without_a_reference_nothing_fits() -> None:
    found, [reason] = judge(evidence(readings(4), reference=None))
    assert found == DOUBT and "no reference" in reason.found and "--make-reference" in reason.fix


def test_smaller_boxes_are_told() -> None:
    found, [reason] = judge(evidence(readings(4), box_zyx=(8, 32, 32)))
    assert (found, reason.verdict) == (FITS, NOTE) and "8 x 32 x 32" in reason.found


def test_calibration() -> None:
    edges = np.full(256, 100)
    wrong = Calibration(edges, edges // 2)
    found, [reason] = judge(evidence(readings(4), calibration=wrong))
    assert found == DOUBT and "0.25" in reason.found and "sweep" in reason.fix
    right = Calibration(edges, np.arange(256) * 100 // 255)
    found, [reason] = judge(evidence(readings(4), calibration=right))
    assert (found, reason.verdict) == (FITS, NOTE)
    nothing = Calibration(edges * 0, edges * 0)
    assert "no box lies wholly in the truth" in judge(evidence(readings(4), calibration=nothing))[1][0].found


def test_the_gravest_reason_stands_first() -> None:
    found, reasons = judge(evidence(readings(16, off=2, far=9.0), image_nm=(30.0, 10.0, 10.0)))
    assert found == MISFIT and [reason.verdict for reason in reasons] == [MISFIT, DOUBT]
