"""The page and the tables that set datasets side by side, from runs written by hand."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

import fake_run
from bouton.errors import DataError
from bouton.report.compare import COLUMNS, compare_runs, write_comparison
from bouton.volume import read_table
from bouton.volume.run_group import GroupMember, RunGroup, open_group

SCORES = fake_run.SCORE_COLUMNS


def scored_run(folder: Path, values: dict[str, tuple[float, str]], synapses: int) -> None:
    """Write a run with true synapses, found ones and a table of scores."""
    run = fake_run.FakeRun(folder)
    truth = run.step("tissue", "phantom", seconds=1.0, size_bytes=10)
    run.table(truth, "synapses", fake_run.synapses(40), fake_run.SYNAPSE_COLUMNS)
    found = run.step("found", "synapses", seconds=2.5, size_bytes=2000)
    run.table(found, "synapses", fake_run.synapses(synapses), fake_run.SYNAPSE_COLUMNS)
    step = run.step("scores", "evaluate_synapses", seconds=0.5, size_bytes=0)
    table = {
        "metric": np.array(list(values), dtype=object),
        "value": np.array([value for value, _ in values.values()]),
        "unit": np.array(["" for _ in values], dtype=object),
        "better": np.array([better for _, better in values.values()], dtype=object),
        "n": np.array([7 for _ in values]),
    }
    run.table(step, "scores", table, SCORES)
    run.save(state="done")


@pytest.fixture
def group(tmp_path: Path) -> RunGroup:
    f1 = {"f1_low": (0.5, ""), "f1_high": (0.9, "")}
    scored_run(tmp_path / "nine-a", {"f1": (0.8, "higher"), "voi": (0.5, "lower"), **f1}, 30)
    scored_run(tmp_path / "nine-b", {"f1": (0.6, "higher"), "extra": (3, "")}, 5)
    members = (
        GroupMember("a", "nine-a"),
        GroupMember("b", "nine-b"),
        GroupMember("c", "nine-c"),
        GroupMember("d", "nine-d", "no <b>data</b> there"),
    )
    found = RunGroup(tmp_path / "nine", "nine", "/where/nine.yaml", members)
    found.write()
    return found


def test_datasets_are_counted_and_added_up(group: RunGroup) -> None:
    compared = compare_runs(group)
    assert [row.state for row in compared.datasets] == ["done", "done", "pending", "failed"]
    first = compared.datasets[0]
    # 30 found synapses, not the 40 true ones; 1 + 2.5 + 0.5 s; 10 + 2000 bytes; 20 x 96 x 112 voxels.
    assert (first.counts["synapses"], first.seconds, first.size) == ("30", "4.0 s", "2.01 kB")
    assert first.voxels == "215,040"
    assert compared.counted == ["synapses"]
    assert [cell.text for cell in compared.seconds.rows[1].cells] == ["2.5 s", "2.5 s", "–", "–"]


def test_scores_stand_side_by_side(group: RunGroup) -> None:
    scores = compare_runs(group).scores["scores"]
    assert scores.columns == ["a", "b", "c", "d"]
    rows = {row.metric: [cell.text for cell in row.cells] for row in scores.rows}
    assert rows == {
        "f1": ["0.8 (0.50–0.90)", "0.6", "–", "–"],
        "voi": ["0.5", "–", "–", "–"],
        "extra": ["–", "3", "–", "–"],
    }
    assert [cell.best for cell in scores.rows[0].cells] == [True, False, False, False]


def test_both_files_hold_every_number(group: RunGroup) -> None:
    write_comparison(group)
    long = read_table(group.folder / "compare.parquet")
    assert list(long) == list(COLUMNS)
    wide = {(row["step"], row["metric"]): row for row in csv.DictReader((group.folder / "compare.csv").open())}
    for dataset, step, metric, value in zip(*(long[c] for c in ("dataset", "step", "metric", "value")), strict=True):
        assert math.isclose(float(wide[step, metric][dataset]), value)
    assert wide["scores", "voi"]["b"] == wide["scores", "voi"]["c"] == ""
    assert sum(value != "" for row in wide.values() for name, value in row.items() if name in "abcd") == len(
        long["value"]
    )


def test_the_page_escapes_and_links(group: RunGroup) -> None:
    (group.folder.parent / "nine-a" / "report").mkdir()
    (group.folder.parent / "nine-a" / "report" / "index.html").write_text("report")
    write_comparison(group)
    page = (group.folder / "compare.html").read_text()
    assert "no &lt;b&gt;data&lt;/b&gt; there" in page
    assert 'href="../nine-a/report/index.html"' in page
    assert "nine-b/report" not in page
    assert "<script" not in page


def test_a_dataset_may_be_called_as_a_column(tmp_path: Path) -> None:
    scored_run(tmp_path / "nine-step", {"f1": (0.8, "higher")}, 3)
    group = RunGroup(tmp_path / "nine", "nine", "", (GroupMember("step", "nine-step"),))
    group.write()
    write_comparison(group)
    with (group.folder / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert next(row for row in rows if row["metric"] == "f1")["dataset step"] == "0.8"


def test_damage_is_told(group: RunGroup) -> None:
    (group.folder.parent / "nine-a" / "run.json").write_text("{")
    compared = compare_runs(group)
    assert "run.json is damaged" in compared.problems[0]
    assert compared.datasets[1].state == "done"
    (group.folder / "datasets.json").write_text('{"datasets": [1]}')
    with pytest.raises(DataError, match=r"datasets\.json is damaged"):
        open_group(group.folder)


def test_a_table_of_scores_of_another_kind_is_counted(tmp_path: Path) -> None:
    run = fake_run.FakeRun(tmp_path / "nine-a")
    step = run.step("own", "own.py")
    run.table(step, "scores", {"name": np.array(["x", "y"], dtype=object)}, {"name": "str"})
    run.save(state="done")
    group = RunGroup(tmp_path / "nine", "nine", "", (GroupMember("a", "nine-a"),))
    group.write()
    found = {number.metric: number.value for number in write_comparison(group).numbers}
    assert found["scores_rows"] == 2
