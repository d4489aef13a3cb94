"""What ``bouton sweep`` reads: fragments and truth of a run's box, the merge history, true skeletons."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.evaluate.centrelines import centre_lines
from bouton.evaluate.contingency import Contingency, add_all, count_pairs
from bouton.evaluate.skeletons import clip
from bouton.evaluate.threshold_walk import MergeSteps
from bouton.geometry import NM, Box, Grid
from bouton.segment.history import check_threshold, cut
from bouton.stage import VolumeReader
from bouton.volume import TableData, Volume, check_volume, open_volume
from bouton.volume.run_folder import Run, RunStep
from bouton.volume.run_layers import RunLayer, read_layer, run_layers
from bouton.volume.skeletons import read_skeletons

BLOCK = (64, 256, 256)
INTEGERS = ("uint64", "uint32", "uint16", "uint8", "int64", "int32", "int16", "int8")
STEP, TOP = Decimal("0.02"), Decimal("0.9")
MOST_THRESHOLDS = 1000
MOST_VOXELS = 1 << 26
"""Of a truth volume whose centre lines are drawn: they are drawn in memory, at about 80 bytes a voxel."""


@dataclass(frozen=True)
class Labels:
    """Labels on the run's grid of voxels."""

    volume: Volume
    layer: RunLayer

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of a box of the run's grid."""
        return read_layer(self.volume, self.layer, box)


def find_labels(run: Run, name: str | None, dataset: str | None = None) -> Labels:
    """Return the labels that a path, a layer's reference or its name leads to; without a name, the run's truth.

    Raises
    ------
    SpecError
        There is none, or several.
    DataError
        The volume holds no ids, or has another shape than the run.
    """
    layers = [layer for layer in run_layers(run) if layer.channels is None]
    if name is None:
        return _only_truth(run, layers)
    found = [layer for layer in layers if name in (layer.ref, layer.name)]
    if found:
        if found[0].kind != "labels" and not found[0].ref.startswith("data:"):
            raise SpecError(f"{name} holds {found[0].kind}", expected="labels: neuron ids", fix="another --truth")
        return _checked(run.volume(found[0].ref), found[0])
    if not Path(name).exists():
        names = [layer.name for layer in layers if layer.kind == "labels"]
        close = difflib.get_close_matches(name, names, n=1)
        fix = f"did you mean {close[0]}?" if close else "give a volume's path or one of these"
        raise SpecError(f"no truth {name!r}", expected=f"a volume, or one of {', '.join(names)}", fix=fix)
    volume = open_volume(name, dataset)
    whole = Box.of_shape(run.shape)
    if volume.box != whole:
        raise DataError(
            f"truth covers {volume.box}, the run {whole}", where=volume.name, expected="the same voxels (z, y, x)",
            fix="cut or convert the truth",
        )  # fmt: skip
    layer = RunLayer(
        name, "truth", "truth", "labels", volume.dtype.name, volume.channels, whole, BLOCK, (0, 0, 0), True
    )
    return _checked(volume, layer)


def _only_truth(run: Run, layers: Sequence[RunLayer]) -> Labels:
    found = [layer for layer in layers if layer.is_truth]
    if len(found) != 1:
        names = ", ".join(layer.name for layer in found) or "none"
        raise SpecError(
            f"the run's truth could be: {names}",
            where=f"run {run.name}",
            expected="--truth",
            fix="--truth NAME_OR_PATH",
        )
    return _checked(run.volume(found[0].ref), found[0])


def _checked(volume: Volume, layer: RunLayer) -> Labels:
    check_volume(volume, dtypes=INTEGERS, channels=None, role="labels")
    return Labels(volume, layer)


def sweep_box(fragments: Labels, truth: Labels, bounds_zyx: str | None) -> Box:
    """Return the box to score: where both have voxels, or the one asked for, which must lie inside."""
    common = fragments.layer.bounds & truth.layer.bounds
    if common.is_empty:
        raise DataError(
            f"fragments cover {fragments.layer.bounds}, truth {truth.layer.bounds}", expected="boxes that overlap"
        )
    if bounds_zyx is None:
        return common
    box = Box.parse(bounds_zyx)
    if not common.contains(box):
        fix = f"--bounds-zyx {box & common}" if not (box & common).is_empty else f"--bounds-zyx {common}"
        raise SpecError(f"bounds {box}", expected=f"a box within {common}, which fragments and truth cover", fix=fix)
    return box


def count_box(fragments: Labels, truth: Labels, box: Box) -> Contingency:
    """Return the voxels that true objects share with fragments; reads both once, block by block."""
    return add_all(count_pairs(truth.read(core), fragments.read(core)) for core in _blocks(box))


def _blocks(box: Box) -> Iterator[Box]:
    grid = Grid(box, BLOCK)
    yield from (grid.core(index) for index in grid)


def parse_thresholds(text: str | None, merges: TableData) -> np.ndarray:
    """Return thresholds, float64, falling: a range ``0.1:0.9:0.02``, a list ``0.2,0.3``, or from the floor to 0.9.

    Raises
    ------
    SpecError
        The text is neither, or goes below the floor of the merge history.
    """
    floor = float(np.max(merges["floor"], initial=0.0))
    try:
        if text is None:
            values = _span(Decimal(str(floor)), max(TOP, Decimal(str(floor))), STEP)
        elif ":" in text:
            start, stop, *step = (Decimal(part) for part in text.split(":"))
            values = _span(start, stop, *(step or [STEP]))
        else:
            values = [Decimal(part) for part in text.split(",")]
    except (InvalidOperation, ValueError, TypeError):
        values = []
    if not values or not all(value.is_finite() and 0 <= value <= 1 for value in values):
        raise SpecError(
            f"thresholds {text!r}", expected=f"start:stop:step within 0 to 1, at most {MOST_THRESHOLDS}, or a list",
            fix="--thresholds 0.1:0.9:0.02",
        )  # fmt: skip
    thresholds = np.array(sorted({float(value) for value in values}, reverse=True))
    check_threshold(merges, float(thresholds[-1]))
    return thresholds


def _span(start: Decimal, stop: Decimal, step: Decimal) -> list[Decimal]:
    if not (step > 0 and start <= stop) or (stop - start) / step > MOST_THRESHOLDS:
        raise ValueError
    return [start + i * step for i in range(int((stop - start) / step) + 1)]


def merge_steps(merges: TableData, thresholds: np.ndarray) -> MergeSteps:
    """Return at which of the falling thresholds each merge applies first: as ``cut`` decides."""
    order = np.argsort(merges["b"], kind="stable")
    merges = {name: values[order] for name, values in merges.items()}
    step = np.full(len(order), len(thresholds), np.int64)
    left = np.arange(len(order))
    for number, threshold in enumerate(thresholds.tolist()):
        rest = {name: values[left] for name, values in merges.items()}
        # every merge ends one cluster, b, and a cut names it
        applied = np.searchsorted(rest["b"], cut(rest, threshold)[0])
        step[left[applied]] = number
        left = np.delete(left, applied)
    return MergeSteps(merges["a"], merges["b"], step)


def draw_skeletons(truth: Labels, box: Box, voxel_size_nm: NM) -> TableData:
    """Return centre lines of the true neurons in the box.

    Raises
    ------
    SpecError
        The box is too large for it.
    """
    if box.voxels > MOST_VOXELS:
        raise SpecError(
            f"{box.voxels / 1e6:,.0f} million voxels of truth", expected=f"at most {MOST_VOXELS / 1e6:.0f} million to "
            "draw skeletons of", fix="--skeletons FILES, --no-skeletons, or a smaller --bounds-zyx",
        )  # fmt: skip
    return centre_lines(truth.read(box), voxel_size_nm, box.start)


def given_skeletons(paths: Sequence[Path], swc_unit_nm: float, box: Box, voxel_size_nm: NM) -> TableData:
    """Return the parts of skeletons from files that lie in the box.

    Raises
    ------
    DataError
        None does.
    """
    table = read_skeletons(paths, swc_unit_nm)
    size = np.asarray(voxel_size_nm)
    inside = clip(table, np.asarray(box.start) * size, np.asarray(box.stop) * size)
    if not len(inside["node"]):
        places = np.stack([table[f"{axis}_nm"] for axis in "zyx"], axis=1)
        reach = f"{places.min(axis=0).round()} to {places.max(axis=0).round()} nm (z, y, x)" if len(places) else "none"
        raise DataError(
            f"nodes from {reach}", where="--skeletons", expected=f"nodes in voxels {box} of {voxel_size_nm} nm",
            fix="check the unit (--swc-unit-nm) and the box",
        )  # fmt: skip
    return inside


def labels_at(labels: VolumeReader | Labels, table: TableData, box: Box, voxel_size_nm: NM) -> np.ndarray:
    """Return the label at each node of skeletons that lie in the box, uint64; reads each block once."""
    places = np.stack([table[f"{axis}_nm"] for axis in "zyx"], axis=1)
    voxel = np.floor(places / np.asarray(voxel_size_nm)).astype(np.int64)
    found = np.zeros(len(voxel), np.uint64)
    for core in _blocks(box):
        here = np.flatnonzero(np.all((voxel >= core.start) & (voxel < core.stop), axis=1))
        if len(here):
            z, y, x = (voxel[here, axis] - core.start[axis] for axis in range(3))
            found[here] = labels.read(core)[z, y, x]
    return found


def steps_scored_here(run: Run, history: RunStep, box: Box) -> list[RunStep]:
    """Return the steps that score segmentations made from the merge history on voxels of the box."""
    made = {history.name}
    found = []
    for step in run.steps.values():
        if made & {ref.partition(".")[0] for ref in step.reads.values()}:
            made.add(step.name)
            overlaps = not (Box.parse(step.bounds_zyx) & box).is_empty
            found += [step] if step.stage == "evaluate_segmentation" and overlaps else []
    return found
