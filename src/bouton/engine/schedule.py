"""How long workers take over tasks of known length: the engine's own hand-out of ranges, simulated."""

from __future__ import annotations

import heapq

import numpy as np

from bouton.engine.coordinator import lease_size
from bouton.engine.executors.processes import Processes


def makespan(seconds: np.ndarray, workers: int, count: int | None = None) -> float:
    """Return the time from the first task's start to the last one's end.

    Parameters
    ----------
    seconds : numpy.ndarray
        float64 (n,), of each task, in the order in which they are handed out.
    workers : int
    count : int, optional
        How many tasks there are, if they are more than ``seconds`` has: these are then shares of equal number.
    """
    count = len(seconds) if count is None else count
    if count == 0:
        return 0.0
    mean = float(seconds.mean())
    if count > len(seconds):
        # On average the last worker ends half a task after the others.
        return mean * (count + (workers - 1) / 2) / workers
    ends = [0.0] * min(workers, count)
    done = 0
    while done < count:
        size = lease_size(count - done, workers, mean, Processes.lease_seconds)
        heapq.heapreplace(ends, ends[0] + float(seconds[done : done + size].sum()))
        done += size
    return max(ends)
