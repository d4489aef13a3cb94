"""What a run tells its subscribers: the terminal bar, the log, the dashboard, the report and the tests.

A subscriber is any callable that takes one event. Events are frozen dataclasses of plain JSON types.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class RunStarted:
    """A run begins; ``steps`` in the order in which they run."""

    run: str
    folder: str
    steps: tuple[str, ...]
    executor: str
    workers: int


@dataclass(frozen=True)
class StepStarted:
    """A step begins that has something to do."""

    step: str
    stage: str
    key: str


@dataclass(frozen=True)
class PartStarted:
    """A part of a step begins. ``tasks`` counts all of its tasks, ``done`` those that an earlier run finished."""

    step: str
    part: str
    shape: str
    tasks: int
    done: int
    voxels: int
    done_voxels: int


@dataclass(frozen=True)
class TasksDone:
    """Tasks became durable and stand in the ledger. ``reused`` of them were copied, not computed.

    ``runs`` are half-open runs of their numbers, in C order in the grid of the part (of a merge, of its ``level``).
    """

    step: str
    part: str
    tasks: int
    voxels: int
    reused: int = 0
    level: int = 0
    runs: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class TaskRetried:
    """A task failed and will be tried again."""

    step: str
    part: str
    task: str
    attempt: int
    error: str


@dataclass(frozen=True)
class TaskFailed:
    """A task is quarantined: it failed on every attempt."""

    step: str
    part: str
    task: str
    box_zyx: str
    attempts: int
    error: str


@dataclass(frozen=True)
class TasksBlocked:
    """Tasks that cannot run because something that they read is not done; ``runs`` as of :class:`TasksDone`."""

    step: str
    part: str
    tasks: int
    reason: str
    level: int = 0
    runs: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class WorkerLost:
    """A worker ended, or was given up; ``cause`` as of :class:`bouton.engine.leases.Failure`."""

    cause: str
    error: str
    host: str
    pid: int


@dataclass(frozen=True)
class TaskLost:
    """A file of a finished task is missing, short or changed: the task runs again."""

    step: str
    part: str
    task: str
    path: str
    found: str


@dataclass(frozen=True)
class StepReused:
    """A step was finished by an earlier run; every file of it is there."""

    step: str
    tasks: int


@dataclass(frozen=True)
class StepSkipped:
    """A step that the bounds leave nothing to do."""

    step: str
    reason: str


@dataclass(frozen=True)
class StepFinished:
    """A step ended; ``state`` is done, failed or blocked."""

    step: str
    state: str
    tasks: int
    failed: int
    blocked: int
    reused: int
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class RunFinished:
    """The run ended; ``state`` is done or failed, paused (asked for, interrupted, or the disk is full) or cancelled.

    ``reason`` is the error that ended it, if one did.
    """

    run: str
    state: str
    seconds: float
    failed: int
    blocked: int
    reason: str = ""


Event = (
    RunStarted
    | StepStarted
    | PartStarted
    | TasksDone
    | TaskRetried
    | TaskFailed
    | TasksBlocked
    | WorkerLost
    | TaskLost
    | StepReused
    | StepSkipped
    | StepFinished
    | RunFinished
)
Subscriber = Callable[[Event], None]


def to_json(event: Event) -> dict[str, Any]:
    """Return the event as a dict of JSON types with its name under ``event`` and the wall clock under ``time``."""
    return {"event": type(event).__name__, "time": round(time.time(), 3), **asdict(event)}
