"""The run that ``chaos.py`` disturbs: real voxels, every shape with blocks, and a note of every block that begins.

python benchmarks/chaos_run.py FLOW.yaml RUNS EXECUTOR WORKERS        one coordinator, as ``bouton run`` is one

EXECUTOR may be the address of a Dask scheduler.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bouton.cluster import Cluster
from bouton.engine import run_workflow
from bouton.engine.cluster import dask_executor
from bouton.engine.ledger import Ledger
from bouton.geometry import Box, Grid
from bouton.spec import load_workflow
from bouton.volume import checksum, open_volume
from bouton.volume.run_folder import open_run

SHAPE = (18, 128, 128)
BLOCK = (9, 16, 32)
LARGE = [18, 64, 64]
RETRIES = 50
STAGE = '''"""Affinities of an image by its differences, blocks and a merge; every task notes when it begins."""

import os
import time
from dataclasses import dataclass

import numpy as np

from bouton.stage import BlockPart, BlockTask, Layer, MergePart, MergeTask, Output, Stage, Table


@dataclass(frozen=True)
class Params:
    """What a task does besides.

    Attributes
    ----------
    marks : str
        The file of notes: part, lower corner, process, seconds of the monotonic clock.
    seconds : float
        How long a block sleeps.
    """

    marks: str = ""
    seconds: float = 0.0


def note(params, part, box):
    corner = "-".join(str(a) for a in (*box.start, *box.stop))
    line = f"{part} {corner} {os.getpid()} {time.monotonic()}\\n"
    handle = os.open(params.marks, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


def differences(task: BlockTask) -> Output:
    note(task.params, "differences", task.core)
    time.sleep(task.params.seconds)
    box = task.box()
    image = task.read("image").astype(np.int16)
    found = np.zeros((3, *task.core.shape), np.uint8)
    for channel in range(3):
        step = tuple(-int(axis == channel) for axis in range(3))
        inside = (task.core.shift(step) & box).shift(tuple(-a for a in step))
        here, there = image[inside.within(box).slices], image[inside.shift(step).within(box).slices]
        target = (channel, *inside.within(task.core).slices)
        found[target] = 255 - np.minimum(np.abs(here - there) * 4, 255).astype(np.uint8)
    value, count = np.unique(found, return_counts=True)
    rows = {"value": value.astype(np.uint64), "count": count.astype(np.int64)}
    note(task.params, "end", task.core)
    return Output({"affinities": found}, {"_values": rows})


def total(task: MergeTask) -> Output:
    note(task.params, "total", task.box)
    values = np.concatenate([next(iter(child.values()))["value"] for child in task.children])
    counts = np.concatenate([next(iter(child.values()))["count"] for child in task.children])
    value, place = np.unique(values, return_inverse=True)
    return Output(tables={"values": {"value": value, "count": np.bincount(place, counts, len(value)).astype(np.int64)}})


VALUES = Table({"value": "uint64", "count": "int64"})
STAGE = Stage(
    version=1,
    params=Params,
    reads={"image": Layer("uint8")},
    writes=("affinities", "values"),
    parts=(
        BlockPart("differences", differences, {"affinities": Layer("uint8", channels=3, kind="affinities")},
                  {"_values": VALUES}, halo=lambda params, size: (1, 1, 1)),
        MergePart("total", total, ("_values",), {"values": VALUES}),
    ),
)
'''


@dataclass
class Place:
    """A folder with the workflow of one trial, and its notes."""

    folder: Path
    marks: Path = field(init=False)
    flow: Path = field(init=False)

    def __post_init__(self) -> None:
        self.marks, self.flow = self.folder / "marks", self.folder / "flow.yaml"

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / "runs" / "chaos"

    def notes(self) -> list[tuple[str, int, float]]:
        """Return the notes: task, process, seconds of the monotonic clock."""
        if not self.marks.exists():
            return []
        rows = (line.split() for line in self.marks.read_text().splitlines())
        return [(f"{row[0]} {row[1]}", int(row[2]), float(row[3])) for row in rows if len(row) == 4]

    def starts(self) -> list[tuple[str, int, float]]:
        """Return the notes of tasks that begin."""
        return [row for row in self.notes() if not row[0].startswith("end ")]

    def committed(self) -> set[str]:
        """Return the blocks that stand in the ledger, as their notes name them."""
        found = set()
        for path in self.run.glob("affinities/*/ledger.sqlite"):
            with Ledger(path, readonly=True) as ledger:
                found |= {f"differences {_corner(row.task)}" for row in ledger.outputs() if row.part == "differences"}
        return found


def _corner(task: str) -> str:
    core = Grid(Box.of_shape(SHAPE), BLOCK).core(tuple(int(i) for i in task.split("-")))
    return "-".join(str(a) for a in (*core.start, *core.stop))


def real_image(data: Path | None) -> tuple[np.ndarray, str]:
    """Return an image of :data:`SHAPE`, uint8, of mouse cortex (BOUTON_DATA), else noise; and what it is."""
    data = data or Path(os.environ.get("BOUTON_DATA", Path(__file__).parents[2] / "shared" / "data"))
    path = data / "misc_em_raw" / "pinky_mito_sample1_input.h5"
    if path.exists():
        return open_volume(path, "main", voxel_size_nm=(40, 7.16, 7.16))[tuple(slice(n) for n in SHAPE)], "mouse cortex"
    return np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8), "noise (no real data here)"


def prepare(folder: Path, image: np.ndarray, seconds: float) -> Place:
    """Write image, stage and workflow into a new folder."""
    folder.mkdir(parents=True)
    place = Place(folder)
    np.save(folder / "image.npy", image)
    (folder / "differences.py").write_text(STAGE)
    merged = {"fragments": "fragments", "merges": "agglomeration.merges"}
    both = {"affinities": "affinities", "fragments": "fragments"}
    steps = {
        "affinities": {
            "stage": "differences.py",
            "reads": {"image": "image"},
            "params": {"marks": str(place.marks), "seconds": seconds},
        },
        "fragments": {"stage": "fragments", "reads": {"affinities": "affinities"}, "block_zyx": LARGE},
        "agglomeration": {"stage": "agglomeration", "reads": both, "block_zyx": LARGE},
        "segmentation": {"stage": "segmentation", "reads": merged, "block_zyx": LARGE},
    }
    data = {"image": {"path": "image.npy", "voxel_size_nm": [40, 7, 7]}}
    flow = {"name": "chaos", "block_zyx": list(BLOCK), "data": data, "steps": steps}
    place.flow.write_text(json.dumps(flow))  # JSON is YAML
    return place


def checksums(run: Path) -> dict[str, str]:
    """Return the checksum of every file that a step wrote, computed anew; raise where a ledger says another."""
    found = {}
    for name, entry in open_run(run).steps.items():
        root = run / entry.folder
        with Ledger(root / "ledger.sqlite", readonly=True) as ledger:
            for row in ledger.outputs():
                found[f"{name}/{row.file.path}"] = checksum(root / row.file.path)
                if found[f"{name}/{row.file.path}"] != row.file.checksum:
                    raise SystemExit(f"{root / row.file.path} is not what the ledger says")
    return found


def main() -> None:
    """Run the workflow once, as one coordinator; end with status 0 if it is done."""
    flow, runs, executor, workers = sys.argv[1:]
    pool = dask_executor(Cluster(kind="address", address=executor), Path(runs)) if "://" in executor else executor
    summary = run_workflow(load_workflow(Path(flow)), Path(runs), pool, int(workers), retries=RETRIES)
    if summary.state != "done":
        sys.stderr.write(json.dumps([str(failure) for failure in summary.failures[:5]]) + "\n")
    sys.exit(0 if summary.state == "done" else 4)


if __name__ == "__main__":
    main()
