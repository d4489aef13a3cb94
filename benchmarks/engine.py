"""What the engine costs a block: a million blocks that do nothing, in an octree with 3-D halo dependencies.

    python benchmarks/engine.py [--side 69] [--workers 2] [--executor processes]

A stage of three parts over side^3 blocks: the second waits for the 3 x 3 x 3 neighbourhood of each block in the first,
the third is an octree of merges over the second; 69^3 make 1,032,494 tasks. Every task stands durably in the ledger
(SQLite, synchronous = FULL) before what waits for it begins. The tasks themselves are skipped in the workers
(no_op_worker.py), and everything else is the engine's own: frontier, hand-out, sockets, packing, ledger, events.
Then the same run is opened, planned and resumed in a new process. Other engines do the same work in engine_peers.py.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAGE = """
from dataclasses import dataclass
from bouton.stage import BlockPart, Layer, MergePart, Output, Stage, Table

@dataclass(frozen=True)
class Params:
    '''No parameters.'''

def run(task):
    return Output()

ROWS = Table({"n": "int64"})
STAGE = Stage(1, Params, {}, ("total",), (
    BlockPart("first", run, {"a": Layer("uint8")}),
    BlockPart("second", run, {}, {"rows": ROWS}, halo=lambda params, voxel_size_nm: (1, 1, 1)),
    MergePart("third", run, ("rows",), {"total": ROWS}),
))
"""
HERE = Path(__file__).parent


def measure(folder: Path, side: int, workers: int, executor: str) -> dict[str, float]:
    """Run in this process, and return what it cost."""
    started = time.perf_counter()
    from bouton.engine import make_plan, run_workflow
    from bouton.engine.executors.processes import Processes
    from bouton.geometry import Box
    from bouton.spec import Step, Workflow
    from bouton.stage import load_stage

    stage_file = folder / "nothing.py"
    stage_file.write_text(STAGE)
    stage = load_stage(str(stage_file))
    shape = (side, side, side)
    step = Step("step", str(stage_file), stage, stage.params(), {}, Box.of_shape(shape), (1, 1, 1), {}, "key")
    flow = Workflow("nothing", folder / "w.yaml", shape, (10.0, 10.0, 10.0), {}, (step,), {}, "")
    make_plan(flow, folder, workers)
    planned = time.perf_counter()
    if executor == "processes":
        pool = Processes(workers)
        pool.program = (str(HERE / "no_op_worker.py"),)
    else:
        from dask_no_ops import make_pool

        pool = make_pool(workers)
    summary = run_workflow(flow, folder, pool)
    summary.raise_if_failed()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "tasks": summary.steps["step"].tasks,
        "computed": summary.steps["step"].computed,
        "seconds": time.perf_counter() - planned,
        "with_imports": time.perf_counter() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def in_process(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Run :func:`measure` in a process of its own."""
    words = [f"--side={options.side}", f"--workers={options.workers}", f"--executor={options.executor}"]
    command = [sys.executable, __file__, *words, "--folder", str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=69)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--executor", choices=["processes", "dask"], default="processes")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(measure(options.folder, options.side, options.workers, options.executor)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, again = in_process(folder, options), in_process(folder, options)
        ledger = sum(path.stat().st_size for path in folder.rglob("ledger.sqlite*"))
    tasks = int(first["tasks"])
    print(f"{tasks:,} tasks, {options.workers} workers, executor {options.executor}")
    print(f"coordinator        {first['cpu_seconds'] / tasks * 1e6:8.2f} us of CPU a task, imports included")
    print(f"wall               {first['seconds'] / tasks * 1e6:8.2f} us a task, workers' packing included")
    print(f"peak memory        {first['peak_mb']:8.0f} MB of the coordinator")
    print(f"ledger             {ledger / tasks:8.1f} bytes a task")
    print(
        f"plan and resume    {again['with_imports']:8.2f} s, imports included; {int(again['computed'])} tasks computed"
    )


if __name__ == "__main__":
    main()
