"""The coordinator's work on one step: what is done already, what is left, in which order, and what failed."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from bouton.engine.context import (
    StepContext,
    context_to_json,
    load_stage_of,
    params_from_json,
    part_layers,
)
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
from bouton.engine.executors import Executor
from bouton.engine.inputs import Blocked
from bouton.engine.ledger import Ledger, disk_full
from bouton.engine.outputs import all_files, file_record, remove_leftovers
from bouton.engine.reuse import Siblings
from bouton.engine.tasks import TaskId, TaskResult, count_tasks, parents_of, range_size, task_box, waves
from bouton.geometry import Box, Grid
from bouton.stage import Layer, MergePart, ObjectPart, Part, Stage, part_tables
from bouton.volume import create_volume, write_bytes

LAYERS = ""


@dataclass
class StepSummary:
    """How a step ended. ``incomplete`` names its outputs with failed tasks, and these tasks' boxes."""

    step: str
    state: str
    tasks: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    computed: int = 0
    incomplete: dict[str, tuple[str, ...]] = field(default_factory=dict)


class StepRun:
    """Runs one step to its end.

    Parameters
    ----------
    context : StepContext
    executor : Executor
    emit : callable
        Takes events.
    retries : int
        How often a task that failed is tried again before it is quarantined.
    only : Box, optional
        For a probe: of the block parts, compute the blocks that share a voxel with this box. None is copied from
        another run, and the step does not count as complete.
    """

    def __init__(
        self,
        context: StepContext,
        executor: Executor,
        emit: Callable[[Event], None],
        retries: int,
        only: Box | None = None,
    ) -> None:
        self.context, self.executor, self.emit, self.retries, self.only = context, executor, emit, retries, only
        self.root = context.root
        self.stage: Stage = load_stage_of(context)
        self.params = params_from_json(self.stage, context.params)
        self._given = dict(context.incomplete)
        self._incomplete: dict[str, tuple[str, ...]] = {}
        self._computed = 0
        self._total = 0

    def run(self) -> StepSummary:
        """Run what is left of the step.

        Raises
        ------
        RunError
            The disk is full; nothing half-written counts.
        """
        started = time.perf_counter()
        self.root.mkdir(parents=True, exist_ok=True)
        with Ledger(self.root / "ledger.sqlite") as ledger:
            lost = self._forget_lost(ledger)
            if ledger.fact("complete") and not lost:
                self._total = int(ledger.fact("tasks"))
                self.emit(StepReused(self.context.step, self._total))
                return StepSummary(self.context.step, "done", self._total, ledger.counts())
            self.emit(StepStarted(self.context.step, self.context.stage_name, self.context.key))
            self._prepare(ledger)
            try:
                for part in self.stage.parts:
                    self._run_part(ledger, part)
            finally:
                ledger.set_fact("seconds", ledger.fact("seconds") + time.perf_counter() - started)
            return self._finish(ledger)

    def _prepare(self, ledger: Ledger) -> None:
        remove_leftovers(self.root)
        ledger.forget_unfinished()
        write_bytes(self.root / "step.json", context_to_json(self.context))
        self._siblings = Siblings(self.context, self.stage, self.params)
        for part in self.stage.parts:
            for name, layer in part_layers(part, self.params).items():
                if name not in ledger.done(LAYERS):
                    result = make_layer(self.context, self.context.grid(part), name, layer)
                    ledger.commit([result])

    def _forget_lost(self, ledger: Ledger) -> bool:
        """Take tasks with missing or short files off the ledger, and say so."""
        lost: dict[tuple[str, str], None] = {}
        for row in ledger.outputs():
            found = missing_or_short(self.root, row.file.path, row.file.size_bytes)
            if found:
                self.emit(TaskLost(self.context.step, row.part, row.task, row.file.path, found))
                lost[(row.part, row.task)] = None
        ledger.forget(lost)
        for part, _ in lost:
            ledger.unfold(part)
        return bool(lost)

    def _finish(self, ledger: Ledger) -> StepSummary:
        counts = ledger.counts()
        state = "failed" if counts["failed"] else "blocked" if counts["blocked"] else "done"
        ledger.set_fact("tasks", self._total)
        if state == "done":
            ledger.set_fact("voxels", self.context.bounds.voxels)
            ledger.set_fact("complete", self.only is None)
        seconds, peak = ledger.fact("seconds"), ledger.peak_bytes()
        numbers = (self._total, counts["failed"], counts["blocked"], counts["reused"], round(seconds, 3), peak)
        self.emit(StepFinished(self.context.step, state, *numbers))
        return StepSummary(self.context.step, state, self._total, counts, self._computed, self._incomplete)

    def _run_part(self, ledger: Ledger, part: Part) -> None:
        # who reads a name gets the input, where an output is called the same
        own = {name: boxes for name, boxes in self._incomplete.items() if name not in self.context.inputs}
        self.context = replace(self.context, incomplete=own | self._given)
        try:
            objects = count_ids(self.context, part) if isinstance(part, ObjectPart) else 0
        except Blocked as error:
            self._commit(
                ledger, part, [TaskResult(TaskId(part.name, "00000000", (0,)), cause="blocked", error=str(error))]
            )
            return
        done, total = ledger.done(part.name), count_tasks(self.context, part, objects, self.only)
        self._total += total
        voxels = 0 if isinstance(part, ObjectPart) else self.context.bounds.voxels
        done_voxels = ledger.voxels(part.name)
        self.emit(PartStarted(self.context.step, part.name, part.shape, total, len(done), voxels, done_voxels))
        root = self._root_name(part)
        if root not in done:
            for wave in waves(self.context, part, objects, self.only):
                left = (task for task in wave if task.name not in done)
                self._run_wave(ledger, part, self._unblocked(ledger, part, left, done), total)
                if isinstance(part, MergePart) or part.shape == "chain":
                    done = ledger.done(part.name)
        if isinstance(part, MergePart) and root in ledger.done(part.name):
            ledger.fold(part.name, root, NODES)
            shutil.rmtree(self.root / NODES / part.name, ignore_errors=True)

    def _root_name(self, part: Part) -> str:
        if not isinstance(part, MergePart):
            return ""
        *_, last = waves(self.context, part)
        return next(last).name

    def _unblocked(self, ledger: Ledger, part: Part, tasks: Iterable[TaskId], done: set[str]) -> Iterator[TaskId]:
        """Yield the tasks whose predecessors in the same part are done; record the others as blocked."""
        for task in tasks:
            missing = [name for name in parents_of(self.context, part, task) if name not in done]
            if missing:
                text = f"{part.shape} {missing[0]} of part {part.name} is not done"
                self._commit(ledger, part, [TaskResult(task, cause="blocked", error=text)])
            else:
                yield task

    def _run_wave(self, ledger: Ledger, part: Part, tasks: Iterator[TaskId], total: int) -> None:
        size = range_size(total, self.executor.workers)
        if self.only is None:
            tasks = self._siblings.take(part, tasks, lambda results: self._commit(ledger, part, results))
        for attempt in range(1, self.retries + 2):
            failed: list[TaskResult] = []
            for results in self.executor.run(self.context, _ranges(tasks, size)):
                failed += self._settle(ledger, part, results, attempt)
            tasks, size = iter([result.task for result in failed]), 1
            if not failed:
                return

    def _settle(self, ledger: Ledger, part: Part, results: list[TaskResult], attempt: int) -> list[TaskResult]:
        """Commit results and return those that are to be tried again."""
        again = [r for r in results if r.cause in ("exception", "died") and attempt <= self.retries]
        full = [r for r in results if r.cause == "disk"]
        final = [replace(r, attempts=attempt) for r in results if r not in again and r not in full]
        self._commit(ledger, part, final)
        if full:
            raise disk_full(self.root, full[0].error)
        for r in again:
            self.emit(TaskRetried(self.context.step, part.name, r.task.name, attempt, r.error))
        return again

    def _commit(self, ledger: Ledger, part: Part, results: list[TaskResult]) -> None:
        boxes = {r.task.name: str(task_box(self.context, part, r.task) or "") for r in results}
        ledger.commit(results, boxes)
        good = [r for r in results if not r.cause]
        self._computed += sum(not r.reused for r in good)
        if good:
            reused, voxels = sum(r.reused for r in good), sum(r.voxels for r in good)
            self.emit(TasksDone(self.context.step, part.name, len(good), voxels, reused))
        for r in results:
            if r.cause:
                self._note_failure(part, r, boxes[r.task.name])

    def _note_failure(self, part: Part, result: TaskResult, box: str) -> None:
        if result.cause == "blocked":
            self.emit(TasksBlocked(self.context.step, part.name, 1, result.error))
        else:
            name = result.task.name
            self.emit(TaskFailed(self.context.step, part.name, name, box, result.attempts, result.error))
        outputs = [*part_layers(part, self.params), *part_tables(part), *getattr(part, "files", ())]
        for output in outputs:
            self._incomplete[output] = (*self._incomplete.get(output, ()), box)

    def repair(self, ledger: Ledger, tasks: Iterable[tuple[str, str]]) -> None:
        """Take tasks (part, task) off the ledger and remove their files, so that :meth:`run` computes them again."""
        tasks = list(tasks)
        for part, task in tasks:
            for file in ledger.outputs_of(part, task):
                (self.root / file.path).unlink(missing_ok=True)
        ledger.forget(tasks)
        for part in {part for part, _ in tasks}:
            ledger.unfold(part)


def _ranges(tasks: Iterator[TaskId], size: int) -> Iterator[list[TaskId]]:
    while chunk := list(itertools.islice(tasks, size)):
        yield chunk


def missing_or_short(root: Path, path: str, size_bytes: int) -> str:
    """Return what is wrong with the presence or size of a file, or nothing."""
    try:
        found = (root / path).stat().st_size
    except OSError:
        return "missing"
    return "" if found == size_bytes else f"{found} bytes instead of {size_bytes}"


def make_layer(context: StepContext, grid: Grid, name: str, layer: Layer) -> TaskResult:
    """Create an empty layer over the whole data set, or its metadata alone where blocks exist already.

    It is made under a temporary name, so that a layer with half of its metadata never exists.
    """
    root = context.root
    temporary = root / ".tmp-layers" / name
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
    records = tuple(file_record(root, root / name / file) for file in files)
    return TaskResult(TaskId(LAYERS, name), records)
