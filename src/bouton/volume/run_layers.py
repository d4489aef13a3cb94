"""What a run holds that can be looked at: its layers and tables, for viewer and report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.geometry import ZYX, Box, Grid
from bouton.volume.tables import TableData

if TYPE_CHECKING:
    from bouton.volume.base import Volume
    from bouton.volume.run_folder import Run

TRUTH_NAMES = ("truth", "neuron_ids", "truth_ids", "ground_truth")
LABEL_NAMES = (*TRUTH_NAMES, "labels", "segmentation", "fragments", "clefts")


@dataclass(frozen=True)
class RunLayer:
    """One layer of a run, in the run's own voxel grid.

    Attributes
    ----------
    ref : str
        What ``Run.volume`` takes: ``step.output`` or ``data:name``.
    name : str
        Unique short name: the step's or source's name, with the output's where it is not the step's main one.
    output : str
        Name of the output; of the source, for a source.
    kind : str
        ``image``, ``probability``, ``affinities``, ``labels`` or ``mask``.
    dtype : str
    channels : int or None
    bounds : Box
        Where the layer has voxels.
    block : (z, y, x)
        Compute block, or the storage granule for a source.
    offset : (z, y, x)
        Place of the stored volume's first voxel on the run's grid.
    complete : bool
        Whether every voxel inside the bounds must exist: then a missing one is damage.
    """

    ref: str
    name: str
    output: str
    kind: str
    dtype: str
    channels: int | None
    bounds: Box
    block: ZYX
    offset: ZYX
    complete: bool

    @property
    def is_truth(self) -> bool:
        """Whether these are labels known to be right."""
        return self.kind == "labels" and self.output in TRUTH_NAMES


@dataclass(frozen=True)
class RunTable:
    """One public table of a run; ``ref`` is what ``Run.table`` takes."""

    ref: str
    name: str
    step: str
    stage: str
    output: str
    state: str


def run_layers(run: Run) -> list[RunLayer]:
    """Return the layers of a run, sources first, then steps in their order. Sources that do not open are left out."""
    sources = [layer for name in run.sources if (layer := _source_layer(run, name)) is not None]
    return [*sources, *(layer for step in run.steps for layer in _step_layers(run, step))]


def main_labels(layers: Sequence[RunLayer]) -> RunLayer | None:
    """Return the labels that a run is about: its last segmentation; else fragments; else others that are not truth."""
    labels = [layer for layer in layers if layer.kind == "labels" and not layer.is_truth]
    for wanted in ("segmentation", "fragments"):
        found = [layer for layer in labels if layer.output == wanted]
        if found:
            return found[-1]
    others = [layer for layer in labels if layer.output != "clefts"]
    return others[-1] if others else None


def run_tables(run: Run) -> list[RunTable]:
    """Return the tables of the run's finished steps, in the order of the steps."""
    found = []
    for name, step in run.steps.items():
        for position, (output, info) in enumerate(step.outputs.items()):
            if info["type"] == "table" and step.state == "done":
                label = name if position == 0 else f"{name}.{output}"
                found.append(RunTable(f"{name}.{output}", label, name, step.stage, output, step.state))
    return found


def read_tables(run: Run, output: str) -> tuple[list[tuple[RunTable, TableData]], list[str]]:
    """Return the tables called ``output`` with their rows, in step order; and why some could not be read."""
    found, problems = [], []
    for table in run_tables(run):
        if table.output == output:
            try:
                found.append((table, run.table(table.ref)))
            except DataError as error:
                problems.append(str(error))
    return found, problems


def read_layer(volume: Volume, layer: RunLayer, box: Box) -> np.ndarray:
    """Return the voxels of ``box`` (the run's grid, inside the layer's bounds); ``volume`` is what holds the layer.

    Raises
    ------
    DataError
        Voxels are missing or damaged, or the box leaves the bounds.
    """
    if not layer.bounds.contains(box):
        raise DataError(f"box {box} of layer {layer.name}", expected=f"a box inside {layer.bounds}")
    return volume.read(box.shift([-a for a in layer.offset]))


def read_available(volume: Volume, layer: RunLayer, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels of ``box`` block by block, and where there are any.

    Returns
    -------
    values : numpy.ndarray
        Layer's dtype, (z, y, x) or (c, z, y, x); 0 where nothing could be read.
    there : numpy.ndarray
        bool, (z, y, x).
    """
    leading = () if layer.channels is None else (layer.channels,)
    values = np.zeros((*leading, *box.shape), dtype=layer.dtype)
    there = np.zeros(box.shape, dtype=bool)
    grid = Grid(box & layer.bounds, layer.block)
    for index in () if grid.bounds.is_empty else grid:
        part = grid.core(index)
        try:
            block = read_layer(volume, layer, part)
        except DataError:
            continue
        inside = part.within(box).slices
        values[(..., *inside)] = block
        there[inside] = True
    return values, there


def _source_layer(run: Run, name: str) -> RunLayer | None:
    info = run.sources[name]
    if str(info["path"]).endswith(".parquet"):
        return None
    try:
        volume = run.volume(f"data:{name}")
    except (DataError, SpecError):
        return None
    offset = _triple(info.get("offset_zyx") or (0, 0, 0))
    bounds = volume.box.shift(offset) & Box.of_shape(run.shape)
    dtype = np.dtype(volume.dtype)
    kind = _kind_of(_roles(run, name), dtype, volume.channels)
    return RunLayer(
        f"data:{name}", name, name, kind, dtype.name, volume.channels, bounds, (64, 64, 64), offset, complete=True
    )


def _triple(values: Iterable[int]) -> ZYX:
    z, y, x = (int(value) for value in values)
    return z, y, x


def _roles(run: Run, source: str) -> set[str]:
    """Return the source's name and those under which steps read it."""
    refs = {(name, ref) for step in run.steps.values() for name, ref in step.reads.items()}
    return {source} | {name for name, ref in refs if ref == f"data:{source}"}


def _kind_of(roles: set[str], dtype: np.dtype, channels: int | None) -> str:
    if channels is not None:
        affinities = any("affinit" in role for role in roles)
        return "affinities" if affinities else "probability" if channels > 1 else "image"
    if any("mask" in role for role in roles) or dtype == np.bool_:
        return "mask"
    wide = dtype.kind in "ui" and dtype.itemsize >= 4
    return "labels" if wide or roles & set(LABEL_NAMES) else "image"


def _step_layers(run: Run, name: str) -> list[RunLayer]:
    step = run.steps[name]
    bounds, block = Box.parse(step.bounds_zyx), _triple(step.block_zyx)
    layers = []
    for position, (output, info) in enumerate(step.outputs.items()):
        if info["type"] != "layer" or not (run.path(f"{name}.{output}") / "zarr.json").is_file():
            continue
        label = name if position == 0 else f"{name}.{output}"
        layers.append(
            RunLayer(
                ref=f"{name}.{output}",
                name=label,
                output=output,
                kind=info["kind"],
                dtype=info["dtype"],
                channels=info["channels"],
                bounds=bounds,
                block=block,
                offset=(0, 0, 0),
                complete=step.state == "done",
            )
        )
    return layers
