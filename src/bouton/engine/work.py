"""How much work the tasks of a part are, from its geometry alone: what measured seconds and bytes are scaled by.

========  =====================================================================================================
block     voxels of core + planned halo, inside the bounds
merge     a leaf: voxels of its block. A node above: voxels of its children's faces where the part keeps what is
          complete (:attr:`bouton.stage.MergePart.kept`), for only what touches the faces is handed on; else voxels
object    ids
chain     voxels of core + planned halo, inside the bounds
whole     voxels of the bounds
========  =====================================================================================================
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bouton.engine.context import StepContext, planned_halo_of
from bouton.engine.tasks import Octree, octree
from bouton.geometry import ZYX, Box
from bouton.stage import MergePart, ObjectPart, Part, WholePart

LISTED = 4096


@dataclass(frozen=True)
class Wave:
    """Tasks that may run at once.

    Attributes
    ----------
    level : int
        Of a merge: 0 are the leaves.
    count : int
    works : numpy.ndarray
        float64, the work of each task; of more than LISTED tasks, LISTED equal shares of the whole.
    """

    level: int
    count: int
    works: np.ndarray

    @property
    def total(self) -> float:
        """Work of all tasks."""
        return float(self.works.mean()) * self.count if self.count else 0.0


def waves_of_work(context: StepContext, part: Part, params: Any, objects: int = 0) -> list[Wave]:
    """Return the waves of a part; of a chain, all of its slabs as one wave (which runs in series)."""
    if isinstance(part, ObjectPart):
        full, rest = divmod(objects, part.ids_per_task)
        works = [float(part.ids_per_task)] * min(full, LISTED) + [float(rest)] * (rest > 0)
        return [Wave(0, full + (rest > 0), np.array(works))]
    if isinstance(part, WholePart):
        return [Wave(0, 1, np.array([float(context.bounds.voxels)]))]
    if isinstance(part, MergePart):
        tree = octree(context, part)
        return [_merge_wave(tree, part, level) for level in range(tree.levels)]
    return [_block_wave(context, part, params)]


def work_of(context: StepContext, part: Part, params: Any, task: str) -> tuple[int, float]:
    """Return the level and the work of one task of a part, by its name; an object task counts as a full range."""
    if isinstance(part, ObjectPart):
        return 0, float(part.ids_per_task)
    if isinstance(part, WholePart):
        return 0, float(context.bounds.voxels)
    if isinstance(part, MergePart):
        level, _, name = task.removeprefix("level").partition("-")
        return int(level), _node_work(octree(context, part), part, int(level), _index(name))
    halo = planned_halo_of(part, params, context.voxel_size_nm)
    return 0, float((context.grid(part).core(_index(task)).grow(halo) & context.bounds).voxels)


def core_of(context: StepContext, part: Part, task: str) -> Box:
    """Return the voxels that a task owns; of an object or whole part, the bounds."""
    if isinstance(part, ObjectPart | WholePart):
        return context.bounds
    if isinstance(part, MergePart):
        level, _, name = task.removeprefix("level").partition("-")
        return octree(context, part).box(int(level), _index(name))
    return context.grid(part).core(_index(task))


def _index(name: str) -> ZYX:
    z, y, x = (int(value) for value in name.split("-"))
    return z, y, x


def _block_wave(context: StepContext, part: Part, params: Any) -> Wave:
    """Return the blocks' work: lengths along each axis, with halo and inside the bounds, multiplied."""
    grid, halo = context.grid(part), planned_halo_of(part, params, context.voxel_size_nm)
    axes = []
    for axis in range(3):
        start, stop, size = grid.bounds.start[axis], grid.bounds.stop[axis], grid.block[axis]
        edges = np.arange(grid.first[axis], grid.first[axis] + grid.counts[axis], dtype=np.float64) * size
        low, high = np.maximum(edges, start), np.minimum(edges + size, stop)
        axes.append(np.minimum(high + halo[axis], stop) - np.maximum(low - halo[axis], start))
    if len(grid) > LISTED:
        mean = math.prod(float(lengths.sum()) for lengths in axes) / len(grid)
        return Wave(0, len(grid), np.full(LISTED, mean))
    z, y, x = axes
    return Wave(0, len(grid), (z[:, None, None] * y[None, :, None] * x[None, None, :]).ravel())


def _merge_wave(tree: Octree, part: MergePart, level: int) -> Wave:
    count = tree.count_at(level)
    nodes: Iterator[ZYX] = tree.nodes(level)
    listed = nodes if count <= LISTED else itertools.islice(nodes, 64)
    works = np.array([_node_work(tree, part, level, node) for node in listed])
    return Wave(level, count, works if count <= LISTED else np.full(LISTED, works.max()))


def _node_work(tree: Octree, part: MergePart, level: int, index: ZYX) -> float:
    box = tree.box(level, index)
    if level == 0 or not part.kept:
        return float(box.voxels)
    return float(sum(surface(tree.box(level - 1, child)) for child in tree.children(level, index)))


def surface(box: Box) -> int:
    """Return the voxels of a box's faces."""
    z, y, x = box.shape
    return 2 * (z * y + y * x + z * x)
