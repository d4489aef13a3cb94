"""Runs of the stage ``densities`` that are measured: through the command line, and part by part on one core."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from density_tissue import VOXEL_NM, Tissue
from density_volume import STUDY, Made

from bouton.geometry import Box
from bouton.stages.densities import STAGE, Params
from bouton.volume.run_folder import open_run
from bouton.volume.tables import TableData

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from harness import run_stage

__all__ = ["RUNS", "STUDY", "Took", "densities", "empty_s", "label_seconds"]
WORKFLOW = """name: density
data:
  synapses: {{path: {table}}}
  mask: {{path: {mask}}}
block_zyx: {block}
steps:
  density: {{stage: densities, reads: {{synapses: synapses, mask: mask}}}}
"""
BLOCK = (333, 468, 468)
RUNS = "density-runs"


@dataclass(frozen=True)
class Took:
    """Seconds by the clock, CPU seconds of all processes, and the largest sum of their memory."""

    wall_s: float
    cpu_s: float
    peak_gb: float


def densities(made: Made, folder: Path, workers: int) -> tuple[Took, TableData]:
    """Run the stage on the simulated volume; return what it took and its table."""
    flow = folder / "density.yaml"
    flow.write_text(WORKFLOW.format(table=made.table, mask=made.mask, block=list(BLOCK)))
    shutil.rmtree(folder / RUNS, ignore_errors=True)
    took = measured(
        [sys.executable, "-m", "bouton", "run", str(flow), "--runs", str(folder / RUNS), f"--workers={workers}"]
    )
    return took, open_run(folder / RUNS / "density").table("density")


def empty_s(folder: Path, workers: int) -> float:
    """Return the seconds of the same command when everything is there already."""
    command = [sys.executable, "-m", "bouton", "run", str(folder / "density.yaml"), "--runs", str(folder / RUNS)]
    return measured([*command, f"--workers={workers}"]).wall_s


def measured(command: list[str]) -> Took:
    """Run a command in a session of its own and watch all of its processes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    peak = [0.0]
    watcher = threading.Thread(target=_watch, args=(process, peak))
    watcher.start()
    _, errors = process.communicate()
    watcher.join()
    if process.returncode:
        raise RuntimeError(errors.decode())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(time.perf_counter() - start, cpu, peak[0] / 1e9)


def _watch(process: subprocess.Popen[bytes], peak: list[float]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], sum(_resident(pid, process.pid) for pid in Path("/proc").glob("[0-9]*")))
        time.sleep(0.1)


def _resident(place: Path, session: int) -> float:
    """Return the proportional (shared pages are shared out) memory of a process of a session, in bytes."""
    try:
        if int((place / "stat").read_text().rsplit(")", 1)[1].split()[3]) != session:
            return 0.0
        for line in (place / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024.0
    except (OSError, IndexError, ValueError):
        return 0.0  # it has ended
    return 0.0


def label_seconds(known: Tissue, rule: str, repeats: int) -> tuple[float, float]:
    """Return Mvoxel and the median CPU seconds of all parts of the stage on a label volume, one core, no disk."""
    inputs, params = {"labels": known.labels, "mask": known.mask}, Params(rule=rule)
    block = Box.of_shape(known.labels.shape).shape
    times = []
    for n in range(repeats + 1):
        start = time.process_time()
        run_stage(STAGE, params, inputs, block, VOXEL_NM)
        if n:  # the first one compiles
            times.append(time.process_time() - start)
    return np.prod(block) / 1e6, statistics.median(times)
