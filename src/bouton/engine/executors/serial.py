"""Runs every task in this process: for tests, debugging and small volumes. A crash of a task ends the run."""

from __future__ import annotations

from bouton.engine.execute import Worker, limit_threads
from bouton.engine.leases import Lease, Report


class Serial:
    """The executor ``serial``."""

    workers = 1
    lease_seconds = 0.5

    def __init__(self) -> None:
        limit_threads()
        self._worker = Worker()
        self._leases: list[Lease] = []
        self._is_draining = False

    def room(self, gpu: bool) -> int:
        """Return 1 where no lease waits."""
        return int(not self._leases)

    def submit(self, lease: Lease) -> None:
        """Take a lease; it is executed by :meth:`reports`."""
        self._leases.append(lease)

    def reports(self, timeout_s: float) -> list[Report]:
        """Execute the lease that waits."""
        found: list[Report] = []
        while self._leases:
            self._worker.work(self._leases.pop(0), found.append, lambda: self._is_draining)
        return found

    def drain(self) -> None:
        """Execute no more tasks."""
        self._is_draining = True

    def close(self) -> None:
        """Nothing to end."""
