"""Copies the image; misbehaves at one place, in the way that the parameters say."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bouton.stage import BlockPart, BlockTask, Layer, MergePart, MergeTask, Output, Stage, Table


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    how : str
        What happens in the block that starts at ``at``.
    at : (z, y, x)
    marks : str
        A folder where the block notes its attempts; it behaves from the second one on if ``how`` starts with ``once``.
    seconds : float
        How long a block takes.
    """

    how: str = ""
    at: tuple[int, int, int] = (0, 0, 0)
    marks: str = ""
    seconds: float = 0.0


def run(task: BlockTask) -> Output:
    time.sleep(task.params.seconds)
    image = task.read("image")
    rows = {"z": np.array([task.core.start[0]], np.int64)}
    if task.core.start == task.params.at and not _behaves_now(task.params):
        image, rows = _misbehave(task.params.how.removeprefix("once-"), image, rows)
    return Output({"copy": image}, {"_rows": rows})


def _behaves_now(params: Params) -> bool:
    if not params.marks:
        return False
    marks = list(Path(params.marks).iterdir())
    (Path(params.marks) / str(len(marks))).write_text("")
    return params.how.startswith("once") and len(marks) > 0


def _misbehave(how: str, image: np.ndarray, rows: dict) -> tuple[np.ndarray, dict]:
    if how == "raise":
        raise ValueError("a poison block")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        raise SystemExit(0)
    if how == "leave":
        os._exit(0)
    if how == "flip":
        return image ^ 1, rows
    if how == "shape":
        return image[1:], rows
    if how == "dtype":
        return image.astype(np.uint16), rows
    if how == "column":
        return image, rows | {"w": rows["z"]}
    if how == "column dtype":
        return image, {"z": rows["z"].astype(np.float32)}
    if how == "length":
        return image, {"z": rows["z"][:, None]}
    return image, rows


def merge(task: MergeTask) -> Output:
    return Output(tables={"rows": {"z": np.sort(np.concatenate([next(iter(c.values()))["z"] for c in task.children]))}})


ROWS = Table({"z": "int64"})
STAGE = Stage(
    version=1,
    params=Params,
    reads={"image": Layer("uint8")},
    writes=("copy", "rows"),
    parts=(
        BlockPart("copy", run, {"copy": Layer("uint8")}, {"_rows": ROWS}),
        MergePart("collect", merge, ("_rows",), {"rows": ROWS}),
    ),
)
