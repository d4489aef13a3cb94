"""bouton plan --probe, prices, and the report's comparison, as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bouton.cli.main import main
from bouton.engine.probe import ProbeBox, probe_boxes
from bouton.geometry import Box, Grid
from bouton.spec import load_workflow
from bouton.volume import create_volume

TOYS = Path(__file__).parents[1] / "engine" / "toys"
WORKFLOW = f"""\
name: toy
grid: {{shape_zyx: [32, 32, 32], voxel_size_nm: [30, 10, 10]}}
block_zyx: [4, 8, 8]
steps:
  tissue: {{stage: {TOYS}/source.py}}
  smooth: {{stage: {TOYS}/smooth.py, reads: {{image: tissue}}}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "toy.yaml").write_text(WORKFLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def bouton(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def probed(capsys: pytest.CaptureFixture[str], *more: str) -> dict:
    assert bouton("plan", "toy.yaml", "--probe", "--workers", "2", "--json", *more) == 0
    return json.loads(capsys.readouterr().out)


def shards(here: Path) -> dict[Path, int]:
    """Return when each shard of the probe was written."""
    found = (here / "runs/toy/.probe").rglob("c/**/*")
    return {path: path.stat().st_mtime_ns for path in found if path.is_file()}


def test_probe_then_run_then_report(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = probed(capsys)
    tissue, smooth = plan["steps"]
    assert (tissue["tasks"], tissue["done"]) == (128, 0)
    for step in (tissue, smooth):
        found = step["forecast"]
        assert found["source"] == "probe"
        for name in ("seconds", "worker_seconds", "cpu_seconds", "worker_bytes", "peak_bytes", "size_bytes"):
            assert 0 < found[name]["low"] <= found[name]["value"] <= found[name]["high"], name
    # a shard and a table for each block, and the layer's metadata
    assert tissue["forecast"]["files"]["value"] == pytest.approx(2 * 128, abs=4)
    assert plan["unknown"] == []
    assert not (here / "runs/toy/run.json").exists()

    blocks = shards(here)
    assert blocks
    again = probed(capsys)
    assert again["steps"][1]["forecast"]["worker_seconds"] == smooth["forecast"]["worker_seconds"]
    assert shards(here) == blocks
    probed(capsys, "--set", "steps.smooth.params.reach=1")
    assert len(shards(here)) > len(blocks)
    probed(capsys)

    assert bouton("run", "toy.yaml", "--executor", "serial") == 0
    kept = json.loads((here / "runs/toy/plan.json").read_text())
    assert (kept["workers"], kept["ran_with_workers"]) == (2, 1)
    assert [step["key"] for step in kept["steps"]] == [step["key"] for step in plan["steps"]]
    report = (here / "runs/toy/report/index.html").read_text()
    assert "Plan and truth" in report
    assert "Planned for 2 workers, ran with 1" in report
    # a run that computes nothing keeps the plan that the first one started with
    capsys.readouterr()
    assert bouton("run", "toy.yaml", "--executor", "serial") == 0
    assert json.loads((here / "runs/toy/plan.json").read_text()) == kept


def test_the_probe_changes_no_result(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--bounds-zyx", "0:8,0:16,0:32")
    probed(capsys, "--runs", "first", *small)
    for runs in ("first", "second"):
        assert bouton("run", "toy.yaml", "--executor", "serial", "--runs", runs, *small) == 0
    files = {
        runs: {
            p.relative_to(here / runs): p.read_bytes() for p in (here / runs / "toy").glob("*/*/**/*") if _is_data(p)
        }
        for runs in ("first", "second")
    }
    assert files["first"] == files["second"]
    assert files["first"]


def _is_data(path: Path) -> bool:
    return path.is_file() and ".probe" not in path.parts and path.suffix != ".sqlite" and "ledger" not in path.name


def test_tables_for_people(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    money = ("--machine", "t4-2019", "--spot", "--preemptions-per-hour", "0.1")
    assert bouton("plan", "toy.yaml", "--probe", "--workers", "2", *money) == 0
    text = " ".join(capsys.readouterr().out.split())
    for said in (
        "measured on a probe",
        "90 %",
        "days old",
        "if a worker there is as fast as here",
        "2 machines",
        "USD",
    ):
        assert said in text
    assert bouton("plan", "toy.yaml", "--runs", "other", *money) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "unknown time of tissue, smooth: bouton plan --probe measures it" in text
    assert "unknown cost" in text


def test_money_is_told_in_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "mine.yaml").write_text(
        "machines:\n  mine:\n    cores: 2\n    memory_gib: 64\n    price_per_hour: 1.0\n    currency: EUR\n"
        "    date: 2026-01-31\n    source: a list\n"
    )
    plan = probed(capsys, "--prices", "mine.yaml", "--machine", "mine", "--relative-speed", "2")
    quote = plan["money"]["quote"]
    assert (quote["machines"], quote["workers_each"]) == (1, 2)
    assert quote["hours"]["value"] == pytest.approx(plan["seconds_left"]["value"] / 2 / 3600)
    assert quote["cost"]["value"] == pytest.approx(quote["hours"]["value"])
    assert plan["money"]["speed_is_known"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--machine", "t5-2019"], "did you mean 't4-2019'"),
        (["--machine", "t4-2019", "--spot"], "--spot without --preemptions-per-hour"),
        (["--machine", "t4-2019", "--preemptions-per-hour", "1"], "--preemptions-per-hour without --spot"),
        (["--spot"], "expected --machine NAME"),
        (["--machine", "a", "--prices", "none.yaml"], "none.yaml: cannot read it"),
    ],
)
def test_what_is_wrong_with_a_machine_is_said(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert bouton("plan", "toy.yaml", *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


ENTRY = {"price_per_hour": 1.0, "currency": "EUR", "date": "2026-01-31", "source": "a list"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"date": None}, "mine.yaml:2"),
        ({"source": None}, "machines.a.source: missing"),
        ({"date": "'soon'"}, "machines.a.date: 'soon'"),
        ({"price_per_hour": -1}, "machines.a.price_per_hour: -1"),
        ({"price_per_hour": ".inf"}, "machines.a.price_per_hour: inf"),
        ({"core": 4}, "did you mean 'cores'"),
        ({"cores": 0}, "machines.a.cores: 0"),
        ({"currency": "euro"}, "machines.a.currency"),
    ],
)
def test_a_wrong_price_file_is_refused(here: Path, capsys: pytest.CaptureFixture[str], change: dict, said: str) -> None:
    entry = {name: value for name, value in (ENTRY | change).items() if value is not None}
    (here / "mine.yaml").write_text("machines:\n  a:\n" + "".join(f"    {k}: {v}\n" for k, v in entry.items()))
    assert bouton("plan", "toy.yaml", "--machine", "a", "--prices", "mine.yaml") == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_failing_block_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = f"  bad: {{stage: {TOYS}/trouble.py, reads: {{image: tissue}}, params: {{how: raise, at: [12, 8, 8]}}}}\n"
    (here / "toy.yaml").write_text(WORKFLOW + lines)
    assert bouton("plan", "toy.yaml", "--probe", "--workers", "2") == 4
    error = capsys.readouterr().err
    assert "the probe failed in step bad, copy 3-1-1 (box 12:16,8:16,8:16, z,y,x): ValueError: a poison block" in error
    # what was measured stays, and the mended workflow goes on from there
    (here / "toy.yaml").write_text(WORKFLOW)
    assert probed(capsys)["steps"][0]["forecast"]


def test_ctrl_c_leaves_nothing_broken(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = f"  slow: {{stage: {TOYS}/trouble.py, reads: {{image: tissue}}, params: {{seconds: 3.0}}}}\n"
    (here / "toy.yaml").write_text(WORKFLOW + slow)
    command = [sys.executable, "-m", "bouton", "plan", "toy.yaml", "--probe", "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ}, text=True)
    deadline = time.monotonic() + 60
    while not list((here / "runs").rglob("slow/*/ledger.sqlite")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command goes on from here" in error
    assert "Traceback" not in error
    (here / "toy.yaml").write_text(WORKFLOW + slow.replace("3.0", "0.0"))
    assert probed(capsys)["unknown"] == []


def test_boxes_of_a_probe(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(WORKFLOW)
    flow = load_workflow(path)
    grid = Grid(Box.of_shape((32, 32, 32)), (4, 8, 8))
    for workers in (1, 2, 4, 16):
        warm, first, *others = probe_boxes(flow, workers)
        assert warm.is_warmup
        assert first.box.contains(warm.box)
        assert len(Grid(warm.box, grid.block)) == 8
        assert first.blocks >= min(32, max(8, 4 * workers)) or workers == 16
        for probe in (first, *others):
            assert all(grid.core(index) == grid.core(index) & probe.box for index in grid.blocks_in(probe.box))
        for one in others:
            assert (one.box & first.box).is_empty
            assert one.blocks >= workers
        assert sum(b.blocks for b in (first, *others)) <= max(workers, 128 // 4)


def test_small_volumes_are_probed_with_few_blocks(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(WORKFLOW.replace("[4, 8, 8]", "[16, 16, 16]"))
    warm, *others = probe_boxes(load_workflow(path), 2)
    assert [probe.blocks for probe in others] == [2]
    path.write_text(WORKFLOW.replace("[4, 8, 8]", "[32, 32, 32]"))
    assert probe_boxes(load_workflow(path), 2)[1:] == [ProbeBox(Box.of_shape((32, 32, 32)), 1)]
    assert warm.box == Box((12, 4, 4), (20, 12, 12))
    assert others[0].box == Box((0, 0, 0), (32, 16, 16))


def test_places_without_tissue_are_passed_over(tmp_path: Path) -> None:
    import numpy as np

    volume = create_volume(
        tmp_path / "image.zarr", shape_zyx=(32, 32, 32), dtype="uint8", channels=None, voxel_size_nm=(10, 10, 10),
        block_zyx=(32, 32, 32), kind="image",
    )  # fmt: skip
    image = np.zeros((32, 32, 32), np.uint8)
    image[:, 8:24] = 7
    volume.write(Box.of_shape(image.shape), image)
    path = tmp_path / "toy.yaml"
    step = f"copy: {{stage: {TOYS}/trouble.py, reads: {{image: image}}}}"
    path.write_text(f"block_zyx: [4, 4, 4]\ndata: {{image: {{path: image.zarr}}}}\nsteps:\n  {step}\n")
    boxes = probe_boxes(load_workflow(path), 1)
    assert len(boxes) > 2
    assert all(image[b.box.slices].any() for b in boxes)
