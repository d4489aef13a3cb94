"""How much of the workers' time goes into blocks: seconds inside of the stage's function over workers x wall.

    python benchmarks/engine_efficiency.py [--blocks 60] [--seconds 2] [--workers 2] [--executor processes]

Every block computes (no sleep) until it has used so many seconds of a processor, then returns a small layer and a row.
What counts as a block's time is the clock inside of its function alone, so hand-out, start of workers, checks, writing,
fsync, ledger, the last wave and the run's end are all losses. Busy time that another program takes from a block
prolongs the block as well as the run; the share of a processor that blocks got is printed for that. Target: 97 %.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bouton.engine import run_workflow
from bouton.spec import load_workflow
from bouton.volume import read_table

TARGET = 0.97
BLOCK = 8
Row = tuple[str, str, str]
STAGE = '''"""Blocks that compute for a while."""

import time
from dataclasses import dataclass

import numpy as np

from bouton.stage import BlockPart, Layer, Output, Stage, Table


@dataclass(frozen=True)
class Params:
    """How long a block computes.

    Attributes
    ----------
    seconds : float
        Of a processor.
    """

    seconds: float = 2.0


def run(task):
    started, used = time.perf_counter(), time.process_time()
    values = np.arange(4096, dtype=np.float64)
    while time.process_time() - used < task.params.seconds:
        for _ in range(64):
            values = np.sqrt(values * values + 1.0)
    cpu, seconds = time.process_time() - used, time.perf_counter() - started
    rows = {"seconds": np.array([seconds]), "cpu_seconds": np.array([cpu])}
    return Output({"layer": np.ones(task.core.shape, np.uint8)}, {"rows": rows})


TABLES = {"rows": Table({"seconds": "float64", "cpu_seconds": "float64"})}
STAGE = Stage(1, Params, {}, ("layer", "rows"), (BlockPart("burn", run, {"layer": Layer("uint8")}, TABLES),))
'''


@dataclass(frozen=True)
class Efficiency:
    """What one run took: seconds inside of blocks, processor seconds there, and the run's own by the clock."""

    workers: int
    blocks: int
    block_seconds: float
    cpu_seconds: float
    wall_seconds: float

    @property
    def share(self) -> float:
        """Block seconds over workers x wall."""
        return self.block_seconds / (self.workers * self.wall_seconds)


def measure(blocks: int, seconds: float, workers: int, executor: str = "processes") -> Efficiency:
    """Run the blocks once, from a fresh run folder and workers that do not live yet."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "burn.py").write_text(STAGE)
        (folder / "burn.yaml").write_text(
            f"name: burn\ngrid: {{shape_zyx: [{blocks * BLOCK}, {BLOCK}, {BLOCK}], voxel_size_nm: [10, 10, 10]}}\n"
            f"block_zyx: [{BLOCK}, {BLOCK}, {BLOCK}]\n"
            f"steps:\n  burn: {{stage: burn.py, params: {{seconds: {seconds}}}}}\n"
        )
        flow = load_workflow(folder / "burn.yaml")
        started = time.perf_counter()
        summary = run_workflow(flow, folder / "runs", executor, workers)
        wall = time.perf_counter() - started
        summary.raise_if_failed()
        step = flow.steps[0]
        rows = read_table(summary.folder / step.name / step.key / "rows")
    assert len(rows["seconds"]) == blocks
    return Efficiency(workers, blocks, float(rows["seconds"].sum()), float(rows["cpu_seconds"].sum()), wall)


def rows(blocks: int = 60, seconds: float = 2.0, workers: int = 2, executor: str = "processes") -> list[Row]:
    """Return the benchmark's row: what, target, measured."""
    found = measure(blocks, seconds, workers, executor)
    held = "holds" if found.share >= TARGET else "MISSED"
    text = (
        f"{100 * found.share:.1f} % ({held}): {found.block_seconds:.1f} s in {blocks} blocks, "
        f"{found.wall_seconds:.1f} s by the clock; blocks had a processor "
        f"{100 * found.cpu_seconds / found.block_seconds:.0f} % of their time"
    )
    return [(f"efficiency, {workers} workers, blocks of {seconds:g} s, {executor}", ">= 97 %", text)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--executor", default="processes")
    options = parser.parse_args()
    for what, target, measured in rows(options.blocks, options.seconds, options.workers, options.executor):
        print(f"{what}: {measured}, target {target}")


if __name__ == "__main__":
    main()
