"""A stage whose block at one place ends its process in the way that the parameters say: for tests, never for labs."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bouton.geometry import voxel_ids
from bouton.stage import BlockPart, BlockTask, Layer, MergePart, MergeTask, Output, Stage, Table


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    how : str
        What happens in the block that starts at ``at``.
    at : (z, y, x)
    notes : str
        A folder: the block leaves a file with its process id there; from the second time on it behaves.
    seconds : float
        How long a block takes.
    """

    how: str = ""
    at: tuple[int, int, int] = (4, 0, 0)
    notes: str = ""
    seconds: float = 0.0


def run(task: BlockTask) -> Output:
    time.sleep(task.params.seconds)
    if task.params.how and task.core.start == task.params.at and not _seen(task.params.notes):
        PERILS[task.params.how]()
    values = (voxel_ids(task.core, task.shape) % np.uint64(251)).astype(np.uint8)
    return Output({"image": values}, {"_rows": {"z": np.array([task.core.start[0]], np.int64)}})


def _seen(notes: str) -> bool:
    if not notes:
        return False
    found = len(list(Path(notes).iterdir()))
    (Path(notes) / f"{found}-{os.getpid()}").write_text("")
    return found > 0


def segfault() -> None:
    ctypes.string_at(0)


def out_of_memory() -> None:
    """Ask for 2 GiB where 200 MiB more are allowed."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + (200 << 20), before[1]))
    try:
        np.ones(2 << 30, np.uint8)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def eat_memory() -> None:
    """Take memory until the kernel ends the process (in a cgroup with a limit)."""
    kept = []
    for _ in range(400):
        kept.append(np.ones(10 << 20, np.uint8))


def sleep_like_a_laptop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


PERILS = {
    "segfault": segfault,
    "abort": os.abort,
    "leave": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "out of memory": out_of_memory,
    "eat memory": eat_memory,
    "stop": sleep_like_a_laptop,
}


def merge(task: MergeTask) -> Output:
    return Output(tables={"rows": {"z": np.sort(np.concatenate([next(iter(c.values()))["z"] for c in task.children]))}})


ROWS = Table({"z": "int64"})
STAGE = Stage(
    version=1,
    params=Params,
    reads={},
    writes=("image", "rows"),
    parts=(
        BlockPart("draw", run, {"image": Layer("uint8")}, {"_rows": ROWS}),
        MergePart("collect", merge, ("_rows",), {"rows": ROWS}),
    ),
)
