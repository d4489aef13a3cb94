"""The tasks of a part: numbered in C order in one grid, of a merge in one grid a level of its octree."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bouton.engine.context import StepContext
from bouton.geometry import ZYX, Box, Grid, block_name
from bouton.stage import ChainPart, MergePart, ObjectPart, Part, WholePart


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
        yield from self.level(level)

    def children(self, level: int, index: ZYX) -> list[ZYX]:
        """Return the nodes of ``level - 1`` under a node, in C order."""
        return list(self.level(level - 1).blocks_in(self.box(level, index)))

    def box(self, level: int, index: ZYX) -> Box:
        """Return the voxels under a node."""
        return self.level(level).core(index)

    def count(self) -> int:
        """Return the number of nodes of all levels."""
        return sum(self.count_at(level) for level in range(self.levels))

    def count_at(self, level: int) -> int:
        """Return the number of nodes of a level."""
        return len(self.level(level))

    def level(self, level: int) -> Grid:
        """Return the nodes of a level as a grid."""
        z, y, x = self.grid.block
        size = self.fan_out**level
        return Grid(self.grid.bounds, (z * size, y * size, x * size))


@dataclass(frozen=True)
class TaskGrid:
    """The tasks of one part, of a merge those of one level.

    Attributes
    ----------
    part, shape : str
        The part's name, and which of the five shapes it has.
    level : int
        Of a merge: 0 are the leaves.
    first, counts : (z, y, x)
        The lowest index, and how many there are along each axis. Ranges of objects and whole parts lie along z.
    bounds : Box or None
        The voxels of all tasks; None for objects.
    block : (z, y, x) or None
        The voxels of one; None for objects and whole parts.
    """

    part: str
    shape: str
    level: int
    first: ZYX
    counts: ZYX
    bounds: Box | None = None
    block: ZYX | None = None

    def __len__(self) -> int:
        return math.prod(self.counts)

    def index(self, number: int) -> ZYX:
        """Return the place (z, y, x) of task ``number``."""
        rest, x = divmod(int(number), self.counts[2])
        z, y = divmod(rest, self.counts[1])
        return z + self.first[0], y + self.first[1], x + self.first[2]

    def name(self, number: int) -> str:
        """Return the task's name, as in ledgers, logs and file names."""
        if self.shape == "whole":
            return "whole"
        if self.shape == "object":
            return f"{int(number):08d}"
        index = self.index(number)
        return node_name(self.level, index) if self.shape == "merge" else block_name(index)

    def task(self, number: int) -> TaskId:
        """Return task ``number``."""
        index: tuple[int, ...] = self.index(number)
        if self.shape in ("whole", "object"):
            index = index[:1] if self.shape == "object" else ()
        return TaskId(self.part, self.name(number), index, self.level)

    @property
    def blocks(self) -> Grid | None:
        """The voxels of the tasks, as a grid; None for objects and whole parts."""
        return Grid(self.bounds, self.block) if self.bounds is not None and self.block is not None else None

    def box(self, number: int) -> Box | None:
        """Return the voxels that task ``number`` owns; None for objects, the bounds for a whole part."""
        return self.blocks.core(self.index(number)) if self.blocks is not None else self.bounds

    def number(self, name: str) -> int | None:
        """Return the number of the task called ``name``, or None where none is."""
        if self.shape == "whole":
            return 0 if name == "whole" else None
        head, _, tail = name.partition("-") if self.shape == "merge" else ("", "", name)
        if self.shape == "merge" and head != f"level{self.level}":
            return None
        places = tail.split("-")
        if not all(place.isdigit() for place in places) or len(places) != (1 if self.shape == "object" else 3):
            return None
        at = [int(place) for place in places] + [0, 0] * (self.shape == "object")
        relative = [a - f for a, f in zip(at, self.first, strict=True)]
        if any(not 0 <= r < n for r, n in zip(relative, self.counts, strict=True)):
            return None
        return (relative[0] * self.counts[1] + relative[1]) * self.counts[2] + relative[2]


def task_grids(context: StepContext, part: Part, objects: int = 0) -> list[TaskGrid]:
    """Return the grids of a part, leaves of a merge first. ``objects`` is the number of ids of an object part."""
    if isinstance(part, ObjectPart):
        return [TaskGrid(part.name, part.shape, 0, (0, 0, 0), (math.ceil(objects / part.ids_per_task), 1, 1))]
    if isinstance(part, WholePart):
        return [TaskGrid(part.name, part.shape, 0, (0, 0, 0), (1, 1, 1), context.bounds)]
    if isinstance(part, MergePart):
        tree = octree(context, part)
        grids = [tree.level(level) for level in range(tree.levels)]
    else:
        grids = [context.grid(part)]
    return [
        TaskGrid(part.name, part.shape, level, grid.first, grid.counts, grid.bounds, grid.block)
        for level, grid in enumerate(grids)
    ]


def octree(context: StepContext, part: MergePart) -> Octree:
    """Return the tree of a merge part."""
    return Octree(context.grid(part), part.fan_out)


def node_name(level: int, index: ZYX) -> str:
    """Return the name of a merge node: its level, then its place."""
    return f"level{level}-{block_name(index)}"


def count_tasks(context: StepContext, part: Part, objects: int = 0) -> int:
    """Return the number of tasks of a part."""
    return sum(len(grid) for grid in task_grids(context, part, objects))


def parents_of(context: StepContext, part: Part, task: TaskId) -> list[str]:
    """Return the names of the tasks of the same part whose tables ``task`` gets."""
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
