"""Cuts of a run's merge history, and mappings read from files: what ``bouton cut`` writes and the viewer shows.

The viewer names a cut ``cut:THRESHOLD`` and a file ``mapping:NAME``; each is a layer made of the fragments' chunks,
relabelled when they are asked for. No volume is written.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.geometry import Box
from bouton.segment.components import relabel
from bouton.segment.history import MERGE_COLUMNS, cut
from bouton.segment.region_graph import move
from bouton.volume import TableData, Volume
from bouton.volume.mapping import read_mapping
from bouton.volume.run_folder import Run, RunStep
from bouton.volume.run_layers import RunLayer

HISTORY, SIZES = "merges", "fragment_sizes"
MOST_MAPPINGS = 8


@dataclass(frozen=True)
class Mapping:
    """Fragment -> segment: ``ids``, uint64 (n,) sorted, and their ``roots``; other ids stay."""

    ids: np.ndarray
    roots: np.ndarray

    def of(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Return the segments of some ids, each once, in their order."""
        return tuple(dict.fromkeys(move(np.array(ids, np.uint64), self.ids, self.roots).tolist()))


@dataclass(frozen=True)
class MappedVolume:
    """A volume of fragments, read as segments."""

    fragments: Volume
    mapping: Mapping

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x)."""
        return tuple(self.fragments.shape)

    @property
    def dtype(self) -> np.dtype:
        """uint64."""
        return np.dtype(np.uint64)

    def read(self, box: Box) -> np.ndarray:
        """Return the segments, uint64 (z, y, x), of ``box``."""
        labels = self.fragments.read(box).astype(np.uint64, copy=False)
        return relabel(labels, self.mapping.ids, self.mapping.roots)


@dataclass(frozen=True)
class Shown:
    """The cuts that a viewer shows from the start.

    Attributes
    ----------
    thresholds : tuple of float
        Cuts of the merge history.
    files : tuple of Path
        Mappings, Parquet tables ``id, root``.
    step : str, optional
        The step with the merge history; needed where a run has several.
    """

    thresholds: tuple[float, ...] = ()
    files: tuple[Path, ...] = ()
    step: str | None = None

    @property
    def refs(self) -> tuple[str, ...]:
        """The references of the layers, files first."""
        named = [f"mapping:{path.stem}" for path in self.files]
        return tuple(dict.fromkeys([*named, *map(cut_ref, self.thresholds)]))


def mapped_layer(fragments: RunLayer, ref: str) -> RunLayer:
    """Return the fragments' layer under the name of a cut or mapping."""
    kind, _, name = ref.partition(":")
    return replace(fragments, ref=ref, name=f"cut {name}" if kind == "cut" else name, output=kind, dtype="uint64")


def cut_ref(threshold: float) -> str:
    """Return the reference of a cut."""
    return f"cut:{float(threshold)}"


def history_step(run: Run, name: str | None) -> RunStep:
    """Return the finished step that holds the merge history.

    Raises
    ------
    SpecError
        There is none, there are several, or the one named holds none.
    DataError
        The step is not done.
    """
    candidates = [step for step in run.steps.values() if name in (None, step.name)]
    if name is not None and not candidates:
        run.path(name)
    found = [step for step in candidates if {HISTORY, SIZES} <= set(step.outputs) and "fragments" in step.reads]
    if not found:
        raise SpecError(
            f"step {name} holds no merge history" if name else "no step holds a merge history",
            where=f"run {run.name}", expected="a step of stage agglomeration",
            fix="leave --step out" if name else "add one to the workflow, and run it",
        )  # fmt: skip
    if len(found) > 1:
        names = ", ".join(step.name for step in found)
        raise SpecError(f"merge histories {names}", where=f"run {run.name}", expected="one", fix="name it with --step")
    if found[0].state != "done":
        raise DataError(
            f"step {found[0].name} is {found[0].state}", where=f"run {run.name}", expected="done",
            fix="bouton run with the same workflow goes on",
        )  # fmt: skip
    return found[0]


def read_history(run: Run, step: RunStep) -> tuple[TableData, TableData]:
    """Return the merges, in any order, and the sizes of the fragments, sorted by id.

    Raises
    ------
    DataError
        They are missing or damaged, or another version of the stage wrote them.
    """
    return read_merges(run, step), _sorted(_table(run, f"{step.name}.{SIZES}", ("id", "voxels")))


def read_merges(run: Run, step: RunStep) -> TableData:
    """Return the merges alone, as :func:`read_history`."""
    return _table(run, f"{step.name}.{HISTORY}", MERGE_COLUMNS)


class Cuts:
    """The cuts and mappings of one run; each is made when it is first asked for, and the latest are kept."""

    def __init__(self, shown: Shown) -> None:
        stems = [path.stem for path in shown.files]
        twice = next((stem for stem in stems if stems.count(stem) > 1), None)
        if twice is not None:
            raise SpecError(f"two mappings called {twice}", expected="names that differ", fix="rename one of the files")
        self.shown = shown
        self._files = dict(zip(stems, shown.files, strict=True))
        self._made: OrderedDict[tuple[str, str], Mapping] = OrderedDict()
        self._one_at_a_time = threading.Lock()

    def mapping(self, run: Run, ref: str) -> Mapping:
        """Return a cut or the content of a file.

        Raises
        ------
        SpecError, DataError
            There is none, or it does not belong to the run.
        """
        source = self.source(run)
        key = (str(run.path(source)), ref)
        with self._one_at_a_time:
            if key not in self._made:
                self._made[key] = self._make(run, ref)
            self._made.move_to_end(key)
            while len(self._made) > max(MOST_MAPPINGS, len(self.shown.refs)):
                self._made.popitem(last=False)
            return self._made[key]

    def source(self, run: Run) -> str:
        """Return the reference of the fragments that the merge history is about."""
        return history_step(run, self.shown.step).reads["fragments"]

    def _make(self, run: Run, ref: str) -> Mapping:
        kind, _, name = ref.partition(":")
        step = history_step(run, self.shown.step)
        if kind == "cut":
            return Mapping(*cut(read_merges(run, step), _threshold(name)))
        if name not in self._files:
            raise DataError(f"no mapping {name!r}", expected=f"one of {', '.join(self._files) or 'none given'}")
        ids, roots = read_mapping(self._files[name])
        _check_known(ids, run.table(f"{step.name}.{SIZES}")["id"], str(self._files[name]), run)
        return Mapping(ids, roots)


def _threshold(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SpecError(f"threshold {text!r}", expected="a number from 0 to 1") from None


def _check_known(ids: np.ndarray, known: np.ndarray, where: str, run: Run) -> None:
    strange = np.setdiff1d(ids, np.append(known, np.uint64(0)), assume_unique=True)
    if len(strange):
        raise DataError(
            f"{len(strange):,} of {len(ids):,} ids, such as {strange[0]}, are no fragments of run {run.name}",
            where=where, expected="a mapping of this run", fix="bouton cut RUN --threshold T",
        )  # fmt: skip


def _table(run: Run, ref: str, columns: Iterable[str]) -> TableData:
    table = run.table(ref)
    missing = [name for name in columns if name not in table]
    if missing:
        raise DataError(
            f"no column {', '.join(missing)}", where=str(run.path(ref)), expected="what this version of bouton writes",
            fix="bouton run with the same workflow computes it anew",
        )  # fmt: skip
    return table


def _sorted(table: TableData) -> TableData:
    if np.all(table["id"][1:] > table["id"][:-1]):
        return table
    order = np.argsort(table["id"], kind="stable")
    return {name: values[order] for name, values in table.items()}
