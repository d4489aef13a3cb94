"""What the dashboard shows of a run: numbers of its steps, maps of their blocks, tries of one block.

Everything is read from ``run.json``, the ledgers and the events, while the run goes on or after it; nothing is written.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from bouton.engine.context import context_from_json, load_stage_of
from bouton.engine.ledger import Attempt, Ledger, Quarantined, database_error
from bouton.engine.step_states import LEDGER, run_state
from bouton.errors import DataError
from bouton.geometry import Box, Grid
from bouton.server.events import EventIndex
from bouton.stage import MergePart, ObjectPart, Part, WholePart
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

        ``parts`` is a list of ``part``, ``shape`` and ``levels``; a level has its grid and, as flat lists of half-open
        runs of task numbers (``a0, b0, a1, b1, ...``), the tasks that are ``done``, ``reused``, ``failed`` and
        ``blocked``. Numbers are in C order in the grid. Object parts have a grid of one row.

        Raises
        ------
        DataError
            There is no such step, or its stage cannot be read.
        """
        step = self._find(name)
        if not (self.folder / step.folder / LEDGER).is_file():
            return {"step": name, "parts": [], "failures": [], "more_failures": 0}
        parts = parts_of(self.folder, step.folder)
        with self._ledger(step) as ledger:
            failures = ledger.failures()
            shown = [self._map(step, part, grids, ledger, failures) for part, grids in parts]
        return {
            "step": name,
            "parts": shown,
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

    def _map(
        self, step: RunStep, part: Part, grids: Sequence[Grid], ledger: Ledger, failures: Iterable[Quarantined]
    ) -> dict[str, Any]:
        if isinstance(part, ObjectPart):
            grids = [self._ranges(step, part, ledger)]
        own = [failure for failure in failures if failure.part == part.name]
        levels = [
            {
                "level": level,
                "first_zyx": list(grid.first),
                "counts_zyx": list(grid.counts),
                "block_zyx": list(grid.block),
                "bounds_zyx": [list(grid.bounds.start), list(grid.bounds.stop)],
                "done": ledger.done_runs(part.name, level).ravel().tolist(),
                "reused": [],
                "failed": _runs(_numbers(own, level, grid)),
                "blocked": ledger.blocked_runs(part.name, level).ravel().tolist(),
            }
            for level, grid in enumerate(grids)
        ]
        return {"part": part.name, "shape": part.shape, "levels": levels}

    def _ranges(self, step: RunStep, part: Part, ledger: Ledger) -> Grid:
        """Return a row with a place for each range of objects; how many there are is known once the part begins."""
        told = self.index.current().parts.get((step.name, part.name), {}).get("tasks", 0)
        known = max([told if isinstance(told, int) else 0, *ledger.done_runs(part.name).ravel().tolist()[-1:]])
        return Grid(Box((0, 0, 0), (1, 1, known)), (1, 1, 1))


def parts_of(run_folder: Path, folder: str) -> tuple[tuple[Part, tuple[Grid, ...]], ...]:
    """Return the parts of a step with the grid of each of their levels; an object part has none.

    Raises
    ------
    DataError
        ``step.json`` is missing or damaged.
    """
    path = run_folder / folder / "step.json"
    return _parts_of(run_folder, folder, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=256)
def _parts_of(run_folder: Path, folder: str, stamp: int) -> tuple[tuple[Part, tuple[Grid, ...]], ...]:
    context = context_from_json(run_folder, folder)
    return tuple((part, _grids(context.grid(part), part)) for part in load_stage_of(context).parts)


def _grids(grid: Grid, part: Part) -> tuple[Grid, ...]:
    if isinstance(part, ObjectPart):
        return ()
    if isinstance(part, WholePart):
        return (Grid(grid.bounds, grid.bounds.stop),)
    grids = [grid]
    while isinstance(part, MergePart) and len(grids[-1]) > 1:
        z, y, x = (size * part.fan_out for size in grids[-1].block)
        grids.append(Grid(grid.bounds, (z, y, x)))
    return tuple(grids)


def _numbers(failures: Iterable[Quarantined], level: int, grid: Grid) -> list[int]:
    numbers = (_number(failure.task, level, grid) for failure in failures)
    return sorted(number for number in numbers if number is not None)


def _number(name: str, level: int, grid: Grid) -> int | None:
    """Return the place of a task in its grid, by its name; None if it is of another level."""
    if name == "whole":
        return 0
    own, _, rest = name.removeprefix("level").partition("-") if name.startswith("level") else ("0", "", name)
    if int(own) != level:
        return None
    index = [int(value) for value in rest.split("-")]
    if len(index) == 1:
        return index[0]
    z, y, x = (value - first for value, first in zip(index, grid.first, strict=True))
    return (z * grid.counts[1] + y) * grid.counts[2] + x


def _runs(numbers: Sequence[int]) -> list[int]:
    """Return sorted numbers as a flat list of half-open runs."""
    found: list[int] = []
    for number in numbers:
        if found and found[-1] == number:
            found[-1] = number + 1
        else:
            found += [number, number + 1]
    return found


def _failure(failure: Quarantined) -> dict[str, Any]:
    names = ("part", "task", "box_zyx", "attempts", "error", "cause")
    return {name: getattr(failure, name) for name in names}


def _attempt(attempt: Attempt) -> dict[str, Any]:
    names = ("part", "task", "box_zyx", "error", "cause", "traceback", "log", "host", "pid")
    return {name: getattr(attempt, name) for name in names}
