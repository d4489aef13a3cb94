"""An executor that completes the tasks of a wave in a random order: for tests that no order matters."""

from __future__ import annotations

import numpy as np

from bouton.engine.executors.serial import Serial
from bouton.engine.leases import Lease, Report


class Shuffled(Serial):
    """Takes all leases there are, of one task each, and executes them in random order.

    Parameters
    ----------
    seed : int
    """

    lease_seconds = 0.0

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed, self._chance = seed, np.random.default_rng(seed)

    def __repr__(self) -> str:
        return f"Shuffled({self.seed})"

    def room(self, gpu: bool) -> int:
        """Return that there is always room."""
        return 1

    def reports(self, timeout_s: float) -> list[Report]:
        """Execute one of the leases."""
        found: list[Report] = []
        lease: Lease = self._leases.pop(int(self._chance.integers(len(self._leases))))
        self._worker.work(lease, found.append)
        return found
