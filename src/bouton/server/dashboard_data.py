"""What the dashboard shows of a run: numbers of its steps, maps of their blocks, tries of one block.

Everything is read from ``run.json``, the ledgers and the events, while the run goes on or after it; nothing is written.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bouton.engine.context import context_from_json, load_stage_of
from bouton.engine.leases import runs_of
from bouton.engine.ledger import Attempt, Ledger, Quarantined, database_error
from bouton.engine.step_states import LEDGER, run_state
from bouton.engine.tasks import TaskGrid, task_grids
from bouton.errors import BoutonError, DataError
from bouton.geometry import Box
from bouton.server.events import EventIndex
from bouton.volume.run_folder import RunStep, open_run

SHOWN_FAILURES = 100
SECONDS_KEPT = 1.0


class DashboardData:
    """What the dashboard shows of one run folder.

    Parameters
    ----------
    folder : Path
        Folder with ``run.json``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = EventIndex(folder)
        self._lock = threading.Lock()
        self._kept: tuple[float, dict[str, Any]] = (float("-inf"), {})

    def summary(self) -> dict[str, Any]:
        """Return the run and its steps in numbers, and the latest events, as JSON types; at most a second old.

        States are those of ``bouton status``. ``offset`` is the place in the stream of events after which they tell
        something new: it is taken before the ledgers are read, and a ledger knows of a task before its event is
        written.
        """
        with self._lock:
            read, values = self._kept
            if time.monotonic() - read > SECONDS_KEPT:
                values = self._summary()
                self._kept = time.monotonic(), values
            return values

    def _summary(self) -> dict[str, Any]:
        index = self.index.current()
        offset, found, run = index.offset, run_state(self.folder), open_run(self.folder)
        steps = [{key: value for key, value in asdict(step).items() if key != "failures"} for step in found.steps]
        return {
            "run": run.folder.name,
            "state": found.state,
            "offset": offset,
            "voxel_size_nm": list(run.voxel_size_nm),
            "coordinator": str(found.coordinator) if found.coordinator else "",
            "began": index.started.get("time"),
            "ended": index.finished.get("time"),
            "report": (self.folder / "report" / "index.html").is_file(),
            "steps": steps,
            "recent": list(index.recent),
            "rates": {name: [[at, *sums] for at, sums in seconds.items()] for name, seconds in index.rates.items()},
        }

    def maps(self, name: str) -> dict[str, Any]:
        """Return the grids of a step's parts, and which of their tasks are in which state.

        ``levels`` has an entry for each part, of a merge for each level: its grid and, as flat lists of half-open runs
        of task numbers (``a0, b0, a1, b1, ...``, in C order in the grid), the tasks that are ``done`` (the ``reused``
        ones too), ``failed`` and ``blocked``.

        Raises
        ------
        DataError
            There is no such step, or its ledger cannot be read.
        """
        step = self._find(name)
        if not (self.folder / step.folder / LEDGER).is_file():
            return {"step": name, "levels": [], "failures": [], "more_failures": 0}
        with self._ledger(step) as ledger:
            failures = ledger.failures()
            levels = [_level(grid, ledger, failures) for grid in self._grids(step, ledger).values()]
        return {
            "step": name,
            "levels": levels,
            "failures": [_failure(failure) for failure in failures[:SHOWN_FAILURES]],
            "more_failures": max(0, len(failures) - SHOWN_FAILURES),
        }

    def task(self, name: str, part: str, task: str) -> dict[str, Any]:
        """Return what the ledger knows of one task: its box, files and failed tries.

        Raises
        ------
        DataError
            There is no such step, or it has not begun.
        """
        step = self._find(name)
        if not (self.folder / step.folder / LEDGER).is_file():
            raise DataError(f"step {name} has not begun", where=str(self.folder))
        with self._ledger(step) as ledger:
            return {
                "step": name,
                "part": part,
                "task": task,
                "box_zyx": ledger.box_of(part, task),
                "files": [asdict(file) for file in ledger.outputs_of(part, task)],
                "attempts": [_attempt(attempt) for attempt in ledger.attempts(part, task)],
            }

    def _find(self, name: str) -> RunStep:
        steps = open_run(self.folder).steps
        if name not in steps:
            raise DataError(f"no step {name!r} in run {self.folder.name}", expected=f"one of {', '.join(steps)}")
        return steps[name]

    @contextlib.contextmanager
    def _ledger(self, step: RunStep) -> Iterator[Ledger]:
        path = self.folder / step.folder / LEDGER
        try:
            with Ledger(path, readonly=True) as ledger:
                yield ledger
        except sqlite3.DatabaseError as error:
            raise database_error(error, path) from error

    def _grids(self, step: RunStep, ledger: Ledger) -> dict[tuple[str, int], TaskGrid]:
        """Return the grids of a step by part and level: of parts that have not begun as planned."""
        path = self.folder / step.folder / "step.json"
        planned = planned_grids(self.folder, step.folder, path.stat().st_mtime_ns if path.is_file() else 0)
        return {(grid.part, grid.level): grid for grid in (*planned, *ledger.grids())}


@lru_cache(maxsize=256)
def planned_grids(run_folder: Path, folder: str, stamp: int) -> tuple[TaskGrid, ...]:
    """Return the grids of all parts of a step in their order, those of objects empty; none if its stage is gone.

    ``stamp`` tells one content of ``step.json`` from another.
    """
    try:
        context = context_from_json(run_folder, folder)
        return tuple(grid for part in load_stage_of(context).parts for grid in task_grids(context, part))
    except BoutonError:
        # what the ledger knows is shown all the same
        return ()


def _level(grid: TaskGrid, ledger: Ledger, failures: Iterable[Quarantined]) -> dict[str, Any]:
    bounds = grid.bounds or Box.of_shape(grid.counts)
    numbers = [grid.number(failure.task) for failure in failures if failure.part == grid.part]
    failed = np.array([number for number in numbers if number is not None], np.int64)
    runs = {
        "done": ledger.done_runs(grid.part, grid.level),
        "reused": ledger.reused_runs(grid.part, grid.level),
        "failed": runs_of(failed),
        "blocked": ledger.blocked_runs(grid.part, grid.level),
    }
    return {
        "part": grid.part,
        "shape": grid.shape,
        "level": grid.level,
        "first_zyx": list(grid.first),
        "counts_zyx": list(grid.counts),
        "block_zyx": list(grid.block or bounds.shape),
        "bounds_zyx": [list(bounds.start), list(bounds.stop)],
        **{state: found.ravel().tolist() for state, found in runs.items()},
    }


def _failure(failure: Quarantined) -> dict[str, Any]:
    names = ("part", "task", "box_zyx", "attempts", "error", "cause")
    return {name: getattr(failure, name) for name in names}


def _attempt(attempt: Attempt) -> dict[str, Any]:
    names = ("part", "task", "box_zyx", "error", "cause", "traceback", "log", "host", "pid")
    return {name: getattr(attempt, name) for name in names}
