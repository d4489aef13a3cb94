"""The verbs around a run, as a user types them: run, plan, status, verify, path, stages."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bouton.cli.main import main

TOYS = Path(__file__).parents[1] / "engine" / "toys"
WORKFLOW = f"""\
name: toy
grid: {{shape_zyx: [12, 10, 9], voxel_size_nm: [30, 10, 10]}}
block_zyx: [4, 5, 6]
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


def run(*arguments: str) -> int:
    return bouton("run", "toy.yaml", "--executor", "serial", *arguments)


def test_run_then_everything_one_does_with_a_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    text = capsys.readouterr().out
    for expected in ("tissue", "12/12", "total", "report", "index.html", "bouton view runs/toy"):
        assert expected in text
    assert (here / "runs/toy/report/index.html").is_file()

    assert bouton("path", "toy", "smooth.histogram") == 0
    assert Path(capsys.readouterr().out.strip()).is_file()
    assert bouton("path", "toy", "smoth") == 2
    assert "did you mean smooth" in capsys.readouterr().err

    assert bouton("status", "runs/toy", "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert [step["state"] for step in status["steps"]] == ["complete", "complete"]

    assert bouton("verify", "toy") == 0
    shard = here / "runs/toy" / status["steps"][1]["folder"] / "total/0/c/1/0/1"
    content = shard.read_bytes()
    shard.unlink()
    capsys.readouterr()
    assert bouton("verify", "toy") == 3
    streams = capsys.readouterr()
    assert "1-0-1, box 4:8,0:5,6:9 (z,y,x)" in streams.out
    assert streams.err.count("\n") == 1
    assert "--repair" in streams.err
    assert bouton("verify", "toy", "--repair") == 0
    assert shard.read_bytes() == content


def test_json_is_one_object_a_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json", "--until", "tissue", "--name", "other") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [events[0]["event"], events[-2]["event"], events[-1]["event"]] == ["RunStarted", "RunFinished", "Report"]
    assert (here / "runs/other/run.json").is_file()
    assert events[0]["steps"] == ["tissue"]


def test_a_small_box_first_is_reused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--bounds-zyx", "0:8,0:10,0:9") == 0
    capsys.readouterr()
    assert run("--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    reused = {event["step"]: event["reused"] for event in events if event["event"] == "StepFinished"}
    assert reused == {"tissue": 8, "smooth": 4}


def test_overrides_and_block_make_other_keys(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--set", "steps.smooth.params.reach=1", "--json") == 0
    assert run("--block-zyx", "6,5,3", "--json") == 0
    assert len(list((here / "runs/toy/smooth").iterdir())) == 2
    capsys.readouterr()
    assert run("--block-zyx", "6,5") == 2
    assert "z,y,x" in capsys.readouterr().err
    assert run("--name", "../evil") == 2


def test_a_failed_block_ends_with_4_and_a_report(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = f"  bad: {{stage: {TOYS}/trouble.py, reads: {{image: tissue}}, params: {{how: raise, at: [4, 0, 0]}}}}\n"
    (here / "toy.yaml").write_text(WORKFLOW + lines)
    assert run("--retries", "0") == 4
    streams = capsys.readouterr()
    assert "bad 1-0-0 (box 4:8,0:5,0:6): ValueError: a poison block" in streams.err
    assert streams.err.count("\n") == 1
    assert (here / "runs/toy/report/index.html").is_file()
    assert bouton("status", "toy") == 0
    assert "a poison block" in capsys.readouterr().out


def test_plan_tells_blocks_memory_and_bytes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bouton("plan", "toy.yaml", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    tissue, smooth = plan["steps"]
    assert (tissue["tasks"], tissue["voxels"], tissue["output_bytes"]) == (12, 1080, 1080)
    # Blocks, merge nodes of the levels, blocks again, slabs, and the whole part; objects are not known yet.
    assert smooth["tasks"] == 12 + (12 + 2 + 1) + 12 + 3 + 1
    assert smooth["output_bytes"] == 4 * 1080
    assert tissue["seconds"] is None
    assert not (here / "runs").exists()
    assert run("--json") == 0
    capsys.readouterr()
    assert bouton("plan", "toy.yaml", "--json") == 0
    again = json.loads(capsys.readouterr().out)["steps"][1]
    assert again["done"] == again["tasks"]
    assert again["seconds"] > 0
    assert bouton("plan", "toy.yaml") == 0
    assert "peak memory" in capsys.readouterr().out


def test_stages_teach_their_parameters(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bouton("stages") == 0
    assert "fragments" in capsys.readouterr().out
    assert bouton("stages", f"{TOYS}/smooth.py") == 0
    text = capsys.readouterr().out
    assert "reach" in text
    assert "summed along z" in text
    assert bouton("stages", "fragmens") == 2


def test_an_unknown_run_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bouton("status", "nothing") == 2
    assert "no run 'nothing'" in capsys.readouterr().err
    assert os.listdir(here) == ["toy.yaml"]
