"""Stopping runs and mending them: pause, cancel, logs, retry."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.cli.operating import POISON, SLOW, bouton, here, is_over, pid_of, run, start, states, status, wait_for
from tests.engine.flows import checksums

__all__ = ["here"]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Return the JSON that a verb prints."""
    capsys.readouterr()
    assert bouton(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("verb", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_a_run_is_stopped_and_resumed(verb: str, state: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bouton("run", "toy.yaml", *SLOW, "--detach") == 0
    wait_for(lambda: status(capsys)["steps"][1]["done"] > 1)
    found = said(capsys, verb, "toy")
    assert found["state"] == state
    assert 0 < found["done"] < found["tasks"]
    assert is_over(here / "runs/toy")
    assert states(capsys)["trouble"] == "paused"
    assert status(capsys)["state"] == state
    if verb == "pause":
        # no block was lost: every one that was begun is done
        events = [json.loads(line) for line in (here / "runs/toy/events.jsonl").read_text().splitlines()]
        assert not [event for event in events if event["event"] in ("WorkerLost", "TaskRetried")]
        assert events[-1]["state"] == "paused"
    assert bouton("resume", "toy", "--workers", "2") == 0
    assert set(states(capsys).values()) == {"complete"}
    assert not (here / "runs/toy/control.json").exists()
    assert run("--name", "undisturbed") == 0
    assert checksums(here / "runs/toy") == checksums(here / "runs/undisturbed")


def test_a_foreground_run_says_that_it_was_paused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start("run", "toy.yaml", *SLOW)
    wait_for(lambda: (here / "runs/toy/run.json").exists() and status(capsys)["steps"][0]["done"] > 0)
    assert bouton("pause", "toy") == 0
    assert "bouton resume runs/toy" in capsys.readouterr().out
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 75
    assert "bouton resume" in out


@pytest.mark.parametrize(("verb", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_who_resumes_or_attaches_is_told_by_the_exit_status(
    verb: str, state: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bouton("run", "toy.yaml", *SLOW, "--detach") == 0
    attached = start("attach", "toy")
    assert attached.stdout is not None
    assert "Ctrl-C" in attached.stdout.readline()
    assert bouton("pause", "toy") == 0
    out, err = attached.communicate(timeout=120)
    assert (attached.returncode, "paused, bouton resume runs/toy goes on" in out) == (75, True), err
    before = status(capsys)["steps"][1]["done"]
    resumed = start("resume", "toy", "--json")
    wait_for(lambda: status(capsys)["steps"][1]["done"] > before)
    assert bouton(verb, "toy") == 0
    out, err = resumed.communicate(timeout=120)
    assert resumed.returncode == 75, err
    ended = [event for event in map(json.loads, out.splitlines()) if event["event"] == "RunFinished"]
    assert [event["state"] for event in ended] == [state]


def test_ctrl_c_of_resume_is_no_success(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start("run", "toy.yaml", *SLOW)
    wait_for(lambda: (here / "runs/toy/run.json").exists() and status(capsys)["steps"][0]["done"] > 0)
    process.send_signal(signal.SIGINT)
    assert (process.communicate(timeout=120), process.returncode)[1] == 130
    before = status(capsys)["steps"][1]["done"]
    process = start("resume", "toy")
    wait_for(lambda: status(capsys)["steps"][1]["done"] > before)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, "interrupted" in err) == (130, True), err


def test_a_run_whose_cluster_is_not_there_has_failed_and_goes_on_without_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = "tcp://127.0.0.1:9"
    assert bouton("run", "toy.yaml", "--executor", "dask", "--cluster", nowhere) == 4
    told = status(capsys)
    assert told["state"] == "failed" and nowhere in told["reason"]
    assert bouton("status", "toy") == 0
    assert f"ended as failed: {told['reason'].split(';')[0]}" in " ".join(capsys.readouterr().out.split())
    assert bouton("resume", "toy", "--executor", "serial") == 0
    assert (status(capsys)["state"], status(capsys)["reason"]) == ("done", "")


def test_a_coordinator_that_does_not_answer_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bouton("run", "toy.yaml", *SLOW, "--detach") == 0
    pid = pid_of(here / "runs/toy")
    os.kill(pid, signal.SIGSTOP)
    assert bouton("cancel", "toy", "--wait-s", "0.5") == 4
    assert f"kill {pid}" in capsys.readouterr().err
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: is_over(here / "runs/toy"))
    # the wish was for the coordinator that is gone
    assert (here / "runs/toy/control.json").exists()
    assert run("--until", "tissue") == 0
    assert states(capsys) == {"tissue": "complete"}
    assert not (here / "runs/toy/control.json").exists()


def test_logs_show_every_try(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "marks").mkdir()
    once = ["--set", "steps.trouble.params.how=once-raise", "--set", "steps.trouble.params.at=[4,0,0]"]
    once += ["--set", f"steps.trouble.params.marks={here / 'marks'}"]
    assert run(*once, "--retries", "2") == 0
    (mended,) = said(capsys, "logs", "toy", "trouble")["tries"]
    assert (mended["part"], mended["task"], mended["outcome"]) == ("copy", "1-0-0", "done later")
    assert said(capsys, "logs", "toy")["failed_tries"] == {"tissue": 0, "trouble": 1, "smooth": 0}

    assert run(*POISON, "--retries", "1") == 4
    tries = said(capsys, "logs", "toy", "trouble", "1-0-0")["tries"]
    assert [each["outcome"] for each in tries] == ["quarantined", "quarantined"]
    assert tries[0]["cause"] == "exception"
    assert tries[0]["error"] == "ValueError: a poison block"
    assert 'raise ValueError("a poison block")' in tries[0]["traceback"]
    assert tries[0]["pid"] > 0
    assert tries[0]["host"]
    assert bouton("logs", "toy", "trouble", "--last", "1") == 0
    text = capsys.readouterr().out
    assert text.count("copy 1-0-0, box 4:8,0:5,0:6 (z,y,x): quarantined") == 1
    assert "Traceback" in text
    assert "2 failed tries on record; the first 1 are hidden" in text
    assert said(capsys, "logs", "toy", "trouble", "0-0-0")["tries"] == []
    assert bouton("logs", "toy", "truble") == 2
    assert bouton("logs", "toy", "trouble", "nonsense") == 2
    assert "did you mean trouble" in capsys.readouterr().err


def test_logs_of_a_block_that_ended_its_worker(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave = ["--set", "steps.trouble.params.how=leave", *POISON[2:], "--until", "trouble"]
    assert bouton("run", "toy.yaml", *leave, "--workers", "1", "--retries", "0") == 4
    (found,) = said(capsys, "logs", "toy", "trouble")["tries"]
    assert (found["cause"], found["outcome"]) == ("exit", "quarantined")
    assert bouton("logs", "toy", "trouble") == 0
    assert "exit on" in capsys.readouterr().out


def test_retry_tries_what_it_is_told_and_no_more(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    capsys.readouterr()
    assert bouton("retry", "toy", "--quarantined") == 2
    assert "nothing in this run is in quarantine" in capsys.readouterr().err

    text = (here / "toy.yaml").read_text()
    (here / "poison.py").write_text(POISON_STAGE.format(here=here))
    (here / "toy.yaml").write_text(text + "  poison: {stage: poison.py, reads: {image: tissue}}\n")
    assert run() == 4
    before = said(capsys, "retry", "toy")["quarantined"]
    assert [(each["step"], each["task"]) for each in before] == [("poison", f"{z}-0-0") for z in range(3)]
    assert bouton("retry", "toy") == 0
    assert "nothing was started" in capsys.readouterr().out
    assert len(said(capsys, "logs", "toy", "poison")["tries"]) == 3

    (here / "cure").write_text("")
    assert bouton("retry", "toy", "poison", "1-0-0", "--quarantined") == 4
    left = said(capsys, "retry", "toy")["quarantined"]
    assert left == [before[0], before[2]]
    assert len(said(capsys, "logs", "toy", "poison")["tries"]) == 3
    assert states(capsys)["poison"] == "quarantined"
    assert bouton("retry", "toy", "--quarantined") == 0
    assert set(states(capsys).values()) == {"complete"}
    assert not (here / "runs/toy/retry.json").exists()
    assert bouton("retry", "toy", "poison", "1-0-0") == 2
    assert "nothing in step poison, 1-0-0 is in quarantine" in capsys.readouterr().err


POISON_STAGE = '''
"""Copies; the first block of each plane fails until there is a cure."""
from dataclasses import dataclass
from pathlib import Path

from bouton.stage import BlockPart, Layer, Output, Stage


@dataclass(frozen=True)
class Params:
    """No parameters."""


def run(task):
    if task.core.start[1:] == (0, 0) and not Path("{here}/cure").exists():
        raise ValueError("a poison block")
    return Output({{"copy": task.read("image")}})


STAGE = Stage(
    version=1,
    params=Params,
    reads={{"image": Layer("uint8")}},
    writes=("copy",),
    parts=(BlockPart("copy", run, {{"copy": Layer("uint8")}}),),
)
'''
