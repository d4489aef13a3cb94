"""The section of synapses over their score, and that of corrected counts."""

import io

import numpy as np
import pytest
from PIL import Image

import fake_run
from bouton.report.curves import count_sets, curve_picture, curve_sets
from bouton.report.numbers import score_table
from bouton.report.page import write_report
from bouton.volume.run_folder import open_run

CURVE = {"level": "str", "score": "float64", "precision": "float64", "recall": "float64", "f1": "float64"}


def curve(n=20):
    recall = np.linspace(0.1, 0.9, n)
    rows = {"score": np.linspace(1, 0, n), "precision": 1 - recall / 2, "recall": recall, "f1": recall}
    return {"level": np.full(n, "location", object), **rows}


def test_the_point_that_was_taken_is_marked_in_red():
    pictures = [np.asarray(Image.open(io.BytesIO(curve_picture(curve(), at))).convert("RGB")) for at in (0.2, 0.8)]
    red = [np.argwhere((p[..., 0] > 190) & (p[..., 1] < 100))[:, 1].mean() for p in pictures]
    assert red[0] != pytest.approx(red[1], abs=5)
    assert curve_picture({name: values[:0] for name, values in curve().items()}, 0.0) is None


def scores(**values):
    n = len(values)
    return {
        "metric": np.array(list(values), object), "value": np.array(list(values.values()), float),
        "unit": np.full(n, "", object), "better": np.full(n, "higher", object), "n": np.full(n, 9, np.int64),
    }  # fmt: skip


def test_limits_stand_behind_their_score():
    table = score_table({"a": scores(f1=0.5, f1_low=0.25, f1_high=0.75), "b": scores(f1=0.6)})
    assert [row.metric for row in table.rows] == ["f1"]
    assert [cell.text for cell in table.rows[0].cells] == ["0.5 (0.25–0.75)", "0.6"]


def test_a_run_tells_its_curve_and_its_corrected_counts(tmp_path):
    run = fake_run.whole_run(tmp_path)
    step = run.step("synapse_scores", "evaluate_synapses")
    run.table(step, "scores", scores(min_score=0.25, synapse_average_precision=0.875), fake_run.SCORE_COLUMNS)
    run.table(step, "curve", curve(), CURVE)
    names = ("n_corrected", "n_corrected_low", "n_corrected_high")
    totals = {"type": np.array(["all", "unknown"], object), "n": np.array([40, 2])}
    totals |= {name: np.array([value, np.nan]) for name, value in zip(names, (50.0, 44.4, 57.7), strict=True)}
    columns = {"type": "str", "n": "int64", **dict.fromkeys(names, "float64")}
    run.table(run.step("connectome", "connectome"), "totals", totals, columns)
    run.save()
    found = open_run(run.folder)
    (shown,), problems = curve_sets(found)
    assert (shown.step, shown.facts["average precision"], shown.facts["least score taken"]) == (
        "synapse_scores", "0.875", "0.25"
    )  # fmt: skip
    assert shown.plot.startswith("data:image/png") and problems == []
    (counts,), _ = count_sets(found)
    assert counts.rows == [("all", "40", "50", "44 to 58"), ("unknown", "2", "–", "–")]
    page = write_report(run.folder).read_text()
    assert "Synapses over their score: synapse_scores" in page and "44 to 58" in page
