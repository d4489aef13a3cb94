"""What a task may read: volumes on the workflow's grid and tables, with errors that name the step and the way out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from bouton.engine.context import StepContext, output_path, output_types
from bouton.errors import DataError, RunError, SpecError
from bouton.geometry import ZYX, Box
from bouton.stage import Files, Layer, Stage, Table, TableData
from bouton.volume import Volume, open_volume, read_table
from bouton.volume.places import Place
from bouton.volume.tables import TableParts, is_folder


class InputVolume:
    """One input layer on the workflow's grid (a :class:`bouton.stage.VolumeReader`)."""

    def __init__(self, name: str, volume: Volume, inputs: Inputs, offset: ZYX) -> None:
        self.name, self._volume, self._inputs, self._offset = name, volume, inputs, offset
        self.shape: tuple[int, ...] = tuple(volume.shape)
        self.dtype = np.dtype(volume.dtype)

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of ``box`` of the workflow's grid.

        Raises
        ------
        DataError
            Voxels are missing or damaged.
        RunError
            The task may not read there.
        """
        self._inputs.check_reach(self.name, box)
        try:
            array = self._volume.read(box.shift([-d for d in self._offset]))
        except DataError as error:
            raise self._inputs.explain(self.name, error, box) from error
        self._inputs.reads.append((self.name, str(box)))
        return array


class Inputs(Mapping[str, InputVolume]):
    """The volumes and tables that tasks of a step read: its inputs, and what earlier parts of it wrote.

    Volumes open on first use and stay open; tables are read once and their folders listed once, for nobody reads a
    table before it is complete.

    Attributes
    ----------
    reads : list of (name, place)
        What was read: boxes (as text) of layers, ``table`` or ``table@box`` of tables.
    reach : Box or None
        The voxels that the task at hand may read; None: any.
    """

    def __init__(self, context: StepContext, stage: Stage, params: object) -> None:
        self.context, self.stage = context, stage
        self._types = output_types(stage, params)
        self._own = {name: context.data / output_path(stage, params, name) for name in self._types}
        self._volumes: dict[str, InputVolume] = {}
        self._tables: dict[str, TableData] = {}
        self._parts: dict[str, TableParts] = {}
        self.reads: list[tuple[str, str]] = []
        self.reach: Box | None = None

    def __getitem__(self, name: str) -> InputVolume:
        if name not in self._volumes:
            self._volumes[name] = self._open(name)
        return self._volumes[name]

    def __contains__(self, name: object) -> bool:
        return name in set(self)

    def __iter__(self) -> Iterator[str]:
        places = self.context.inputs
        yield from (name for name in places if not places[name].is_table)
        yield from (name for name, kind in self._types.items() if isinstance(kind, Layer) and name not in places)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def table(self, name: str, over: Box | None = None) -> TableData:
        """Return table ``name``, or the rows of those merge nodes that share a voxel with ``over``.

        Raises
        ------
        DataError
            It is missing or damaged.
        """
        path = self.path(name, Table)
        try:
            parts = self._parts_of(name, path) if over is not None else None
            over = over if parts else None
            table = parts.read(over) if parts else self._tables.get(name)
            if table is None:
                table = self._tables[name] = read_table(path)
        except DataError as error:
            raise self.explain(name, error, over) from error
        self.reads.append((name, f"table@{over}" if over else "table"))
        return dict(table)

    def _parts_of(self, name: str, path: Place) -> TableParts | None:
        """Return the parts of a table that lies as a folder."""
        if name not in self._parts and is_folder(path):
            self._parts[name] = TableParts(path)
        return self._parts.get(name)

    def path(self, name: str, kind: type[Layer] | type[Table]) -> Place:
        """Return where input or own output ``name`` lies.

        Raises
        ------
        RunError
            The stage asks for a name that it did not declare.
        """
        place = self.context.inputs.get(name)
        if place is not None and place.is_table == (kind is Table):
            return self.context.input_path(name)
        if place is None and isinstance(self._types.get(name), kind):
            return self._own[name]
        known = [*self.context.inputs, *(n for n, t in self._types.items() if not isinstance(t, Files))]
        raise RunError(
            f"stage {self.context.stage_name} asks for {kind.__name__.lower()} {name!r}, which it does not read",
            where=f"step {self.context.step}",
            expected=f"one of {', '.join(known)}",
        )

    def check_reach(self, name: str, box: Box) -> None:
        """Raise a RunError where a task reads voxels that the engine does not wait for."""
        if self.reach is not None and not self.reach.contains(box):
            raise RunError(
                f"stage {self.context.stage_name} reads {name} at box {box} (z,y,x)",
                where=f"step {self.context.step}",
                expected=f"a box inside of {self.reach}: the block and the halo that its part declares",
                fix="declare a larger halo in the stage",
            )

    def explain(self, name: str, error: DataError, box: Box | None) -> DataError:
        """Return ``error`` with the input, the box and the command that repairs it."""
        place = self.context.inputs.get(name)
        where = f"input {name} ({self._owner(name)})" + (f", box {box} (z,y,x)" if box else "")
        if place is not None and not place.step:
            return DataError(error.found, where=where, expected=error.expected, fix=error.fix)
        fix = f"bouton verify {self.context.run_folder} --repair"
        return DataError(f"{error.found} at {error.where}" if error.where else error.found, where=where, fix=fix)

    def _owner(self, name: str) -> str:
        place = self.context.inputs.get(name)
        if place is None:
            return f"step {self.context.step}"
        return f"step {place.step}" if place.step else f"data {place.path}"

    def _open(self, name: str) -> InputVolume:
        place = self.context.inputs.get(name)
        path = self.path(name, Layer)
        try:
            volume = open_volume(path, place.dataset if place else None)
        except DataError as error:
            raise self.explain(name, error, None) from error
        declared = self.stage.reads[name] if place else self._types[name]
        assert isinstance(declared, Layer)
        self._check_type(name, volume, declared)
        return InputVolume(name, volume, self, place.offset_zyx if place else (0, 0, 0))

    def _check_type(self, name: str, volume: Volume, declared: Layer) -> None:
        accepted = (declared.dtype,) if isinstance(declared.dtype, str) else declared.dtype
        channels = volume.shape[0] if len(volume.shape) == 4 else None
        found = f"{volume.dtype}" + (f" with {channels} channels" if channels else "")
        if str(np.dtype(volume.dtype)) not in accepted or channels not in declared.accepted_channels:
            wanted = " or ".join(accepted) + (f" with {declared.channels_text}" if declared.channels else "")
            where = f"step {self.context.step}, input {name}"
            raise SpecError(f"{volume.path} holds {found}", where=where, expected=wanted)
