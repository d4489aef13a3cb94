"""How long workers take over tasks of known length: the engine's own hand-out of ranges, simulated."""

from __future__ import annotations

import heapq

import numpy as np

from bouton.engine.tasks import range_size

SIMULATED = 4096


def makespan(seconds: np.ndarray, workers: int, part_tasks: int, count: int | None = None) -> float:
    """Return the time from the first task's start to the last one's end.

    Parameters
    ----------
    seconds : numpy.ndarray
        float64 (n,), of each task, in the order in which they are handed out.
    workers : int
    part_tasks : int
        Tasks of the whole part: what the engine makes the length of its ranges of.
    count : int, optional
        How many tasks there are, if they are more than ``seconds`` has: these are then shares of equal number.
    """
    count = len(seconds) if count is None else count
    if count == 0:
        return 0.0
    size = range_size(part_tasks, workers)
    if count > len(seconds):
        mean = float(seconds.mean())
        # On average the last worker ends half a range after the others.
        return mean * (count + size * (workers - 1) / 2) / workers
    ranges = np.add.reduceat(seconds, np.arange(0, count, size))
    ends = [0.0] * min(workers, len(ranges))
    for length in ranges:
        heapq.heapreplace(ends, ends[0] + float(length))
    return max(ends)
