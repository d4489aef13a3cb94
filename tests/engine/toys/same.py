"""Adds one to an image and calls the result image, too; fails in the block at the origin if asked."""

from __future__ import annotations

from dataclasses import dataclass

from bouton.stage import BlockPart, BlockTask, Layer, Output, Stage


@dataclass(frozen=True)
class Params:
    """fails: whether the first block fails."""

    fails: bool = False


def run(task: BlockTask) -> Output:
    if task.params.fails and task.core.start == (0, 0, 0):
        raise ValueError("a poison block")
    return Output({"image": task.read("image") + 1})


STAGE = Stage(
    version=1,
    params=Params,
    reads={"image": Layer("uint8")},
    writes=("image",),
    parts=(BlockPart("add", run, {"image": Layer("uint8")}),),
)
