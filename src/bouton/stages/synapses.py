"""Synapses: the partners, position, size, score and type of every cleft."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bouton.errors import SpecError
from bouton.geometry import NM, ZYX, centres_nm, nm_to_voxels
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
    WholePart,
    WholeTask,
)
from bouton.synapse.ownership import owners
from bouton.synapse.partners import choose, nearest_of, nearest_voxels, voxel_positions
from bouton.synapse.sums import cleft_sums, side_sums
from bouton.synapse.tables import concatenate, sum_rows


@dataclass(frozen=True)
class Params:
    """Parameters of ``synapses``.

    Attributes
    ----------
    reach_nm : float
        Segments are looked for up to this far from the cleft.
    unsure : float
        The type is ``unknown`` where the mean probability of excitatory is nearer to 0.5 than this, in [0, 0.5].
    """

    reach_nm: float = 100.0
    unsure: float = 0.0

    def __post_init__(self) -> None:
        if self.reach_nm < 0:
            raise SpecError(f"reach_nm = {self.reach_nm}", expected="at least 0")
        if not 0 <= self.unsure <= 0.5:
            raise SpecError(f"unsure = {self.unsure}", expected="0 to 0.5")


def _reach(params: Params, voxel_size_nm: NM) -> ZYX:
    return nm_to_voxels(params.reach_nm, voxel_size_nm)


def _owners(task: BlockTask) -> np.ndarray:
    return owners(task.read("clefts"), task.core.within(task.box()), task.params.reach_nm, task.voxel_size_nm)


def _segmentation(task: BlockTask) -> np.ndarray:
    return task.volumes["segmentation"].read(task.core).astype(np.uint64, copy=False)


def _collect(task: BlockTask) -> Output:
    evidence = task.volumes["synapse_evidence"].read(task.core)
    clefts = cleft_sums(task.volumes["clefts"].read(task.core), evidence, task.core)
    sides = side_sums(_owners(task), _segmentation(task), evidence, task.core)
    return Output(tables={"_cleft_parts": clefts, "_side_parts": sides})


def _add(task: MergeTask) -> Output:
    return Output(
        tables={
            "_clefts": sum_rows(concatenate(task.rows("_cleft_parts", "_clefts")), ["id"]),
            "_sides": sum_rows(concatenate(task.rows("_side_parts", "_sides")), ["id", "segment"]),
        }
    )


def _choose(task: WholeTask) -> Output:
    return Output(tables={"_chosen": choose(task.table("_clefts")["id"], task.table("_sides"))})


def _snap(task: BlockTask) -> Output:
    space = (task.shape, task.voxel_size_nm)
    near = nearest_voxels(_owners(task), _segmentation(task), task.table("_chosen"), task.core, space)
    return Output(tables={"_near_parts": near})


def _nearest(task: MergeTask) -> Output:
    return Output(tables={"_near": nearest_of(concatenate(task.rows("_near_parts", "_near")))})


def _finish(task: WholeTask) -> Output:
    clefts, chosen, near = task.table("_clefts"), task.table("_chosen"), task.table("_near")
    count = clefts["voxels"].astype(np.float64)
    centre = centres_nm(np.stack([clefts[axis] / count for axis in "zyx"], axis=1), task.voxel_size_nm)
    positions = {side: _partner_nm(task, near, number, centre) for number, side in enumerate(("pre", "post"))}
    return Output(
        tables={
            "synapses": {
                "id": clefts["id"],
                **_columns("", centre),
                "pre_id": chosen["pre_id"],
                "post_id": chosen["post_id"],
                **_columns("pre_", positions["pre"]),
                **_columns("post_", positions["post"]),
                "size_voxels": clefts["voxels"],
                "score": clefts["cleft"] / count / 255,
                "type": _types(clefts["excitatory"] / count / 255, task.params.unsure),
            }
        }
    )


def _partner_nm(task: WholeTask, near: TableData, side: int, centre: np.ndarray) -> np.ndarray:
    """Return the partners' positions in nm (n, 3); where there is none, the centre of the cleft."""
    rows = near["side"] == side
    positions = centre.copy()
    at = np.searchsorted(task.table("_clefts")["id"], near["id"][rows])
    positions[at] = centres_nm(voxel_positions(near["voxel"][rows], task.shape), task.voxel_size_nm)
    return positions


def _types(excitatory: np.ndarray, unsure: float) -> np.ndarray:
    names = np.where(excitatory >= 0.5, "excitatory", "inhibitory").astype(object)
    names[np.abs(excitatory - 0.5) < unsure] = "unknown"
    return names


def _columns(prefix: str, positions_nm: np.ndarray) -> Mapping[str, np.ndarray]:
    return {f"{prefix}{axis}_nm": positions_nm[:, number] for number, axis in enumerate("zyx")}


def _ints(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "int64")


_CLEFTS = Table({"id": "uint64"} | _ints("voxels", "z", "y", "x", "cleft", "excitatory"))
_SIDES = Table({"id": "uint64", "segment": "uint64"} | _ints("voxels", "z", "y", "x", "pre", "post"))
_NEAR = Table({"id": "uint64", "side": "int64", "squared": "float64", "voxel": "uint64"})
_NM = ("z_nm", "y_nm", "x_nm")
SYNAPSES = Table(
    {"id": "uint64"}
    | dict.fromkeys(_NM, "float64")
    | {"pre_id": "uint64", "post_id": "uint64"}
    | {f"{side}_{name}": "float64" for side in ("pre", "post") for name in _NM}
    | {"size_voxels": "int64", "score": "float64", "type": "str"}
)
_CHOSEN = Table(
    {"id": "uint64", "pre_id": "uint64", "post_id": "uint64"}
    | {f"{side}_{axis}": "float64" for side in ("pre", "post") for axis in "zyx"}
)

STAGE = Stage(
    version=1,
    params=Params,
    reads={
        "clefts": Layer("uint64", kind="labels"),
        "segmentation": Layer(("uint64", "uint32"), kind="labels"),
        "synapse_evidence": Layer("uint8", channels=4, kind="probability"),
    },
    writes=("synapses",),
    parts=(
        BlockPart(
            "collect",
            _collect,
            tables={"_cleft_parts": _CLEFTS, "_side_parts": _SIDES},
            halo=_reach,
            bytes_per_voxel=64,
        ),
        MergePart("add", _add, ("_cleft_parts", "_side_parts"), {"_clefts": _CLEFTS, "_sides": _SIDES}),
        WholePart("choose", _choose, tables={"_chosen": _CHOSEN}),
        BlockPart("snap", _snap, tables={"_near_parts": _NEAR}, halo=_reach, bytes_per_voxel=48),
        MergePart("nearest", _nearest, ("_near_parts",), {"_near": _NEAR}),
        WholePart("finish", _finish, tables={"synapses": SYNAPSES}),
    ),
)
