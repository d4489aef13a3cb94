"""Scores of a segmentation against the truth, and its largest errors with a place for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bouton.errors import SpecError
from bouton.evaluate.borders import border_halo, without_borders
from bouton.evaluate.contingency import as_labels
from bouton.evaluate.error_sums import (
    CONTACT_COLUMNS,
    PART_COLUMNS,
    add_sums,
    contacts,
    contingency,
    part_sums,
    swapped,
)
from bouton.evaluate.neuron_errors import (
    MERGE_COLUMNS,
    MERGE_NAMES,
    SPLIT_COLUMNS,
    SPLIT_NAMES,
    add_places,
    merge_errors,
    split_errors,
)
from bouton.evaluate.scores import SCORE_COLUMNS, score_table, segmentation_scores
from bouton.geometry import NM, ZYX, Box, Grid
from bouton.stage import (
    BlockPart,
    BlockTask,
    Layer,
    MergePart,
    MergeTask,
    Output,
    Stage,
    Table,
    TableData,
    TableReader,
    Task,
    VolumeReader,
    WholePart,
    WholeTask,
)


@dataclass(frozen=True)
class Params:
    """Parameters of ``evaluate_segmentation``. Voxels whose truth is 0 are left out, all others count.

    Attributes
    ----------
    border_nm : float
        Voxels at most this far from a border between true objects of the same section are left out, too: CREMI's
        mask. 0 leaves none out.
    errors_listed : int
        Rows of ``split_errors`` and of ``merge_errors`` at the most.
    """

    border_nm: float = 0.0
    errors_listed: int = 100

    def __post_init__(self) -> None:
        if not 0 <= self.border_nm < float("inf") or self.errors_listed < 0:
            raise SpecError(
                f"border_nm = {self.border_nm}, errors_listed = {self.errors_listed}", expected="neither below 0",
                fix="border_nm: 0 counts every labelled voxel",
            )  # fmt: skip


_BLOCK_TABLES = {"_part_sums": PART_COLUMNS, "_split_sums": CONTACT_COLUMNS, "_merge_sums": CONTACT_COLUMNS}
_NODE_TABLES = {"_parts": PART_COLUMNS, "_split_contacts": CONTACT_COLUMNS, "_merge_contacts": CONTACT_COLUMNS}


def evaluate_volumes(
    volumes: Mapping[str, VolumeReader], bounds: Box, voxel_size_nm: NM, params: Params, block_zyx: ZYX
) -> dict[str, TableData]:
    """Return the stage's tables for volumes ``truth`` and ``segmentation`` of one shape, read block by block."""
    shape = _shape(volumes["truth"])
    values = (params, bounds, shape, voxel_size_nm, volumes)
    halo = _reach(params, voxel_size_nm)
    sums: list[TableData] = []
    waiting: list[dict[str, TableData]] = []
    grid = Grid(bounds, block_zyx)
    for index in grid:
        task = BlockTask(*values, _reader({}), core=grid.core(index), halo=halo)
        waiting.append(dict(_measure(task).tables))
        if len(waiting) == 16:
            sums, waiting = _sum(sums, waiting), []
    tables = dict(zip(_NODE_TABLES, _sum(sums, waiting), strict=True))
    return dict(_score(WholeTask(*values, _reader(tables))).tables)


def _sum(sums: Sequence[TableData], blocks: Sequence[Mapping[str, TableData]]) -> list[TableData]:
    found = []
    for i, (name, columns) in enumerate(_BLOCK_TABLES.items()):
        found.append(add_sums([*sums[i : i + 1], *(block[name] for block in blocks)], columns))
    return found


def _reader(tables: Mapping[str, TableData]) -> TableReader:
    def read(name: str, over: Box | None = None) -> TableData:
        return tables[name]

    return read


def _shape(volume: VolumeReader) -> ZYX:
    z, y, x = volume.shape[-3:]
    return z, y, x


def _reach(params: Params, voxel_size_nm: NM) -> ZYX:
    _, y, x = border_halo(params.border_nm, voxel_size_nm)
    return 1, max(1, y), max(1, x)


def _measure(task: BlockTask) -> Output:
    truth, segmentation = as_labels(task.read("truth"), task.read("segmentation"))
    box, inner = task.box(), task.core.within(task.box()).slices
    counted = np.ascontiguousarray(without_borders(truth, task.params.border_nm, task.voxel_size_nm)[inner])
    sums = part_sums(counted, np.ascontiguousarray(segmentation[inner]), task.core, task.shape)
    splits = contacts(truth, segmentation, task.core, box, task.shape)
    merges = contacts(segmentation, truth, task.core, box, task.shape)
    return Output(tables=dict(zip(_BLOCK_TABLES, (sums, splits, merges), strict=True)))


def _add(task: MergeTask) -> Output:
    pairs = zip(_BLOCK_TABLES, _NODE_TABLES.items(), strict=True)
    return Output(tables={node: add_sums(task.rows(leaf, node), columns) for leaf, (node, columns) in pairs})


def _score(task: WholeTask) -> Output:
    parts, listed = task.table("_parts"), task.params.errors_listed
    splits = split_errors(parts, task.table("_split_contacts"), listed)
    merges = merge_errors(swapped(parts), task.table("_merge_contacts"), listed)
    scores = segmentation_scores(contingency(parts), task.bounds.voxels)
    return Output(
        tables={
            "scores": score_table(scores),
            "split_errors": _placed(task, splits, ("truth", "segmentation"), SPLIT_NAMES),
            "merge_errors": _placed(task, merges, ("segmentation", "truth"), MERGE_NAMES),
        }
    )


def _placed(task: Task, errors: TableData, volumes: tuple[str, str], names: Mapping[str, str]) -> TableData:
    """Return errors with their places, under the stage's names; ``volumes`` hold the objects and the parts."""

    def read(box: Box) -> tuple[np.ndarray, np.ndarray]:
        objects, parts = (task.volumes[name].read(box) for name in volumes)
        return as_labels(objects, parts)

    rows = add_places(errors, read, task.bounds, task.shape, task.voxel_size_nm)
    return {names.get(name, name): values for name, values in rows.items()}


def _tables(columns: Mapping[str, Mapping[str, str]]) -> dict[str, Table]:
    return {name: Table(kinds) for name, kinds in columns.items()}


_LABELS = Layer(("uint64", "uint32", "uint16", "uint8", "int64", "int32"), kind="labels")

STAGE = Stage(
    version=2,
    params=Params,
    reads={"segmentation": _LABELS, "truth": _LABELS},
    writes=("scores", "split_errors", "merge_errors"),
    parts=(
        BlockPart("measure", _measure, tables=_tables(_BLOCK_TABLES), halo=_reach, bytes_per_voxel=40),
        MergePart("add", _add, tuple(_BLOCK_TABLES), _tables(_NODE_TABLES)),
        WholePart(
            "score",
            _score,
            tables={
                "scores": Table(SCORE_COLUMNS),
                "split_errors": Table(SPLIT_COLUMNS),
                "merge_errors": Table(MERGE_COLUMNS),
            },
        ),
    ),
)
