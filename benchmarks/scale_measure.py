"""What benchmarks/scale.py measures: a probe of a workflow in 1 Tvoxel, the coordinator, this disk, rows of tables."""

from __future__ import annotations

import json
import math
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from bouton.engine import Plan, make_plan, run_workflow
from bouton.engine.context import make_context
from bouton.engine.forecast import forecast
from bouton.engine.probe import ProbeJob, probe_boxes, run_probe
from bouton.engine.samples import StepSamples
from bouton.geometry import ZYX, Box
from bouton.spec import Choices, Workflow, load_workflow
from bouton.stage import MergePart
from bouton.volume import part_file, read_table, write_table

PROBED = 1e12
LONG_S = 0.7
NOTHING = '''"""Blocks that do nothing, for a while."""

import time
from dataclasses import dataclass, replace

import numpy as np

from bouton.stage import BlockPart, Output, Stage, Table, WholePart


@dataclass(frozen=True)
class Params:
    """How long a block takes.

    Attributes
    ----------
    seconds : float
    """

    seconds: float = 0.0


def run(task):
    if task.params.seconds:
        time.sleep(task.params.seconds)
    return Output()


def end(task):
    return Output(tables={"rows": {"z": np.zeros(0, np.int64)}})


PARTS = (BlockPart("nothing", run), WholePart("end", end, {"rows": Table({"z": "int64"})}))
STAGE = Stage(1, Params, {}, ("rows",), PARTS)
'''


def blocks_on_a_side(voxels: float, block: Sequence[int]) -> int:
    """Return how many blocks a cube of blocks of about this many voxels has on a side."""
    return max(1, round((voxels / math.prod(block)) ** (1 / 3)))


def flow_of(path: Path, voxels: float, overrides: Sequence[str] = ()) -> Workflow:
    """Return the workflow over a grid of about this many voxels, with its own blocks."""
    block = load_workflow(path).steps[0].block
    shape = [b * blocks_on_a_side(voxels, block) for b in block]
    return load_workflow(path, Choices(overrides=(f"grid.shape_zyx={shape}", *overrides)))


def probe(path: Path, folder: Path, overrides: Sequence[str]) -> dict[str, StepSamples]:
    """Run a few real blocks of every step of the workflow on 1 Tvoxel, or return what an earlier call measured."""
    flow = flow_of(path, PROBED, overrides)
    shape = list(flow.shape)

    def restricted(box: Box) -> Workflow:
        return load_workflow(path, Choices(overrides=(f"grid.shape_zyx={shape}", *overrides), bounds=box))

    job = ProbeJob(flow, restricted, folder, 2)
    return run_probe(job, probe_boxes(flow, 2))


class Rows:
    """How many rows of each table a voxel has, counted in the files of the probe (its warming up included)."""

    def __init__(self, folder: Path) -> None:
        self._rows: dict[str, float] = {}
        self._bytes: dict[str, float] = {}
        self._voxels: dict[str, float] = {}
        for step in folder.glob("*/.probe/*/*/*/step.json"):
            box = Box.parse(json.loads(step.read_bytes())["bounds_zyx"])
            self._voxels[step.parents[1].name] = self._voxels.get(step.parents[1].name, 0) + box.voxels
            for path in [*step.parent.glob("*.parquet"), *step.parent.glob("[!_]*/*.parquet")]:
                name = path.stem if path.parent == step.parent else path.parent.name
                self._count(f"{step.parents[1].name}.{name}", path)

    def _count(self, name: str, path: Path) -> None:
        meta = pq.read_metadata(path)
        self._rows[name] = self._rows.get(name, 0) + meta.num_rows
        for group in range(meta.num_row_groups):
            columns = meta.row_group(group)
            widths = {"INT64": 8, "DOUBLE": 8, "INT32": 4, "FLOAT": 4, "BOOLEAN": 1}
            each = sum(widths.get(columns.column(i).physical_type, 64) for i in range(columns.num_columns))
            self._bytes[name] = self._bytes.get(name, 0) + each * columns.num_rows

    def per_voxel(self, name: str) -> float:
        """Return rows a voxel of table ``step.table``."""
        return self._rows.get(name, 0) / self._voxels.get(name.partition(".")[0], 1)

    def bytes_per_voxel(self, name: str) -> float:
        """Return bytes a voxel of a table in memory; a text counts 64."""
        return self._bytes.get(name, 0) / self._voxels.get(name.partition(".")[0], 1)


@dataclass(frozen=True)
class Coordinator:
    """What one coordinator takes a block that does nothing.

    ``lone_us`` is the processor time of a block that takes so long that a report and a commit tell of it alone.
    ``floor_bytes`` it holds without a block, ``plane_bytes`` a block in one face of the grid (what grows with the
    frontier, and no less than what any growth measured says).
    """

    cpu_us: float
    wall_us: float
    resume_us: float
    lone_us: float
    ledger_bytes: float
    floor_bytes: float
    plane_bytes: float
    sides: tuple[int, int]


def run_nothing(side: int, seconds: float = 0.0) -> dict[str, float]:
    """Run side^3 blocks that do nothing for so many seconds, here; return what it took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "nothing.py").write_text(NOTHING)
        grid = f"grid: {{shape_zyx: [{side}, {side}, {side}], voxel_size_nm: [10, 10, 10]}}\nblock_zyx: [1, 1, 1]\n"
        (folder / "nothing.yaml").write_text(
            f"name: nothing\n{grid}steps:\n  nothing: {{stage: nothing.py, params: {{seconds: {seconds}}}}}\n"
        )
        flow = load_workflow(folder / "nothing.yaml")
        wall, cpu = time.perf_counter(), time.process_time()
        summary = run_workflow(flow, folder / "runs", "processes", 2)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        summary.raise_if_failed()
        ledger = sum(path.stat().st_size for path in summary.folder.rglob("ledger.sqlite*"))
        again = time.perf_counter()
        run_workflow(flow, folder / "runs", "processes", 2)
        again = time.perf_counter() - again
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"wall": wall, "cpu": cpu, "ledger": ledger, "again": again, "peak": peak, "blocks": side**3}


def measure_coordinator(sides: tuple[int, int]) -> Coordinator:
    """Measure two grids, each in a process of its own; and a few blocks that take longer than a report waits."""
    small, large = (_nothing_apart(side, 0.0) for side in sides)
    few, more = (_nothing_apart(side, LONG_S) for side in (1, 3))
    lone_us = max(0.0, more["cpu"] - few["cpu"]) / (more["blocks"] - few["blocks"]) * 1e6
    blocks = large["blocks"] - small["blocks"]
    grown = max(0.0, large["peak"] - small["peak"]) / (sides[1] ** 2 - sides[0] ** 2)

    def each(name: str) -> float:
        return (large[name] - small[name]) / blocks

    floor = small["peak"] - grown * sides[0] ** 2
    times = (each("cpu") * 1e6, each("wall") * 1e6, each("again") * 1e6)
    return Coordinator(*times, lone_us, each("ledger"), floor, grown, sides)


def _nothing_apart(side: int, seconds: float) -> dict[str, float]:
    command = [sys.executable, __file__, str(side), str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@dataclass(frozen=True)
class Disk:
    """This disk and file system, and what finding the parts of a table in a folder costs."""

    files_s: float
    commits_s: float
    stat_s: float
    part_s: float
    scan_row_s: float


def measure_disk(folder: Path, files: int = 200, parts: int = 4_000) -> Disk:
    """Measure it; ``parts`` is the number of nodes of the table."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        started = time.perf_counter()
        for number in range(files):
            _write_durably(place, f"file{number}")
        files_s = files / (time.perf_counter() - started)
        started = time.perf_counter()
        for number in range(files):
            (place / f"file{number}").stat()
        stat_s = (time.perf_counter() - started) / files
        return Disk(
            files_s, _commits_s(place / "ledger", files), stat_s, _part_s(place / "table", parts), _scan_row_s()
        )


def _write_durably(place: Path, name: str) -> None:
    """Write 20 kB as the engine does: temporary file, fsync, link, fsync of the folder."""
    temporary = place / f".tmp-{name}"
    with temporary.open("wb") as file:
        file.write(bytes(20_000))
        file.flush()
        os.fsync(file.fileno())
    os.link(temporary, place / name)
    temporary.unlink()
    descriptor = os.open(place, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _commits_s(path: Path, count: int) -> float:
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE batches (columns BLOB)")
    started = time.perf_counter()
    for _ in range(count):
        with db:
            db.execute("INSERT INTO batches VALUES (?)", (bytes(4000),))
    seconds = time.perf_counter() - started
    db.close()
    return count / seconds


def _part_s(folder: Path, blocks: int) -> float:
    """Return the processor seconds, a node of the table, that a block takes to read its own part of it."""
    folder.mkdir()
    columns = {"id": "uint64"}
    write_table(folder / "one.parquet", {"id": np.zeros(1, np.uint64)}, columns)
    content, side, level, count = (folder / "one.parquet").read_bytes(), round(blocks ** (1 / 3)), 0, 0
    (folder / "one.parquet").unlink()
    whole = Box.of_shape((64 * side,) * 3)
    while True:
        size = 64 << level
        for z, y, x in np.ndindex(*(math.ceil(64 * side / size),) * 3):
            start = (z * size, y * size, x * size)
            box = Box(start, (start[0] + size, start[1] + size, start[2] + size)) & whole
            (folder / part_file(f"merge-level{level}-{z}-{y}-{x}", box)).write_bytes(content)
            count += 1
        level += 1
        if size >= 64 * side:
            break
    started = time.process_time()
    read_table(folder, Box.of_shape((64, 64, 64)))
    return (time.process_time() - started) / count


def _scan_row_s(rows: int = 1_000_000) -> float:
    """Return the processor seconds, a row, to find the rows of a box in a table with three columns of places."""
    places = np.random.default_rng(7).random((3, rows))
    started = time.process_time()
    inside = np.ones(rows, bool)
    for column in places:
        inside &= (column >= 0.4) & (column < 0.5)
    np.flatnonzero(inside)
    return (time.process_time() - started) / rows


@dataclass(frozen=True, eq=False)
class Measured:
    """All that the tables are made of."""

    path: Path
    overrides: tuple[str, ...]
    folder: Path
    workers: int
    samples: dict[str, StepSamples]
    rows: Rows
    coordinator: Coordinator
    disk: Disk

    def flow(self, voxels: float) -> Workflow:
        """Return the workflow over a volume."""
        return flow_of(self.path, voxels, self.overrides)

    @lru_cache(maxsize=256)  # noqa: B019
    def plan(self, voxels: float) -> Plan:
        """Return the forecast for a volume."""
        return make_plan(self.flow(voxels), self.folder, self.workers, self.samples)

    @cached_property
    def block(self) -> ZYX:
        """The workflow's block, in voxels."""
        return self.flow(PROBED).steps[0].block

    def blocks(self, voxels: float) -> float:
        """Return the blocks of a volume."""
        return voxels / math.prod(self.block)

    def keeping(self, number: int) -> tuple[MergePart, ...]:
        """Return the merges of a step whose nodes keep what is complete: what goes up grows with faces."""
        parts = self.flow(PROBED).steps[number].stage.parts
        return tuple(part for part in parts if isinstance(part, MergePart) and part.kept)

    @lru_cache(maxsize=64)  # noqa: B019
    def _root_bytes(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return volumes, as powers of ten, and the forecast memory of the largest node of those merges."""
        powers, found = np.arange(7.0, 16.01, 0.5), []
        for power in powers:
            flow = self.flow(10**power)
            step, samples = flow.steps[number], self.samples[flow.steps[number].name]
            stage = replace(step.stage, parts=self.keeping(number))
            context = make_context(flow, step, self.folder)
            found.append(forecast(context, stage, step.params, samples, self.workers).worker_bytes.value)
        return powers, np.log(found)

    def root_bytes(self, number: int, voxels: float) -> float:
        """Return that memory, between half powers of ten by interpolation."""
        powers, found = self._root_bytes(number)
        return float(np.exp(np.interp(math.log10(voxels), powers, found)))

    def coordinator_bytes(self, voxels: float) -> float:
        """Return the coordinator's memory."""
        return self.coordinator.floor_bytes + self.coordinator.plane_bytes * self.blocks(voxels) ** (2 / 3)


if __name__ == "__main__":
    print(json.dumps(run_nothing(int(sys.argv[1]), float(sys.argv[2]))))
