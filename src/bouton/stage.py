"""The contract between stages and the engine.

A stage is one module in ``bouton/stages`` (or a file of a lab's own) that holds ``STAGE``, a :class:`Stage`. It
declares a frozen dataclass of parameters, what it reads, and one or more *parts*. A part has one of five shapes:

``block``   core <- f(core + halo), may also emit table rows     :class:`BlockPart`
``merge``   one result <- associative merge up an octree of blocks  :class:`MergePart`
``object``  map over ranges of object ids                           :class:`ObjectPart`
``chain``   blocks in z order, each sees its predecessor            :class:`ChainPart`
``whole``   one process                                             :class:`WholePart`

Parts run in the order given. A part may read the stage's inputs and everything that earlier parts of its stage wrote,
by name. The function of a part gets one *task* object (:class:`BlockTask`, ...) and returns an :class:`Output`.
Outputs whose names start with ``_`` are private to the stage; the first public output named in :attr:`Stage.writes`
is what the step's bare name means in a workflow file.

Tables travel as ``dict[str, numpy.ndarray]``: one 1-D array a column, all of one length.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bouton.errors import SpecError
from bouton.geometry import NM, ZERO, ZYX, Box

TableData = dict[str, np.ndarray]


@dataclass(frozen=True)
class Layer:
    """An array over voxels.

    Attributes
    ----------
    dtype : str or tuple of str
        numpy dtype name; for an input, a tuple of the names accepted.
    channels : int or tuple, optional
        None for (z, y, x); a number for (c, z, y, x); for an input, a tuple of what is accepted.
    kind : str
        ``image``, ``probability``, ``affinities``, ``labels`` or ``mask``: how viewer and report show it.
    """

    dtype: str | tuple[str, ...]
    channels: int | tuple[int | None, ...] | None = None
    kind: str = "image"

    @property
    def accepted_channels(self) -> tuple[int | None, ...]:
        """Every number of channels that an input may have; None is an array without channels."""
        return self.channels if isinstance(self.channels, tuple) else (self.channels,)

    @property
    def channels_text(self) -> str:
        """What :attr:`accepted_channels` are, in words: ``no channels, 1 or 4 channels``."""
        numbers = " or ".join(str(n) for n in self.accepted_channels if n is not None)
        words = ["no channels"] if None in self.accepted_channels else []
        return ", ".join(words + ([f"{numbers} channel{'' if numbers == '1' else 's'}"] if numbers else []))


@dataclass(frozen=True)
class Table:
    """A table: column name -> numpy dtype name, or ``str``."""

    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Files:
    """A folder of files that a ``whole`` part writes itself (GraphML, CSV, JSON)."""


@dataclass(frozen=True)
class Output:
    """What one task returns: layers cover the task's core box exactly, tables hold rows the task owns."""

    layers: Mapping[str, np.ndarray] = field(default_factory=dict)
    tables: Mapping[str, TableData] = field(default_factory=dict)


class TableReader(Protocol):
    """How a task gets at an input table."""

    def __call__(self, name: str, over: Box | None = None) -> TableData:
        """Return the rows of table ``name``.

        With ``over``, and where merge nodes wrote the table (:attr:`MergePart.kept`), only the rows of nodes that share
        a voxel with that box: for one block, its own node and the nodes above it. Any other table comes whole.
        """


class VolumeReader(Protocol):
    """What a task may do with an input volume."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of ``box``, (z, y, x) or (c, z, y, x)."""


@dataclass(frozen=True)
class Task:
    """What every task knows.

    Attributes
    ----------
    params
        The step's parameters, an instance of ``Stage.params``.
    bounds : Box
        The box the step works on. Outside of it nothing exists.
    shape : (z, y, x)
        Shape of the whole data set: global voxel ids are made with it (:func:`bouton.geometry.voxel_ids`).
    voxel_size_nm : (z, y, x)
    volumes : mapping of name -> VolumeReader
    table : TableReader
        ``table(name)`` returns an input table.
    given : frozenset of str
        The inputs that the workflow gives: optional ones may be missing.
    """

    params: Any
    bounds: Box
    shape: ZYX
    voxel_size_nm: NM
    volumes: Mapping[str, VolumeReader]
    table: TableReader
    given: frozenset[str] = field(default=frozenset(), kw_only=True)


@dataclass(frozen=True)
class BlockTask(Task):
    """One block of a ``block`` part: ``core`` is what it owns, ``halo`` what it may see around it."""

    core: Box
    halo: ZYX = ZERO

    def box(self, halo: Sequence[int] | None = None) -> Box:
        """Return the core grown by ``halo`` (at most, and by default, the declared one), clipped to the bounds."""
        halo = self.halo if halo is None else halo
        assert all(a <= b for a, b in zip(halo, self.halo, strict=True)), "a task reads at most the halo it declared"
        return self.core.grow(halo) & self.bounds

    def read(self, name: str, halo: Sequence[int] | None = None) -> np.ndarray:
        """Return input ``name`` over :meth:`box`."""
        return self.volumes[name].read(self.box(halo))


@dataclass(frozen=True)
class MergeTask(Task):
    """One node of a ``merge`` part.

    Attributes
    ----------
    box : Box
        The union of the node's blocks.
    children : sequence of mapping of table name -> table
        At the leaves: one entry, the tables of the part's ``source`` for one block. Above: what the child nodes
        returned (kept tables excepted). In C order of their boxes.
    is_leaf, is_root : bool
        A tree of one block is leaf and root at once.
    """

    box: Box
    children: Sequence[Mapping[str, TableData]]
    is_leaf: bool
    is_root: bool

    def rows(self, leaf: str, node: str) -> list[TableData]:
        """Return one table a child: ``leaf``, which blocks emit, at the leaves; ``node``, a child's result, above."""
        return [child[leaf if self.is_leaf else node] for child in self.children]


@dataclass(frozen=True)
class ObjectTask(Task):
    """One range of object ids: ``ids`` is a sorted uint64 array."""

    ids: np.ndarray


@dataclass(frozen=True)
class ChainTask(BlockTask):
    """One slab of a ``chain``, over the bounds' full y and x. ``previous`` is the table output of the slab below."""

    previous: Mapping[str, TableData] | None = None


@dataclass(frozen=True)
class WholeTask(Task):
    """The one task of a ``whole`` part. ``folder`` is where its :class:`Files` output goes (None without one)."""

    folder: Path | None = None


@dataclass(frozen=True)
class Planned:
    """A step before anything of the workflow runs: what :attr:`Stage.check` looks at.

    Attributes
    ----------
    params
        The step's parameters, an instance of ``Stage.params``.
    bounds : Box
        The box the step would work on.
    shape : (z, y, x)
        Shape of the whole data set.
    voxel_size_nm : (z, y, x)
    given : frozenset of str
        The inputs that the workflow gives.
    sources : mapping of name -> Box
        Of inputs that are volumes of the user's, which voxels of the data set they cover.
    """

    params: Any
    bounds: Box
    shape: ZYX
    voxel_size_nm: NM
    given: frozenset[str]
    sources: Mapping[str, Box]


@dataclass(frozen=True)
class BlockPart:
    """core <- f(core + halo).

    Attributes
    ----------
    name : str
    run : callable
        Task -> Output. A module-level function: workers import it.
    layers, tables : mapping
        Name -> what the part writes; or a function of the parameters that returns the mapping.
    halo : callable
        ``(params, voxel_size_nm) -> (z, y, x)``.
    bytes_per_voxel : float or callable
        Peak memory of a task per voxel of core + planned halo, inputs and outputs included; or a function like
        ``halo`` that returns it.
    fixed_bytes : callable
        ``params -> bytes`` of a task besides, whatever its block.
    planned_halo : callable, optional
        Like ``halo``: what plans reckon that a task reads around its block, and works on. Default: the halo. Less where
        blocks that lie well need less, and nobody would choose others.
    gpu : bool
        Whether a GPU helps.
    when : callable
        ``params -> bool``: whether the part runs at all. What it would have written does not exist then.
    """

    name: str
    run: Callable[[BlockTask], Output]
    layers: Mapping[str, Layer] | Callable[[Any], Mapping[str, Layer]] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    halo: Callable[[Any, NM], ZYX] = lambda params, voxel_size_nm: ZERO
    bytes_per_voxel: float | Callable[[Any, NM], float] = 16.0
    fixed_bytes: Callable[[Any], int] = lambda params: 0
    planned_halo: Callable[[Any, NM], ZYX] | None = None
    gpu: bool = False
    when: Callable[[Any], bool] = lambda params: True
    shape = "block"


@dataclass(frozen=True)
class MergePart:
    """One result <- associative merge of the tables ``source`` up an octree of blocks.

    Attributes
    ----------
    source : tuple of str
        Tables of earlier block parts: what the leaves get.
    tables : mapping
        What a node returns to its parent. Only the root's are kept.
    kept : mapping
        Tables whose rows stay where a node emitted them: the table is the union of all nodes' rows. A node keeps what
        nothing outside of its box can change, and returns the rest to its parent; so no node ever holds the whole.
        Two parts of a stage may write one table.
    bytes_per_voxel, bytes_per_face_voxel : float
        Peak memory of a leaf per voxel of its block; of a node above per voxel of its children's faces.
    fan_out : int
        Children of a node along each axis.
    when : callable
        As of :class:`BlockPart`; false wherever it is so for the part that makes ``source``.
    """

    name: str
    run: Callable[[MergeTask], Output]
    source: tuple[str, ...]
    tables: Mapping[str, Table]
    kept: Mapping[str, Table] = field(default_factory=dict)
    bytes_per_voxel: float = 8.0
    bytes_per_face_voxel: float = 32.0
    fan_out: int = 2
    when: Callable[[Any], bool] = lambda params: True
    shape = "merge"


@dataclass(frozen=True)
class ObjectPart:
    """Map over ranges of the sorted unique ids in column ``ids[1]`` of table ``ids[0]``, ``ids_per_task`` at a time."""

    name: str
    run: Callable[[ObjectTask], Output]
    ids: tuple[str, str]
    tables: Mapping[str, Table]
    ids_per_task: int = 256
    shape = "object"


@dataclass(frozen=True)
class ChainPart:
    """Slabs in z order; each sees the tables that its predecessor returned."""

    name: str
    run: Callable[[ChainTask], Output]
    layers: Mapping[str, Layer] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    halo: Callable[[Any, NM], ZYX] = lambda params, voxel_size_nm: ZERO
    bytes_per_voxel: float = 16.0
    shape = "chain"


@dataclass(frozen=True)
class WholePart:
    """One process; may write a folder of files."""

    name: str
    run: Callable[[WholeTask], Output]
    tables: Mapping[str, Table] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    memory_bytes: int = 1 << 30
    shape = "whole"


Part = BlockPart | MergePart | ObjectPart | ChainPart | WholePart


def part_tables(part: Part) -> dict[str, Table]:
    """Return every table that a part writes: returned and kept."""
    return {**part.tables, **(part.kept if isinstance(part, MergePart) else {})}


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes
    ----------
    version : int
        Raised whenever the same inputs and parameters would give another result.
    params : type
        Frozen dataclass; its fields have defaults, its docstring explains each with its unit.
    reads : mapping of name -> Layer or Table
        ``optional`` names may be left out in a workflow.
    writes : tuple of str
        The public outputs, the main one first; a name per layer, table or files folder that a part writes.
    parts : tuple of Part
    optional : frozenset of str
    files : callable
        Files (models), or bytes, whose content determines the result: ``params -> paths or bytes``. Their hashes join
        the step's key.
    check : callable
        ``Planned -> None``: raises SpecError or DataError where parameters, bounds and inputs do not go together or a
        package is missing, so that this is told before anything runs.
    """

    version: int
    params: type
    reads: Mapping[str, Layer | Table]
    writes: tuple[str, ...]
    parts: tuple[Part, ...]
    optional: frozenset[str] = frozenset()
    files: Callable[[Any], Sequence[Path | bytes]] = lambda params: ()
    check: Callable[[Planned], None] = lambda plan: None

    def __post_init__(self) -> None:
        if not dataclasses.is_dataclass(self.params):
            raise SpecError(f"params = {self.params!r}", expected="a frozen dataclass", fix="correct the stage")
        for part in self.parts:
            if not isinstance(part, Part) or not callable(part.run):
                name = getattr(part, "name", part)
                raise SpecError(f"part {name!r}", expected="a BlockPart, MergePart, ... with a function to run")

    def check_writes(self) -> None:
        """Check names that no parameter decides; where layers are a function, any name may be one of theirs."""
        found = {*self.tables(), *(name for part in self.parts for name in getattr(part, "files", ()))}
        for part in self.parts:
            layers = getattr(part, "layers", {})
            if callable(layers):
                return
            found.update(layers)
        lost = [name for name in self.writes if name not in found]
        if lost or not self.writes:
            raise SpecError(
                f"writes = {self.writes!r}", expected=f"names among {', '.join(sorted(found)) or 'none'}",
                fix="let a part write them, or leave them out",
            )  # fmt: skip

    def with_params(self, params: Any) -> Stage:
        """Return the stage with the parts that run with these parameters."""
        parts = tuple(part for part in self.parts if not isinstance(part, BlockPart | MergePart) or part.when(params))
        return dataclasses.replace(self, parts=parts)

    def layers(self, params: Any) -> dict[str, Layer]:
        """Return every layer that the stage writes with these parameters, private ones too."""
        found: dict[str, Layer] = {}
        for part in self.parts:
            if isinstance(part, BlockPart | ChainPart):
                found.update(part.layers(params) if callable(part.layers) else part.layers)
        return found

    def tables(self) -> dict[str, Table]:
        """Return every table that the stage writes, private ones too."""
        return {name: table for part in self.parts for name, table in part_tables(part).items()}

    def outputs(self, params: Any) -> dict[str, Layer | Table | Files]:
        """Return the public outputs that exist with these parameters, the main one first."""
        found: dict[str, Layer | Table | Files] = {**self.tables(), **self.layers(params)}
        found.update({name: Files() for part in self.parts if isinstance(part, WholePart) for name in part.files})
        return {name: found[name] for name in self.writes if name in found}


def stage_names() -> list[str]:
    """Return the names of the stages that come with bouton."""
    package = importlib.import_module("bouton.stages")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load_stage(name: str, folder: Path | None = None) -> Stage:
    """Return the stage ``name``: a module of ``bouton.stages``, or a path to a ``.py`` file (relative to ``folder``).

    Raises
    ------
    SpecError
        There is no such stage, or the file holds no ``STAGE``.
    """
    if name.endswith(".py"):
        module = _load_file((folder or Path()) / name)
    elif name in stage_names():
        module = importlib.import_module(f"bouton.stages.{name}")
    else:
        close = difflib.get_close_matches(name, stage_names(), n=1)
        raise SpecError(
            f"no stage {name!r}",
            expected=f"one of {', '.join(stage_names())}, or a path to a .py file",
            fix=f"did you mean {close[0]!r}?" if close else "bouton stages tells what each does",
        )
    stage = getattr(module, "STAGE", None)
    if not isinstance(stage, Stage):
        raise SpecError(
            f"{name} holds no STAGE", expected="STAGE = bouton.stage.Stage(...) at the top level", fix="add it"
        )
    stage.check_writes()
    return stage


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise SpecError(f"no stage file {path}", expected="a path to a .py file that holds STAGE", fix="check the path")
    place = hashlib.blake2b(str(path.resolve()).encode(), digest_size=4).hexdigest()
    spec = importlib.util.spec_from_file_location(f"bouton_stage_{path.stem}_{place}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses looks a class' module up here to resolve its annotations.
    sys.modules[module.__name__] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        # The file is the lab's: whatever it raises is told as what is wrong with it.
        del sys.modules[module.__name__]
        own = error if isinstance(error, SpecError) else None
        raise SpecError(
            own.found if own else f"{path} cannot be loaded: {type(error).__name__}: {error}",
            where=_place_in(path, error),
            expected=(own.expected if own else "") or "a Python file that imports without an error and holds STAGE",
            fix=(own.fix if own else "") or f"correct the file; python {path} shows where",
        ) from error
    return module


def _place_in(path: Path, error: BaseException) -> str:
    """Return ``file:line`` of the last line of ``path`` that an error passed through."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{path}:{error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.absolute())
    ]
    return f"{path}:{lines[-1]}" if lines else str(path)
