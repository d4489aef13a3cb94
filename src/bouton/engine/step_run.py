"""The books of one step while it runs: what is done already, what may run now, what failed."""

from __future__ import annotations

import shutil
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bouton.engine.context import StepContext, context_to_json, load_stage_of, params_from_json, part_layers
from bouton.engine.dependencies import PartFront, Source, finished_fronts, fronts_of
from bouton.engine.events import (
    Event,
    PartStarted,
    StepFinished,
    StepReused,
    StepStarted,
    TaskFailed,
    TaskLost,
    TaskRetried,
    TasksBlocked,
    TasksDone,
)
from bouton.engine.execute import NODES, count_ids
from bouton.engine.frontier import BAD, DONE, PENDING
from bouton.engine.leases import OWN_FAULTS, Batch, Failure, Lease, runs_of, without
from bouton.engine.ledger import LEDGER, Ledger, Quarantined, disk_full
from bouton.engine.outputs import all_files, file_record, remove_leftovers
from bouton.engine.reuse import sibling_folders
from bouton.engine.tasks import OutputFile, task_grids
from bouton.geometry import Box, Grid
from bouton.stage import Layer, MergePart, ObjectPart, Part, Stage, part_tables
from bouton.volume import checksum, create_volume, write_bytes
from bouton.volume.objects import ObjectPath
from bouton.volume.places import Place, name_below

LOSSES = 12
"""How often a task may take its worker with it, or lose it, before it is quarantined although it seems innocent."""


@dataclass
class StepSummary:
    """How a step ended: ``state`` is done, failed, blocked or pending."""

    step: str
    state: str
    tasks: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    computed: int = 0


class StepRun:
    """One step of a run.

    Parameters
    ----------
    context : StepContext
    emit : callable
        Takes events.
    retries : int
        How often a task that failed by its own fault is tried again before it is quarantined.
    only : Box, optional
        For a probe: of the block parts, compute the blocks that share a voxel with this box. None is copied from
        another run, and the step does not count as complete.
    again : callable, optional
        Takes part and name of a task that an earlier run quarantined; whether it is tried again. Default: all are.

    Attributes
    ----------
    fronts : list of PartFront
        In the order of the parts, a merge's leaves first; after :meth:`open`.
    is_over : bool
        Whether every task is done, quarantined or blocked.
    """

    def __init__(
        self,
        context: StepContext,
        emit: Callable[[Event], None],
        retries: int,
        only: Box | None = None,
        again: Callable[[str, str], bool] = lambda part, task: True,
    ) -> None:
        self.context, self.emit, self.retries, self.only, self._again = context, emit, retries, only, again
        self._kept: list[Quarantined] = []
        self.root, self.data = context.root, context.data
        self.stage: Stage = load_stage_of(context)
        self.params = params_from_json(self.stage, context.params)
        self.fronts: list[PartFront] = []
        self.is_over = False
        self.computed = 0
        self._told: set[str] = set()
        self._folded: set[str] = set()
        self._own_faults: dict[tuple[str, int, int], int] = defaultdict(int)
        self._losses: dict[tuple[str, int, int], int] = defaultdict(int)
        self._suspects: deque[tuple[PartFront, int]] = deque()
        self._seconds = 0.0
        self._news: list[Event] = []

    def open(self, sources: Mapping[str, Source], lost: Iterable[tuple[str, str]] = ()) -> None:
        """Read the ledger, take what is lost off it, and build the fronts.

        Parameters
        ----------
        sources : mapping of input name -> Source
            What makes the inputs, of steps that are open already.
        lost : iterable of (part, task)
            Tasks to compute again though the ledger has them.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(self.root / LEDGER)
        remove_tasks(self.ledger, self.data, lost)
        self._forget_lost()
        self._write_record()
        if self.ledger.fact("complete"):
            self._reuse()
            return
        for folder in {self.root, self.data}:
            if isinstance(folder, Path):
                remove_leftovers(folder)
        self._kept = [each for each in self.ledger.failures() if not self._again(each.part, each.task)]
        self.ledger.forget_unfinished({(each.part, each.task) for each in self._kept})
        if self.only is None:
            self.context = replace(self.context, siblings=sibling_folders(self.context))
        for part in self.stage.parts:
            for name, layer in part_layers(part, self.params).items():
                if name not in self.ledger.layers():
                    self.ledger.commit_layer(name, make_layer(self.context, self.context.grid(part), name, layer))
        self.fronts = fronts_of(self.context, self.stage.parts, self.params, sources, self.only)
        self.ledger.set_grids(pf.front.grid for pf in self.fronts if pf.front.grid is not None)
        for pf in self.fronts:
            if pf.front.grid is not None:
                pf.front.load(self.ledger.done_runs(pf.part.name, pf.level))
                self._keep_quarantined(pf)

    def _write_record(self) -> None:
        """Write ``step.json`` where it is missing or other than now: verify and repair read it."""
        path, content = self.root / "step.json", context_to_json(self.context)
        if not path.is_file() or path.read_bytes() != content:
            write_bytes(path, content)

    def _keep_quarantined(self, pf: PartFront) -> None:
        """Give up the tasks of a front that are not tried again."""
        assert pf.front.grid is not None
        for each in self._kept:
            number = pf.front.grid.number(each.task) if each.part == pf.part.name else None
            if number is not None:
                pf.front.mark(np.array([number], np.int64), BAD)
                told = (each.part, each.task, each.box_zyx, each.attempts, each.error)
                self.emit(TaskFailed(self.context.step, *told))

    def _reuse(self) -> None:
        self.fronts = finished_fronts(self.stage.parts, self.ledger.grids())
        self.is_over = True
        self.emit(StepReused(self.context.step, int(self.ledger.fact("tasks"))))

    def _forget_lost(self) -> None:
        """Take tasks with missing or short files, and layers with changed metadata, off the ledger, and say so."""
        lost: dict[tuple[str, str], None] = {}
        look = look_at(self.data)
        for row in self.ledger.outputs():
            found = look(row.file.path, row.file.size_bytes)
            # Metadata are small, and every block trusts them.
            if not row.part and not found and checksum(self.data / row.file.path) != row.file.checksum:
                found = "changed"
            if found:
                self.emit(TaskLost(self.context.step, row.part, row.task, row.file.path, found))
                lost[(row.part, row.task)] = None
        remove_tasks(self.ledger, self.data, lost)

    def next_lease(self, pf: PartFront, size: int, number: int) -> Lease | None:
        """Return tasks of a front that may run now, or None."""
        if pf.front.grid is None and not self._count_objects(pf):
            return None
        suspect = next((each for each in self._suspects if each[0] is pf), None)
        if suspect is not None:
            self._suspects.remove(suspect)
            tasks = np.array([suspect[1]], np.int64)
        else:
            tasks, hopeless = pf.front.take(size)
            if len(hopeless):
                self._block(pf, hopeless)
        if not len(tasks):
            return None
        self._tell(pf)
        return Lease(number, self.context, pf.part.name, pf.level, tasks, pf.gpu, (pf.seconds or 0.0) * len(tasks))

    def _count_objects(self, pf: PartFront) -> bool:
        """Build the grid of an object part when all that it reads is done; return whether it is built."""
        waits = [dependency.front for dependency in pf.front.dependencies]
        if not all(front.is_settled for front in waits):
            return False
        assert isinstance(pf.part, ObjectPart)
        hopeless = any(front.bad for front in waits)
        objects = 1 if hopeless else count_ids(self.context, pf.part)
        (pf.front.grid,) = task_grids(self.context, pf.part, objects)
        if not hopeless:
            self.ledger.set_grids([pf.front.grid])
            pf.front.load(self.ledger.done_runs(pf.part.name))
            self._keep_quarantined(pf)
        pf.front.version += 1
        return True

    def _tell(self, pf: PartFront) -> None:
        """Announce the step and the part, the first time."""
        if not self._told:
            self.emit(StepStarted(self.context.step, self.context.stage_name, self.context.key))
        if pf.part.name in self._told:
            return
        self._told.add(pf.part.name)
        own = [each.front for each in self.fronts if each.part is pf.part]
        voxels = 0 if isinstance(pf.part, ObjectPart) else self.context.bounds.voxels
        numbers = (sum(front.total for front in own), sum(front.done for front in own), voxels)
        self.emit(
            PartStarted(self.context.step, pf.part.name, pf.part.shape, *numbers, self.ledger.voxels(pf.part.name))
        )

    def commit(self, pf: PartFront, batch: Batch) -> None:
        """Enter finished tasks into the ledger, inside of its transaction.

        What is done already does not change, whoever comes late with it.
        """
        late = pf.front.is_done(batch.numbers)
        news = without(batch, batch.numbers[late]) if late.any() else batch
        if news is None:
            return
        self.ledger.commit(pf.part.name, pf.level, news)
        pf.front.mark(news.numbers, DONE)
        mean = news.seconds / len(news.numbers)
        pf.seconds = mean if pf.seconds is None else 0.7 * pf.seconds + 0.3 * mean
        self.computed += len(news.numbers) - news.reused
        runs = tuple((int(a), int(b)) for a, b in runs_of(news.numbers))
        numbers = (len(news.numbers), news.voxels, news.reused, pf.level)
        self._news.append(TasksDone(self.context.step, pf.part.name, *numbers, runs))

    def fail(self, pf: PartFront, lease: int, failure: Failure) -> None:
        """Note a try that failed, inside of the ledger's transaction: it is tried again, alone, or quarantined.

        Raises
        ------
        RunError
            The disk is full.
        """
        if failure.cause == "disk":
            raise disk_full(self.root, failure.error)
        assert pf.front.grid is not None
        if pf.front.is_done(np.array([failure.task]))[0]:
            return
        name, place = pf.front.grid.name(failure.task), (pf.part.name, pf.level, failure.task)
        box = str(pf.front.grid.box(failure.task) or "")
        self.ledger.commit_attempt(pf.part.name, name, box, lease, failure)
        for path in failure.files:
            # The task is not done, so nobody has relied on this file.
            _remove(self.data / path)
        counts, limit = (self._own_faults, self.retries) if failure.cause in OWN_FAULTS else (self._losses, LOSSES)
        counts[place] += 1
        tries = self._own_faults[place] + self._losses[place]
        if counts[place] <= limit:
            self._suspects.append((pf, failure.task))
            self._news.append(TaskRetried(self.context.step, pf.part.name, name, tries, failure.error))
            return
        self.ledger.quarantine(pf.part.name, name, box, tries, failure)
        pf.front.mark(np.array([failure.task], np.int64), BAD)
        self._news.append(TaskFailed(self.context.step, pf.part.name, name, box, tries, failure.error))

    def release(self, pf: PartFront, tasks: np.ndarray) -> None:
        """Give tasks back that a lease did not come to."""
        if len(tasks):
            pf.front.mark(tasks, PENDING)

    def tell_news(self) -> None:
        """Emit what the ledger's transaction has made true."""
        news, self._news = self._news, []
        for event in news:
            self.emit(event)

    def source(self, output: str) -> Source:
        """Return what makes output ``output``."""
        fronts = [pf for pf in self.fronts if output in part_outputs(pf.part, self.params)]
        return Source(f"{output} (step {self.context.step})", fronts)

    def _block(self, pf: PartFront, tasks: np.ndarray) -> None:
        """Note tasks that never will run: something that they read is not done."""
        self._tell(pf)
        labels = [label for each, label in zip(pf.front.dependencies, pf.labels, strict=True) if each.front.bad]
        assert pf.front.grid is not None
        box = pf.front.grid.box(int(tasks[0]))
        text = f"{' and '.join(dict.fromkeys(labels))} is not done" + (f" around box {box}" if box else "")
        self.ledger.block(pf.part.name, pf.level, tasks)
        runs = tuple((int(a), int(b)) for a, b in runs_of(tasks))
        self.emit(TasksBlocked(self.context.step, pf.part.name, len(tasks), text, pf.level, runs))

    def settle(self) -> bool:
        """Fold finished merges; return whether the step came to its end just now."""
        for pf in self.fronts:
            if isinstance(pf.part, MergePart) and pf.part.name not in self._folded and self._root(pf).front.done:
                self._folded.add(pf.part.name)
                self.ledger.fold(pf.part.name)
                _remove(self.data / NODES / pf.part.name)
        if self.is_over or not all(pf.front.is_settled for pf in self.fronts):
            return False
        self.is_over = True
        self._finish()
        return True

    def _root(self, pf: PartFront) -> PartFront:
        return [each for each in self.fronts if each.part is pf.part][-1]

    def spend(self, seconds: float) -> None:
        """Count time of the run that was this step's."""
        self._seconds += seconds

    def _finish(self) -> None:
        counts = self.ledger.counts()
        tasks = sum(pf.front.total for pf in self.fronts)
        self.ledger.set_fact("tasks", tasks)
        self._keep_seconds()
        if not counts["failed"] and not counts["blocked"]:
            self.ledger.set_fact("voxels", self.context.bounds.voxels)
            self.ledger.set_fact("complete", self.only is None)
        if not self._told and self.fronts:
            self._tell(self.fronts[0])
        numbers = (tasks, counts["failed"], counts["blocked"], counts["reused"])
        seconds, peak = round(self.ledger.fact("seconds"), 3), self.ledger.peak_bytes()
        self.emit(StepFinished(self.context.step, self._state(counts), *numbers, seconds, peak))

    def _keep_seconds(self) -> None:
        self.ledger.set_fact("seconds", self.ledger.fact("seconds") + self._seconds)
        self._seconds = 0.0

    def _state(self, counts: Mapping[str, int]) -> str:
        if not self.is_over:
            return "pending"
        return "failed" if counts["failed"] else "blocked" if counts["blocked"] else "done"

    def summary(self) -> StepSummary:
        """Return how far the step came."""
        counts = self.ledger.counts()
        tasks = int(self.ledger.fact("tasks")) if self.is_over else sum(pf.front.total for pf in self.fronts)
        return StepSummary(self.context.step, self._state(counts), tasks, counts, self.computed)

    @property
    def has_ledger(self) -> bool:
        """Whether the ledger was opened."""
        return hasattr(self, "ledger")

    def close(self) -> None:
        """Close the ledger, if it is open."""
        if self.has_ledger:
            if self._seconds:
                self._keep_seconds()
            self.ledger.close()


def remove_tasks(ledger: Ledger, data: Place, tasks: Iterable[tuple[str, str]]) -> None:
    """Take tasks (part, task) off a ledger and remove their files in ``data``, so that they are computed again."""
    tasks = list(tasks)
    for part, task in tasks:
        for file in ledger.outputs_of(part, task):
            (data / file.path).unlink(missing_ok=True)
    ledger.forget(tasks)


def part_outputs(part: Part, params: object) -> set[str]:
    """Return the names of all that a part writes."""
    return {*part_layers(part, params), *part_tables(part), *getattr(part, "files", ())}


def look_at(data: Place) -> Callable[[str, int], str]:
    """Return a function that tells what is wrong with the presence or size of a file of a step, or nothing.

    Objects are listed once: a request for each would take longer than many a step, and none is ever short.
    """
    if isinstance(data, ObjectPath):
        names = {name_below(data, path) for path in data.rglob("*")}
        return lambda path, size_bytes: "" if path in names else "missing"
    return lambda path, size_bytes: missing_or_short(data, path, size_bytes)


def missing_or_short(root: Path, path: str, size_bytes: int) -> str:
    """Return what is wrong with the presence or size of a file, or nothing."""
    try:
        found = (root / path).stat().st_size
    except OSError:
        return "missing"
    return "" if found == size_bytes else f"{found} bytes instead of {size_bytes}"


def _remove(path: Place) -> None:
    """Remove a file or folder, if there is one."""
    if isinstance(path, ObjectPath):
        path.unlink(missing_ok=True)
        path.remove_below()
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_layer(context: StepContext, grid: Grid, name: str, layer: Layer) -> list[OutputFile]:
    """Create an empty layer over the whole data set, or its metadata alone where blocks exist already.

    It is made under a temporary name, so that a layer with half of its metadata never exists.
    """
    root, temporary = context.data, context.root / ".tmp-layers" / name
    shutil.rmtree(temporary, ignore_errors=True)
    assert isinstance(layer.dtype, str)
    create_volume(
        temporary,
        shape_zyx=context.shape_zyx,
        dtype=layer.dtype,
        channels=layer.channels,
        voxel_size_nm=context.voxel_size_nm,
        block_zyx=grid.block,
        kind=layer.kind,
    )
    files = [path.relative_to(temporary) for path in all_files(temporary)]
    for file in files:
        target = root / name / file
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, (temporary / file).read_bytes())
    shutil.rmtree(temporary.parent)
    return [file_record(root, root / name / file) for file in files]
