"""synapse_sides: what lies beside each cleft: sums per segment, contact faces per pair of segments, a point in each.

Everything that the choice of partners needs of the voxels: ``synapses`` chooses from these tables alone, again and
again, whatever becomes of the segments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.errors import SpecError
from bouton.geometry import NM, ZYX, Box, nm_to_voxels
from bouton.stage import BlockPart, BlockTask, Layer, MergePart, MergeTask, Output, Stage, Table, TableData
from bouton.synapse.closing import closed_ids, split
from bouton.synapse.ownership import owned
from bouton.synapse.points import nearest_of, nearest_voxels
from bouton.synapse.sums import (
    CLEFT_COLUMNS,
    SIDE_COLUMNS,
    TOUCHING_COLUMNS,
    Evidence,
    Place,
    cleft_sums,
    side_sums,
    touching_sums,
)
from bouton.synapse.tables import concatenate, sum_rows


@dataclass(frozen=True)
class Params:
    """Parameters of ``synapse_sides``.

    Attributes
    ----------
    reach_nm : float
        Segments are looked for up to this far from the cleft.
    """

    reach_nm: float = 100.0

    def __post_init__(self) -> None:
        if not 0 <= self.reach_nm <= 10_000:
            raise SpecError(f"reach_nm = {self.reach_nm}", expected="0 to 10000")


def _reach(params: Params, voxel_size_nm: NM) -> ZYX:
    return nm_to_voxels(params.reach_nm, voxel_size_nm)


def _reach_below(params: Params, voxel_size_nm: NM) -> ZYX:
    z, y, x = _reach(params, voxel_size_nm)
    return z + 1, y + 1, x + 1


def _collect(task: BlockTask) -> Output:
    clefts = task.read("clefts")
    below = Box(tuple(max(a - 1, b) for a, b in zip(task.core.start, task.bounds.start, strict=True)), task.core.stop)
    core = task.core.within(task.box())
    near = owned(clefts, below.within(task.box()), task.params.reach_nm, task.voxel_size_nm)
    if near.is_empty:
        return Output(tables={name: _empty(table) for name, table in _PARTS.items()})
    evidence = _evidence(task)
    segmentation = _segmentation(task, below)
    place = Place(task.core.start, tuple(a - b for a, b in zip(task.core.start, below.start, strict=True)))
    inside = cleft_sums(np.ascontiguousarray(clefts[core.slices]), evidence, task.core.start)
    sides = side_sums(near, segmentation, evidence, place)
    ids = np.union1d(inside["id"], sides["id"])
    return Output(
        tables={
            "_cleft_parts": inside,
            "_side_parts": sides,
            "_touching_parts": touching_sums(near, segmentation, place.offset),
            "_ids": {"id": ids, "blocks": np.ones(ids.size, dtype=np.int64)},
        }
    )


def _evidence(task: BlockTask) -> Evidence:
    """Return what the inputs say; vesicles take the place of the presynaptic channel."""
    fields: dict[str, np.ndarray] = {}
    if "synapse_evidence" in task.volumes:
        channels = task.volumes["synapse_evidence"].read(task.core)
        fields = dict(zip(("cleft", "pre", "post", "excitatory"), channels, strict=False))
    if "vesicles" in task.volumes:
        vesicles = task.volumes["vesicles"].read(task.core)
        fields["pre"] = vesicles if vesicles.ndim == 3 else vesicles[0]
    return Evidence(**fields)


def _segmentation(task: BlockTask, box: Box) -> np.ndarray:
    return task.volumes["segmentation"].read(box).astype(np.uint64, copy=False)


def _empty(table: Table) -> TableData:
    return {name: np.zeros(0, dtype=dtype) for name, dtype in table.columns.items()}


def _count(task: MergeTask) -> Output:
    """Count the blocks that have rows about each cleft; the root keeps the clefts of several."""
    ids = sum_rows(concatenate(task.rows("_ids", "_shared")), ["id"])
    if task.is_root:
        several = ids["blocks"] > 1
        ids = {name: values[several] for name, values in ids.items()}
    return Output(tables={"_shared": ids})


def _add(task: MergeTask) -> Output:
    """Add up what the blocks hold; keep the rows of clefts of which all blocks are here."""
    ids = sum_rows(concatenate(task.rows("_ids", "_open_ids")), ["id"])
    closed = closed_ids(ids, task.table("_shared"))
    tables: dict[str, TableData] = {"_open_ids": split(ids, closed)[1]}
    for kept, part, rest, keys in _SUMS:
        rows = sum_rows(concatenate(task.rows(part, rest)), keys)
        tables[kept], tables[rest] = split(rows, closed)
    return Output(tables=tables)


_SUMS = (
    ("cleft_sums", "_cleft_parts", "_open_clefts", ["id"]),
    ("_sums", "_side_parts", "_open_sides", ["id", "segment"]),
    ("touching", "_touching_parts", "_open_touching", ["id", "a", "b"]),
)


def _snap(task: BlockTask) -> Output:
    core = task.core.within(task.box())
    near = owned(task.read("clefts"), core, task.params.reach_nm, task.voxel_size_nm)
    if near.is_empty:
        return Output(tables={"_near_parts": _empty(_NEAR)})
    sides = sum_rows(task.table("_sums", task.core), ["id", "segment"])
    space = (task.shape, task.voxel_size_nm)
    found = nearest_voxels(near, _segmentation(task, task.core), sides, task.core.start, space)
    return Output(tables={"_near_parts": found})


def _nearest(task: MergeTask) -> Output:
    ids = sum_rows(concatenate(task.rows("_ids", "_far_ids")), ["id"])
    closed = closed_ids(ids, task.table("_shared"))
    rows, rest = split(nearest_of(concatenate(task.rows("_near_parts", "_near"))), closed)
    del rows["squared"]
    return Output(tables={"sides": rows, "_near": rest, "_far_ids": split(ids, closed)[1]})


CLEFT_SUMS, TOUCHING, _SIDE_SUMS = Table(CLEFT_COLUMNS), Table(TOUCHING_COLUMNS), Table(SIDE_COLUMNS)
SIDES = Table(SIDE_COLUMNS | {"point": "uint64"})
_NEAR = Table(SIDE_COLUMNS | {"squared": "float64", "point": "uint64"})
_IDS = Table({"id": "uint64", "blocks": "int64"})
_PARTS = {"_cleft_parts": CLEFT_SUMS, "_side_parts": _SIDE_SUMS, "_touching_parts": TOUCHING, "_ids": _IDS}

STAGE = Stage(
    version=1,
    params=Params,
    reads={
        "clefts": Layer("uint64", kind="labels"),
        "segmentation": Layer(("uint64", "uint32"), kind="labels"),
        "synapse_evidence": Layer("uint8", channels=(1, 4), kind="probability"),
        "vesicles": Layer("uint8", channels=(None, 1), kind="probability"),
    },
    optional=frozenset({"synapse_evidence", "vesicles"}),
    writes=("sides", "cleft_sums", "touching"),
    parts=(
        BlockPart("collect", _collect, tables=_PARTS, halo=_reach_below, bytes_per_voxel=48),
        MergePart("count", _count, ("_ids",), {"_shared": _IDS}),
        MergePart(
            "add",
            _add,
            tuple(_PARTS),
            {"_open_clefts": CLEFT_SUMS, "_open_sides": _SIDE_SUMS, "_open_touching": TOUCHING, "_open_ids": _IDS},
            kept={"_sums": _SIDE_SUMS, "cleft_sums": CLEFT_SUMS, "touching": TOUCHING},
        ),
        BlockPart("snap", _snap, tables={"_near_parts": _NEAR}, halo=_reach, bytes_per_voxel=40),
        MergePart(
            "nearest", _nearest, ("_near_parts", "_ids"), {"_near": _NEAR, "_far_ids": _IDS}, kept={"sides": SIDES}
        ),
    ),
)
