"""Which tasks may run now: computed from grids, never stored as a graph.

A front is the tasks of one part (of a merge: of one level) in their grid. What a task waits for is, along each axis, a
range of another front's indices, so the whole of its dependencies are three pairs of short arrays. Of each front the
states of those planes (z) are kept that are begun and not finished; so memory grows with the frontier, not with
the number of tasks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bouton.engine.tasks import TaskGrid
from bouton.geometry import Box

PENDING, LEASED, DONE, BAD = 0, 1, 2, 3


@dataclass(frozen=True)
class Dependency:
    """What the tasks of a front wait for.

    Attributes
    ----------
    front : Front
    low, high : tuple of three numpy.ndarray, optional
        int64, for each own index along z, y, x: the half-open range of indices of ``front`` (relative to its first).
        None: each task waits for the whole front.
    """

    front: Front
    low: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    high: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


@dataclass
class Front:
    """The state of one grid of tasks.

    Attributes
    ----------
    grid : TaskGrid or None
        None as long as the number of tasks is not known (ids of a table that is not written yet).
    dependencies : sequence of Dependency
    wanted : Box, optional
        Indices (relative to the grid's first) of the tasks that are to run; default: all.
    """

    grid: TaskGrid | None
    dependencies: Sequence[Dependency] = ()
    wanted: Box | None = None
    version: int = 0
    done: int = 0
    bad: int = 0
    leased: int = 0
    _planes: dict[int, np.ndarray] = field(default_factory=dict)
    _full: set[int] = field(default_factory=set)
    _low: int = 0
    _from: int = 0
    _top: int = -1
    _ready: dict[int, tuple[tuple[int, ...], np.ndarray, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.grid is not None and self.wanted is not None:
            self._from = self.wanted.start[0]

    @property
    def total(self) -> int:
        """Number of tasks that are to run."""
        if self.grid is None:
            return 0
        return self.wanted.voxels if self.wanted is not None else len(self.grid)

    @property
    def left(self) -> int:
        """Number of tasks that are neither done nor given up nor leased."""
        return self.total - self.done - self.bad - self.leased

    @property
    def is_settled(self) -> bool:
        """Whether every task is done or given up."""
        return self.grid is not None and self.done + self.bad == self.total

    def mark(self, numbers: np.ndarray, state: int) -> None:
        """Set the state of tasks (numbers, int64)."""
        assert self.grid is not None
        size = self.grid.counts[1] * self.grid.counts[2]
        numbers = np.sort(numbers)
        cuts = np.flatnonzero(np.diff(numbers // size)) + 1
        for group in np.split(numbers, cuts):
            if len(group):
                self._mark_plane(int(group[0] // size), group % size, state)
        self.version += 1

    def _mark_plane(self, z: int, places: np.ndarray, state: int) -> None:
        plane = self._plane(z).reshape(-1)
        before = np.bincount(plane[places], minlength=4)
        self.leased -= int(before[LEASED])
        self.done -= int(before[DONE])
        self.bad -= int(before[BAD])
        plane[places] = state
        self.leased += len(places) * (state == LEASED)
        self.done += len(places) * (state == DONE)
        self.bad += len(places) * (state == BAD)
        if state == PENDING:
            self._from = min(self._from, z)
        if state >= DONE:
            self._top = max(self._top, z)
            if state == DONE and (plane == DONE).all():
                self._close(z)

    def _plane(self, z: int) -> np.ndarray:
        assert self.grid is not None
        assert z >= self._low
        assert z not in self._full
        if z not in self._planes:
            self._planes[z] = np.zeros(self.grid.counts[1:], np.uint8)
        return self._planes[z]

    def _close(self, z: int) -> None:
        """Forget the states of a plane whose tasks are all done."""
        del self._planes[z]
        self._full.add(z)
        while self._low in self._full:
            self._full.discard(self._low)
            self._low += 1

    def load(self, runs: np.ndarray) -> None:
        """Mark the tasks in half-open runs as done, those that are wanted."""
        for start, stop in _pieces(runs):
            numbers = np.arange(start, stop, dtype=np.int64)
            self.mark(numbers if self.wanted is None else numbers[self._is_wanted(numbers)], DONE)

    def _is_wanted(self, numbers: np.ndarray) -> np.ndarray:
        assert self.grid is not None
        assert self.wanted is not None
        inside = np.ones(len(numbers), bool)
        places = np.unravel_index(numbers, self.grid.counts)
        for place, start, stop in zip(places, self.wanted.start, self.wanted.stop, strict=True):
            inside &= (start <= place) & (place < stop)
        return inside

    def finish(self) -> None:
        """Mark every task as done."""
        assert self.grid is not None
        self.done, self._low, self._top = self.total, self.grid.counts[0], self.grid.counts[0]

    def is_done(self, numbers: np.ndarray) -> np.ndarray:
        """Return which of the tasks are done, bool."""
        assert self.grid is not None
        size = self.grid.counts[1] * self.grid.counts[2]
        found = np.zeros(len(numbers), bool)
        for z in np.unique(numbers // size):
            at = numbers // size == z
            found[at] = self._settled_plane(int(z)).reshape(-1)[numbers[at] % size] == DONE
        return found

    def _settled_plane(self, z: int) -> np.ndarray:
        """Return the states of a plane without keeping them."""
        assert self.grid is not None
        if z in self._planes:
            return self._planes[z]
        closed = z < self._low or z in self._full
        return np.broadcast_to(np.uint8(DONE if closed else PENDING), self.grid.counts[1:])

    def take(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Return up to ``most`` tasks that may run, now leased, and tasks that never will, now given up.

        Returns
        -------
        numpy.ndarray, numpy.ndarray
            int64, numbers in C order.
        """
        taken: list[np.ndarray] = []
        lost: list[np.ndarray] = []
        missing = most
        if self.grid is None or not self.left:
            return _no_numbers(), _no_numbers()
        size = self.grid.counts[1] * self.grid.counts[2]
        last = self.wanted.stop[0] if self.wanted is not None else self.grid.counts[0]
        first_open = None
        for z in range(self._from, last):
            if missing <= 0 or not self._is_near(z):
                break
            ready, hopeless = self._ready_plane(z)
            pending = self._pending_plane(z)
            gone = np.flatnonzero(pending & hopeless)
            if len(gone):
                lost.append(gone + z * size)
            found = np.flatnonzero(pending & ready)[:missing]
            if len(found):
                taken.append(found + z * size)
                missing -= len(found)
            if first_open is None and np.count_nonzero(pending) > len(found) + len(gone):
                first_open = z
        else:
            z = last
        self._from = z if first_open is None else first_open
        self._ready = {at: found for at, found in self._ready.items() if at >= self._from}
        numbers, given_up = _concatenated(taken), _concatenated(lost)
        if len(numbers):
            self.mark(numbers, LEASED)
        if len(given_up):
            self.mark(given_up, BAD)
        return numbers, given_up

    def _pending_plane(self, z: int) -> np.ndarray:
        pending = self._settled_plane(z) == PENDING
        if self.wanted is None:
            return pending
        inside = np.zeros_like(pending)
        inside[self.wanted.slices[1:]] = True
        return pending & inside

    def _is_near(self, z: int) -> bool:
        """Return whether what plane ``z`` waits for is begun."""
        for each in self.dependencies:
            if each.low is None or each.high is None or each.low[0][z] >= each.high[0][z]:
                continue
            if not each.front.has_begun(int(each.low[0][z])):
                return False
        return True

    def has_begun(self, z: int) -> bool:
        """Return whether a task of plane ``z`` or of one above it is done or given up."""
        return z <= self._top or z < self._low or self.total == 0

    def _ready_plane(self, z: int) -> tuple[np.ndarray, np.ndarray]:
        """Return where all that a plane's tasks wait for is done, and where some of it is given up, bool (y, x)."""
        versions = tuple(each.front.version for each in self.dependencies)
        kept = self._ready.get(z)
        if kept is not None and kept[0] == versions:
            return kept[1], kept[2]
        assert self.grid is not None
        settled, hopeless = np.ones(self.grid.counts[1:], bool), np.zeros(self.grid.counts[1:], bool)
        for each in self.dependencies:
            open_there, bad_there = self._waits(each, z)
            settled &= ~open_there
            hopeless |= bad_there
        hopeless &= settled
        # take() forgets the planes that it has left behind.
        self._ready[z] = (versions, settled & ~hopeless, hopeless)
        return self._ready[z][1:]

    def _waits(self, each: Dependency, z: int) -> tuple[np.ndarray, np.ndarray]:
        """Return where tasks of a plane wait for an unsettled task of ``each``, and where for one that is given up."""
        assert self.grid is not None
        shape = self.grid.counts[1:]
        if each.low is None or each.high is None:
            is_open = not each.front.is_settled
            return np.full(shape, is_open), np.full(shape, not is_open and each.front.bad > 0)
        planes = each.front.states(int(each.low[0][z]), int(each.high[0][z]))
        if planes is None:
            return np.zeros(shape, bool), np.zeros(shape, bool)
        ends = ((each.low[1], each.high[1]), (each.low[2], each.high[2]))
        bad = _any_in((planes == BAD).any(axis=0), *ends) if each.front.bad else np.zeros(shape, bool)
        return _any_in((planes < DONE).any(axis=0), *ends), bad

    def states(self, low: int, high: int) -> np.ndarray | None:
        """Return the states of planes ``low`` to ``high``, uint8 (z, y, x); None where all of it is done."""
        if high <= self._low or low >= high:
            return None
        return np.stack([self._settled_plane(z) for z in range(max(low, self._low), high)])


Range = tuple[np.ndarray, np.ndarray]


def _any_in(plane: np.ndarray, rows: Range, columns: Range) -> np.ndarray:
    """Return for each (y, x) whether ``plane`` is true anywhere in its range of rows and its range of columns."""
    sums = np.zeros((plane.shape[0] + 1, plane.shape[1] + 1), np.int64)
    np.cumsum(np.cumsum(plane, axis=0), axis=1, out=sums[1:, 1:])
    upper, lower = sums[rows[1]], sums[rows[0]]
    inside = upper[:, columns[1]] - upper[:, columns[0]] - lower[:, columns[1]] + lower[:, columns[0]]
    return inside > 0


def _pieces(runs: np.ndarray, largest: int = 1 << 20) -> list[tuple[int, int]]:
    """Return runs cut into pieces that fit into memory."""
    found = []
    for start, stop in runs.tolist():
        count = max(1, math.ceil((stop - start) / largest))
        edges = np.linspace(start, stop, count + 1).astype(np.int64).tolist()
        found += list(itertools.pairwise(edges))
    return found


def _no_numbers() -> np.ndarray:
    return np.zeros(0, np.int64)


def _concatenated(found: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(found) if found else _no_numbers()
