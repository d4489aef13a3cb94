"""The state of a run and of each of its steps, also while it runs: from ``run.json``, ledgers, events and lock.

=============  =======================================================================================================
complete       every task is done
running        a coordinator works on it; ``eta_s`` says for how long
quarantined    tasks failed on every try; the others are done
failed         tasks failed on every try, and none is done; or the ledger cannot be read
blocked        it reads what failed, and no task of it failed
paused         some tasks are done, and nobody works on it
stale          none is done, but results of the same step under another key are there: of earlier parameters or bounds
pending        none is done
skipped        the bounds leave nothing to do
=============  =======================================================================================================

A run is ``running``, ``pausing`` or ``cancelling`` (asked to), ``unseen`` (its coordinator is on another machine, whose
locks are not seen here), ``crashed`` (its coordinator ended without a word), or ``done``, ``failed``, ``paused`` or
``cancelled``.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bouton.engine.control import Holder, asked, holder
from bouton.engine.event_file import NAME, events_named, last_start, tail_of
from bouton.engine.ledger import LEDGER, Ledger
from bouton.errors import BoutonError
from bouton.volume.run_folder import Run, RunStep, open_run

TAIL_BYTES = 1 << 22
"""Events of which rates are computed: some twenty thousand, those of the last minutes of a large run."""
ASKED = {"pause": "pausing", "cancel": "cancelling", "": "running"}


@dataclass(frozen=True)
class StepState:
    """How far a step came.

    Attributes
    ----------
    state : str
        See the table above. ``reason`` says why, where that is not plain.
    tasks, done, failed, blocked, reused : int
        Tasks in all, and by state; those copied from results over other bounds.
    size_bytes, peak_bytes : int
        Of all files; the largest of one worker.
    seconds : float
        Wall time over all runs.
    tasks_per_s, voxels_per_s : float
        Of the tasks that the present run computed of late.
    eta_s : float or None
        Time from now to its end at this rate, if it is running and its rate is known.
    """

    name: str
    stage: str
    key: str
    folder: str
    state: str
    reason: str = ""
    tasks: int = 0
    done: int = 0
    failed: int = 0
    blocked: int = 0
    reused: int = 0
    size_bytes: int = 0
    peak_bytes: int = 0
    seconds: float = 0.0
    tasks_per_s: float = 0.0
    voxels_per_s: float = 0.0
    eta_s: float | None = None
    failures: list[Mapping[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class RunState:
    """How far a run came. ``coordinator`` works or last worked on it; ``reason`` is the error that ended it, if any."""

    name: str
    folder: Path
    state: str
    reason: str
    coordinator: Holder | None
    steps: tuple[StepState, ...]


def run_state(folder: Path) -> RunState:
    """Return how far a run came.

    Raises
    ------
    DataError
        The folder holds no run.
    """
    run = open_run(folder)
    found = holder(run.folder)
    state = _state_of_run(run, found)
    rates = _Rates(run.folder) if found and found.alive is not False else None
    steps = [_state_of_step(run, step, rates) for step in run.steps.values()]
    skipped = [StepState(name, "", "", "", "skipped", reason) for name, reason in run.info.get("skipped", {}).items()]
    reason = "" if state in ASKED.values() else str(run.info.get("reason", ""))
    return RunState(run.folder.name, run.folder, state, reason, found, (*steps, *skipped))


def _state_of_run(run: Run, found: Holder | None) -> str:
    if found and found.alive:
        return ASKED[asked(run.folder)]
    state = str(run.info.get("state", ""))
    if state != "running":
        return state
    return "crashed" if found is None or found.alive is False else "unseen"


class _Rates:
    """Which steps the present run works on, and how fast, from its events."""

    def __init__(self, folder: Path) -> None:
        path, self.now = folder / NAME, time.time()
        start = last_start(path)
        self.began: dict[str, float] = {}
        self.objects: dict[str, int] = {}
        for values in events_named(path, ("StepStarted", "StepFinished", "PartStarted"), start):
            self._note(values)
        tail = tail_of(path, start, TAIL_BYTES)
        self.tail_began = float(tail[0].get("time", 0)) if tail else 0.0
        self.done: dict[str, list[float]] = {}
        for values in tail:
            if values["event"] == "TasksDone":
                sums = self.done.setdefault(str(values["step"]), [0, 0])
                sums[0] += values["tasks"] - values.get("reused", 0)
                sums[1] += values["voxels"]

    def _note(self, values: Mapping[str, Any]) -> None:
        step = str(values["step"])
        if values["event"] == "StepStarted":
            self.began[step], self.objects[step] = float(values["time"]), 0
        elif values["event"] == "StepFinished":
            self.began.pop(step, None)
        elif values["shape"] == "object":
            # how many there are is known only now
            self.objects[step] = self.objects.get(step, 0) + int(values["tasks"])

    def of(self, step: str) -> tuple[float, float]:
        """Return tasks and voxels a second of a step that is running."""
        tasks, voxels = self.done.get(step, (0, 0))
        seconds = max(self.now - max(self.began[step], self.tail_began), 1e-3)
        return tasks / seconds, voxels / seconds


def _state_of_step(run: Run, step: RunStep, rates: _Rates | None) -> StepState:
    path = run.folder / step.folder / LEDGER
    values = {"name": step.name, "stage": step.stage, "key": step.key, "folder": step.folder, "tasks": step.tasks}
    if not path.is_file():
        return StepState(**values, **_untouched(run, step, rates))
    try:
        facts = _facts(path)
    except (BoutonError, sqlite3.DatabaseError) as error:
        return StepState(**values, state="failed", reason=str(error))
    complete = facts.pop("complete")
    values |= facts | {"tasks": max(facts.pop("tasks") if complete else step.tasks, facts["done"])}
    if complete:
        return StepState(**values, state="complete")
    if rates and step.name in rates.began:
        return StepState(**(values | _running(values, rates, step.name)))
    if not (values["done"] or values["failed"] or values["blocked"]):
        return StepState(**(values | _untouched(run, step, rates)))
    return StepState(**values, state=_ended(values))


def _facts(path: Path) -> dict[str, Any]:
    with Ledger(path, readonly=True) as ledger:
        failures = [failure for failure in ledger.failures() if failure.cause != "blocked"]
        named = ("part", "task", "box_zyx", "attempts", "error", "cause")
        return {
            **ledger.counts(),
            "complete": bool(ledger.fact("complete")),
            "tasks": int(ledger.fact("tasks")),
            "seconds": round(ledger.fact("seconds"), 3),
            "size_bytes": ledger.size_bytes(),
            "peak_bytes": ledger.peak_bytes(),
            "failures": [{name: getattr(failure, name) for name in named} for failure in failures],
        }


def _untouched(run: Run, step: RunStep, rates: _Rates | None) -> dict[str, Any]:
    """Return the state of a step of which nothing is done."""
    if rates and step.name in rates.began:
        return {"state": "running"}
    older = older_results(run, step)
    if older:
        return {"state": "stale", "reason": f"results of other parameters or bounds are there: {', '.join(older)}"}
    return {"state": "pending"}


def older_results(run: Run, step: RunStep) -> list[str]:
    """Return the folders, relative to the run's, of a step's results under other keys."""
    found = sorted((run.folder / step.name).glob(f"*/{LEDGER}"))
    return [f"{step.name}/{path.parent.name}" for path in found if path.parent.name != step.key]


def _running(values: Mapping[str, Any], rates: _Rates, step: str) -> dict[str, Any]:
    tasks = values["tasks"] + rates.objects.get(step, 0)
    tasks_per_s, voxels_per_s = rates.of(step)
    left = tasks - values["done"] - values["failed"] - values["blocked"]
    return {
        "state": "running",
        "tasks": tasks,
        "tasks_per_s": tasks_per_s,
        "voxels_per_s": voxels_per_s,
        "eta_s": max(left, 0) / tasks_per_s if tasks_per_s else None,
    }


def _ended(values: Mapping[str, Any]) -> str:
    if values["failed"]:
        return "quarantined" if values["done"] else "failed"
    return "blocked" if values["blocked"] else "paused"
