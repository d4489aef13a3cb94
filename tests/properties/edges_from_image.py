"""A private stage: affinities out of a smoothed image, without a network, from a halo of (1, 3, 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.stage import BlockPart, BlockTask, Layer, Output, Stage

HALO = (1, 3, 3)
REACH = 2


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    dark : int
        Grey value at which an affinity is 0.
    """

    dark: int = 60


def run(task: BlockTask) -> Output:
    around, core = task.box(), task.core
    bright = _smooth(task.read("image").astype(np.int64))
    here = core.within(around)
    found = np.zeros((3, *core.shape), dtype=np.uint8)
    for axis in range(3):
        back = tuple(-1 if a == axis else 0 for a in range(3))
        before = np.roll(bright, 1, axis)
        values = np.clip((np.minimum(bright, before) - task.params.dark) * 2, 0, 255)[here.slices]
        if core.start[axis] + back[axis] >= task.bounds.start[axis]:
            found[axis] = values
        else:
            inside = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
            found[(axis, *inside)] = values[inside]
    return Output({"affinities": found})


def _smooth(image: np.ndarray) -> np.ndarray:
    padded = np.pad(image, ((0, 0), (REACH, REACH), (REACH, REACH)), mode="edge")
    height, width = image.shape[1:]
    size = 2 * REACH + 1
    return sum(padded[:, y : y + height, x : x + width] for y in range(size) for x in range(size)) // size**2


STAGE = Stage(
    version=1,
    params=Params,
    reads={"image": Layer("uint8")},
    writes=("affinities",),
    parts=(
        BlockPart(
            "edges",
            run,
            {"affinities": Layer("uint8", channels=3, kind="affinities")},
            halo=lambda params, voxel_size_nm: HALO,
        ),
    ),
)
