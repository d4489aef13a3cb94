"""Comparison of every file of a run with the checksum in its ledger, and recomputation of exactly what is damaged."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bouton.engine.context import context_from_json
from bouton.engine.coordinator import run_step
from bouton.engine.events import Event
from bouton.engine.executors import Executor, make_executor
from bouton.engine.ledger import LEDGER, Ledger, OutputRow
from bouton.engine.run import guarded
from bouton.engine.step_run import StepRun, look_at, remove_tasks
from bouton.errors import DataError, RunError
from bouton.volume import checksum
from bouton.volume.files import bytes_checksum, disk_errors
from bouton.volume.objects import ObjectPath, read_all
from bouton.volume.places import Place
from bouton.volume.run_folder import Run, open_run

BATCH = 256
BATCH_BYTES = 256 << 20
"""How many objects, and how much of them, are read at a time: one after another, each answer is waited for."""
RECORD = "step.json"
CHANGED = "changed (its checksum differs)"


@dataclass(frozen=True)
class Damage:
    """One file that is not what the ledger says.

    ``found`` is ``missing``, ``changed``, ``unreadable``, or its size where that differs.
    """

    step: str
    part: str
    task: str
    box_zyx: str
    path: str
    found: str

    def __str__(self) -> str:
        task = f", {self.part} {self.task}" if self.part else f", layer {self.task}" if self.task else ""
        what = f"step {self.step}{task}"
        box = f", box {self.box_zyx} (z,y,x)" if self.box_zyx else ""
        return f"{what}{box}: {self.path} is {self.found}"


@dataclass(frozen=True)
class VerifyReport:
    """What :func:`verify_run` found.

    ``repaired`` counts tasks that were recomputed with the original checksums; ``forgotten`` those of unfinished steps,
    which the next run computes: what they read may not be there yet.
    """

    folder: Path
    files: int
    size_bytes: int
    damages: tuple[Damage, ...]
    repaired: int = 0
    forgotten: int = 0


def verify_run(folder: Path, seen: Callable[[int], None] = lambda size_bytes: None) -> VerifyReport:
    """Compare every file of every step of a run with its ledger.

    Parameters
    ----------
    folder : Path
        The run folder.
    seen : callable, optional
        Called with the size of each file when it is checked.

    Raises
    ------
    DataError
        The run's store cannot be read: that is no damage.
    """
    run = open_run(folder)
    damages: list[Damage] = []
    files = size = 0
    with disk_errors(run.data):
        for name in run.steps:
            for damage, size_bytes in _check_step(run, name):
                files, size = files + 1, size + size_bytes
                seen(size_bytes)
                damages += [damage] if damage else []
    return VerifyReport(run.folder, files, size, tuple(damages))


def repair_run(
    folder: Path, workers: int = 1, emit: Callable[[Event], None] = lambda event: None, executor: str = "processes"
) -> VerifyReport:
    """Recompute exactly the tasks of damaged files, earlier steps first.

    Raises
    ------
    RunError
        A task failed, or made other bytes than before.
    """
    run = open_run(folder)
    counts = {True: 0, False: 0}
    with contextlib.closing(make_executor(executor, workers)) as pool, guarded(run.folder):
        report = verify_run(folder)
        for step in run.steps:
            damages = [damage for damage in report.damages if damage.step == step]
            tasks = sorted({(damage.part, damage.task) for damage in damages})
            if not tasks:
                continue
            if is_complete := _check_records(run, step, damages):
                _repair_step(run, step, tasks, pool, emit)
            else:
                _forget_tasks(run, step, tasks)
            counts[is_complete] += len(tasks)
    return replace(report, repaired=counts[True], forgotten=counts[False])


def _check_step(run: Run, name: str) -> Iterator[tuple[Damage | None, int]]:
    step = run.steps[name]
    data = run.data / step.folder
    path = run.folder / step.folder / LEDGER
    if not path.is_file():
        if step.state != "pending":
            yield Damage(name, "", "", "", f"{step.folder}/{LEDGER}", "missing"), 0
        return
    try:
        context_from_json(run.folder, step.folder)
    except DataError as error:
        yield Damage(name, "", "", "", f"{step.folder}/{RECORD}", error.found), 0
    try:
        with Ledger(path, readonly=True) as ledger:
            for row, found in _compared(data, ledger.outputs()):
                place = f"{step.folder}/{row.file.path}"
                damage = Damage(name, row.part, row.task, ledger.box_of(row.part, row.task), place, found)
                yield (damage if found else None), row.file.size_bytes
    except (DataError, sqlite3.DatabaseError) as error:
        found = error.found if isinstance(error, DataError) else str(error)
        yield Damage(name, "", "", "", f"{step.folder}/{LEDGER}", f"damaged ({found})"), 0


def _compared(data: Place, rows: Iterable[OutputRow]) -> Iterator[tuple[OutputRow, str]]:
    """Yield the outputs of a step with what is wrong with each, or nothing."""
    look = look_at(data)
    if not isinstance(data, ObjectPath):
        for row in rows:
            yield row, look(row.file.path, row.file.size_bytes) or _changed(data / row.file.path, row.file.checksum)
        return
    for batch in _batches(rows):
        missing = {row.file.path: look(row.file.path, row.file.size_bytes) for row in batch}
        there = [data / path for path, found in missing.items() if not found]
        sums = {path: bytes_checksum(read) for path, read in zip(there, read_all(there), strict=True)}
        for row in batch:
            found = missing[row.file.path]
            yield row, found or ("" if sums[data / row.file.path] == row.file.checksum else CHANGED)


def _batches(rows: Iterable[OutputRow]) -> Iterator[list[OutputRow]]:
    """Yield outputs in groups whose bytes may be in memory at a time."""
    batch: list[OutputRow] = []
    room = BATCH_BYTES
    for row in rows:
        if batch and (row.file.size_bytes > room or len(batch) == BATCH):
            yield batch
            batch, room = [], BATCH_BYTES
        batch.append(row)
        room -= row.file.size_bytes
    if batch:
        yield batch


def _changed(file: Path, wanted: str) -> str:
    try:
        return "" if checksum(file) == wanted else CHANGED
    except DataError as error:
        return f"unreadable ({error.found})"


def beyond_repair(folder: Path, damage: Damage) -> DataError | None:
    """Return the error of damage that :func:`repair_run` cannot mend, with the way out; None of any other."""
    path = folder / damage.path
    if path.name == LEDGER:
        return DataError(
            f"{damage}: the ledger is lost, nothing tells what the files should be",
            where=str(path),
            fix=f"delete {path.parent} and run the workflow again: the step is computed anew",
        )
    if path.name == RECORD:
        return DataError(
            damage.found, where=str(path), expected="what the step was computed from",
            fix="bouton run with the same workflow writes it anew and keeps the results",
        )  # fmt: skip
    return None


def _check_records(run: Run, step: str, damages: list[Damage]) -> bool:
    """Return whether a step is complete; raise a DataError where what tells so is lost."""
    for damage in damages:
        error = beyond_repair(run.folder, damage)
        if error:
            raise error
    with Ledger(run.folder / run.steps[step].folder / LEDGER, readonly=True) as ledger:
        return bool(ledger.fact("complete"))


def _forget_tasks(run: Run, step: str, tasks: list[tuple[str, str]]) -> None:
    """Take tasks of an unfinished step off its ledger."""
    with Ledger(run.folder / run.steps[step].folder / LEDGER) as ledger:
        remove_tasks(ledger, run.data / run.steps[step].folder, tasks)


def _repair_step(
    run: Run, step: str, tasks: list[tuple[str, str]], executor: Executor, emit: Callable[[Event], None]
) -> None:
    """Recompute tasks of a complete step."""
    context = context_from_json(run.folder, run.steps[step].folder)
    path = context.root / LEDGER
    with Ledger(path, readonly=True) as ledger:
        before = {task: ledger.outputs_of(*task) for task in tasks}
    summary = run_step(StepRun(context, emit, retries=1), executor, tasks)
    with Ledger(path, readonly=True) as ledger:
        failures = ledger.failures()
        if failures:
            raise RunError(f"the repair failed: {failures[0].error}", where=f"step {step}, {failures[0].task}")
        other = [task for task in tasks if ledger.outputs_of(*task) != before[task]]
    if other or summary.state != "done":
        names = ", ".join(f"{part} {task}".strip() for part, task in other)
        raise RunError(
            f"recomputed files differ from the lost ones: {names}",
            where=f"step {step}",
            expected="the same bytes",
            fix=f"a stage, a library or an input changed: delete {context.root} and run the workflow again",
        )
