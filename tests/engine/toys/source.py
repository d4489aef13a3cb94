"""A layer that is a pure function of the coordinates, and a table of its blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.geometry import voxel_ids
from bouton.stage import BlockPart, BlockTask, Layer, Output, Stage, Table


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    factor : int
        Multiplies the voxel ids.
    """

    factor: int = 3


def run(task: BlockTask) -> Output:
    values = (voxel_ids(task.core, task.shape) * np.uint64(task.params.factor) % np.uint64(251)).astype(np.uint8)
    count = np.array([values.size], dtype=np.int64)
    return Output({"image": values}, {"_voxels": {"count": count}})


STAGE = Stage(
    version=1,
    params=Params,
    reads={},
    writes=("image",),
    parts=(BlockPart("draw", run, {"image": Layer("uint8")}, {"_voxels": Table({"count": "int64"})}),),
)
