"""The order of the questions: every cause by a hand-made case, and what wins where two would do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bouton.evaluate.trace import (
    CAUSES,
    REMEDIES,
    FalseEvidence,
    TruthEvidence,
    as_sure_as,
    false_causes,
    segment_errors,
    truth_causes,
)

NO, YES = np.zeros(1, bool), np.ones(1, bool)
RIGHT = TruthEvidence(
    outside=NO,
    doubted=NO,
    found=YES,
    partners_right=YES,
    reversed=NO,
    type_right=YES,
    same_neurons=YES,
    peak=np.array([0.95]),
    low=0.5,
    cleft=np.array([7], np.uint64),
    removed_by=np.array([""], object),
    shared=NO,
    dropped=NO,
    same_site=NO,
    segments_known=True,
    beside=np.array([[1, 2]], np.uint64),
    main=np.array([[1, 2]], np.uint64),
    chosen=np.array([[1, 2]], np.uint64),
)
MISSED = {
    "found": NO,
    "partners_right": NO,
    "type_right": NO,
    "same_neurons": NO,
    "chosen": np.zeros((1, 2), np.uint64),
}
WRONG = {"partners_right": NO, "type_right": NO, "same_neurons": NO, "chosen": np.array([[1, 3]], np.uint64)}
NOTHING = {**MISSED, "cleft": np.zeros(1, np.uint64)}
TRUTH_CASES = [
    ({}, ""),
    ({**NOTHING, "outside": YES}, "outside"),
    ({**NOTHING, "doubted": YES}, "truth_doubtful"),
    ({**NOTHING, "peak": np.array([0.49])}, "not_visible"),
    ({**NOTHING, "peak": np.array([np.nan])}, "not_visible"),
    ({**NOTHING, "peak": np.array([0.5])}, "removed"),
    ({**NOTHING, "peak": np.array([0.2]), "removed_by": np.array(["volume"], object)}, "removed"),
    ({**NOTHING, "peak": np.array([0.6]), "low": float("nan")}, "removed"),
    ({**NOTHING, "peak": np.array([0.4]), "low": float("nan")}, "not_visible"),
    ({**MISSED, "shared": YES}, "merged_away"),
    ({**MISSED, "dropped": YES}, "merged_away"),
    ({**WRONG, "shared": YES}, "merged_away"),
    ({**WRONG, "beside": np.array([[5, 5]], np.uint64)}, "no_contact_merge"),
    ({**WRONG, "chosen": np.array([[1, 2]], np.uint64)}, "no_contact_merge"),
    ({**WRONG, "main": np.array([[1, 9]], np.uint64)}, "no_contact_split"),
    ({**MISSED, "beside": np.array([[0, 2]], np.uint64)}, "no_contact_split"),
    ({**MISSED, "beside": np.array([[0, 0]], np.uint64), "main": np.zeros((1, 2), np.uint64)}, "no_contact_split"),
    ({**WRONG, "same_neurons": YES}, "no_contact_split"),
    ({**WRONG, "same_site": YES}, "wrong_post"),
    (WRONG, "partner_swapped"),
    (MISSED, "partner_swapped"),
    ({**WRONG, "reversed": YES}, "polarity_reversed"),
    ({**WRONG, "reversed": YES, "shared": YES}, "polarity_reversed"),
    ({"type_right": NO}, "type_wrong"),
    ({**WRONG, "beside": np.array([[5, 5]], np.uint64), "segments_known": False}, "partner_swapped"),
]


@pytest.mark.parametrize(("changes", "cause"), TRUTH_CASES)
def test_each_cause_of_a_true_synapse(changes: dict, cause: str) -> None:
    assert truth_causes(replace(RIGHT, **changes)).tolist() == [cause]


def test_many_rows_are_judged_one_by_one() -> None:
    cases = [replace(RIGHT, **changes) for changes, _ in TRUTH_CASES]
    cases = [case for case in cases if case.low == 0.5 and case.segments_known]
    wanted = [truth_causes(case)[0] for case in cases]
    arrays = {
        name: np.concatenate([getattr(case, name) for case in cases])
        for name in RIGHT.__dataclass_fields__
        if name not in ("low", "segments_known")
    }
    assert truth_causes(TruthEvidence(**arrays, low=0.5, segments_known=True)).tolist() == wanted


def test_a_segment_is_not_both_merged_and_cut() -> None:
    both = replace(RIGHT, beside=np.array([[5, 5]], np.uint64), main=np.array([[5, 2]], np.uint64))
    merged, split = segment_errors(both)
    assert (merged.tolist(), split.tolist()) == ([True], [False])


FALSE = FalseEvidence(NO, NO, np.array([""], object), NO, YES, np.array([[1, 2]], np.uint64))
FALSE_CASES = [
    ({}, "truth_doubtful"),
    ({"outside": YES, "seconded": YES}, "outside"),
    ({"sure": NO, "seconded": YES}, "truth_doubtful"),
    ({"follows": np.array(["merged_away"], object)}, "merged_away"),
    ({"twice": YES}, "found_twice"),
    ({"sure": NO}, "false_detection"),
    ({"neurons": np.array([[1, 1]], np.uint64)}, "false_detection"),
    ({"neurons": np.array([[1, 0]], np.uint64)}, "false_detection"),
]


@pytest.mark.parametrize(("changes", "cause"), FALSE_CASES)
def test_each_cause_of_a_false_synapse(changes: dict, cause: str) -> None:
    assert false_causes(replace(FALSE, **changes)).tolist() == [cause]


def test_every_cause_occurs_and_has_a_sentence_and_a_remedy() -> None:
    assert {cause for _, cause in TRUTH_CASES + FALSE_CASES} - {""} == set(CAUSES) == set(REMEDIES)
    assert all(text.endswith(".") and len(text) > 20 for text in CAUSES.values())


def test_sure_is_a_share_of_the_median_of_the_right_ones() -> None:
    right = np.array([[0.8, 100.0], [1.0, 200.0], [0.9, np.nan]])
    asked = np.array([[0.73, 60.0], [0.71, 60.0], [0.9, 10.0], [np.nan, 500.0]])
    # medians: 0.9 and, with a value unknown, none
    assert as_sure_as(right, asked, np.array([0.8, 0.3])).tolist() == [True, False, True, True]
    assert as_sure_as(right[:2], asked, np.array([0.8, 0.3])).tolist() == [True, False, False, True]
    assert not as_sure_as(right[:0], asked, np.array([0.8, 0.3])).any()


def test_nothing_to_judge() -> None:
    empty = {
        name: getattr(RIGHT, name)[:0] for name in RIGHT.__dataclass_fields__ if name not in ("low", "segments_known")
    }
    assert truth_causes(TruthEvidence(**empty, low=0.5, segments_known=True)).tolist() == []
    none = FalseEvidence(*(getattr(FALSE, name)[:0] for name in FALSE.__dataclass_fields__))
    assert false_causes(none).tolist() == []
