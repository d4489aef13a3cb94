"""Phantom: procedural tissue of any extent, with its true neurons, clefts, organelles and synapses.

Shape and voxel size are those of the workflow's grid.
"""

from __future__ import annotations

from dataclasses import asdict

from bouton.geometry import NM, ZERO, ZYX
from bouton.phantom import SYNAPSE_COLUMNS, PhantomParams, TissueParams, generate, join_rows
from bouton.stage import BlockPart, BlockTask, Layer, MergePart, MergeTask, Output, Stage, Table


def _phantom(params: TissueParams, voxel_size_nm: NM) -> PhantomParams:
    return PhantomParams(**asdict(params), voxel_size_nm=voxel_size_nm)


def _no_halo(params: TissueParams, voxel_size_nm: NM) -> ZYX:
    # The kernel refuses a voxel size that is none of microscopy's; here, before the first block runs.
    _phantom(params, voxel_size_nm)
    return ZERO


def _tissue(task: BlockTask) -> Output:
    made = generate(task.core, _phantom(task.params, task.voxel_size_nm))
    layers = {name: getattr(made, name) for name in _LAYERS}
    return Output(layers=layers, tables={"_synapse_rows": made.synapses})


def _gather(task: MergeTask) -> Output:
    return Output(tables={"synapses": join_rows(task.rows("_synapse_rows", "synapses"))})


_LAYERS = {
    "image": Layer("uint8"),
    "neuron_ids": Layer("uint64", kind="labels"),
    "clefts": Layer("uint64", kind="labels"),
    "mitochondria": Layer("uint8", kind="mask"),
    "vesicles": Layer("uint8", kind="mask"),
    "tissue": Layer("uint8", kind="mask"),
    "boundaries": Layer("uint8", kind="mask"),
    "mask": Layer("uint8", kind="mask"),
}
STAGE = Stage(
    version=3,
    params=TissueParams,
    reads={},
    writes=(*_LAYERS, "synapses"),
    parts=(
        BlockPart(
            name="tissue",
            run=_tissue,
            layers=_LAYERS,
            tables={"_synapse_rows": Table(SYNAPSE_COLUMNS)},
            halo=_no_halo,
            bytes_per_voxel=200.0,
        ),
        MergePart(name="gather", run=_gather, source=("_synapse_rows",), tables={"synapses": Table(SYNAPSE_COLUMNS)}),
    ),
)
