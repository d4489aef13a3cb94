"""What the engine costs a task, beside ``concurrent.futures.ProcessPoolExecutor`` in the same run.

    python benchmarks/engine.py [--tasks 4000] [--workers 2]

Four figures in microseconds a task: the peer with a function that does nothing; the engine with a stage that writes
nothing (hand-out, checks, ledger); the engine with a stage that writes one shard and one table a task, durably; and
the time to see that a finished step is finished.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from bouton.engine import run_workflow
from bouton.geometry import Box
from bouton.spec import Step, Workflow
from bouton.stage import load_stage

NOTHING = """
from dataclasses import dataclass
from bouton.stage import BlockPart, Output, Stage

@dataclass(frozen=True)
class Params:
    '''No parameters.'''

def run(task):
    return Output()

STAGE = Stage(1, Params, {}, (), (BlockPart("nothing", run),))
"""
SHARDS = """
from dataclasses import dataclass
import numpy as np
from bouton.stage import BlockPart, Layer, Output, Stage, Table

@dataclass(frozen=True)
class Params:
    '''No parameters.'''

def run(task):
    return Output({"a": np.zeros(task.core.shape, np.uint8)}, {"rows": {"z": np.array([task.core.start[0]])}})

STAGE = Stage(1, Params, {}, ("a",), (BlockPart("b", run, {"a": Layer("uint8")}, {"rows": Table({"z": "int64"})}),))
"""


def nothing(task: object) -> object:
    """Return the task."""
    return task


def workflow(folder: Path, code: str, tasks: int) -> Workflow:
    """Return a workflow of one step with this many blocks of one voxel."""
    stage_file = folder / f"{hashlib.sha256(code.encode()).hexdigest()[:8]}.py"
    stage_file.write_text(code)
    stage = load_stage(str(stage_file))
    shape = (tasks, 1, 1)
    step = Step("step", str(stage_file), stage, stage.params(), {}, Box.of_shape(shape), (1, 1, 1), {}, stage_file.stem)
    return Workflow(stage_file.stem, folder / "w.yaml", shape, (10.0, 10.0, 10.0), {}, (step,), {}, "")


def seconds_of(flow: Workflow, folder: Path, workers: int) -> float:
    """Return the time of one run."""
    started = time.perf_counter()
    run_workflow(flow, folder, "processes", workers).raise_if_failed()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    count, workers = options.tasks, options.workers
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        list(pool.map(nothing, range(workers)))
        started = time.perf_counter()
        list(pool.map(nothing, range(count)))
        peer = (time.perf_counter() - started) / count * 1e6
    print(f"peer, nothing                {peer:8.0f} us/task")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, code in (("engine, nothing", NOTHING), ("engine, shard + table", SHARDS)):
            # Starting the workers is paid once a run: the small run of one task measures it.
            start = seconds_of(workflow(folder, code + "# one", 1), folder, workers)
            flow = workflow(folder, code, count)
            cost = (seconds_of(flow, folder, workers) - start) / count * 1e6
            again = seconds_of(flow, folder, workers) / count * 1e6
            print(f"{label:28} {cost:8.0f} us/task  {cost / peer:6.1f} x peer   finished already {again:6.1f} us/task")
    print(f"start of {workers} workers          {start:8.2f} s")


if __name__ == "__main__":
    main()
