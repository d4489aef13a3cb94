"""Clefts: connected components of the cleft evidence, exact across blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.errors import SpecError
from bouton.geometry import NM, ZYX, nm_to_voxels, voxel_ids
from bouton.segment.components import face_pairs, join, label_components, relabel
from bouton.stage import BlockPart, BlockTask, Layer, MergePart, MergeTask, Output, Stage, Table, WholePart, WholeTask
from bouton.synapse.clefts import at_least, bridge, component_rows, merge_components, select


@dataclass(frozen=True)
class Params:
    """Parameters of ``clefts``.

    Attributes
    ----------
    low : float
        Voxels of at least this cleft probability, in (0, 1], form components.
    high : float
        A component counts only if one of its voxels reaches this probability, in [low, 1].
    min_volume_nm3 : float
        Smaller components are dropped.
    gap_nm : float
        Cleft voxels at most about this far apart are one cleft even where no cleft voxel connects them.
    """

    low: float = 0.5
    high: float = 0.7
    min_volume_nm3: float = 100_000.0
    gap_nm: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high <= 1:
            raise SpecError(f"low = {self.low}, high = {self.high}", expected="0 < low <= high <= 1")
        if self.min_volume_nm3 < 0 or self.gap_nm < 0:
            raise SpecError(
                f"min_volume_nm3 = {self.min_volume_nm3}, gap_nm = {self.gap_nm}", expected="neither below 0"
            )


def _reach(params: Params, voxel_size_nm: NM) -> ZYX:
    return nm_to_voxels(params.gap_nm / 2, voxel_size_nm)


def _label(task: BlockTask) -> Output:
    evidence = task.read("synapse_evidence")[0]
    core = task.core.within(task.box())
    mask = at_least(evidence, task.params.low)
    grown = bridge(mask, task.params.gap_nm, task.voxel_size_nm)[core.slices]
    labels = label_components(grown, task.core, task.shape)
    rows = component_rows(labels, mask[core.slices], evidence[core.slices], voxel_ids(task.core, task.shape))
    return Output(layers={"_components": labels}, tables={"_component_sizes": rows})


def _touch(task: BlockTask) -> Output:
    a, b = face_pairs(task.read("_components"), task.core.within(task.box()))
    return Output(tables={"_touching": {"a": a, "b": b}})


def _join(task: MergeTask) -> Output:
    pairs = [list(table.values()) for table in task.rows("_touching", "_roots")]
    ids, roots = join(np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs]))
    return Output(tables={"_roots": {"id": ids, "root": roots}})


def _select(task: WholeTask) -> Output:
    parts, roots = task.table("_component_sizes"), task.table("_roots")
    whole = merge_components(parts, relabel(parts["component"], roots["id"], roots["root"]))
    keep = select(whole, task.params.high, task.params.min_volume_nm3 / float(np.prod(task.voxel_size_nm)))
    final = np.where(keep, whole["first"], np.uint64(0))
    components = np.unique(np.concatenate([parts["component"], roots["id"], roots["root"]]))
    at = np.searchsorted(whole["component"], relabel(components, roots["id"], roots["root"]))
    order = np.argsort(final[keep])
    sizes = {"id": final[keep][order], "size_voxels": whole["size_voxels"][keep][order]}
    return Output(tables={"_final": {"component": components, "cleft": final[at]}, "cleft_sizes": sizes})


def _relabel(task: BlockTask) -> Output:
    final = task.table("_final")
    clefts = relabel(task.read("_components"), final["component"], final["cleft"])
    if task.params.gap_nm > 0:
        clefts[~at_least(task.read("synapse_evidence")[0], task.params.low)] = 0
    return Output(layers={"clefts": clefts})


_LABELS = Layer("uint64", kind="labels")

STAGE = Stage(
    version=1,
    params=Params,
    reads={"synapse_evidence": Layer("uint8", channels=4, kind="probability")},
    writes=("clefts", "cleft_sizes"),
    parts=(
        BlockPart(
            "label",
            _label,
            layers={"_components": _LABELS},
            tables={
                "_component_sizes": Table(
                    {"component": "uint64", "size_voxels": "int64", "peak": "int64", "first": "uint64"}
                )
            },
            halo=_reach,
            bytes_per_voxel=64,
        ),
        BlockPart(
            "touch",
            _touch,
            tables={"_touching": Table({"a": "uint64", "b": "uint64"})},
            halo=lambda params, voxel_size_nm: (1, 1, 1),
            bytes_per_voxel=16,
        ),
        MergePart("join", _join, ("_touching",), {"_roots": Table({"id": "uint64", "root": "uint64"})}),
        WholePart(
            "select",
            _select,
            tables={
                "_final": Table({"component": "uint64", "cleft": "uint64"}),
                "cleft_sizes": Table({"id": "uint64", "size_voxels": "int64"}),
            },
        ),
        BlockPart("relabel", _relabel, layers={"clefts": _LABELS}, bytes_per_voxel=32),
    ),
)
