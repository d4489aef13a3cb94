"""The results of a run: opened by folder, read by the names of steps and outputs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.geometry import NM, ZYX
from bouton.volume import Volume, open_volume, read_table
from bouton.volume.places import Place, place


@dataclass(frozen=True)
class RunStep:
    """One step as ``run.json`` tells it.

    Attributes
    ----------
    folder : str
        Where its results lie, relative to the run folder.
    reads : mapping of input -> reference
        ``step.output`` or ``data:name``.
    outputs : mapping of name -> dict
        The main output first; ``type`` (layer, table, files), ``path`` (relative to the run folder), ``kind``,
        ``dtype``, ``channels``.
    state : str
        ``done``, ``failed`` (some tasks are quarantined), ``blocked`` (by a failed one) or ``pending``.
    seconds : float
        Wall time over all runs.
    tasks, done, failed, blocked, reused, computed : int
        Tasks in all; by state; copied from a run over other bounds; computed by the latest run.
    failures : list of dict
        ``part, task, box_zyx, attempts, error, cause``.
    """

    name: str
    stage: str
    version: int
    key: str
    folder: str
    params: Mapping[str, Any]
    reads: Mapping[str, str]
    bounds_zyx: str
    block_zyx: list[int]
    outputs: Mapping[str, Mapping[str, Any]]
    state: str = "pending"
    seconds: float = 0.0
    peak_bytes: int = 0
    size_bytes: int = 0
    tasks: int = 0
    done: int = 0
    failed: int = 0
    blocked: int = 0
    reused: int = 0
    computed: int = 0
    failures: list[Mapping[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes
    ----------
    info : mapping
        ``run.json`` as it is.
    shape : (z, y, x)
        Shape of the whole data set.
    sources : mapping of name -> dict
        ``path``, ``dataset``, ``offset_zyx``.
    steps : mapping of name -> RunStep
    """

    folder: Path
    name: str
    info: Mapping[str, Any]
    voxel_size_nm: NM
    shape: ZYX
    sources: Mapping[str, Mapping[str, Any]]
    steps: Mapping[str, RunStep]

    @property
    def data(self) -> Place:
        """Where the data of the steps lie: the run folder, or the place in a store that ``run.json`` names."""
        return place(str(self.info.get("store") or self.folder))

    def path(self, ref: str) -> Place:
        """Return where a result lies: ``step`` (its main output), ``step.output`` or ``data:name``.

        Raises
        ------
        SpecError
            There is no such step, output or source.
        """
        if ref.startswith("data:"):
            name = ref.removeprefix("data:")
            return place(_pick(self.sources, name, f"data of run {self.name}")["path"])
        return self.data / str(self._output(ref)["path"])

    def volume(self, ref: str) -> Volume:
        """Return the layer ``ref`` (see :meth:`path`), open for reading."""
        if not ref.startswith("data:"):
            self._expect(ref, "layer")
            return open_volume(self.path(ref))
        path = self.path(ref)
        return open_volume(path, self.sources[ref.removeprefix("data:")]["dataset"])

    def table(self, ref: str) -> dict[str, np.ndarray]:
        """Return the table ``ref`` (see :meth:`path`)."""
        if not ref.startswith("data:"):
            self._expect(ref, "table")
        return read_table(self.path(ref))

    def _output(self, ref: str) -> Mapping[str, Any]:
        name, _, output = ref.partition(".")
        step = _pick(self.steps, name, f"steps of run {self.name}")
        if not step.outputs:
            raise SpecError(f"step {name} has no output", where=f"run {self.name}")
        return _pick(step.outputs, output or next(iter(step.outputs)), f"outputs of step {name}")

    def _expect(self, ref: str, kind: str) -> None:
        output = self._output(ref)
        if output["type"] != kind:
            raise SpecError(f"{ref} is of type {output['type']}", where=f"run {self.name}", expected=kind)


def open_run(folder: str | Path) -> Run:
    """Open a run folder.

    Raises
    ------
    DataError
        The folder holds no run, or ``run.json`` is damaged.
    """
    folder = Path(folder).resolve()
    path = folder / "run.json"
    try:
        info = json.loads(path.read_bytes())
        known = {item.name for item in fields(RunStep)}
        steps = [RunStep(**{k: v for k, v in step.items() if k in known}) for step in info["steps"]]
        return Run(
            folder=folder,
            name=str(info["workflow"]),
            info=info,
            voxel_size_nm=_triple(info["voxel_size_nm"], float),
            shape=_triple(info["shape_zyx"], int),
            sources=_entries(info["sources"]),
            steps={step.name: replace(step, outputs=_entries(step.outputs)) for step in steps},
        )
    except OSError:
        raise DataError(
            "no run here", where=str(folder), expected="a run folder with run.json", fix="bouton run WORKFLOW"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"run.json is damaged: {type(error).__name__}: {error}", where=str(path), expected="what bouton run wrote",
            fix="bouton run with the same workflow writes it anew",
        ) from error  # fmt: skip


def _triple(values: Iterable[Any], number: type) -> tuple[Any, Any, Any]:
    z, y, x = (number(value) for value in values)
    return z, y, x


def _entries(values: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return names with what ``run.json`` says of each; all of them have a path."""
    entries = {name: dict(entry) for name, entry in values.items()}
    for entry in entries.values():
        Path(entry["path"])
    return entries


def _pick(mapping: Mapping[str, Any], name: str, what: str) -> Any:
    if name in mapping:
        return mapping[name]
    close = difflib.get_close_matches(name, mapping, n=1)
    hint = f"did you mean {close[0]}?" if close else "bouton status RUN lists the steps"
    raise SpecError(f"no {name!r} among the {what}", expected=f"one of {', '.join(mapping)}", fix=hint)
