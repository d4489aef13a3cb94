"""Executors hand ranges of independent tasks to workers.

An executor has one method that matters, ``run(context, ranges)``: it yields lists of results as they come, one result
for each task, and takes the next range from the iterator only when a worker is free. A task that ends its worker
process comes back as a result too (``cause="died"``); the other tasks of its range go to another worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from bouton.engine.context import StepContext
from bouton.engine.tasks import TaskId, TaskResult
from bouton.errors import SpecError


class Executor(Protocol):
    """What the coordinator needs of an executor; its class, in lower case, is its name in events."""

    workers: int

    def run(self, context: StepContext, ranges: Iterable[list[TaskId]]) -> Iterator[list[TaskResult]]:
        """Execute the tasks of all ranges, in any order, and yield their results."""

    def close(self) -> None:
        """End the workers."""


NAMES = ("serial", "processes")


def make_executor(name: str, workers: int) -> Executor:
    """Return the executor called ``name``.

    Raises
    ------
    SpecError
        There is none of this name, or the number of workers is less than one.
    """
    from bouton.engine.executors.processes import Processes
    from bouton.engine.executors.serial import Serial

    if workers < 1:
        raise SpecError(f"{workers} workers", expected="at least 1", fix="--workers 2")
    if name == "serial":
        return Serial()
    if name == "processes":
        return Processes(workers)
    raise SpecError(f"no executor {name!r}", expected=" or ".join(NAMES), fix="--executor processes")
