"""The fronts of a step, and what they wait for.

What a task may read is declared: layers over its block and halo (block, chain) or over its node's box (merge), the
tables of its source blocks and child nodes. For these it waits block by block. Tables of other parts and steps may be
read whole, and objects and whole parts may read anything: for these it waits until the part is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bouton.engine.context import StepContext, halo_of, part_layers
from bouton.engine.frontier import Dependency, Front
from bouton.engine.tasks import TaskGrid, task_grids
from bouton.geometry import ZYX, Box, Grid
from bouton.stage import BlockPart, ChainPart, MergePart, ObjectPart, Part, part_tables


@dataclass
class PartFront:
    """One front of a step.

    Attributes
    ----------
    level : int
        Of a merge: 0 are the leaves.
    labels : list of str
        What each dependency is, in words.
    seconds : float or None
        Mean time of its tasks so far; None where none was measured.
    """

    part: Part
    level: int
    front: Front
    labels: list[str] = field(default_factory=list)
    seconds: float | None = None

    @property
    def blocks(self) -> Grid | None:
        """The voxels of its tasks, as a grid; None for objects and whole parts."""
        return self.front.grid.blocks if self.front.grid is not None else None

    @property
    def gpu(self) -> bool:
        """Whether a GPU helps."""
        return isinstance(self.part, BlockPart) and self.part.gpu


@dataclass(frozen=True)
class Source:
    """What makes an input of a step: the fronts of the part that writes it, the last one its root."""

    label: str
    fronts: Sequence[PartFront]


def fronts_of(
    context: StepContext,
    parts: Sequence[Part],
    params: object,
    sources: Mapping[str, Source],
    only: Box | None = None,
) -> list[PartFront]:
    """Return the fronts of a step with what they wait for, in the order of its parts, a merge's leaves first.

    Parameters
    ----------
    sources : mapping of input name -> Source
        Inputs that steps of this run make.
    only : Box, optional
        Of the block parts, the tasks that share a voxel with this box are wanted.
    """
    found: list[PartFront] = []
    for part in parts:
        own = _part_fronts(context, part, only)
        for pf in own:
            waits = _Waits(context, pf, halo_of(part, params, context.voxel_size_nm))
            waits.on_levels(own)
            for earlier in _grouped(found):
                waits.on_part(earlier, params)
            for name, source in sources.items():
                waits.on_input(source, context.inputs[name].is_table)
            pf.front.dependencies, pf.labels = tuple(waits.dependencies), waits.labels
        found += own
    return found


def _part_fronts(context: StepContext, part: Part, only: Box | None) -> list[PartFront]:
    if isinstance(part, ObjectPart):
        return [PartFront(part, 0, Front(None))]
    wanted = _wanted(context.grid(part), only) if only is not None and isinstance(part, BlockPart) else None
    return [PartFront(part, grid.level, Front(grid, wanted=wanted)) for grid in task_grids(context, part)]


def _wanted(blocks: Grid, only: Box) -> Box:
    part = Grid(blocks.bounds & only, blocks.block)
    first = tuple(a - b for a, b in zip(part.first, blocks.first, strict=True))
    return Box((0, 0, 0), part.counts).shift(first)


def _grouped(found: Sequence[PartFront]) -> list[list[PartFront]]:
    names = dict.fromkeys(pf.part.name for pf in found)
    return [[pf for pf in found if pf.part.name == name] for name in names]


class _Waits:
    """Collects what one front waits for."""

    def __init__(self, context: StepContext, pf: PartFront, halo: ZYX) -> None:
        self.context, self.pf, self.halo = context, pf, halo
        self.dependencies: list[Dependency] = []
        self.labels: list[str] = []

    def on_levels(self, own: Sequence[PartFront]) -> None:
        """Wait for the children of a node, or for the slab below."""
        if self.pf.level:
            self._on_blocks(own[self.pf.level - 1], f"a node below of part {self.pf.part.name}")
        if isinstance(self.pf.part, ChainPart):
            grid = self.pf.front.grid
            assert grid is not None
            below = np.arange(grid.counts[0], dtype=np.int64)
            zero, one = np.zeros(1, np.int64), np.ones(1, np.int64)
            low, high = (np.maximum(below - 1, 0), zero, zero), (below, one, one)
            self._add(Dependency(self.pf.front, low, high), f"the slab below of part {self.pf.part.name}")

    def on_part(self, earlier: Sequence[PartFront], params: object) -> None:
        """Wait for an earlier part of the same step."""
        part, label = earlier[0].part, f"part {earlier[0].part.name}"
        tables = set(part_tables(part))
        mine = self.pf.part
        if isinstance(mine, MergePart) and tables and tables <= set(mine.source):
            if not self.pf.level:
                self._on_blocks(earlier[0], label)
        elif isinstance(part, BlockPart) and not tables and isinstance(mine, BlockPart | ChainPart | MergePart):
            if part_layers(part, params) and not self.pf.level:
                self._on_blocks(earlier[0], label)
        else:
            self._on_all(earlier, label)

    def on_input(self, source: Source, is_table: bool) -> None:
        """Wait for an input."""
        first = source.fronts[0]
        if is_table or self.pf.blocks is None or first.blocks is None or isinstance(first.part, MergePart):
            self._on_all(source.fronts, source.label)
        elif not self.pf.level:
            self._on_blocks(first, source.label)

    def _on_all(self, fronts: Sequence[PartFront], label: str) -> None:
        for pf in fronts:
            self._add(Dependency(pf.front), label)

    def _on_blocks(self, other: PartFront, label: str) -> None:
        assert self.pf.blocks is not None
        assert other.blocks is not None
        axes = [_ranges(self.pf.blocks, other.blocks, self.halo[axis], axis) for axis in range(3)]
        (z0, z1), (y0, y1), (x0, x1) = axes
        self._add(Dependency(other.front, (z0, y0, x0), (z1, y1, x1)), label)

    def _add(self, dependency: Dependency, label: str) -> None:
        self.dependencies.append(dependency)
        self.labels.append(label)


def _ranges(own: Grid, other: Grid, halo: int, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return for each own index along an axis the half-open range of the other grid's indices that it reads."""
    low, high = own.bounds.start[axis], own.bounds.stop[axis]
    edges = (own.first[axis] + np.arange(own.counts[axis], dtype=np.int64)) * own.block[axis]
    start = np.maximum(np.maximum(edges, low) - halo, low)
    stop = np.minimum(np.minimum(edges + own.block[axis], high) + halo, high)
    size, first, count = other.block[axis], other.first[axis], other.counts[axis]
    return np.clip(start // size - first, 0, count), np.clip(-(-stop // size) - first, 0, count)


def finished_fronts(parts: Sequence[Part], grids: Sequence[TaskGrid]) -> list[PartFront]:
    """Return the fronts of a step that is done. ``grids`` are those of its ledger."""
    found = [PartFront(part, grid.level, Front(grid)) for part in parts for grid in grids if grid.part == part.name]
    for pf in found:
        pf.front.finish()
    return found
