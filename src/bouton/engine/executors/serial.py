"""Runs every task in this process: for tests, debugging and small volumes. A crash of a task ends the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bouton.engine.context import StepContext
from bouton.engine.execute import Worker, limit_threads
from bouton.engine.tasks import TaskId, TaskResult


class Serial:
    """The executor ``serial``."""

    workers = 1

    def __init__(self) -> None:
        limit_threads()
        self._worker = Worker()

    def run(self, context: StepContext, ranges: Iterable[list[TaskId]]) -> Iterator[list[TaskResult]]:
        """Execute the tasks in order; one list of results a range."""
        for tasks in ranges:
            yield [self._worker.execute(context, task) for task in tasks]

    def close(self) -> None:
        """Nothing to end."""
