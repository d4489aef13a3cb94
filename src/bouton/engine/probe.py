"""A few real blocks of every step, run on this machine before anything is planned.

The probe runs in a folder of its own, ``.probe`` in the run folder, with the real engine and as many workers as are
planned (at most one a core). It computes the workflow on small boxes: first on half a block in the middle, so that
every worker has loaded its libraries and models; then on 2 x 2 x 2 blocks in the middle and on a few blocks at three
other places. Steps that read data sources alone (predict) compute those blocks as in the whole volume, with their full
halo. Blocks are of the true size, and at most a quarter of the volume is computed where it has few of them. What was
measured is kept: another plan with the same parameters computes nothing.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bouton.engine.context import make_context
from bouton.engine.coordinator import run_step
from bouton.engine.events import Event, Subscriber, TaskFailed
from bouton.engine.executors import Executor, make_executor
from bouton.engine.ledger import LEDGER, Ledger
from bouton.engine.plan_file import PROBE_FOLDER
from bouton.engine.run import guarded
from bouton.engine.samples import StepSamples, joined, read_place, without_later
from bouton.engine.step_run import StepRun
from bouton.errors import RunError
from bouton.geometry import ZYX, Box, Grid
from bouton.spec import Source, Step, Workflow
from bouton.stage import BlockPart
from bouton.volume import Volume, open_volume

LARGEST_SHARE = 4
PLACES = ((0.2, 0.3, 0.25), (0.8, 0.7, 0.75), (0.25, 0.75, 0.2), (0.7, 0.2, 0.8), (0.1, 0.9, 0.5), (0.9, 0.1, 0.4))
"""Where the other boxes lie, as fractions of the volume (z, y, x); the next ones where one is empty or taken."""
OTHERS = 3
LITTLE = 1 << 20
"""Blocks of fewer voxels take so little time that all places have as many as the first."""
PATCH = 8


@dataclass(frozen=True)
class ProbeBox:
    """One box of a probe. ``blocks`` of the workflow's largest block; 0 for the first, half a block for warming up."""

    box: Box
    blocks: int

    @property
    def is_warmup(self) -> bool:
        """Whether the box serves to start workers."""
        return self.blocks == 0


@dataclass(frozen=True)
class ProbeJob:
    """What to probe: the workflow, the same restricted to a box, the folder of runs, and the planned workers."""

    workflow: Workflow
    restricted: Callable[[Box], Workflow]
    runs_dir: Path
    workers: int

    @property
    def at_once(self) -> int:
        """Workers of the probe: those planned, at most one a core."""
        return min(self.workers, cores())

    @property
    def folder(self) -> Path:
        """Where its results lie; what another machine, or another number of workers, measured lies elsewhere."""
        machine = hashlib.blake2b(f"{platform.node()} {platform.processor()} {cores()}".encode(), digest_size=3)
        return self.runs_dir / self.workflow.name / PROBE_FOLDER / f"{self.at_once}-{machine.hexdigest()}"


def cores() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def probe_boxes(workflow: Workflow, workers: int) -> list[ProbeBox]:
    """Return the boxes of a probe with this many workers at once, the one for warming up first."""
    whole, common = workflow.steps[0].bounds, workflow.steps[0].bounds
    for step in workflow.steps:
        whole = whole | step.bounds
        common = common if (common & step.bounds).is_empty else common & step.bounds
    block = tuple(max(step.block[axis] for step in workflow.steps) for axis in range(3))
    grid = Grid(whole, (block[0], block[1], block[2]))
    small = _grown((1, 1, 1), grid.counts, workers)
    large = _grown(tuple(min(2, n) for n in grid.counts), grid.counts, max(8, 4 * workers))
    allowed = max(math.prod(small), len(grid) // LARGEST_SHARE)
    first = large if math.prod(large) <= allowed else small
    middle = tuple((a + b) / 2 for a, b in zip(common.start, common.stop, strict=True))
    other = first if math.prod(grid.block) < LITTLE else small
    chosen = [_blocks_at(grid, middle, first)]
    volumes = _open_sources(workflow)
    for box in _elsewhere(grid, other):
        blocks = sum(math.prod(Grid(each, grid.block).counts) for each in [*chosen, box])
        taken = any(not (box & each).is_empty for each in chosen)
        if len(chosen) <= OTHERS and blocks <= allowed and not taken and not _is_empty(volumes, box):
            chosen.append(box)
    return [ProbeBox(_warmup(grid, chosen[0]), 0), *(ProbeBox(box, len(Grid(box, grid.block))) for box in chosen)]


def _grown(shape: tuple[int, ...], counts: ZYX, least: int) -> ZYX:
    """Return ``shape`` doubled, along the axis with most room, until it has ``least`` blocks or fills the grid."""
    size = [*shape]
    while math.prod(size) < least:
        axis = max(range(3), key=lambda a: counts[a] / size[a])
        if size[axis] >= counts[axis]:
            break
        size[axis] = min(counts[axis], 2 * size[axis])
    return size[0], size[1], size[2]


def _blocks_at(grid: Grid, middle: tuple[float, ...], shape: ZYX) -> Box:
    """Return the box of ``shape`` blocks nearest to ``middle`` (voxels)."""
    start = []
    for axis in range(3):
        wanted = round(middle[axis] / grid.block[axis] - shape[axis] / 2)
        last = grid.first[axis] + grid.counts[axis] - shape[axis]
        start.append(min(max(wanted, grid.first[axis]), last))
    ends = [i + n - 1 for i, n in zip(start, shape, strict=True)]
    return grid.core((start[0], start[1], start[2])) | grid.core((ends[0], ends[1], ends[2]))


def _elsewhere(grid: Grid, shape: ZYX) -> Iterator[Box]:
    for place in PLACES:
        middle = tuple(a + f * n for a, f, n in zip(grid.bounds.start, place, grid.bounds.shape, strict=True))
        yield _blocks_at(grid, middle, shape)


def _warmup(grid: Grid, near: Box) -> Box:
    """Return half a block's sides around the corner of blocks nearest to the middle of ``near``."""
    start, stop = [], []
    for axis in range(3):
        size, low, high = grid.block[axis], near.start[axis], near.stop[axis]
        corner = round((low + high) / 2 / size) * size
        centre = corner if low < corner < high else (low + high) // 2
        half = max(1, size // 4)
        start.append(max(low, centre - half))
        stop.append(min(high, centre + half))
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def _open_sources(workflow: Workflow) -> list[tuple[Source, Volume]]:
    sources = [source for source in workflow.sources.values() if source.path.suffix != ".parquet"]
    return [(source, open_volume(source.path, source.dataset)) for source in sources]


def _is_empty(volumes: list[tuple[Source, Volume]], box: Box) -> bool:
    """Return whether every source is zero in a small patch in the middle of the box."""
    for source, volume in volumes:
        centre = [(a + b) // 2 for a, b in zip(box.start, box.stop, strict=True)]
        patch = Box((centre[0], centre[1], centre[2]), (centre[0], centre[1], centre[2])).grow((PATCH,) * 3) & box
        inside = patch.shift([-d for d in source.offset_zyx]) & volume.box
        if not inside.is_empty and np.any(volume.read(inside)):
            return False
    return bool(volumes)


def run_probe(job: ProbeJob, boxes: list[ProbeBox], subscribers: tuple[Subscriber, ...] = ()) -> dict[str, StepSamples]:
    """Run what is left of a probe and return what was measured, by step. Steps that no box meets are left out.

    Raises
    ------
    RunError
        A block failed (the message names step and block), or the disk is full.
    """
    folder = job.folder.resolve()
    found: dict[str, list[StepSamples]] = {}
    with guarded(folder):
        places = [
            _Place(replace(job.workflow, steps=tuple(_steps(job, chosen))), folder, number, chosen)
            for number, chosen in enumerate(boxes)
        ]
        _forget_unfinished(places)
        pool = make_executor("processes", job.at_once)
        try:
            for place in places:
                for step in place.workflow.steps:
                    samples = _probe_step(place, step, pool, subscribers)
                    found.setdefault(step.name, []).append(samples)
        finally:
            pool.close()
    every = {name: joined(samples, "probe", job.at_once) for name, samples in found.items()}
    return without_later({name: samples for name, samples in every.items() if samples is not None})


@dataclass(frozen=True)
class _Place:
    """One box, with the workflow on it."""

    workflow: Workflow
    folder: Path
    number: int
    chosen: ProbeBox


def _forget_unfinished(places: list[_Place]) -> None:
    """Remove what a probe that was ended measured in part; if any place is left, warm up again: workers are new."""
    unfinished = False
    for place in reversed(places):
        for step in place.workflow.steps:
            root = make_context(place.workflow, step, place.folder).root
            if not _is_measured(root, place.chosen.box) or (unfinished and place.chosen.is_warmup):
                unfinished = True
                if str(step.bounds) == str(place.chosen.box & step.bounds):
                    shutil.rmtree(root, ignore_errors=True)


def _is_measured(root: Path, box: Box) -> bool:
    path = root / LEDGER
    if not path.is_file():
        return False
    with Ledger(path, readonly=True) as ledger:
        return ledger.fact(f"wall {box}") > 0


def _steps(job: ProbeJob, chosen: ProbeBox) -> list[Step]:
    """Return the steps on a box; those that read sources alone, unless it is for warming up, on their full bounds."""
    full = {step.name: step for step in job.workflow.steps}
    small = job.restricted(chosen.box).steps
    return [full[step.name] if not chosen.is_warmup and _is_independent(step, job) else step for step in small]


def _is_independent(step: Step, job: ProbeJob) -> bool:
    """Return whether any block of the step can be computed alone, in the whole volume."""
    lone = len(step.stage.parts) == 1 and isinstance(step.stage.parts[0], BlockPart) and not step.stage.tables()
    return lone and all(ref.owner in job.workflow.sources for ref in step.reads.values())


def _probe_step(place: _Place, step: Step, pool: Executor, subscribers: tuple[Subscriber, ...]) -> StepSamples:
    failed: list[TaskFailed] = []

    def emit(event: Event) -> None:
        if isinstance(event, TaskFailed):
            failed.append(event)
        for subscriber in subscribers:
            subscriber(event)

    context, box = make_context(place.workflow, step, place.folder), place.chosen.box
    started = time.perf_counter()
    summary = run_step(StepRun(context, emit, 0, box), pool)
    wall = time.perf_counter() - started
    if failed:
        raise _failure(failed[0], place.folder)
    if summary.computed:
        with Ledger(context.root / LEDGER) as ledger:
            ledger.set_fact(f"wall {box}", wall)
    return read_place(context, step.stage, place.number, place.chosen.is_warmup, box)


def _failure(failed: TaskFailed, folder: Path) -> RunError:
    box = f" (box {failed.box_zyx}, z,y,x)" if failed.box_zyx else ""
    return RunError(
        f"the probe failed in step {failed.step}, {failed.part} {failed.task}{box}: {failed.error}",
        where=str(folder), expected="blocks that can be computed",
        fix="mend the cause and plan again, or plan without --probe",
    )  # fmt: skip
