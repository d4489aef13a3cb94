"""Clocks that are wrong, differ, or jump: no result and no decision depends on them."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bouton.engine import run_workflow
from engine.flows import checksums, shapes_flow
from faults import faulty
from faults.faulty import Fault, Trials

SOURCE = Path(__file__).parents[2] / "src" / "bouton"
# seconds; a wobbling clock jumps by as much ahead and back at every few readings, a skew is another one a process
CLOCKS = {
    "an hour ahead": {"CLOCK_SHIFT": "3600"},
    "an hour behind": {"CLOCK_SHIFT": "-3600"},
    "jumps ahead and back": {"CLOCK_SHIFT": "3600", "CLOCK_WOBBLE": "1"},
    "a leap second, again and again": {"CLOCK_SHIFT": "1", "CLOCK_WOBBLE": "1"},
    "hosts disagree by a day": {"CLOCK_SHIFT": "86400", "CLOCK_SKEW": "1"},
    "before the Unix epoch's first year ends": {"CLOCK_SHIFT": "-1750000000"},
    "set back by an hour at night (DST)": {"TZ": "STD0DST,J1/0,J365/23"},
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faulty.compiled(tmp_path_factory.mktemp("library"))


@pytest.fixture
def start(library: Path, tmp_path: Path, runs: Path) -> Iterator:
    """Return a function that starts trials under a clock."""
    started: list[Trials] = []

    def begin(clock: str) -> Trials:
        started.append(Trials(library, runs.parent, tmp_path / f"count{len(started)}", **CLOCKS[clock]))
        return started[-1]

    yield begin
    for trials in started:
        trials.close()
    shutil.rmtree(runs)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return checksums(run_workflow(shapes_flow(block=faulty.BLOCK), tmp_path_factory.mktemp("runs"), "serial").folder)


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_wrong_clock_changes_nothing(start, runs: Path, undisturbed: dict[str, str], clock: str) -> None:
    executor = "processes" if "disagree" in clock or "jumps" in clock else "serial"
    outcome = start(clock).run(runs=str(runs), executor=executor, retries=0)
    assert (outcome.status, outcome.said) == (0, "")
    assert checksums(runs / "toy") == undisturbed


def test_a_run_goes_on_under_a_clock_that_was_set_back(start, runs: Path, undisturbed: dict[str, str]) -> None:
    """Killed an hour ahead, resumed an hour behind: what was done then stays done, though it is of the future."""
    ahead, behind = start("an hour ahead"), start("an hour behind")
    calls = ahead.run(runs=str(runs)).calls
    shutil.rmtree(runs)
    assert ahead.run(Fault(at=calls * 2 // 3, mode=faulty.KILL_BEFORE), runs=str(runs)).status == -9
    finished = _finished(runs)
    assert finished
    assert behind.run(runs=str(runs)).status == 0
    assert checksums(runs / "toy") == undisturbed
    assert not finished & _finished(runs, from_line=len(_events(runs, finished=False))), "a finished block was repeated"


def _events(runs: Path, *, finished: bool) -> list[dict]:
    lines = (runs / "toy" / "events.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    starts = [at for at, event in enumerate(found) if "RunStarted" in json.dumps(event)]
    return found if finished else found[: starts[-1]]


def _finished(runs: Path, from_line: int = 0) -> set[str]:
    """Return the steps that events after ``from_line`` call finished."""
    events = [json.dumps(event) for event in _events(runs, finished=True)[from_line:]]
    return {name for name in ("source", "smooth") for text in events if "StepFinished" in text and f'"{name}"' in text}


def test_the_clock_turns_up_in_what_is_shown(start, runs: Path) -> None:
    """The test can fail: the faked clock does reach the program."""
    start("an hour ahead").run(runs=str(runs))
    start("before the Unix epoch's first year ends").run(runs=str(runs))
    year = json.loads((runs / "toy" / "run.json").read_text())["started"][:4]
    assert int(year) < 2000


@pytest.mark.parametrize("path", [*sorted((SOURCE / "engine").rglob("*.py"))], ids=lambda path: path.name)
def test_the_engine_decides_nothing_by_the_wall_clock(path: Path) -> None:
    # times that people read: when a run began, when an event was, the age of a price, for how long nothing was heard
    shown = {"record.py", "money.py", "prices.py", "events.py", "step_states.py"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and path.name not in shown:
            used = f"{node.value.id}.{node.attr}"
            assert used not in {"time.time", "time.time_ns", "datetime.now", "time.localtime"}, f"{path}: {used}"
