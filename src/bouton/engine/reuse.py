"""Blocks that an earlier run over other bounds computed already: copied where they read the same bytes.

The folders of one step differ by key. Two of them whose descriptions differ in bounds and input names alone hold
equal blocks wherever core and read boxes are equal and the voxels and rows that were read are the same. Workers
compare them when they come to a block: nothing is hashed for the sake of a later run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bouton.engine.context import StepContext, context_from_json, halo_of
from bouton.engine.inputs import Inputs
from bouton.engine.leases import Done
from bouton.engine.ledger import LEDGER, Ledger
from bouton.engine.outputs import write_new
from bouton.engine.tasks import TaskId, task_box
from bouton.errors import BoutonError
from bouton.geometry import Box
from bouton.stage import BlockPart, Part, Stage, TableData
from bouton.volume import bytes_checksum


def sibling_folders(context: StepContext) -> tuple[str, ...]:
    """Return the folders of the same step with other bounds, relative to the run folder."""
    return tuple(other.folder for other in _candidates(context) if is_sibling(context, other))


def _candidates(context: StepContext) -> Iterator[StepContext]:
    own = context.root
    for folder in sorted(own.parent.iterdir()):
        if folder != own and (folder / LEDGER).is_file():
            try:
                relative = folder.relative_to(context.run_folder)
                yield context_from_json(Path(context.run_folder), relative.as_posix())
            except BoutonError:
                continue


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


class Siblings:
    """The folders of the same step with other bounds, as a worker reads them."""

    def __init__(self, context: StepContext, stage: Stage, params: object) -> None:
        self.context, self.params, self.inputs = context, params, Inputs(context, stage, params)
        self._others = list(self._open(context, stage, params))

    @staticmethod
    def _open(context: StepContext, stage: Stage, params: object) -> Iterator[_Sibling]:
        """Yield the siblings that can be read: none of them is needed."""
        for folder in context.siblings:
            try:
                other = context_from_json(Path(context.run_folder), folder)
                ledger = Ledger(other.root / LEDGER, readonly=True)
            except BoutonError:
                continue
            yield _Sibling(other, Inputs(other, stage, params), ledger)

    def take(self, part: Part, task: TaskId, number: int) -> Done | None:
        """Copy what a sibling made of the same block, if it read the same."""
        core = task_box(self.context, part, task) if isinstance(part, BlockPart) else None
        if core is None:
            return None
        near = core.grow(halo_of(part, self.params, self.context.voxel_size_nm))
        for other in self._others:
            bounds = other.context.bounds
            if task_box(other.context, part, task) != core or near & bounds != near & self.context.bounds:
                continue
            found = other.ledger.find(part.name, task.name)
            if found is not None and self._same_reads(other, found.reads) and self._copy(other, found):
                return Done(number, found.files, core.voxels, reads=found.reads, reused=True)
        return None

    def _same_reads(self, other: _Sibling, reads: tuple[tuple[str, str], ...]) -> bool:
        try:
            return all(self._is_same(other, name, place) for name, place in reads)
        except (BoutonError, KeyError):
            return False
        finally:
            # what is read here is nobody's input
            self.inputs.reads.clear()
            other.inputs.reads.clear()

    def _is_same(self, other: _Sibling, name: str, place: str) -> bool:
        mine, its = self.context.inputs.get(name), other.context.inputs.get(name)
        if mine is not None and its is not None:
            if not (mine.step and its.step):
                return mine == its and _identity(self.context, name) == _identity(other.context, name)
            if mine.path == its.path:
                return True
        return _equal(_read(self.inputs, name, place), _read(other.inputs, name, place))

    def _copy(self, other: _Sibling, found: Done) -> bool:
        """Copy files durably; False where one is not what its ledger says."""
        for file in found.files:
            try:
                data = (other.context.data / file.path).read_bytes()
            except OSError:
                return False
            if bytes_checksum(data) != file.checksum:
                return False
            write_new(self.context.data, self.context.data / file.path, data)
        return True


class _Sibling:
    """One folder of the same step."""

    def __init__(self, context: StepContext, inputs: Inputs, ledger: Ledger) -> None:
        self.context, self.inputs, self.ledger = context, inputs, ledger


def _identity(context: StepContext, name: str) -> str:
    """Return what the key knows of a source: a file that changed since is not what was read."""
    return str(context.description.get("reads", {}).get(name))


def _read(inputs: Inputs, name: str, place: str) -> np.ndarray | TableData:
    """Return what :class:`Inputs` noted as ``place``: a box, a table, or a table's rows over a box."""
    kind, _, over = place.partition("@")
    if kind == "table":
        return inputs.table(name, Box.parse(over) if over else None)
    return inputs[name].read(Box.parse(place))


def _equal(one: np.ndarray | TableData, other: np.ndarray | TableData) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_equal(one[name], other[name]) for name in one)
    assert isinstance(one, np.ndarray)
    assert isinstance(other, np.ndarray)
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
