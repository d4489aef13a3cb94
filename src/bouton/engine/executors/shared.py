"""An executor that serves several runs, one after another: its workers stay warm between them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

from bouton.engine.executors import Executor
from bouton.engine.leases import Lease, Report


class Shared:
    """Lends one executor to several runs; each run closes what it was lent, :meth:`end` ends the workers.

    Numbers of leases go on from run to run, so that no report, and no request to stop, is taken for another run's. A
    run that leaves leases behind (it was cancelled, or broke off) or drained the workers costs these their life: the
    next run gets new ones.

    Parameters
    ----------
    make : callable
        Returns a new executor.
    """

    def __init__(self, make: Callable[[], Executor]) -> None:
        self._make = make
        self._lent = make()
        self._numbers = itertools.count(1)
        self._theirs: dict[int, int] = {}
        self._is_spent = False

    @property
    def name(self) -> str:
        """What events call it: the name of the executor that is lent."""
        return type(self._lent).__name__.lower()

    @property
    def workers(self) -> int:
        """How many leases run at once."""
        return self._lent.workers

    @property
    def lease_seconds(self) -> float:
        """How long a lease should take."""
        return self._lent.lease_seconds

    def room(self, gpu: bool) -> int:
        """Return how many leases it takes now."""
        if self._is_spent:
            self._lent, self._is_spent = self._make(), False
        return self._lent.room(gpu)

    def submit(self, lease: Lease) -> None:
        """Take a lease."""
        number = next(self._numbers)
        self._theirs[number] = lease.number
        self._lent.submit(replace(lease, number=number))

    def reports(self, timeout_s: float) -> list[Report]:
        """Return what came in, under the numbers of the present run."""
        found = []
        for report in self._lent.reports(timeout_s):
            number = self._theirs.pop(report.lease, None) if report.ended else self._theirs.get(report.lease)
            if number is not None:
                found.append(replace(report, lease=number))
        return found

    def drain(self) -> None:
        """Let the leases that are out end after the task at hand."""
        self._lent.drain()
        self._is_spent = True

    def close(self) -> None:
        """End a run: the workers stay for the next one, unless they are still busy or drained."""
        if self._theirs or self._is_spent:
            self.end()
            self._is_spent = True

    def end(self) -> None:
        """End the workers."""
        self._theirs.clear()
        self._lent.close()
