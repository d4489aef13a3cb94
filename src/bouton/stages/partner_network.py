"""partner_network: a network is shown each cleft in the image and tells its presynaptic and its postsynaptic cell.

It replaces the evidence in the table ``sides`` of stage synapse_sides; who is chosen is left to stage synapses. Each
cleft has one patch of its own, around its centre, whatever the blocks. After Turner et al. 2019,
doi:10.48550/arXiv.1904.09947.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.errors import SpecError
from bouton.geometry import ZYX, Box, nm_to_voxels
from bouton.learn.info import ModelInfo, info_bytes
from bouton.learn.partner_network import check_partner_network, network_sums, partner_masks
from bouton.learn.partner_sampling import patch_place
from bouton.learn.runners import PRECISIONS, Runner, Runtime
from bouton.learn.shipped import card_of, check_voxel_size, runner_of
from bouton.stage import Layer, ObjectPart, ObjectTask, Output, Stage, Table, TableData
from bouton.synapse.ownership import owners
from bouton.synapse.sums import CLEFT_COLUMNS, SIDE_COLUMNS


@dataclass(frozen=True)
class Params:
    """Parameters of ``partner_network``.

    Attributes
    ----------
    model : str
        Name of a partner network that comes with bouton, or a path to the folder of one that ``bouton train`` wrote.
    reach_nm : float
        Voxels up to this far from the cleft decide; that of synapse_sides.
    voxel_size_tolerance : float
        How far the image's voxel size may be from the model's, on any axis, as a fraction of it.
    runtime : str
        What runs the network: ``torch``, ``openvino`` (much faster; an extra), or ``cuda`` (a GPU).
    precision : str
        ``float32``; ``bfloat16`` with openvino and cuda, ``float16`` with cuda.
    """

    model: str = "partners-phantom"
    reach_nm: float = 100.0
    voxel_size_tolerance: float = 0.25
    runtime: str = "torch"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.reach_nm < 0 or not self.voxel_size_tolerance >= 0:
            raise SpecError(
                f"reach_nm = {self.reach_nm}, voxel_size_tolerance = {self.voxel_size_tolerance}",
                expected="neither below 0",
            )
        if self.precision == "int8":
            raise SpecError("precision 'int8'", expected=", ".join(p for p in PRECISIONS["openvino"] if p != "int8"))
        Runtime(self.runtime, self.precision)


def _info(params: Params) -> ModelInfo:
    info = card_of(params.model).prediction
    check_partner_network(info)
    return info


def _files(params: Params) -> tuple[bytes, ...]:
    return info_bytes(_info(params)), card_of(params.model).weights.sha256.encode()


def _assign(task: ObjectTask) -> Output:
    params: Params = task.params
    runner = runner_of(params.model, Runtime(params.runtime, params.precision))
    check_voxel_size(params.model, runner.info, task.voxel_size_nm, params.voxel_size_tolerance)
    sums = _rows_of(task.table("cleft_sums"), task.ids)
    sides = _rows_of(task.table("sides"), task.ids, "segment")
    begins = np.searchsorted(sides["id"], sums["id"], side="left")
    ends = np.searchsorted(sides["id"], sums["id"], side="right")
    replaced = sides | {"pre": np.zeros_like(sides["pre"]), "post": np.zeros_like(sides["post"])}
    for row, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        if begin < end:
            mine = {name: values[begin:end] for name, values in sides.items()}
            centre = [int(sums[axis][row] // sums["voxels"][row]) for axis in "zyx"]
            found = _evidence(task, runner, (sums["id"][row], centre), mine)
            replaced["pre"][begin:end], replaced["post"][begin:end] = found
    return Output(tables={"sides": replaced})


def _evidence(
    task: ObjectTask, runner: Runner, cleft: tuple[np.uint64, list[int]], rows: TableData
) -> tuple[np.ndarray, np.ndarray]:
    number, centre = cleft
    box = patch_box(centre, runner.info.tile_zyx, task.bounds)
    around = box.grow(nm_to_voxels(task.params.reach_nm, task.voxel_size_nm)) & task.bounds
    core, clefts = box.within(around), task.volumes["clefts"].read(around)
    beside = owners(clefts, core, task.params.reach_nm, task.voxel_size_nm) == number
    masks = partner_masks(runner, task.volumes["image"].read(box), clefts[core.slices] == number)
    return network_sums(masks, task.volumes["segmentation"].read(box), beside, rows)


def patch_box(centre: list[int], tile: ZYX, bounds: Box) -> Box:
    """Return the box of one tile around a voxel, moved inside of the bounds where it can be, else cut off there."""
    place = patch_place([c - s for c, s in zip(centre, bounds.start, strict=True)], tile, bounds.shape)
    z, y, x = place
    return Box((z.start, y.start, x.start), (z.stop, y.stop, x.stop)).shift(bounds.start)


def _rows_of(table: TableData, ids: np.ndarray, key: str = "id") -> TableData:
    """Return the rows of a table whose id is among ``ids``, sorted by id, then ``key``."""
    rows = np.flatnonzero(np.isin(table["id"], ids))
    rows = rows[np.lexsort((table[key][rows], table["id"][rows]))]
    return {name: values[rows] for name, values in table.items()}


_SIDES = Table(SIDE_COLUMNS | {"point": "uint64"})

STAGE = Stage(
    version=1,
    params=Params,
    reads={
        "image": Layer("uint8", kind="image"),
        "clefts": Layer("uint64", kind="labels"),
        "segmentation": Layer(("uint64", "uint32"), kind="labels"),
        "sides": _SIDES,
        "cleft_sums": Table(CLEFT_COLUMNS),
    },
    writes=("sides",),
    parts=(ObjectPart("assign", _assign, ids=("cleft_sums", "id"), tables={"sides": _SIDES}, ids_per_task=256),),
    files=_files,
)
