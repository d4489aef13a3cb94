"""Phantom: procedural tissue of any extent, with its true neurons, clefts, organelles and synapses."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from bouton.geometry import NM
from bouton.phantom import SYNAPSE_COLUMNS, PhantomParams, generate
from bouton.stage import BlockPart, BlockTask, Layer, MergePart, MergeTask, Output, Stage, Table


@dataclass(frozen=True)
class Params:
    """Parameters of ``phantom``; shape and voxel size are those of the workflow's grid.

    Attributes
    ----------
    seed : int
        0 <= seed < 2**63. Another seed is another piece of tissue.
    synapses_per_um3 : float
        Synapses aimed at per um^3, 0 to 2.
    somata_per_mm3 : float
        Somata aimed at per mm^3.
    vessels : bool
        Whether capillaries cross the tissue.
    noise : float
        Standard deviation of the image noise in grey values.
    blur_nm : float
        Standard deviation of the lateral blur in nm.
    contrast_drift : float
        Relative change of brightness and contrast between sections, 0 to 1.
    defects : tuple of str
        Any of ``missing``, ``fold``, ``crack``, ``charging``, ``jitter``.
    defect_rate : float
        Fraction of the sections that each chosen defect strikes (jitter strikes all).
    """

    seed: int = 1
    synapses_per_um3: float = 1.0
    somata_per_mm3: float = 60000.0
    vessels: bool = True
    noise: float = 9.0
    blur_nm: float = 6.0
    contrast_drift: float = 0.06
    defects: tuple[str, ...] = ()
    defect_rate: float = 0.04

    def __post_init__(self) -> None:
        self.phantom((30.0, 10.0, 10.0))

    def phantom(self, voxel_size_nm: NM) -> PhantomParams:
        """Return the kernel's parameters."""
        values = asdict(self) | {"defects": tuple(self.defects), "voxel_size_nm": voxel_size_nm}
        return PhantomParams(**values)


def _tissue(task: BlockTask) -> Output:
    made = generate(task.core, task.params.phantom(task.voxel_size_nm))
    layers = {name: getattr(made, name) for name in _LAYERS}
    return Output(layers=layers, tables={"_synapse_rows": made.synapses})


def _gather(task: MergeTask) -> Output:
    tables = [next(iter(child.values())) for child in task.children]
    rows = {name: np.concatenate([table[name] for table in tables]) for name in SYNAPSE_COLUMNS}
    order = np.argsort(rows["id"], kind="stable")
    return Output(tables={"synapses": {name: values[order] for name, values in rows.items()}})


_LAYERS = {
    "image": Layer("uint8"),
    "neuron_ids": Layer("uint64", kind="labels"),
    "clefts": Layer("uint64", kind="labels"),
    "mitochondria": Layer("uint8", kind="mask"),
    "mask": Layer("uint8", kind="mask"),
}
STAGE = Stage(
    version=1,
    params=Params,
    reads={},
    writes=(*_LAYERS, "synapses"),
    parts=(
        BlockPart(
            name="tissue",
            run=_tissue,
            layers=_LAYERS,
            tables={"_synapse_rows": Table(SYNAPSE_COLUMNS)},
            bytes_per_voxel=200.0,
        ),
        MergePart(name="gather", run=_gather, source=("_synapse_rows",), tables={"synapses": Table(SYNAPSE_COLUMNS)}),
    ),
)
