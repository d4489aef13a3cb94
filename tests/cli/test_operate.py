"""Coordinators that are processes of their own: run --detach, attach, status while it runs, a crash, resume."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from tests.cli.operating import SLOW, bouton, here, is_over, pid_of, run, start, states, status, wait_for
from tests.engine.flows import checksums

from bouton.cli.run_options import read_options
from bouton.engine.control import asked

__all__ = ["here"]


@pytest.fixture
def detached(here: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of a run that a coordinator of its own works on, slowly."""
    assert bouton("run", "toy.yaml", *SLOW, "--detach") == 0
    text = capsys.readouterr().out
    assert "runs/toy/coordinator.log" in text
    assert "bouton attach runs/toy" in text
    return here / "runs/toy"


def test_a_detached_run_is_attached_to_and_ends(detached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pid_of(detached) != os.getpid()
    assert os.getsid(pid_of(detached)) == pid_of(detached)
    for verb, way_out in (("run toy.yaml --detach", "bouton attach"), ("resume toy", "bouton attach")):
        assert bouton(*verb.split()) == 4
        assert way_out in capsys.readouterr().err
    wait_for(lambda: states(capsys)["trouble"] == "running" and bool(status(capsys)["steps"][1]["eta_s"]))
    found = status(capsys)
    assert found["state"] == "running"
    assert found["coordinator"]["alive"] is True
    assert 0 < found["steps"][1]["done"] < found["steps"][1]["tasks"] == 27
    assert found["steps"][1]["eta_s"] < 60
    assert found["steps"][2]["state"] == "pending"
    assert bouton("attach", "toy") == 0
    text = capsys.readouterr().out
    assert "done smooth" in text
    assert "12/12 blocks" in text
    wait_for(lambda: is_over(detached))
    assert set(states(capsys).values()) == {"complete"}
    assert bouton("attach", "toy") == 4
    assert "no process works on the run" in capsys.readouterr().err


def test_attached_people_leave_and_the_run_goes_on(detached: Path) -> None:
    attached = start("attach", "toy")
    assert attached.stdout is not None
    assert "Ctrl-C" in attached.stdout.readline()
    attached.send_signal(signal.SIGINT)
    _, errors = attached.communicate(timeout=120)
    assert attached.returncode == 0
    assert "the run goes on" in errors
    os.kill(pid_of(detached), signal.SIGKILL)


def test_a_killed_coordinator_is_told_and_its_run_resumed(
    detached: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attached = start("attach", "toy")
    assert attached.stdout is not None
    attached.stdout.readline()
    wait_for(lambda: status(capsys)["steps"][1]["done"] > 2)
    os.kill(pid_of(detached), signal.SIGKILL)
    _, errors = attached.communicate(timeout=120)
    assert attached.returncode == 4
    assert "ended without a word" in errors
    found = status(capsys)
    assert (found["state"], found["coordinator"]["alive"]) == ("crashed", False)
    # the deepest block that can be computed comes first: of tissue some may be left
    assert [step["state"] for step in found["steps"][1:]] == ["paused", "pending"]
    assert bouton("status", "toy") == 0
    assert "bouton resume runs/toy goes on" in capsys.readouterr().out
    done = found["steps"][1]["done"]
    assert bouton("resume", "toy", "--json", "--workers", "2") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    parts = [event for event in events if event["event"] == "PartStarted" and event["step"] == "trouble"]
    assert sum(event["done"] for event in parts) >= done > 2
    assert read_options(detached).values["workers"] == 2
    assert run("--name", "undisturbed") == 0
    assert checksums(detached) == checksums(here / "runs/undisturbed")


def test_a_detached_run_that_cannot_work_shows_its_error(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "runs/toy").mkdir(parents=True)
    (here / "runs/toy/tissue").write_text("in the way")
    assert bouton("run", "toy.yaml", "--detach") == 4
    streams = capfd.readouterr()
    assert streams.err.startswith("bouton: ")
    assert "runs/toy/tissue" in streams.err
    assert "Traceback" not in streams.err


def test_resume_refuses_a_workflow_that_changed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--until", "trouble") == 0
    (here / "toy.yaml").write_text(
        (here / "toy.yaml").read_text().replace("source.py}", "source.py, params: {factor: 5}}")
    )
    capsys.readouterr()
    assert bouton("resume", "toy") == 2
    error = capsys.readouterr().err
    assert "step tissue has another key (params.factor: 3 -> 5)" in error
    assert "bouton run" in error
    assert "--until=trouble" in error
    assert states(capsys) == {"tissue": "stale", "trouble": "stale"}
    (here / "runs/toy/options.json").write_text("{")
    assert bouton("resume", "toy") == 3
    assert "nothing tells how this run was started" in capsys.readouterr().err
    assert states(capsys) == {"tissue": "complete", "trouble": "complete"}


def test_options_survive_another_working_directory(
    here: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--until", "tissue", "--block-zyx", "6,5,6", "--set", "steps.tissue.params.factor=5") == 0
    kept = read_options(here / "runs/toy")
    assert kept.values["overrides"] == ["steps.tissue.params.factor=5"]
    before = sorted((here / "runs/toy/tissue").iterdir())
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert bouton("resume", here / "runs/toy") == 0
    assert read_options(here / "runs/toy") == kept
    assert sorted((here / "runs/toy/tissue").iterdir()) == before


@pytest.mark.parametrize("verb", ["attach", "pause", "cancel", "resume", "status", "gc", "du"])
def test_a_run_that_is_not_there(verb: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bouton(verb, "tooy") == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "no run 'tooy'" in errors


@pytest.mark.parametrize("verb", ["attach", "pause", "cancel"])
def test_nobody_to_ask(verb: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--until", "tissue") == 0
    capsys.readouterr()
    assert bouton(verb, "toy") == 4
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "bouton resume runs/toy" in errors
    assert not (here / "runs/toy/control.json").exists()


def test_the_dataset_that_is_worked_on_is_found(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (here / "toy.yaml").read_text()
    (here / "toy.yaml").write_text(f"{text}datasets:\n  first: {{}}\n  second: {{}}\n")
    assert run("--until", "tissue") == 0
    capsys.readouterr()
    assert bouton("pause", "toy") == 4
    assert "no process works on any dataset of toy" in capsys.readouterr().err
    assert read_options(here / "runs/toy-second").values["datasets"] == ["second"]
    lock = here / "runs/toy-second/lock"
    with open(lock, "ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert bouton("cancel", "toy", "--wait-s", "0") == 4
        assert "runs/toy-second" in capsys.readouterr().err
        assert asked(lock.parent) == "cancel"
    assert bouton("resume", "toy-second") == 0
    assert bouton("gc", "toy-second") == 0
    assert "nothing to remove" in capsys.readouterr().out


VERBS = ("attach", "pause", "resume", "cancel", "status", "logs", "retry", "gc", "du", "diff")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_teaches_with_an_example(verb: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bouton(verb, "--help") == 0
    assert f"bouton {verb}" in capsys.readouterr().out.replace("Usage: bouton", "")
    assert f"`bouton {verb}" in (Path(__file__).parents[2] / "docs/operating.md").read_text()


def test_a_run_that_was_copied_is_not_resumed_elsewhere(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    shutil.copytree(here / "runs/toy", here / "runs/copy")
    capsys.readouterr()
    assert bouton("resume", "copy") == 2
    assert "--name copy" in capsys.readouterr().err


def test_a_runs_folder_that_is_a_file_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bouton("run", "toy.yaml", "--runs", "toy.yaml", "--detach") == 3
    assert capsys.readouterr().err.count("\n") == 1
