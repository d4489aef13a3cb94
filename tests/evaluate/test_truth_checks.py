"""Errors put into a truth by hand, and nothing else, are what the checks ask about."""

import numpy as np
import pytest

from bouton.evaluate.agreement import agreement, cohen_kappa
from bouton.evaluate.leakage import Region, leaks
from bouton.evaluate.synapses import MatchRule, SynapseSet
from bouton.evaluate.truth_checks import Detections, check_against, check_cells, check_rows, points_nm, suspects
from bouton.geometry import Box

RULE = MatchRule(400.0, (0.0, 0.0, 0.0), (20_000.0, 20_000.0, 20_000.0), 100.0)


def clean(n=30):
    """``n`` synapses 600 nm apart, partners' points 90 nm to either side."""
    centre = np.stack([np.full(n, 5000.0), 600.0 * np.arange(1, n + 1), np.full(n, 5000.0)], axis=1)
    ids = np.arange(1, n + 1, dtype=np.uint64)
    table = {"id": ids, "pre_id": ids + np.uint64(100), "post_id": ids + np.uint64(500)}
    table |= {f"{axis}_nm": centre[:, i].copy() for i, axis in enumerate("zyx")}
    for side, step in (("pre", -90.0), ("post", 90.0)):
        table |= {f"{side}_{axis}_nm": centre[:, i] + (step if axis == "z" else 0) for i, axis in enumerate("zyx")}
    table |= {"score": np.ones(n), "type": np.array(["excitatory"] * n, dtype=object)}
    return table


def as_set(table):
    return SynapseSet(points_nm(table), table["pre_id"], table["post_id"], table["type"].astype(str))


def asked(rows):
    return [(name, row) for name, row, _, _ in rows]


def test_a_clean_truth_raises_no_question():
    table = clean()
    assert check_rows(table, RULE, 150.0) == []
    assert check_cells(table, (table["pre_id"], table["post_id"]), RULE) == []
    assert check_against(as_set(table), Detections(table, as_set(table)), RULE) == ([], [])


def test_rows_that_contradict_themselves():
    table = clean()
    table["x_nm"][3] = 30_000.0
    table["post_id"][5] = table["pre_id"][5]
    table["pre_id"][7] = 0
    for name in ("pre_id", "post_id"):
        table[name][10] = table[name][9]
    table["y_nm"][10] = table["y_nm"][9] + 60.0
    table["pre_z_nm"][12] -= 2000.0
    found = asked(check_rows(table, RULE, 150.0))
    # what was moved is far from its partners, too
    assert {("outside", 3), ("same_cell", 5), ("no_partner", 7), ("repeated", 10), ("far_partner", 12)} <= set(found)
    assert {row for _, row in found} == {3, 5, 7, 10, 12}


def test_points_in_other_cells():
    table = clean()
    cells = table["pre_id"].copy(), table["post_id"].copy()
    cells[0][4], cells[1][8] = 999, 0
    table["pre_x_nm"][11] = np.nan
    cells[0][11] = 0
    # of a point outside of the volume nobody knows
    table["pre_x_nm"][13], cells[0][13] = -5.0, 0
    rows = check_cells(table, cells, RULE)
    assert asked(rows) == [("other_cell", 4), ("other_cell", 8)]
    assert rows[0][2] > rows[1][2] and "999" in rows[0][3]


def test_a_detector_that_disagrees():
    truth, found = clean(), clean()
    keep = np.arange(30) != 6
    found = {name: values[keep].copy() for name, values in found.items()}
    found["score"][:] = np.linspace(0.5, 1, 29)
    found["pre_id"][0], found["post_id"][0] = found["post_id"][0], found["pre_id"][0]
    found["post_id"][1] = 77
    found["type"][2] = "inhibitory"
    truth = {name: values[np.arange(30) != 29] for name, values in truth.items()}
    about, silent = check_against(as_set(truth), Detections(found, as_set(found)), RULE)
    assert sorted(asked(about)) == [("not_detected", 6), ("other_partners", 1), ("other_type", 2), ("reversed", 0)]
    assert asked(silent) == [("not_annotated", 28)]


def test_the_margin_is_left_alone():
    truth, found = clean(), clean()
    for table in (truth, found):
        table["x_nm"][:] = 50.0
    found["type"][4] = "inhibitory"
    found["post_id"][5] = 77
    assert check_against(as_set(truth), Detections(found, as_set(found)), RULE) == ([], [])


def test_an_unsure_detection_is_no_question():
    truth, found = clean(), clean()
    truth = {name: values[:-1] for name, values in truth.items()}
    found["score"][-1] = 0.3
    assert check_against(as_set(truth), Detections(found, as_set(found)), RULE) == ([], [])


def test_suspects_are_sorted_by_kind_and_strength():
    table = clean()
    rows = [("other_type", 2, 0.1, ""), ("outside", 4, 0.5, ""), ("other_type", 1, 0.9, "b")]
    found = suspects(rows, table)
    assert found["id"].tolist() == [5, 2, 3]
    assert found["suspicion"].tolist() == ["outside", "other_type", "other_type"]
    assert all(len(values) == 0 for values in suspects([], table).values())


def test_two_annotators():
    first, second = clean(), clean()
    second = {name: values[5:].copy() for name, values in second.items()}
    second["y_nm"] += 40.0
    second["type"][:10] = "inhibitory"
    first["type"][5:10] = "inhibitory"
    found = agreement(as_set(first), as_set(second), RULE)
    location = found.levels["location"]
    assert (location.tp, location.fn, location.fp) == (25, 5, 0)
    assert location.f1.value == pytest.approx(50 / 55)
    assert found.distance_nm == pytest.approx(40.0)
    assert (found.same_type.value, found.same_type.n) == (pytest.approx(20 / 25), 25)
    swapped = agreement(as_set(second), as_set(first), RULE)
    assert swapped.levels["location"].f1 == location.f1
    # 5 of 25 inhibitory in one, 10 of 25 in the other, 20 alike
    chance = 0.2 * 0.4 + 0.8 * 0.6
    assert found.kappa == pytest.approx((0.8 - chance) / (1 - chance))


def test_kappa_where_chance_decides():
    same = np.array(["a", "a"])
    assert np.isnan(cohen_kappa(same, same)) and np.isnan(cohen_kappa(same[:0], same[:0]))
    assert cohen_kappa(np.array(["a", "b"]), np.array(["b", "a"])) == pytest.approx(-1.0)


def test_leaks():
    box = Box((0, 0, 0), (10, 10, 10))
    scored = [Region("em", Box((0, 0, 8), (10, 10, 18)), "test")]
    (leak,) = leaks([Region("em", box, "train")], scored)
    assert leak.shared_voxels == 200 and leak.share == pytest.approx(0.2)
    apart = [Region("em", Box((0, 0, 12), (10, 10, 22)), "test")]
    assert leaks([Region("em", box, "train")], apart) == []
    (near,) = leaks([Region("em", box, "train")], apart, (0, 0, 3))
    assert near.shared_voxels == 0
    assert leaks([Region("other", box, "train")], scored, (9, 9, 9)) == []
