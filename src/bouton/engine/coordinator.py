"""The coordinator: hands out leases from the frontiers of all steps at once, and enters what comes back.

One loop, one thread. The deepest front that has a task ready goes first, so that what one block needs lives as short
as possible. A lease is as many tasks as take the executor's ``lease_seconds``, and less towards the end of a front, so
that no worker waits for another's last one.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bouton.engine.dependencies import PartFront
from bouton.engine.events import Event, WorkerLost
from bouton.engine.executors import Executor
from bouton.engine.leases import Lease, Report
from bouton.engine.step_run import StepRun, StepSummary
from bouton.errors import RunError

POLL_SECONDS = 0.5
LEAST_SECONDS = 1e-5
"""What a task takes at least, whatever its worker says: its books."""
LOST_CAUSES = ("lost", "signal", "memory", "exit")


@dataclass
class _Open:
    """A lease that is out; ``seen`` are those of its tasks that a report named."""

    step: StepRun
    pf: PartFront
    lease: Lease
    seen: np.ndarray

    def see(self, tasks: np.ndarray) -> None:
        """Note that a report named these tasks."""
        self.seen[np.searchsorted(self.lease.tasks, tasks)] = True

    def has_seen(self, task: int) -> bool:
        """Return whether a report named this task."""
        return bool(self.seen[np.searchsorted(self.lease.tasks, task)])


class Coordinator:
    """Runs steps to their end.

    Parameters
    ----------
    steps : sequence of StepRun
        Open, earlier ones first.
    executor : Executor
    emit : callable
        Takes events.
    asked : callable
        Polled: ``pause`` (running tasks end first), ``cancel`` (they do not) or nothing.
    ended : callable
        Told each step that came to its end.
    """

    def __init__(
        self,
        steps: Sequence[StepRun],
        executor: Executor,
        emit: Callable[[Event], None],
        asked: Callable[[], str] = lambda: "",
        ended: Callable[[StepRun], None] = lambda step: None,
    ) -> None:
        self.steps, self.executor, self.emit, self.asked, self.ended = steps, executor, emit, asked, ended
        self._open: dict[int, _Open] = {}
        self._numbers = itertools.count(1)
        self._asked_at = 0.0
        self._wish = ""
        self._is_starved = False

    def run(self) -> str:
        """Return ``done`` when nothing more can run, ``paused`` or ``cancelled`` where that was asked.

        Raises
        ------
        RunError
            The disk is full, or workers cannot start.
        """
        self._settle()
        while True:
            if self._polled() == "cancel":
                return "cancelled"
            if self._wish:
                self.executor.drain()
            else:
                self._hand_out()
            # A cluster may have no worker yet, or none any more.
            if not self._open and (self._wish or not self._is_starved):
                self._check_end()
                return "paused" if self._wish else "done"
            began = time.monotonic()
            reports = self.executor.reports(POLL_SECONDS)
            self._spend(time.monotonic() - began)
            if reports:
                self._enter(reports)
                self._settle()

    def _check_end(self) -> None:
        waiting = [step.context.step for step in self.steps if not step.is_over]
        if waiting and not self._wish:
            raise RunError(
                f"nothing can run, but steps are not over: {', '.join(waiting)}",
                fix="a fault of the engine: please report it with the run's events.jsonl",
            )

    def _polled(self) -> str:
        if time.monotonic() - self._asked_at >= POLL_SECONDS:
            self._asked_at, self._wish = time.monotonic(), self.asked() or self._wish
        return self._wish

    def _hand_out(self) -> None:
        while True:
            before = self._version()
            found = self._next_lease()
            if found is not None:
                self._open[found.lease.number] = found
                self.executor.submit(found.lease)
            elif not self._settle() and self._version() == before:
                # Otherwise a front may have become ready, or hopeless, that was looked at before.
                return

    def _version(self) -> int:
        return sum(pf.front.version for step in self.steps for pf in step.fronts)

    def _next_lease(self) -> _Open | None:
        room = {gpu: self.executor.room(gpu) for gpu in (False, True)}
        self._is_starved = False
        for step, pf in self._deepest_first():
            if not room[pf.gpu]:
                self._is_starved = True
                continue
            lease = step.next_lease(pf, self._size(pf), next(self._numbers))
            if lease is not None:
                return _Open(step, pf, lease, np.zeros(len(lease.tasks), bool))
        return None

    def _deepest_first(self) -> Iterator[tuple[StepRun, PartFront]]:
        for step in reversed(self.steps):
            if not step.is_over:
                yield from ((step, pf) for pf in reversed(step.fronts) if not pf.front.is_settled)

    def _size(self, pf: PartFront) -> int:
        return lease_size(pf.front.left, self.executor.workers, pf.seconds, self.executor.lease_seconds)

    def _enter(self, reports: Sequence[Report]) -> None:
        """Enter reports into the ledgers, one transaction a step."""
        by_step: dict[int, list[tuple[_Open, Report]]] = {}
        for report in reports:
            # A report of a lease that ended is a late finisher's: another worker has its tasks.
            if report.lease in self._open:
                found = self._open[report.lease]
                by_step.setdefault(id(found.step), []).append((found, report))
                if report.ended:
                    del self._open[report.lease]
        for entries in by_step.values():
            with entries[0][0].step.ledger.transaction():
                for found, report in entries:
                    self._enter_one(found, report)
            entries[0][0].step.tell_news()

    def _enter_one(self, found: _Open, report: Report) -> None:
        if report.batch is not None:
            found.see(report.batch.numbers)
            found.step.commit(found.pf, report.batch)
        for failure in report.failures:
            if found.has_seen(failure.task):
                # the same message a second time
                continue
            found.see(np.array([failure.task]))
            if failure.cause in LOST_CAUSES and not failure.traceback:
                self.emit(WorkerLost(failure.cause, failure.error, failure.host, failure.pid))
            found.step.fail(found.pf, report.lease, failure)
        if report.ended:
            found.step.release(found.pf, found.lease.tasks[~found.seen])

    def _settle(self) -> bool:
        """Bring steps to their end that have nothing left; return whether any did."""
        over = [step for step in self.steps if not step.is_over and step.settle()]
        for step in over:
            self.ended(step)
        return bool(over)

    def _spend(self, seconds: float) -> None:
        """Share time out among the steps whose leases are out."""
        for found in self._open.values():
            found.step.spend(seconds / len(self._open))


def lease_size(left: int, workers: int, seconds: float | None, lease_seconds: float) -> int:
    """Return how many tasks the next lease should have.

    Parameters
    ----------
    left : int
        Tasks of the front that are neither done nor leased.
    seconds : float
        What one takes; None if that is not known.
    """
    if seconds is None:
        return 1
    return max(1, min(int(lease_seconds / max(seconds, LEAST_SECONDS)), left // (2 * workers)))


@contextlib.contextmanager
def opened(steps: Iterable[StepRun]) -> Iterator[None]:
    """Close the ledgers of all steps in the end."""
    try:
        yield
    finally:
        for step in steps:
            step.close()


def run_step(step: StepRun, executor: Executor, lost: Iterable[tuple[str, str]] = ()) -> StepSummary:
    """Run one step whose inputs are done.

    Parameters
    ----------
    lost : iterable of (part, task)
        Tasks to compute again though the ledger has them.
    """
    with opened([step]):
        step.open({}, lost)
        Coordinator([step], executor, step.emit).run()
        return step.summary()
