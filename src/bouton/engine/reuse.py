"""Blocks that an earlier run over other bounds computed already: copied where they read the same bytes.

The folders of one step differ by key. Two of them whose descriptions differ in bounds and input names alone hold
equal blocks wherever core and read boxes are equal and the voxels and rows that were read have the same hash.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bouton.engine.context import StepContext, context_from_json, halo_of
from bouton.engine.inputs import Inputs, ReadLog, array_bytes
from bouton.engine.ledger import Ledger
from bouton.engine.outputs import file_record, fsync
from bouton.engine.tasks import OutputFile, TaskId, TaskResult, task_box
from bouton.errors import BoutonError
from bouton.geometry import Box
from bouton.stage import BlockPart, Part, Stage


class Siblings:
    """The folders of the same step with other bounds."""

    def __init__(self, context: StepContext, stage: Stage, params: object) -> None:
        self.context, self.stage, self.params = context, stage, params
        self._folders = [folder for folder in self._candidates() if is_sibling(context, folder)]

    def _candidates(self) -> Iterator[StepContext]:
        own = self.context.root
        for folder in sorted(own.parent.iterdir()):
            if folder != own and (folder / "ledger.sqlite").is_file():
                try:
                    relative = folder.relative_to(self.context.run_folder)
                    yield context_from_json(Path(self.context.run_folder), relative.as_posix())
                except BoutonError:
                    continue

    def take(self, part: Part, tasks: Iterator[TaskId], commit: Callable[[list[TaskResult]], None]) -> Iterator[TaskId]:
        """Copy the tasks that a sibling did, and yield the others."""
        if not self._folders or not isinstance(part, BlockPart):
            yield from tasks
            return
        inputs = Inputs(self.context, self.stage, self.params)
        for task in tasks:
            result = self._copied(part, task, inputs)
            if result is None:
                yield task
            else:
                commit([result])

    def _copied(self, part: BlockPart, task: TaskId, inputs: Inputs) -> TaskResult | None:
        for sibling in self._folders:
            core = task_box(self.context, part, task)
            halo = halo_of(part, self.params, self.context.voxel_size_nm)
            assert core is not None
            same_core = task_box(sibling, part, task) == core
            if not same_core or core.grow(halo) & self.context.bounds != core.grow(halo) & sibling.bounds:
                continue
            with Ledger(sibling.root / "ledger.sqlite", readonly=True) as ledger:
                reads = ledger.reads_of(part.name, task.name)
                files = ledger.outputs_of(part.name, task.name)
            if reads and same_reads(inputs, reads) and self._copy(sibling, files):
                return TaskResult(task, files, core.voxels, reads=reads, reused=True)
        return None

    def _copy(self, sibling: StepContext, files: tuple[OutputFile, ...]) -> bool:
        """Copy files durably; False where one is not what its ledger says."""
        for file in files:
            source, target = sibling.root / file.path, self.context.root / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".tmp-{target.name}")
            try:
                shutil.copyfile(source, temporary)
            except FileNotFoundError:
                return False
            fsync(temporary)
            if file_record(temporary.parent, temporary).checksum != file.checksum:
                temporary.unlink()
                return False
            temporary.replace(target)
            fsync(target.parent)
        return True


def is_sibling(context: StepContext, other: StepContext) -> bool:
    """Return whether two contexts of a step differ in bounds and in the names of their inputs alone."""
    names = ("stage_name", "stage_version", "params", "block_zyx", "shape_zyx", "voxel_size_nm")
    same = all(getattr(context, name) == getattr(other, name) for name in names)
    return same and set(context.inputs) == set(other.inputs) and _models(context) == _models(other)


def _models(context: StepContext) -> str:
    """Return the hashes of the files (models, the stage's own file) that join the key, as JSON."""
    skipped = {"bounds_zyx", "bounds", "inputs", "reads"}
    kept = {name: value for name, value in context.description.items() if name not in skipped}
    return json.dumps(kept, sort_keys=True)


def _read_again(inputs: Inputs, name: str, place: str) -> np.ndarray:
    """Return what :class:`Inputs` noted as ``place``: a box, a table's column, or a column over a box."""
    column, _, over = place.partition("@")
    if over:
        return inputs.table(name, Box.parse(over))[column]
    return inputs[name].read(Box.parse(place)) if ":" in place else inputs.table(name)[place]


def same_reads(inputs: Inputs, recorded: str) -> bool:
    """Return whether what a task of a sibling read has the same bytes here."""
    values = json.loads(recorded)
    log = ReadLog()
    try:
        for name, place in values["reads"]:
            log.add(name, place, array_bytes(_read_again(inputs, name, place)))
    except (BoutonError, KeyError):
        return False
    return json.loads(log.to_json()) == values
