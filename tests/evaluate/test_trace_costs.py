"""What causes cost: F1 counted again by hand; and thresholds against trying them all."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.evaluate.detection import Detection
from bouton.evaluate.trace_costs import (
    Sweep,
    best_threshold,
    cause_costs,
    f1,
    in_digits,
    keeping,
    lower_threshold,
    recommend,
)


def test_costs_by_hand() -> None:
    # 6 right; 2 not visible, 1 swapped (wrong), 1 false detection, 1 false that is the truth's fault, 1 outside
    kinds = np.array(["missed", "missed", "wrong", "false", "false", "missed"], object)
    causes = np.array(["not_visible"] * 2 + ["partner_swapped", "false_detection", "truth_doubtful", "outside"], object)
    costs = cause_costs(kinds, causes, Detection(tp=6, fp=3, fn=3))
    now = 12 / 18
    wanted = {
        "not_visible": 16 / (16 + 3 + 1),
        "partner_swapped": 14 / (14 + 2 + 2),
        "false_detection": 12 / (12 + 2 + 3),
        "truth_doubtful": 14 / (14 + 2 + 3),
        "outside": now,
    }
    assert dict(zip(costs["cause"], costs["f1_if_mended"], strict=True)) == pytest.approx(wanted)
    assert costs["f1_gain"] == pytest.approx([wanted[c] - now for c in costs["cause"]])
    assert costs["cause"][0] == "not_visible"
    assert costs["cause"][-1] == "outside"
    assert dict(zip(costs["cause"], costs["errors"], strict=True))["not_visible"] == 2


def test_a_doubted_missed_synapse_is_no_synapse() -> None:
    costs = cause_costs(np.array(["missed"]), np.array(["truth_doubtful"]), Detection(tp=4, fp=0, fn=1))
    assert costs["f1_if_mended"].tolist() == [1.0]


def test_no_errors_no_rows() -> None:
    costs = cause_costs(np.array([], object), np.array([], object), Detection(3, 0, 0))
    assert all(len(values) == 0 for values in costs.values())
    assert recommend(costs, []) == []


@pytest.mark.parametrize("seed", range(8))
def test_the_best_threshold_is_the_best_of_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, 12, 40) / 12
    hits = (random.random(40) < values).astype(float)
    falses, total = 1.0 - hits, int(hits.sum()) + 3

    def score(at: float) -> float:
        kept = values >= at
        return f1(hits[kept].sum(), falses[kept].sum(), total - hits[kept].sum())

    found = best_threshold(values, hits, falses, total, ("score", 0.3))
    assert found.f1_now == pytest.approx(score(0.3))
    assert found.f1_best == pytest.approx(max(score(at) for at in np.linspace(0, 1.1, 500)))
    assert score(found.best) == pytest.approx(found.f1_best)


def test_no_better_threshold_is_no_advice() -> None:
    found = best_threshold(np.array([0.9, 0.8]), np.ones(2), np.zeros(2), 2, ("score", 0.0))
    assert (found.gain, found.best) == (0.0, 0.0)
    empty = best_threshold(np.zeros(0), np.zeros(0), np.zeros(0), 0, ("score", 0.5))
    assert empty.gain == 0.0


def test_recommendations_rank_by_gain() -> None:
    kinds = np.array(["wrong"] * 3 + ["missed"], object)
    causes = np.array(["no_contact_merge"] * 2 + ["no_contact_split", "removed"], object)
    costs = cause_costs(kinds, causes, Detection(tp=5, fp=3, fn=4))
    advice = recommend(costs, [Sweep("high", 0.7, 0.6, 0.58, 0.6), Sweep("score", 0.0, 0.0, 0.58, 0.58)])
    assert [row["action"] for row in advice] == ["segmentation", "threshold", "high"]
    assert sorted(advice[0]["causes"]) == ["no_contact_merge", "no_contact_split"]
    assert "check it on others" in advice[2]["advice"]


@pytest.mark.parametrize(
    ("value", "above", "wanted"),
    [
        (212 / 255, 211 / 255, 0.831),
        (0.9, 0.0, 0.9),
        (0.8504, 0.8501, 0.8504),
        (1385 * 3000.0, 0.0, 4155000.0),
        (67 * 1058.0 + 0.7, 0.0, 67 * 1058.0),
        (5.0, 5.0, 5.0),
    ],
)
def test_a_rounded_threshold_keeps_its_value_and_nothing_smaller(value: float, above: float, wanted: float) -> None:
    assert keeping(value, above) == pytest.approx(wanted)
    assert keeping(value, above) <= value


def test_numbers_read_back() -> None:
    assert [in_digits(v) for v in (4155000.0, 0.831, 0.0, 1234.5)] == ["4155000", "0.831", "0", "1234.5"]


def test_a_lower_threshold_is_advice_before_training() -> None:
    # nine of eleven above 0.3: nine tenths of them lie at 0.5 or above; two are in the noise
    enough = np.array([0.9, 0.8, 0.8, 0.7, 0.7, 0.6, 0.6, 0.55, 0.5, 0.1, np.nan])
    found = lower_threshold(enough, np.ones(11, bool), 0.95, Detection(tp=9, fp=0, fn=11))
    assert (found.best, found.found, found.of, found.beyond) == (0.5, 9, 11, 2)
    assert (found.f1_best, found.f1_beyond) == pytest.approx((36 / 38, 22 / 31))
    costs = cause_costs(np.array(["missed"] * 11), np.array(["not_visible"] * 11, object), Detection(9, 0, 11))
    low, train = recommend(costs, [], found)
    assert (low["action"], train["action"]) == ("low", "retrain")
    assert "9 of 11" in low["advice"]
    assert "high to at most that" in low["advice"]
    assert train["f1_gain"] == pytest.approx(22 / 31 - 18 / 29)
    all_seen = lower_threshold(enough[:9], np.ones(9, bool), 0.95, Detection(9, 0, 9))
    assert [row["action"] for row in recommend(costs, [], all_seen)] == ["low"]
    in_noise = lower_threshold(enough[9:], np.ones(2, bool), 0.95, Detection(9, 0, 2))
    assert [row["action"] for row in recommend(costs, [], in_noise)] == ["retrain"]


def test_what_is_said_of_thresholds_is_there() -> None:
    costs = cause_costs(np.array(["missed"] * 2), np.array(["removed", "merged_away"], object), Detection(4, 0, 2))
    for tried, told in (
        ([Sweep("high", 0.7, 0.6, 0.8, 0.9)], "high = 0.6 pays most: F1 +0.100"),
        ([Sweep("high", 0.7, 0.7, 0.8, 0.8)], "No other value of high pays"),
        ([], "no value could be tried"),
    ):
        (advice,) = [row["advice"] for row in recommend(costs, tried) if row["action"] == "threshold"]
        assert told in advice
        assert "For merged_away: raise low" in advice
