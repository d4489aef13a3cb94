"""The tasks of a part, in waves: the tasks of one wave are independent of one another, waves run in order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bouton.engine.context import StepContext
from bouton.geometry import ZYX, Box, Grid, block_name
from bouton.stage import BlockPart, ChainPart, MergePart, ObjectPart, Part, WholePart

RANGE = 256
RANGES_PER_WORKER = 8


@dataclass(frozen=True)
class TaskId:
    """One task. ``index`` is a block's or node's place (z, y, x), or (number,) of a range of objects."""

    part: str
    name: str
    index: tuple[int, ...] = ()
    level: int = 0


@dataclass(frozen=True)
class OutputFile:
    """One durable file that a task wrote; ``path`` is relative to the step's folder."""

    path: str
    size_bytes: int
    checksum: str


@dataclass(frozen=True)
class TaskResult:
    """What a worker reports.

    ``cause`` is empty (done), ``exception``, ``died`` (the worker process ended), ``blocked`` (an input is not done)
    or ``disk`` (full or read-only: no fault of the task). ``cpu_seconds`` are the worker's, of all threads;
    ``start_bytes`` its resident memory when the task began.
    """

    task: TaskId
    files: tuple[OutputFile, ...] = ()
    voxels: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    start_bytes: int = 0
    cause: str = ""
    error: str = ""
    traceback: str = ""
    attempts: int = 1
    reads: str = ""
    reused: bool = False


@dataclass(frozen=True)
class Octree:
    """Nodes of fan_out^3 children over a grid of blocks; level 0 are the blocks, the top level is one node."""

    grid: Grid
    fan_out: int = 2

    @property
    def levels(self) -> int:
        """Number of levels; 1 for a grid of one block."""
        first = self.grid.first
        last = [a + n - 1 for a, n in zip(first, self.grid.counts, strict=True)]
        level, size = 0, 1
        while any(a // size != b // size for a, b in zip(first, last, strict=True)):
            level, size = level + 1, size * self.fan_out
        return level + 1

    def nodes(self, level: int) -> Iterator[ZYX]:
        """Yield the nodes of a level in C order."""
        yield from self._level(level)

    def children(self, level: int, index: ZYX) -> list[ZYX]:
        """Return the nodes of ``level - 1`` under a node, in C order."""
        return list(self._level(level - 1).blocks_in(self.box(level, index)))

    def box(self, level: int, index: ZYX) -> Box:
        """Return the voxels under a node."""
        return self._level(level).core(index)

    def count(self) -> int:
        """Return the number of nodes of all levels."""
        return sum(self.count_at(level) for level in range(self.levels))

    def count_at(self, level: int) -> int:
        """Return the number of nodes of a level."""
        return len(self._level(level))

    def _level(self, level: int) -> Grid:
        z, y, x = self.grid.block
        size = self.fan_out**level
        return Grid(self.grid.bounds, (z * size, y * size, x * size))


def octree(context: StepContext, part: MergePart) -> Octree:
    """Return the tree of a merge part."""
    return Octree(context.grid(part), part.fan_out)


def node_name(level: int, index: ZYX) -> str:
    """Return the name of a merge node: its level, then its place."""
    return f"level{level}-{block_name(index)}"


def range_size(tasks: int, workers: int) -> int:
    """Return how many tasks a worker of ``workers`` gets at a time, of a part of ``tasks`` tasks."""
    return max(1, min(RANGE, tasks // (workers * RANGES_PER_WORKER)))


def waves(context: StepContext, part: Part, objects: int = 0, only: Box | None = None) -> Iterator[Iterator[TaskId]]:
    """Yield the waves of a part.

    ``objects`` is the number of ids of an object part; of a block part, only the blocks in the box ``only`` count.
    """
    if isinstance(part, MergePart):
        tree = octree(context, part)
        for level in range(tree.levels):
            yield (TaskId(part.name, node_name(level, i), i, level) for i in tree.nodes(level))
    elif isinstance(part, ObjectPart):
        count = math.ceil(objects / part.ids_per_task)
        yield (TaskId(part.name, f"{i:08d}", (i,)) for i in range(count))
    elif isinstance(part, WholePart):
        yield iter([TaskId(part.name, "whole")])
    elif isinstance(part, ChainPart):
        for index in context.grid(part):
            yield iter([TaskId(part.name, block_name(index), index)])
    else:
        yield (TaskId(part.name, block_name(i), i) for i in context.grid(part).blocks_in(only or context.bounds))


def count_tasks(context: StepContext, part: Part, objects: int = 0, only: Box | None = None) -> int:
    """Return the number of tasks of a part; of a block part, of those in the box ``only``."""
    if isinstance(part, MergePart):
        return octree(context, part).count()
    if isinstance(part, ObjectPart):
        return math.ceil(objects / part.ids_per_task)
    if isinstance(part, WholePart):
        return 1
    grid = context.grid(part)
    return len(Grid(grid.bounds & only, grid.block)) if only and isinstance(part, BlockPart) else len(grid)


def parents_of(context: StepContext, part: Part, task: TaskId) -> list[str]:
    """Return the names of the tasks of the same part that must be done before ``task``."""
    if isinstance(part, MergePart) and task.level:
        z, y, x = task.index
        children = octree(context, part).children(task.level, (z, y, x))
        return [node_name(task.level - 1, child) for child in children]
    if isinstance(part, ChainPart):
        z, y, x = task.index
        return [block_name((z - 1, y, x))] if z > context.grid(part).first[0] else []
    return []


def task_box(context: StepContext, part: Part, task: TaskId) -> Box | None:
    """Return the voxels that a task owns; None for objects, the bounds for a whole part."""
    if isinstance(part, ObjectPart):
        return None
    if isinstance(part, WholePart):
        return context.bounds
    z, y, x = task.index
    if isinstance(part, MergePart):
        return octree(context, part).box(task.level, (z, y, x))
    return context.grid(part).core((z, y, x))
