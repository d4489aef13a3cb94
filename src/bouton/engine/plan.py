"""What a workflow will cost, before anything runs: blocks, voxels, memory and bytes of every step."""

from __future__ import annotations

import itertools
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bouton.engine.context import StepContext, make_context, part_layers, planned_halo_of
from bouton.engine.estimate import NOTHING, Estimate
from bouton.engine.forecast import Forecast, forecast
from bouton.engine.ledger import LEDGER, Ledger
from bouton.engine.samples import StepSamples, earlier_runs
from bouton.engine.tasks import Octree, count_tasks, octree
from bouton.engine.work import surface
from bouton.spec import Step, Workflow
from bouton.stage import BlockPart, ChainPart, MergePart, ObjectPart, Part, Stage, WholePart

BASE_BYTES = 380 << 20  # a worker with its libraries and compiled kernels

BUSY = 0.6


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
        Memory of all workers together: as forecast, else as the stage declares.
    output_bytes : int
        Upper bound of what the layers take: their size uncompressed.
    gpu, by_content : bool
        Whether a part says that a GPU helps; whether it emits tables, whose rows depend on what is in the voxels.
    forecast : Forecast or None
        What measured tasks say; None where none of the step was measured.
    """

    step: str
    stage: str
    key: str
    tasks: int
    done: int
    voxels: int
    peak_bytes: int
    output_bytes: int
    gpu: bool
    by_content: bool
    forecast: Forecast | None

    @property
    def left(self) -> float:
        """The share of the tasks that is left."""
        return max(0.0, 1 - self.done / self.tasks) if self.tasks else 1.0

    @property
    def seconds_left(self) -> Estimate | None:
        """Time from now to the step's end, with the planned workers."""
        return self.forecast.seconds.times(self.left) if self.forecast else None


@dataclass(frozen=True)
class Plan:
    """What a workflow will cost. ``free_bytes`` are free on the disk of the run folder."""

    workers: int
    steps: tuple[StepPlan, ...]
    free_bytes: int
    memory_bytes: int

    @property
    def output_bytes(self) -> int:
        """Bytes that unfinished steps will write: as forecast with its upper end, else at most."""
        left = [step for step in self.steps if step.left]
        return sum(round(step.forecast.size_bytes.high) if step.forecast else step.output_bytes for step in left)

    @property
    def unknown(self) -> list[str]:
        """The unfinished steps of which nothing was measured."""
        return [step.step for step in self.steps if step.forecast is None and step.left]

    @property
    def seconds_left(self) -> Estimate:
        """Time of all steps that were measured, one after another."""
        known = [step.seconds_left for step in self.steps]
        return sum((seconds for seconds in known if seconds is not None), NOTHING)

    def _processor_share(self) -> float:
        found = [step.forecast for step in self.steps if step.forecast]
        seconds = sum(each.worker_seconds.value for each in found)
        return sum(each.cpu_seconds.value for each in found) / seconds if seconds else 1.0

    @property
    def warnings(self) -> list[str]:
        """Return what will probably go wrong."""
        found = []
        for step in self.steps:
            if step.peak_bytes > self.memory_bytes:
                need, have = step.peak_bytes >> 20, self.memory_bytes >> 20
                found.append(f"step {step.step} needs about {need} MiB, the machine has {have}: use fewer --workers")
        share = self._processor_share()
        if share < BUSY:
            found.append(
                f"measured tasks had a processor for {100 * share:.0f} % of their time: other programs ran, or disks "
                "were slow; times by the clock hold for a machine that is as busy"
            )
        if self.output_bytes > self.free_bytes:
            need, have = self.output_bytes >> 20, self.free_bytes >> 20
            found.append(f"up to {need} MiB will be written, {have} are free on the disk")
        return found


def make_plan(
    workflow: Workflow, runs_dir: Path, workers: int, measured: Mapping[str, StepSamples] | None = None
) -> Plan:
    """Return what ``workflow`` will cost with this number of workers.

    Parameters
    ----------
    measured : mapping of step name -> StepSamples, optional
        What :func:`bouton.engine.probe.run_probe` measured. Steps that are not in it: what earlier runs of them took,
        with any parameters.
    """
    folder = runs_dir / workflow.name
    measured = measured or {}
    steps = []
    for step in workflow.steps:
        context = make_context(workflow, step, folder)
        samples = measured.get(step.name) or earlier_runs(context, step.stage)
        found = forecast(context, step.stage, step.params, samples, workers) if samples else None
        steps.append(_plan_step(context, step, workers, found))
    existing = next(path for path in [folder.resolve(), *folder.resolve().parents] if path.exists())
    return Plan(workers, tuple(steps), shutil.disk_usage(existing).free, _machine_bytes())


def _plan_step(context: StepContext, step: Step, workers: int, found: Forecast | None) -> StepPlan:
    done, tasks = 0, step_tasks(context, step.stage)
    path = context.root / LEDGER
    if path.is_file():
        with Ledger(path, readonly=True) as ledger:
            done = ledger.counts()["done"]
            tasks = int(ledger.fact("tasks", tasks)) if ledger.fact("complete") else tasks
    declared = max((_part_memory(context, step, part, workers) for part in step.stage.parts), default=0)
    return StepPlan(
        step=step.name,
        stage=step.stage_name,
        key=step.key,
        tasks=tasks,
        done=done,
        voxels=step.bounds.voxels,
        peak_bytes=round(found.peak_bytes.value) if found else declared,
        output_bytes=_output_bytes(step),
        gpu=any(isinstance(part, BlockPart) and part.gpu for part in step.stage.parts),
        by_content=bool(step.stage.tables()),
        forecast=found,
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
    # Outside of the bounds nothing is read.
    voxels = math.prod(min(b + 2 * h, n) for b, h, n in zip(block, halo, context.bounds.shape, strict=True))
    at_once = 1 if isinstance(part, ChainPart) else min(workers, len(grid))
    each = part.bytes_per_voxel
    if callable(each):
        each = each(step.params, context.voxel_size_nm)
    return int((BASE_BYTES + fixed + each * voxels) * at_once)


def _merge_memory(tree: Octree, part: MergePart, workers: int) -> int:
    """Return the peak memory of a merge: of its leaves at once, or of one level's nodes, which see their children."""
    block = math.prod(min(b, n) for b, n in zip(tree.grid.block, tree.grid.bounds.shape, strict=True))
    needs = [part.bytes_per_voxel * block * min(workers, len(tree.grid))]
    for level in range(1, tree.levels):
        nodes = list(itertools.islice(tree.nodes(level), workers + 1))
        children = [tree.box(level - 1, child) for child in tree.children(level, nodes[0])]
        needs.append(part.bytes_per_face_voxel * sum(map(surface, children)) * min(workers, len(nodes)))
    return int(BASE_BYTES * workers + max(needs))


def _output_bytes(step: Step) -> int:
    total = 0
    for part in step.stage.parts:
        if isinstance(part, BlockPart | ChainPart):
            for layer in part_layers(part, step.params).values():
                total += np.dtype(str(layer.dtype)).itemsize * (layer.channels or 1) * step.bounds.voxels
    return total


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
