"""Plan against truth: probe a workflow, run it, and print what was planned beside what it took.

    python benchmarks/plan.py [--side 512] [--workers 2] [--block 128,128,128] [--network 'model: affinity-fib25']
    python benchmarks/plan.py --workflow FILE.yaml [--until STEP]

Without a workflow it segments an image of this side, made by mirroring the FIB-25 sample (BOUTON_DATA) or, where that
is absent, a phantom. Per step: seconds by the clock (what the plan promises), processor seconds of the tasks (what
other programs on the machine disturb least), peak memory of the worker that needs most, bytes, files. The target is
20 % for time and peak memory of the whole run. The load of the machine before and after is printed: on a busy machine
the clock measures the others, too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bouton.cli.choices import make_choices
from bouton.engine import Plan, make_plan, run_workflow
from bouton.engine.ledger import Ledger
from bouton.engine.plan_file import write_plan
from bouton.engine.probe import ProbeJob, probe_boxes, run_probe
from bouton.geometry import Box
from bouton.spec import Workflow, load_workflow
from bouton.volume import create_volume, open_volume

TARGET = 0.20
FLOW = """
name: plan
block_zyx: [128, 128, 128]
data: {{image: {{path: {path}}}}}
steps:
  network: {{stage: predict, reads: {{image: image}}, params: {{{network}}}}}
  fragments: {{stage: fragments, reads: {{affinities: network.affinities}}, params: {{low: 0}}}}
  agglomeration: {{stage: agglomeration, reads: {{affinities: network.affinities, fragments: fragments}}}}
  segmentation: {{stage: segmentation, reads: {{fragments: fragments, merges: agglomeration.merges}}}}
"""


class Watch(threading.Thread):
    """Samples the resident memory of all child processes together."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes, self._done = 0, threading.Event()

    def run(self) -> None:
        """Sample until :meth:`stop`."""
        while not self._done.wait(0.2):
            self.peak_bytes = max(self.peak_bytes, sum(_resident(pid) for pid in _children(os.getpid())))

    def stop(self) -> int:
        """Return the largest sum."""
        self._done.set()
        self.join()
        return self.peak_bytes


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def make_image(folder: Path, side: int) -> Path:
    """Write an image of this side: FIB-25 mirrored, or a phantom where it is absent."""
    data = (
        Path(os.environ.get("BOUTON_DATA", Path(__file__).parents[2] / "shared" / "data")) / "fib25_ts2" / "volume.h5"
    )
    path = folder / "image.zarr"
    if data.is_file():
        volume = open_volume(data, "volumes/raw", voxel_size_nm=(10, 10, 10))
        tile, size = volume.read(volume.box), (10.0, 10.0, 10.0)
    else:
        from bouton.phantom.generate import Phantom, generate

        box = Box.of_shape((min(side, 128),) * 3)
        tile, size = generate(box, Phantom(seed=7)).image, (30.0, 10.0, 10.0)
    image = np.pad(tile, [(0, max(0, side - n)) for n in tile.shape], mode="reflect")[:side, :side, :side]
    target = create_volume(path, shape_zyx=image.shape, dtype="uint8", channels=None, voxel_size_nm=size,
                           block_zyx=(128, 128, 128), kind="image")  # fmt: skip
    for z in range(0, side, 128):
        box = Box((z, 0, 0), (min(z + 128, side), side, side))
        target.write(box, np.ascontiguousarray(image[box.slices]))
    return path


def main() -> None:
    """Plan, run and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workflow", type=Path)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--block", default=None)
    parser.add_argument("--until")
    parser.add_argument("--network", default="model: affinity-fib25", help="parameters of predict")
    parser.add_argument("--folder", type=Path, help="keep runs here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        path = options.workflow
        if path is None:
            path = folder / "plan.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(FLOW.format(path=make_image(folder, options.side), network=options.network))
        compare(path, folder / "runs", options)


def compare(path: Path, runs: Path, options: argparse.Namespace) -> None:
    """Plan and run one workflow, and print the table."""
    choices = make_choices(None, None, options.block, options.until)
    flow = load_workflow(path, choices)

    def restricted(box: Box) -> Workflow:
        return load_workflow(path, replace(choices, bounds=box))

    load = os.getloadavg()[0]
    job = ProbeJob(flow, restricted, runs, options.workers)
    boxes, started = probe_boxes(flow, job.at_once), time.perf_counter()
    plan = make_plan(flow, runs, options.workers, run_probe(job, boxes))
    write_plan(plan, runs / flow.name)
    probed, share = time.perf_counter() - started, sum(b.box.voxels for b in boxes) / max(s.voxels for s in plan.steps)
    watch = Watch()
    watch.start()
    started = time.perf_counter()
    run_workflow(flow, runs, "processes", options.workers).raise_if_failed()
    seconds, peak = time.perf_counter() - started, watch.stop()
    print(f"{max(s.voxels for s in plan.steps) / 1e6:.0f} Mvoxel, {options.workers} workers; probe {probed:.0f} s on "
          f"{100 * share:.0f} % of the voxels; load {load:.1f} before, {os.getloadavg()[0]:.1f} after")  # fmt: skip
    print_table(plan, flow, runs)
    total, memory = plan.seconds_left, max(s.forecast.peak_bytes.value for s in plan.steps if s.forecast)
    verdict(f"all, by the clock, s ({total.low:.0f}-{total.high:.0f})", total.value, seconds)
    verdict("all workers' memory, MB", memory / 1e6, peak / 1e6)


def verdict(name: str, planned: float, true: float) -> None:
    """Print a figure of the whole run and whether it is within the target."""
    ratio = true / planned
    word = "within" if abs(ratio - 1) <= TARGET else "NOT within"
    print(f"{name:36}{planned:9.1f}{true:9.1f}{ratio:7.2f}  {word} {100 * TARGET:.0f} %")


def print_table(plan: Plan, flow: Workflow, runs: Path) -> None:
    """Print planned, true and true / planned of every step."""
    heads = ("clock s", "CPU s", "worker MB", "disk MB", "files")
    print(f"{'planned, true, true / planned':29}" + "".join(f"{head:>27}" for head in heads))
    planned_cpu = true_cpu = 0.0
    for step, entry in zip(flow.steps, plan.steps, strict=True):
        with Ledger(runs / flow.name / step.name / step.key / "ledger.sqlite", readonly=True) as ledger:
            rows, seconds = list(ledger.measured()), ledger.fact("seconds")
        found = entry.forecast
        assert found is not None
        cpu = sum(row.cpu_seconds for row in rows)
        planned_cpu, true_cpu = planned_cpu + found.cpu_seconds.value, true_cpu + cpu
        pairs = [(found.seconds.value, seconds), (found.cpu_seconds.value, cpu)]
        pairs.append((found.worker_bytes.value / 1e6, max(row.peak_bytes for row in rows) / 1e6))
        pairs.append((found.size_bytes.value / 1e6, sum(row.size_bytes for row in rows) / 1e6))
        pairs.append((found.files.value, sum(row.files for row in rows)))
        print(f"{step.name:29}" + "".join(f"{a:10.1f}{b:10.1f}{b / a if a else 0:7.2f}" for a, b in pairs))
    verdict("all, processor seconds", planned_cpu, true_cpu)


if __name__ == "__main__":
    main()
