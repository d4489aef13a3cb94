"""Workflow file -> typed steps, each with the key that names its result.

The file is strict: an unknown key is an error that names the nearest known one, and everything that a step's result
depends on (stage, version, parameters, files, inputs, bounds, block shape) enters the step's key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from bouton.cluster import Cluster
from bouton.dataset_entries import chosen_document, dataset_names, with_dataset_overrides
from bouton.errors import DataError, SpecError
from bouton.geometry import NM, ZYX, Box, Grid
from bouton.stage import Files, Layer, Planned, Stage, Table, load_stage
from bouton.step_checks import check_halos, check_layer, check_plan, check_source, check_table, make_params
from bouton.strict_yaml import Document, read_document, unknown
from bouton.volume import Volume, fingerprint, open_volume
from bouton.volume.places import Place, place_in
from bouton.volume.tables import table_types
from bouton.workflow_file import (
    SourceEntry,
    StepEntry,
    WorkflowFile,
    parse_entries,
)

MOST_VOXELS = 2**61
MOST_BLOCKS = 10**10
"""An edge of the voxel graph is voxel id x 3 + axis, in 64 bits."""


@dataclass(frozen=True)
class Source:
    """One entry of ``data:``: a volume (or a ``.parquet`` table) that exists already, on a disk or in an object store.

    ``offset_zyx`` is the place of its first voxel on the workflow's grid. ``fingerprint`` identifies its content.
    """

    name: str
    path: Place
    dataset: str | None
    offset_zyx: ZYX
    fingerprint: str


@dataclass(frozen=True)
class Ref:
    """What a step reads: output ``output`` of step ``owner``, or data source ``owner`` (then ``output`` is empty)."""

    owner: str
    output: str = ""


@dataclass(frozen=True)
class Step:
    """One step. ``description`` is everything that determines the result, in plain JSON types; ``key`` is its hash."""

    name: str
    stage_name: str
    stage: Stage
    params: Any
    reads: Mapping[str, Ref]
    bounds: Box
    block: ZYX
    description: Mapping[str, Any]
    key: str


@dataclass(frozen=True)
class Workflow:
    """A parsed workflow: steps in an order in which each comes after what it reads.

    ``skipped`` names the steps that the bounds leave nothing to do, with the reason. ``dataset`` is the one that it is
    about where its file has several; the name then ends with it. ``store`` is where the data of the steps go instead
    of into the run folder, as text; empty for the run folder.
    """

    name: str
    file: Path
    shape: ZYX
    voxel_size_nm: NM
    sources: Mapping[str, Source]
    steps: tuple[Step, ...]
    skipped: Mapping[str, str]
    text: str
    description: str = ""
    dataset: str = ""
    cluster: Cluster | None = None
    store: str = ""


@dataclass(frozen=True)
class Choices:
    """What the command line changes about a workflow file.

    Attributes
    ----------
    overrides : sequence of str
        ``steps.fragments.params.low=0.05``; the value is YAML.
    bounds : Box, optional
        Run everything on this box only.
    block : (z, y, x), optional
        Compute block of every step.
    until : str, optional
        Stop after this step.
    dataset : str, optional
        Of a file with ``datasets:``, this one.
    """

    overrides: Sequence[str] = ()
    bounds: Box | None = None
    block: ZYX | None = None
    until: str | None = None
    dataset: str | None = None


def load_workflow(path: Path, choices: Choices | None = None) -> Workflow:
    """Read, check and resolve a workflow file.

    Parameters
    ----------
    path : Path
    choices : Choices, optional

    Raises
    ------
    SpecError
        The file, an override or a reference is wrong; the message names file and line.
    DataError
        A data source is missing, unreadable, or its voxel size contradicts the file.
    """
    choices = choices or Choices()
    document = chosen_document(read_document(Path(path)), choices.overrides, choices.dataset)
    entries = parse_entries(document)
    return _Resolver(entries, document, choices).workflow()


def workflow_datasets(path: Path, choices: Choices | None = None) -> tuple[str, ...]:
    """Return the names of the datasets of a workflow file, in its order; none where it has no ``datasets:``.

    Raises
    ------
    SpecError
        The file cannot be read, or ``datasets:`` is wrong.
    """
    overrides = choices.overrides if choices else ()
    return dataset_names(with_dataset_overrides(read_document(Path(path)), overrides))


class _Resolver:
    """Turns the entries of one file into steps, in dependency order."""

    def __init__(self, entries: WorkflowFile, document: Document, choices: Choices) -> None:
        self.entries, self.document, self.choices = entries, document, choices
        self.volumes: dict[str, Volume] = {}
        self.sources = {name: self._source(name, entry) for name, entry in entries.data.items()}
        self.shape, self.voxel_size_nm = self._grid()
        self.box = choices.bounds or _box(entries.bounds_zyx, document.at("bounds_zyx"))
        self.steps: dict[str, Step] = {}
        self.skipped: dict[str, str] = {}

    def workflow(self) -> Workflow:
        for name in self._order():
            self._add(name, self.entries.steps[name])
        entries, file = self.entries, self.document.file
        return Workflow(
            name=entries.name or file.stem, file=file, shape=self.shape, voxel_size_nm=self.voxel_size_nm,
            sources=self.sources, steps=tuple(self.steps.values()), skipped=self.skipped, text=self.document.text(),
            description=entries.description, dataset=self.choices.dataset or "",
            cluster=entries.cluster, store=self._store(),
        )  # fmt: skip

    def _store(self) -> str:
        if self.entries.store is None:
            return ""
        if not self.entries.store.strip():
            raise SpecError(
                f"store: {self.entries.store!r}", where=self.document.at("store"),
                expected="s3://BUCKET/PATH, gs://BUCKET/PATH or a folder", fix="leave it out for the run folder",
            )  # fmt: skip
        try:
            return str(place_in(self.document.file.parent, _expand(self.entries.store)).resolve())
        except SpecError as error:
            raise SpecError(
                error.found, where=self.document.at("store"), expected=error.expected, fix=error.fix
            ) from None

    def _source(self, name: str, entry: SourceEntry) -> Source:
        path = place_in(self.document.file.parent, _expand(entry.path))
        where = self.document.at("data", name)
        # In an object store only whoever opens it can tell at little cost.
        if isinstance(path, Path) and not path.exists():
            fix = entry.obtain or f"put the data there, or --set data.{name}.path=PATH"
            raise DataError(
                f"data source {name!r} not found at {path}", where=where, expected="a file or folder", fix=fix
            )
        if path.suffix != ".parquet":
            self.volumes[name] = open_volume(path, dataset=entry.dataset, voxel_size_nm=entry.voxel_size_nm)
            if self.volumes[name].voxel_size_nm is None:
                raise SpecError(
                    f"data source {name!r} states no voxel size",
                    where=where, expected="voxel_size_nm: [z, y, x]", fix=f"--set data.{name}.voxel_size_nm=[40,4,4]",
                )  # fmt: skip
        return Source(name, path, entry.dataset, entry.offset_zyx, fingerprint(path, entry.dataset))

    def _grid(self) -> tuple[ZYX, NM]:
        grid = self.entries.grid
        if grid is None and not self.volumes:
            raise SpecError(
                "no data source and no grid", where=str(self.document.file),
                expected="data: with a volume, or grid: {shape_zyx: [..], voxel_size_nm: [..]}", fix="add one of them",
            )  # fmt: skip
        first = next(iter(self.volumes), "")
        shape = grid.shape_zyx if grid else self.volumes[first].box.shift(self.sources[first].offset_zyx).stop
        size = grid.voxel_size_nm if grid else self.volumes[first].voxel_size_nm
        assert size is not None
        if min(shape) < 1 or not all(0 < s < math.inf for s in size):
            raise SpecError(
                f"shape {list(shape)}, voxel size {list(size)} nm", where=self.document.at("grid"),
                expected="three positive numbers each (z, y, x)", fix="correct grid:",
            )  # fmt: skip
        if math.prod(shape) > MOST_VOXELS:
            raise SpecError(
                f"shape {list(shape)}", where=self.document.at("grid"), expected=f"at most {MOST_VOXELS:.3g} voxels",
                fix="correct grid:, or part the volume",
            )  # fmt: skip
        for name, volume in self.volumes.items():
            if volume.voxel_size_nm is None or not all(map(math.isclose, volume.voxel_size_nm, size)):
                raise DataError(
                    f"voxel size {volume.voxel_size_nm} nm of {name!r} is not the grid's {size} nm",
                    where=self.document.at("data", name), expected="one voxel size for all volumes of a workflow",
                    fix="resample the volume, or run it in a workflow of its own",
                )  # fmt: skip
        return shape, size

    def _order(self) -> list[str]:
        steps = self.entries.steps
        graph = {name: [self._ref(name, text).owner for text in entry.reads.values()] for name, entry in steps.items()}
        graph = {name: [owner for owner in owners if owner in steps] for name, owners in graph.items()}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            cycle = " -> ".join(reversed(error.args[1]))
            raise SpecError(
                f"steps read each other in a circle: {cycle}", where=self.document.at("steps", error.args[1][0]),
                expected="steps that read only earlier results", fix="change what one of them reads",
            ) from None  # fmt: skip
        until = self.choices.until
        if until is not None and until not in steps:
            raise unknown(f"--until {until!r} names no step", until, steps)
        order: dict[str, None] = {}
        for name in [until] if until else steps:
            _visit(name, graph, order)
        return list(order)

    def _ref(self, step: str, text: str) -> Ref:
        owner, _, output = text.partition(".")
        if owner in self.sources and not output:
            return Ref(owner)
        if owner in self.entries.steps:
            return Ref(owner, output)
        known = [*self.sources, *self.entries.steps]
        where = self.document.at("steps", step, "reads")
        raise unknown(f"step {step!r} reads {text!r}, which is no data source and no step", owner, known, where)

    def _add(self, name: str, entry: StepEntry) -> None:
        where = self.document.at("steps", name)
        stage_name = str(self.document.file.parent / entry.stage) if entry.stage.endswith(".py") else entry.stage
        try:
            stage = load_stage(stage_name)
        except SpecError as error:
            found = f"{error.where}: {error.found}" if error.where else error.found
            raise SpecError(found, where=where, expected=error.expected, fix=error.fix) from None
        refs = {key: self._ref(name, text) for key, text in entry.reads.items()}
        lost = [ref.owner for ref in refs.values() if ref.owner in self.skipped]
        if lost:
            self.skipped[name] = f"it reads {lost[0]}, which was skipped"
            return
        refs = self._checked_reads(name, stage, refs)
        bounds = self._bounds(name, entry, refs)
        if bounds.is_empty:
            option = "--bounds-zyx" if self.choices.bounds else "the file's bounds_zyx"
            self.skipped[name] = f"its bounds do not meet {option}"
            return
        params = make_params(name, stage, entry.params, self.document)
        stage = stage.with_params(params)
        check_halos(stage, params, self.voxel_size_nm, self.document.at("steps", name, "params"))
        sources = {key: self._available(ref) for key, ref in refs.items() if ref.owner in self.volumes}
        check_plan(stage, Planned(params, bounds, self.shape, self.voxel_size_nm, frozenset(refs), sources), where)
        block = self.choices.block or entry.block_zyx or self.entries.block_zyx
        _check_block(block, bounds, where)
        description = self._describe(stage_name, stage, params, refs) | {
            "bounds_zyx": str(bounds),
            "block_zyx": [*block],
        }
        key = hashlib.blake2b(json.dumps(description, sort_keys=True).encode(), digest_size=8).hexdigest()
        self.steps[name] = Step(name, stage_name, stage, params, refs, bounds, block, description, key)

    def _checked_reads(self, name: str, stage: Stage, refs: Mapping[str, Ref]) -> dict[str, Ref]:
        where = self.document.at("steps", name)
        for key in refs:
            if key not in stage.reads:
                raise unknown(f"stage reads no {key!r}", key, stage.reads, where)
        for key in stage.reads:
            if key not in refs and key not in stage.optional:
                raise SpecError(
                    f"input {key!r} is missing", where=where, expected=f"reads: {{{key}: ...}}",
                    fix="name a data source or an earlier step there",
                )  # fmt: skip
        return {key: self._checked_ref(ref, stage.reads[key], f"{where}, input {key!r}") for key, ref in refs.items()}

    def _checked_ref(self, ref: Ref, wanted: Layer | Table, where: str) -> Ref:
        if ref.owner in self.sources:
            found = self._source_output(ref.owner)
        else:
            owner = self.steps[ref.owner]
            outputs = owner.stage.outputs(owner.params)
            output = ref.output or next(iter(outputs))
            if output not in outputs:
                raise unknown(f"step {ref.owner!r} writes no {output!r}", output, outputs, where)
            ref, found = Ref(ref.owner, output), outputs[output]
        if type(found) is not type(wanted):
            kind = type(found).__name__.lower()
            raise SpecError(
                f"{_ref_text(ref)} is a {kind}", where=where, expected=f"a {type(wanted).__name__.lower()}",
                fix="name another output, STEP.OUTPUT",
            )  # fmt: skip
        if isinstance(wanted, Layer) and ref.owner in self.volumes:
            check_source(self.volumes[ref.owner], wanted, f"{where}: {_ref_text(ref)}")
        elif isinstance(found, Layer) and isinstance(wanted, Layer):
            check_layer(found, wanted, f"{where}: {_ref_text(ref)}")
        elif isinstance(found, Table) and isinstance(wanted, Table):
            check_table(found, wanted, f"{where}: {_ref_text(ref)}")
        return ref

    def _source_output(self, name: str) -> Layer | Table | Files:
        if name not in self.volumes:
            return Table(table_types(self.sources[name].path))
        volume = self.volumes[name]
        return Layer(str(volume.dtype), channels=volume.channels)

    def _bounds(self, name: str, entry: StepEntry, refs: Mapping[str, Ref]) -> Box:
        everything = Box.of_shape(self.shape)
        given = _box(entry.bounds_zyx, self.document.at("steps", name, "bounds_zyx")) or everything
        for ref in refs.values():
            available = self._available(ref)
            given_here = entry.bounds_zyx and self.box is None
            if given_here and not available.contains(given):
                raise SpecError(
                    f"bounds_zyx {given} reach beyond {_ref_text(ref)}, which covers {available}",
                    where=self.document.at("steps", name), expected="bounds inside of everything the step reads",
                    fix=f"bounds_zyx: {given & available}",
                )  # fmt: skip
            given = given & available
        chosen = self.box or everything
        if not everything.contains(chosen):
            option, where = "bounds_zyx:", self.document.at("bounds_zyx")
            if self.choices.bounds:
                option, where = "--bounds-zyx", self.document.part
            raise SpecError(
                f"{option} {chosen} reaches outside of the data", where=where,
                expected=f"a box inside {everything} (z, y, x)", fix=f"{option} {chosen & everything}",
            )  # fmt: skip
        return given & chosen

    def _available(self, ref: Ref) -> Box:
        if ref.owner in self.volumes:
            return self.volumes[ref.owner].box.shift(self.sources[ref.owner].offset_zyx)
        if ref.owner in self.steps:
            step = self.steps[ref.owner]
            if isinstance(step.stage.outputs(step.params)[ref.output], Layer):
                return step.bounds
        return Box.of_shape(self.shape)

    def _describe(self, stage_name: str, stage: Stage, params: Any, refs: Mapping[str, Ref]) -> dict[str, Any]:
        private = stage_name.endswith(".py")
        return {
            "stage": Path(stage_name).name,
            "code": _hash_file(Path(stage_name)) if private else "",
            "version": stage.version,
            "params": dataclasses.asdict(params),
            "files": [content_hash(content) for content in stage.files(params)],
            "reads": {key: self._identity(ref) for key, ref in refs.items()},
            "shape_zyx": [*self.shape],
            "voxel_size_nm": [*self.voxel_size_nm],
        }

    def _identity(self, ref: Ref) -> str:
        if ref.owner in self.sources:
            source = self.sources[ref.owner]
            return f"data {source.fingerprint} at {list(source.offset_zyx)}"
        return f"{self.steps[ref.owner].key} {ref.output}"


def _visit(name: str, graph: Mapping[str, Sequence[str]], order: dict[str, None]) -> None:
    """Add a step and all it needs: in the order of the file wherever dependencies allow."""
    for owner in graph[name]:
        _visit(owner, graph, order)
    order[name] = None


def _expand(path: str) -> str:
    """Replace ``${NAME}`` and ``${NAME:-default}`` by environment variables, as a shell does."""

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = os.environ.get(name, default)
        if found is None:
            raise SpecError(
                f"{name} is not set", expected="an environment variable", where=path, fix=f"export {name}=PATH"
            )
        return found

    return os.path.expanduser(re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", value, path))


def _box(text: str | None, where: str) -> Box | None:
    try:
        return Box.parse(text) if text else None
    except SpecError as error:
        raise SpecError(error.found, where=where, expected=error.expected, fix=error.fix) from None


def _ref_text(ref: Ref) -> str:
    return f"{ref.owner}.{ref.output}" if ref.output else f"data {ref.owner}"


def content_hash(content: Path | bytes) -> str:
    """Return the BLAKE2b hash (32 hexadecimal digits) of a file or of bytes, as it stands in a step's description.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    return hashlib.blake2b(content, digest_size=16).hexdigest() if isinstance(content, bytes) else _hash_file(content)


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", expected="a readable file") from None


def _check_block(block: ZYX, bounds: Box, where: str) -> None:
    if min(block) < 1:
        raise SpecError(
            f"block_zyx {list(block)}", where=where, expected="at least one voxel on every axis",
            fix="block_zyx: [64, 64, 64]",
        )  # fmt: skip
    count = len(Grid(bounds, block))
    if count > MOST_BLOCKS:
        raise SpecError(
            f"block_zyx {list(block)} makes {count} blocks", where=where, expected=f"at most {MOST_BLOCKS}",
            fix="larger blocks, or smaller bounds",
        )  # fmt: skip
