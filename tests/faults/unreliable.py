"""An executor between which and the coordinator messages are doubled, reordered, delayed and lost; and with zombies."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from bouton.engine.execute import Worker
from bouton.engine.leases import Failure, Lease, Report


@dataclass(frozen=True)
class Habits:
    """What happens to messages, as probabilities.

    Attributes
    ----------
    doubled : float
        A report arrives twice.
    lost : float
        The batch of a report never arrives (that the lease ended does).
    late : float
        A report arrives after reports of later leases, even after the one that ends its lease.
    zombie : float
        A lease is called lost before it begins; it is executed all the same, once others have done its tasks.
    """

    doubled: float = 0.0
    lost: float = 0.0
    late: float = 0.0
    zombie: float = 0.0


class Unreliable:
    """Executes leases in this process, one at a time.

    Parameters
    ----------
    seed : int
    habits : Habits
    """

    workers = 2
    lease_seconds = 0.02

    def __init__(self, seed: int, habits: Habits) -> None:
        self.habits, self._chance = habits, np.random.default_rng(seed)
        self._worker = Worker()
        self._leases: list[Lease] = []
        self._zombies: list[Lease] = []
        self._late: list[Report] = []
        self.met = dict.fromkeys(("doubled", "lost", "late", "zombie"), 0)

    def room(self, gpu: bool) -> int:
        """Return how many leases it takes now."""
        return max(0, 3 - len(self._leases))

    def submit(self, lease: Lease) -> None:
        """Keep a lease for later."""
        self._leases.append(lease)

    def drain(self) -> None:
        """Nothing runs between calls."""

    def close(self) -> None:
        """Let the zombies finish: they cannot know that nobody waits."""
        for lease in self._zombies:
            self._work(lease)

    def reports(self, timeout_s: float) -> list[Report]:
        """Execute one lease, any of them; return what arrives."""
        if not self._leases:
            time.sleep(min(timeout_s, 0.01))
            late, self._late = self._late, []
            return late
        lease = self._leases.pop(int(self._chance.integers(len(self._leases))))
        if self._happens("zombie"):
            self._zombies.append(lease)
            error = "its worker was not heard of"
            failure = Failure(int(lease.tasks[0]), "lost", error, "", "", "elsewhere", 1)
            return [Report(lease.number, None, (failure,), True)]
        found = self._work(lease)
        if self._zombies and self._chance.random() < 0.5:
            found += self._work(self._zombies.pop(0))
        return self._carried(found)

    def _work(self, lease: Lease) -> list[Report]:
        found: list[Report] = []
        self._worker.work(lease, found.append, lambda: False, lambda task: None)
        return found

    def _carried(self, reports: list[Report]) -> list[Report]:
        """Return what arrives now of reports that were sent."""
        arrived, self._late = self._late, []
        for report in reports:
            if report.batch is not None and self._happens("lost"):
                report = replace(report, batch=None)
            if self._happens("late"):
                self._late.append(report)
                report = replace(report, batch=None, failures=())
                if not report.ended:
                    continue
            arrived.append(report)
            if self._happens("doubled"):
                arrived.append(report)
        return [arrived[at] for at in self._chance.permutation(len(arrived))] if self.habits.late else arrived

    def _happens(self, what: str) -> bool:
        happens = bool(self._chance.random() < getattr(self.habits, what))
        self.met[what] += happens
        return happens
