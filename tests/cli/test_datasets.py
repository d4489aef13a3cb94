"""Workflows with several datasets, as a user types them: run, status, report, plan."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bouton.cli.main import main
from bouton.volume import read_table
from bouton.volume.run_folder import open_run
from bouton.volume.run_group import open_group

TOYS = Path(__file__).parents[1] / "engine" / "toys"
WORKFLOW = f"""\
name: nine
data:
  image: {{path: first.npy, voxel_size_nm: [30, 10, 10]}}
block_zyx: [4, 5, 6]
datasets:
  first: {{}}
  second:
    data: {{image: {{path: second.npy}}}}
    set: {{steps.smooth.params.reach: 1}}
  box: {{bounds_zyx: "0:4,0:5,0:6"}}
steps:
  copy: {{stage: {TOYS}/trouble.py, reads: {{image: image}}}}
  smooth: {{stage: {TOYS}/smooth.py, reads: {{image: copy}}}}
"""


def write_inputs(folder: Path) -> None:
    (folder / "nine.yaml").write_text(WORKFLOW)
    random = np.random.default_rng(1)
    for name, shape in (("first", (8, 10, 9)), ("second", (4, 10, 9))):
        np.save(folder / f"{name}.npy", random.integers(0, 256, shape).astype(np.uint8))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder in which all datasets ran, and what was printed."""
    folder = tmp_path_factory.mktemp("finished")
    write_inputs(folder)
    command = [sys.executable, "-m", "bouton", "run", "nine.yaml", "--executor", "serial"]
    environment = {**os.environ, "COLUMNS": "140"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture
def done(finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of that folder, in which the test works."""
    shutil.copytree(finished[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("COLUMNS", "140")
    return tmp_path / "copy"


def bouton(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def run(*arguments: str) -> int:
    return bouton("run", "nine.yaml", "--executor", "serial", *arguments)


def states(capsys: pytest.CaptureFixture[str], name: str = "nine") -> dict[str, str]:
    capsys.readouterr()
    assert bouton("status", name, "--json") == 0
    return {each["dataset"]: each["state"] for each in json.loads(capsys.readouterr().out)["datasets"]}


def test_all_datasets_run_and_are_compared(
    finished: tuple[Path, str], done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = finished[1]
    for expected in ("first (1 of 3)", "box (3 of 3)", "datasets of nine", "scores of smooth", "nine/compare.html"):
        assert expected in text
    assert sorted(path.name for path in (done / "runs").iterdir()) == [
        "nine",
        *(f"nine-{n}" for n in ("box", "first", "second")),
    ]
    # A run of a dataset is a run like any other.
    assert bouton("verify", "nine-second") == 0
    assert open_run(done / "runs/nine-second").steps["smooth"].params["reach"] == 1
    assert open_run(done / "runs/nine-first").steps["smooth"].params["reach"] != 1
    assert open_run(done / "runs/nine-box").steps["smooth"].bounds_zyx == "0:4,0:5,0:6"
    assert states(capsys) == {"first": "done", "second": "done", "box": "done"}


def test_the_tables_hold_what_the_runs_hold(done: Path) -> None:
    """Every score of every run, by its own table, is in both files; and voxels are counted by hand."""
    long = read_table(done / "runs/nine/compare.parquet")
    values = dict(zip(zip(long["dataset"], long["step"], long["metric"], strict=True), long["value"], strict=True))
    wide = {(row["step"], row["metric"]): row for row in csv.DictReader((done / "runs/nine/compare.csv").open())}
    for name in ("first", "second", "box"):
        scores = open_run(done / f"runs/nine-{name}").table("smooth.scores")
        assert len(scores["metric"])
        for metric, value in zip(scores["metric"], scores["value"], strict=True):
            assert values[name, "smooth", metric] == value
            assert float(wide["smooth", metric][name]) == value
    assert [values[name, "copy", "voxels"] for name in ("first", "second", "box")] == [720, 360, 120]
    # Blocks, and the nodes of the merge: as many leaves, and a root where there are several.
    assert [values[name, "copy", "done"] for name in ("first", "second", "box")] == [17, 9, 2]
    page = (done / "runs/nine/compare.html").read_text()
    for name in ("first", "second", "box"):
        assert f'href="../nine-{name}/report/index.html"' in page


def test_a_dataset_that_fails_does_not_stop_the_others(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = ["--set", 'datasets.first.set={"steps.copy.params.how": "raise", "steps.copy.params.at": [4, 0, 0]}']
    assert run("--retries", "0", *bad) == 4
    streams = capsys.readouterr()
    assert "1 of 3 datasets failed: first: 1 tasks failed" in streams.err
    assert streams.err.count("\n") == 1
    assert states(capsys) == {"first": "failed", "second": "done", "box": "done"}
    assert "a poison block" in (here / "runs/nine/compare.html").read_text()
    # The same command with the cause mended goes on.
    assert run() == 0
    assert states(capsys) == {"first": "done", "second": "done", "box": "done"}
    assert "a poison block" not in (here / "runs/nine/compare.html").read_text()


def test_missing_data_are_told_at_once_and_the_others_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "second.npy").unlink()
    assert run() == 3
    streams = capsys.readouterr()
    assert streams.out.index("failed second") < streams.out.index("first (1 of 2)")
    assert "1 of 3 datasets failed: second: data source 'image' not found" in streams.err
    assert states(capsys) == {"first": "done", "second": "failed", "box": "done"}
    assert bouton("status", "nine") == 0
    assert "nine.yaml:8, dataset second" in capsys.readouterr().out.replace("\n", "")
    # One alone: its own error.
    assert run("--dataset", "second") == 3
    assert "data source 'image' not found" in capsys.readouterr().err


def test_some_datasets(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--dataset", "box", "--dataset", "first") == 0
    # In the order of the file.
    assert capsys.readouterr().out.index("first (1 of 2)") > 0
    assert states(capsys) == {"first": "done", "second": "pending", "box": "done"}
    assert run("--dataset", "boks") == 2
    assert "did you mean 'box'" in capsys.readouterr().err
    # What the others did stays.
    assert run("--dataset", "second", "--name", "trial") == 0
    assert states(capsys, "trial") == {"first": "pending", "second": "done", "box": "pending"}
    assert (here / "runs/trial-second/run.json").is_file()
    assert open_group(here / "runs/nine").members[0].run == "nine-first"


def test_a_wrong_file_stops_everything_before_it_begins(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "nine.yaml").write_text(WORKFLOW.replace("params.reach", "params.raech"))
    assert run() == 2
    assert "nine.yaml:9, dataset second: unknown parameter 'raech'" in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_json_tells_each_dataset_and_the_comparison(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json", "--until", "copy") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    started = [event["dataset"] for event in events if event["event"] == "DatasetStarted"]
    assert started == ["first", "second", "box"]
    assert [event["run"] for event in events if event["event"] == "RunStarted"] == [f"nine-{n}" for n in started]
    assert events[-1]["event"] == "Compared"
    assert events[-1]["datasets"] == dict.fromkeys(started, "done")
    assert Path(events[-1]["path"]).is_file()


def test_the_verbs_around_runs_know_datasets(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(done / "runs/nine-second")
    assert bouton("status", "nine.yaml") == 0
    assert "pending" in capsys.readouterr().out
    assert bouton("status", "nine.yaml", "--runs", "elsewhere") == 3
    assert "no datasets here" in capsys.readouterr().err
    assert bouton("path", "nine", "copy") == 2
    streams = capsys.readouterr()
    assert "3 datasets; expected one of the runs nine-first, nine-second, nine-box" in streams.err
    (done / "runs/nine/compare.html").unlink()
    assert bouton("report", "nine") == 0
    assert (done / "runs/nine/compare.html").is_file()
    (done / "runs/nine/datasets.json").write_text("{")
    assert bouton("status", "nine") == 3
    assert "datasets.json is damaged" in capsys.readouterr().err


def test_plan_tells_every_dataset_and_all(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bouton("plan", "nine.yaml", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    tasks = {each["dataset"]: each["steps"][0]["tasks"] for each in plan["datasets"]}
    assert tasks == {"first": 17, "second": 9, "box": 2}
    assert not (here / "runs").exists()
    assert bouton("plan", "nine.yaml") == 0
    text = capsys.readouterr().out
    assert "plan for 3 datasets of nine" in text
    (here / "second.npy").unlink()
    assert bouton("plan", "nine.yaml") == 0
    assert "cannot be read second" in capsys.readouterr().out
    assert bouton("plan", "nine.yaml", "--dataset", "second") == 3


def test_damaged_results_are_named_and_the_rest_compared(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = open_run(done / "runs/nine-second").path("smooth.scores")
    table.write_bytes(table.read_bytes()[:20])
    capsys.readouterr()
    assert bouton("report", "nine") == 0
    page = (done / "runs/nine/compare.html").read_text()
    assert "Results that cannot be read" in page
    assert "second: " in page


def test_a_dataset_that_is_paused_stops_the_others(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "bouton", "run", "nine.yaml", "--executor", "serial"]
    command += ["--set", "steps.copy.params.seconds=0.5", "--dataset", "first", "--dataset", "box"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    events = here / "runs/nine-first/events.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (events.exists() and '"TasksDone"' in events.read_text()):
        time.sleep(0.05)
    assert bouton("pause", "nine-first") == 0
    told = process.communicate(timeout=120)[1]
    assert process.returncode == 75, told
    assert states(capsys) == {"first": "paused", "second": "pending", "box": "pending"}
    # The same command goes on with all of them.
    assert run("--set", "steps.copy.params.seconds=0.5", "--dataset", "first", "--dataset", "box") == 0
    assert states(capsys) == {"first": "done", "second": "pending", "box": "done"}
