"""An executor that completes the tasks of a wave in a random order: for tests that no order matters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from bouton.engine.context import StepContext
from bouton.engine.executors.serial import Serial
from bouton.engine.tasks import TaskId, TaskResult


class Shuffled(Serial):
    """Takes all ranges of a wave at once, executes the tasks in random order, and returns them one by one.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed, self._chance = seed, np.random.default_rng(seed)

    def __repr__(self) -> str:
        return f"Shuffled({self.seed})"

    def run(self, context: StepContext, ranges: Iterable[list[TaskId]]) -> Iterator[list[TaskResult]]:
        """Execute the tasks in random order; one list a task."""
        tasks = [task for tasks in ranges for task in tasks]
        for at in self._chance.permutation(len(tasks)):
            yield [self._worker.execute(context, tasks[at])]
