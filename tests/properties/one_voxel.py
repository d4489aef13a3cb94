"""A private stage: the image with one voxel inverted."""

from __future__ import annotations

from dataclasses import dataclass

from bouton.stage import BlockPart, BlockTask, Layer, Output, Stage


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    at : (z, y, x)
        The voxel; outside of the image: none.
    """

    at: tuple[int, int, int] = (-1, -1, -1)


def run(task: BlockTask) -> Output:
    image = task.read("image")
    place = tuple(a - b for a, b in zip(task.params.at, task.core.start, strict=True))
    if all(0 <= a < size for a, size in zip(place, image.shape, strict=True)):
        image[place] ^= 0xFF
    return Output({"touched": image})


STAGE = Stage(
    version=1,
    params=Params,
    reads={"image": Layer("uint8")},
    writes=("touched",),
    parts=(BlockPart("touch", run, {"touched": Layer("uint8")}),),
)
