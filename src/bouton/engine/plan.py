"""What a workflow will cost, before anything runs: blocks, voxels, memory and bytes of every step."""

from __future__ import annotations

import itertools
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bouton.engine.context import StepContext, make_context, part_layers, planned_halo_of
from bouton.engine.ledger import Ledger
from bouton.engine.tasks import Octree, count_tasks, octree
from bouton.errors import BoutonError
from bouton.geometry import Box
from bouton.spec import Step, Workflow
from bouton.stage import BlockPart, ChainPart, MergePart, ObjectPart, Part, Stage, WholePart

BASE_BYTES = 380 << 20  # a worker with its libraries and compiled kernels


@dataclass(frozen=True)
class StepPlan:
    """What one step will cost.

    Attributes
    ----------
    tasks, done : int
        Tasks of all parts (object tasks are known only while it runs), and those that an earlier run finished.
    voxels : int
        Voxels of the step's bounds.
    peak_bytes : int
        Memory of all workers together.
    output_bytes : int
        Upper bound of what the layers take: their size uncompressed.
    seconds : float or None
        Time on one worker, from earlier tasks of the same step (other keys too), scaled by voxels.
    """

    step: str
    stage: str
    tasks: int
    done: int
    voxels: int
    peak_bytes: int
    output_bytes: int
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """What a workflow will cost. ``free_bytes`` are free on the disk of the run folder."""

    steps: tuple[StepPlan, ...]
    free_bytes: int
    memory_bytes: int

    @property
    def output_bytes(self) -> int:
        """Upper bound of the bytes that unfinished steps will write."""
        return sum(step.output_bytes for step in self.steps if step.done < step.tasks or not step.tasks)

    @property
    def warnings(self) -> list[str]:
        """Return what will probably go wrong."""
        found = []
        for step in self.steps:
            if step.peak_bytes > self.memory_bytes:
                need, have = step.peak_bytes >> 20, self.memory_bytes >> 20
                found.append(f"step {step.step} needs about {need} MiB, the machine has {have}: use fewer --workers")
        if self.output_bytes > self.free_bytes:
            need, have = self.output_bytes >> 20, self.free_bytes >> 20
            found.append(f"up to {need} MiB will be written, {have} are free on the disk")
        return found


def make_plan(workflow: Workflow, runs_dir: Path, workers: int) -> Plan:
    """Return what ``workflow`` will cost with this number of workers."""
    folder = runs_dir / workflow.name
    steps = tuple(_plan_step(workflow, step, folder, workers) for step in workflow.steps)
    existing = next(path for path in [folder.resolve(), *folder.resolve().parents] if path.exists())
    return Plan(steps, shutil.disk_usage(existing).free, _machine_bytes())


def _plan_step(workflow: Workflow, step: Step, folder: Path, workers: int) -> StepPlan:
    context = make_context(workflow, step, folder)
    done, tasks = 0, step_tasks(context, step.stage)
    path = context.root / "ledger.sqlite"
    if path.is_file():
        with Ledger(path, readonly=True) as ledger:
            done = ledger.counts()["done"]
            tasks = int(ledger.fact("tasks", tasks)) if ledger.fact("complete") else tasks
    return StepPlan(
        step=step.name,
        stage=step.stage_name,
        tasks=tasks,
        done=done,
        voxels=step.bounds.voxels,
        peak_bytes=max((_part_memory(context, step, part, workers) for part in step.stage.parts), default=0),
        output_bytes=_output_bytes(step),
        seconds=_known_seconds(context),
    )


def step_tasks(context: StepContext, stage: Stage) -> int:
    """Return the tasks of all parts but the object parts, whose ids are not known before they run."""
    return sum(count_tasks(context, part) for part in stage.parts if not isinstance(part, ObjectPart))


def _part_memory(context: StepContext, step: Step, part: Part, workers: int) -> int:
    """Return the peak memory of a part's concurrent tasks in bytes."""
    if isinstance(part, WholePart):
        return BASE_BYTES + part.memory_bytes
    if isinstance(part, ObjectPart):
        return BASE_BYTES * workers
    grid = context.grid(part)
    if isinstance(part, MergePart):
        return _merge_memory(octree(context, part), part, workers)
    block = (min(b, n) for b, n in zip(grid.block, context.bounds.shape, strict=True))
    halo = planned_halo_of(part, step.params, context.voxel_size_nm)
    fixed = part.fixed_bytes(step.params) if isinstance(part, BlockPart) else 0
    voxels = math.prod(b + 2 * h for b, h in zip(block, halo, strict=True))
    at_once = 1 if isinstance(part, ChainPart) else min(workers, len(grid))
    return int((BASE_BYTES + fixed + part.bytes_per_voxel * voxels) * at_once)


def _merge_memory(tree: Octree, part: MergePart, workers: int) -> int:
    """Return the peak memory of a merge: of its leaves at once, or of one level's nodes, which see their children."""
    block = math.prod(min(b, n) for b, n in zip(tree.grid.block, tree.grid.bounds.shape, strict=True))
    needs = [part.bytes_per_voxel * block * min(workers, len(tree.grid))]
    for level in range(1, tree.levels):
        nodes = list(itertools.islice(tree.nodes(level), workers + 1))
        children = [tree.box(level - 1, child) for child in tree.children(level, nodes[0])]
        needs.append(part.bytes_per_face_voxel * sum(map(_surface, children)) * min(workers, len(nodes)))
    return int(BASE_BYTES * workers + max(needs))


def _surface(box: Box) -> int:
    z, y, x = box.shape
    return 2 * (z * y + y * x + z * x)


def _output_bytes(step: Step) -> int:
    total = 0
    for part in step.stage.parts:
        if isinstance(part, BlockPart | ChainPart):
            for layer in part_layers(part, step.params).values():
                total += np.dtype(str(layer.dtype)).itemsize * (layer.channels or 1) * step.bounds.voxels
    return total


def _known_seconds(context: StepContext) -> float | None:
    """Return the time of the step on one worker, from the ledgers of its folders, scaled by voxels."""
    seconds, voxels, parts = 0.0, 0, 0
    for path in sorted(context.root.parent.glob("*/ledger.sqlite")):
        try:
            with Ledger(path, readonly=True) as ledger:
                if ledger.fact("complete"):
                    seconds, voxels = seconds + ledger.task_seconds(), voxels + int(ledger.fact("voxels"))
                    parts += 1
        except BoutonError:
            continue
    return seconds / voxels * context.bounds.voxels if parts and voxels else None


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
