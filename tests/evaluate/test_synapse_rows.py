"""Classes, ratios, targets and checks of synapse tables, by hand."""

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.evaluate.curves import OperatingPoint
from bouton.evaluate.detection import Detection
from bouton.evaluate.scores import explain
from bouton.evaluate.synapse_checks import autapses, check_synapses, check_truth_inside
from bouton.evaluate.synapse_rows import (
    EXPLAINED,
    Compared,
    chosen_rows,
    class_rows,
    class_scores,
    comparison_rows,
    integrity_rows,
)
from bouton.evaluate.synapses import MatchRule, SynapseSet

E, H, U = "excitatory", "inhibitory", "unknown"
RULE = MatchRule(100.0, (0.0, 0.0, 0.0), (1e4, 1e4, 1e4), 0.0)


def synapses(*rows):
    """Rows of (x_nm, pre, post, type)."""
    centre = np.array([[5000.0, 5000.0, row[0]] for row in rows], float).reshape(-1, 3)
    ids = np.array([row[1:3] for row in rows], dtype=np.uint64).reshape(-1, 2)
    return SynapseSet(centre, ids[:, 0], ids[:, 1], np.array([row[3] for row in rows], dtype=object))


TRUE = synapses((1000, 1, 2, E), (2000, 1, 2, E), (3000, 1, 3, H), (4000, 3, 1, H), (5000, 2, 1, U))
FOUND = synapses((1000, 1, 2, E), (2000, 1, 2, H), (3000, 1, 3, H), (5000, 2, 1, E), (7000, 2, 3, E), (8000, 1, 1, U))


def by_name(rows):
    return {row.metric: row.value for row in rows}


def test_classes_by_hand():
    found = class_scores(TRUE, FOUND, RULE)
    # The E at 5000 has a truth of unknown type: it counts neither way. The one at 7000 is false.
    assert found == {E: Detection(tp=1, fp=1, fn=1), H: Detection(tp=1, fp=1, fn=1)}


def test_ratio_of_types_and_its_correction():
    rows = by_name(class_rows(TRUE, FOUND, RULE))
    assert (rows["ei_ratio"], rows["ei_ratio_true"]) == (3 / 2, 1.0)
    assert rows["ei_ratio_recall_corrected"] == pytest.approx((3 / 0.5) / (2 / 0.5))
    # Inhibitory synapses found half as often: the ratio found is twice the true one.
    true = synapses(*[(100 + 300 * i, 1, 2, E if i < 4 else H) for i in range(8)])
    found = synapses(*[(100 + 300 * i, 1, 2, E if i < 4 else H) for i in (0, 1, 2, 3, 4, 5)])
    rows = by_name(class_rows(true, found, RULE))
    assert (rows["ei_ratio"], rows["ei_ratio_recall_corrected"], rows["ei_ratio_true"]) == (2.0, 1.0, 1.0)
    alone = by_name(class_rows(synapses((1, 1, 2, E)), synapses((1, 1, 2, E)), RULE))
    assert np.isnan(alone["ei_ratio"]) and np.isnan(alone["ei_ratio_recall_corrected"])


def test_targets_are_scored_where_they_are_known():
    targets = (
        np.array(["spine", "shaft", "soma", "spine", U], object),
        np.array(["spine", "spine", "soma", "spine", "shaft", U], object),
    )
    rows = comparison_rows(Compared(TRUE, FOUND, (FOUND.pre, FOUND.post), targets), RULE)
    right = next(row for row in rows if row.metric == "target_right")
    assert (right.value, right.n) == (2 / 3, 3)
    assert "target_right" not in by_name(comparison_rows(Compared(TRUE, FOUND, (FOUND.pre, FOUND.post)), RULE))


def test_integrity_is_of_the_neurons_that_the_synapses_name():
    # All true neurons are right, but every end lies in a segment of its own: nothing is together.
    torn = np.arange(1, 6, dtype=np.uint64), np.arange(11, 16, dtype=np.uint64)
    rows = by_name(integrity_rows(TRUE, TRUE, torn))
    assert rows["nri"] == 0.0 and rows["nri_fp"] == 0
    # Ends of 1: 3 + 2, of 2: 2 + 1, of 3: 1 + 1.
    assert rows["nri_fn"] == 10 + 3 + 1
    assert by_name(integrity_rows(TRUE, TRUE, (TRUE.pre, TRUE.post)))["nri"] == 1.0


def test_neutral_synapses_make_no_edge():
    rule = MatchRule(100.0, RULE.start_nm, RULE.stop_nm, 1500.0)
    rows = by_name(comparison_rows(Compared(TRUE, FOUND, (FOUND.pre, FOUND.post)), rule))
    # The synapse at 1000 is neutral, and with it the one found there.
    assert (rows["edges_1_tp"], rows["edges_1_fp"], rows["edges_1_fn"]) == (3, 2, 1)
    assert rows["excitatory_tp"] == 0


def good():
    place = {f"{axis}_nm": np.array([1.0, 2.0]) for axis in "zyx"}
    return {"id": np.array([1, 2], np.uint64), **place, "type": np.array([E, U], object)}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"id": np.array([7, 7], np.uint64)}, "1 ids occur more than once, the first is 7"),
        ({"y_nm": np.array([1.0, np.inf])}, "row 1 holds y_nm = inf"),
        ({"score": np.array([1.0, 1.5])}, "row 1 holds score = 1.5.*0 to 1"),
        ({"score": np.array([np.nan, 1.0])}, "row 0 holds score = nan"),
        ({"type": np.array([E, "gaba"], object)}, "'gaba'.*excitatory, inhibitory or unknown"),
        ({"target": np.array(["spine", "neck"], object)}, "'neck'"),
    ],
)
def test_bad_tables_are_named(bad, message):
    check_synapses(good(), "truth")
    with pytest.raises(DataError, match=f"truth: .*{message}"):
        check_synapses(good() | bad, "truth")


def test_truth_outside_is_counted_and_refused_as_a_whole():
    inside = np.array([[1.0, 1.0, 1.0], [2e4, 1.0, 1.0]])
    assert check_truth_inside(inside, RULE, "truth") == 1
    assert check_truth_inside(inside[:0], RULE, "truth") == 0
    with pytest.raises(DataError, match="20000, 1, 1 nm"):
        check_truth_inside(inside[1:], RULE, "truth")


def test_an_autapse_is_one_neuron_on_both_sides():
    assert autapses(np.array([1, 0, 2], np.uint64), np.array([1, 0, 1], np.uint64)) == 1


def test_a_chosen_score_is_told_with_what_it_gave_there():
    rows = {row.metric: row for row in chosen_rows(OperatingPoint(0.7, Detection(tp=3, fp=1, fn=1)))}
    assert list(rows) == ["chosen_score", "chosen_on_f1", "chosen_on_f1_low", "chosen_on_f1_high"]
    assert (rows["chosen_score"].value, rows["chosen_on_f1"].value) == (0.7, pytest.approx(0.75))
    assert {row.n for row in rows.values()} == {5}
    assert all(explain(name, EXPLAINED) for name in rows)
