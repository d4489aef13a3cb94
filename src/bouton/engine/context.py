"""Everything that a worker must know to execute the tasks of one step, in plain types.

A context goes to workers as a message and to disk as ``step.json``, so that a step can be verified and repaired
without its workflow file. Paths of other steps' results are relative to the run folder: a run folder can be moved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bouton.engine.store import begun_store
from bouton.errors import DataError, RunError
from bouton.geometry import NM, ZYX, Box, Grid
from bouton.spec import Ref, Step, Workflow
from bouton.stage import (
    BlockPart,
    ChainPart,
    Files,
    Layer,
    MergePart,
    Part,
    Stage,
    Table,
    WholePart,
    load_stage,
)
from bouton.volume.places import Place, place


@dataclass(frozen=True)
class InputPlace:
    """Where an input lies.

    ``path`` is relative to the run folder if another step wrote it (``step`` is its name), absolute for a source.
    """

    path: str
    is_table: bool
    step: str = ""
    dataset: str | None = None
    offset_zyx: ZYX = (0, 0, 0)


@dataclass(frozen=True)
class StepContext:
    """One step, ready to execute.

    Attributes
    ----------
    run_folder : str
    folder : str
        The step's folder, relative to ``run_folder``.
    stage_name : str
        What :func:`bouton.stage.load_stage` takes; a private stage's file as an absolute path.
    params : mapping
        The parameters as JSON types.
    store : str
        The run's place in a store; empty where the data of steps lie in the run folder.
    siblings : tuple of str
        Folders (relative to the run folder) of the same step over other bounds: blocks may be copied from there.
    """

    run_folder: str
    folder: str
    step: str
    key: str
    stage_name: str
    stage_version: int
    params: Mapping[str, Any]
    bounds_zyx: str
    block_zyx: ZYX
    shape_zyx: ZYX
    voxel_size_nm: NM
    inputs: Mapping[str, InputPlace]
    description: Mapping[str, Any] = field(default_factory=dict)
    siblings: tuple[str, ...] = ()
    store: str = ""

    @property
    def root(self) -> Path:
        """The step's folder: ledger and ``step.json``."""
        return Path(self.run_folder) / self.folder

    @property
    def data(self) -> Place:
        """Where the step's layers, tables and files lie: its folder, or its place in the run's store."""
        return place(self.store) / self.folder if self.store else self.root

    @cached_property
    def bounds(self) -> Box:
        """The box that the step works on."""
        return Box.parse(self.bounds_zyx)

    def grid(self, part: Part) -> Grid:
        """Return the grid of a part's tasks: slabs over full y and x for a chain, else the step's blocks."""
        block = self.block_zyx
        if isinstance(part, ChainPart):
            block = (block[0], self.shape_zyx[1], self.shape_zyx[2])
        return Grid(self.bounds, block)

    def input_path(self, name: str) -> Place:
        """Return where input ``name`` lies."""
        found = self.inputs[name]
        return (place(self.store or self.run_folder) / found.path) if found.step else place(found.path)


def step_folder(step: Step) -> str:
    """Return a step's folder, relative to the run folder."""
    return f"{step.name}/{step.key}"


def output_path(stage: Stage, params: Any, name: str) -> str:
    """Return where output ``name`` lies inside the step's folder."""
    for part in stage.parts:
        # a kept table is a folder of parts, one a node
        if name in part.tables and isinstance(part, MergePart | WholePart):
            return f"{name}.parquet"
    return name


def is_table(stage: Stage, name: str) -> bool:
    """Return whether output ``name`` is a table."""
    return name in stage.tables()


def params_to_json(stage: Stage, params: Any) -> dict[str, Any]:
    """Return parameters as JSON types."""
    return TypeAdapter(stage.params).dump_python(params, mode="json")


def params_from_json(stage: Stage, values: Mapping[str, Any]) -> Any:
    """Return what :func:`params_to_json` was given."""
    return TypeAdapter(stage.params).validate_python(dict(values))


def part_layers(part: Part, params: Any) -> dict[str, Layer]:
    """Return the layers that a part writes with these parameters."""
    if not isinstance(part, BlockPart | ChainPart):
        return {}
    return dict(part.layers(params) if callable(part.layers) else part.layers)


def output_types(stage: Stage, params: Any) -> dict[str, Layer | Table | Files]:
    """Return every output, private ones too."""
    found: dict[str, Layer | Table | Files] = {**stage.tables(), **stage.layers(params)}
    found.update({name: Files() for part in stage.parts if isinstance(part, WholePart) for name in part.files})
    return found


def halo_of(part: Part, params: Any, voxel_size_nm: NM) -> ZYX:
    """Return the voxels around a block that a task of the part may see."""
    return part.halo(params, voxel_size_nm) if isinstance(part, BlockPart | ChainPart) else (0, 0, 0)


def planned_halo_of(part: Part, params: Any, voxel_size_nm: NM) -> ZYX:
    """Return the voxels around a block that plans reckon with."""
    planned = part.planned_halo if isinstance(part, BlockPart) else None
    return planned(params, voxel_size_nm) if planned else halo_of(part, params, voxel_size_nm)


def make_context(workflow: Workflow, step: Step, run_folder: Path) -> StepContext:
    """Return the context of ``step``."""
    private = step.stage_name.endswith(".py")
    return StepContext(
        run_folder=str(run_folder),
        folder=step_folder(step),
        step=step.name,
        key=step.key,
        stage_name=str(Path(step.stage_name).resolve()) if private else step.stage_name,
        stage_version=step.stage.version,
        params=params_to_json(step.stage, step.params),
        bounds_zyx=str(step.bounds),
        block_zyx=step.block,
        shape_zyx=workflow.shape,
        voxel_size_nm=workflow.voxel_size_nm,
        inputs={name: _place(workflow, ref, step.stage.reads[name]) for name, ref in step.reads.items()},
        description=step.description,
        store=begun_store(run_folder).data,
    )


def main_output(step: Step) -> str:
    """Return the name of a step's main output."""
    return next(iter(step.stage.outputs(step.params)))


def _place(workflow: Workflow, ref: Ref, declared: Layer | Table) -> InputPlace:
    if ref.owner in workflow.sources:
        source = workflow.sources[ref.owner]
        path = str(source.path.resolve())
        return InputPlace(path, isinstance(declared, Table), "", source.dataset, source.offset_zyx)
    owner = next(step for step in workflow.steps if step.name == ref.owner)
    output = ref.output or main_output(owner)
    path = f"{step_folder(owner)}/{output_path(owner.stage, owner.params, output)}"
    return InputPlace(path, isinstance(declared, Table), owner.name)


def load_stage_of(context: StepContext) -> Stage:
    """Return the stage of a context, with the parts that run with its parameters.

    Raises
    ------
    RunError
        The stage is of another version than the one that made the results.
    """
    stage = load_stage(context.stage_name)
    if stage.version != context.stage_version:
        raise RunError(
            f"stage {context.stage_name} is version {stage.version}",
            where=f"step {context.step}",
            expected=f"version {context.stage_version}, which made the results",
            fix="bouton run again: it computes the step anew",
        )
    return stage.with_params(params_from_json(stage, context.params))


def context_to_json(context: StepContext) -> bytes:
    """Return the context as ``step.json`` holds it."""
    values = asdict(context)
    for name in ("run_folder", "siblings"):
        del values[name]
    return json.dumps(values, indent=1, sort_keys=True).encode()


def context_from_json(run_folder: Path, folder: str) -> StepContext:
    """Read ``step.json``.

    Raises
    ------
    DataError
        It is missing or damaged.
    """
    path = run_folder / folder / "step.json"
    try:
        values = json.loads(path.read_bytes())
        values["inputs"] = {name: _input_from_json(place) for name, place in values["inputs"].items()}
        for name in ("block_zyx", "shape_zyx", "voxel_size_nm"):
            values[name] = tuple(values[name])
        known = {item.name for item in fields(StepContext)}
        return StepContext(run_folder=str(run_folder), **{k: v for k, v in values.items() if k in known})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            "step.json is missing or damaged", where=str(path), fix="bouton run with the same workflow"
        ) from error


def _input_from_json(values: dict[str, Any]) -> InputPlace:
    return InputPlace(**{**values, "offset_zyx": tuple(values["offset_zyx"])})
