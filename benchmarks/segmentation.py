"""Speed, memory and accuracy of the segmentation on one core, beside waterz on the same affinities.

    python benchmarks/segmentation.py [--input pinky40|phantom|piriform|PATH] [--side 256] [--repeats 5]
    python benchmarks/segmentation.py --scaling          time against volume, in memory, 128^3 to 1024^3, one process
    python benchmarks/segmentation.py --workers          1 and 2 workers of the engine on a run folder

Every time is the median of CPU seconds; the limit beside it is what copying the bytes that a part must at least read
and write would take. Both programs get the same low and high, join mean affinities down to the same floor, and merge no
small segments beforehand. high is 0.9999, as chunkflow sets it for waterz: at 0.99 plateaus make waterz's fragments so
large that little is left to merge. waterz reads float32. It is run twice: with the values that bouton reads / 255, and,
where the input is generated, with those before rounding to uint8. (waterz joins all of a plateau of equal affinities,
bouton orders equal affinities by place: after rounding, waterz starts from fewer, larger fragments.)

Memory is the greatest resident set above that with the input loaded, each program in a process of its own. VOI is that
at each one's best threshold. Peers and data that are absent are named: pip install waterz crackle-codec.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import affinity_inputs
import numpy as np

from bouton.engine import run_workflow
from bouton.evaluate.contingency import count_pairs
from bouton.evaluate.partition import variation_of_information
from bouton.geometry import Box
from bouton.segment.basins import Thresholds, Window, label_basins, narrow_fragments
from bouton.segment.components import relabel
from bouton.segment.contraction import MEAN, Rule, contract
from bouton.segment.history import cut
from bouton.segment.ratios import level
from bouton.segment.region_graph import fragment_sizes, region_graph
from bouton.segment.whole import WholeParams, merge_history
from bouton.spec import Choices, load_workflow

SCORING = "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"
THRESHOLDS = [round(0.1 + 0.05 * i, 2) for i in range(17)]
SCALING_SIDES = (128, 256, 512, 1024)
FLOW = """
name: segmentation
block_zyx: [256, 256, 256]
data: {{affinities: {{path: {path}, voxel_size_nm: [40, 32, 32]}}}}
steps:
  fragments: {{stage: fragments, reads: {{affinities: affinities}}, params: {{low: {low}, high: {high}}}}}
  agglomeration:
    stage: agglomeration
    reads: {{affinities: affinities, fragments: fragments}}
    params: {{floor: {floor}, min_size_voxels: 0}}
"""


class Timer:
    """Medians of CPU seconds, printed beside the physical limit."""

    def __init__(self, repeats: int, voxels: int) -> None:
        self.repeats, self.voxels = repeats, voxels
        source = np.ones(1 << 25, np.uint64)
        target = np.empty_like(source)
        self.bytes_per_s = 2 * source.nbytes / self.seconds(lambda: np.copyto(target, source))[0]

    def seconds(self, function: Callable[[], Any]) -> tuple[float, Any]:
        """Return the median of CPU seconds, after one run that compiles, and the last result."""
        result, times = function(), []
        for _ in range(self.repeats):
            start = time.process_time()
            result = function()
            times.append(time.process_time() - start)
        return statistics.median(times), result

    def part(self, name: str, bytes_per_voxel: int, function: Callable[[], Any]) -> tuple[float, Any]:
        """Measure and print one part."""
        seconds, result = self.seconds(function)
        limit = self.bytes_per_s / bytes_per_voxel
        rate = self.voxels / seconds
        share = f"{100 * rate / limit:5.1f} % of {limit / 1e6:6.0f} (copying {bytes_per_voxel} bytes/voxel)"
        print(f"{name:34}{rate / 1e6:8.1f} Mvoxel/s  {share}")
        return seconds, result


def measure_parts(affinities: np.ndarray, options: argparse.Namespace, timer: Timer) -> tuple[float, Any]:
    """Print bouton's parts; return the seconds from affinities to merge history, and fragments and merges."""
    whole, thresholds = Box.of_shape(affinities.shape[1:]), Thresholds(options.low, options.high, 0.9)
    block = Window(whole, whole, whole)
    timer.part("basins, in memory", 7, lambda: narrow_fragments(affinities, thresholds))
    _, labels = timer.part("basins, of a block", 11, lambda: label_basins(affinities, block, whole.shape, thresholds))
    _, edges = timer.part("region graph, of a block", 11, lambda: region_graph(labels, affinities, whole))
    _, sizes = timer.part("fragment sizes, of a block", 8, lambda: fragment_sizes(labels, whole))
    rule, none = Rule(MEAN, level(options.floor)), np.zeros(len(sizes["id"]), np.bool_)
    seconds, done = timer.seconds(lambda: contract(edges, sizes, none, rule))
    rate, n = len(edges["a"]) / seconds / 1e6, len(sizes["id"])
    counts = f"{n} fragments, {len(edges['a']) / max(n, 1):.1f} edges a fragment, {len(done.history['a'])} merges"
    print(f"{'contraction':34}{rate:8.2f} Medges/s  {timer.voxels / seconds / 1e6:.1f} Mvoxel/s; {counts}")
    params = bouton_params(options)
    seconds, found = timer.part("affinities to merge history", 7, lambda: merge_history(affinities, params))
    moves = cut(found[1], 0.5)
    timer.part("one segmentation of it", 8, lambda: relabel(found[0], *moves))
    return seconds, found


def bouton_params(options: argparse.Namespace) -> WholeParams:
    """Return what waterz does, too."""
    return WholeParams(low=options.low, high=options.high, floor=options.floor, min_size_voxels=0)


def waterz_runs(affinities: np.ndarray, options: argparse.Namespace, costs: list[float], **more: Any) -> Iterator:
    """Yield waterz's labels for each cost (1 - threshold); what it prints is lost."""
    waterz = importlib.import_module("waterz")
    limits = {"aff_threshold_low": options.low, "aff_threshold_high": options.high}
    with silence():
        yield from waterz.agglomerate(affinities, costs, scoring_function=SCORING, **limits, **more)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Send what compiled code prints to nowhere."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def measure_waterz(scaled: np.ndarray, options: argparse.Namespace, timer: Timer) -> float:
    """Print waterz's parts; return its seconds from affinities to merge history."""

    def run(costs: list[float], **more: Any) -> np.ndarray:
        return [labels.copy() for labels in waterz_runs(scaled, options, costs, **more)][-1]

    whole, _ = timer.seconds(lambda: run([1 - options.floor]))
    # a cost below 0 merges nothing: watershed and region graph; with fragments given, the region graph alone
    first, fragments = timer.seconds(lambda: run([-1.0]))
    graph, _ = timer.seconds(lambda: run([-1.0], fragments=fragments.copy()))
    for name, seconds in (("basins", first - graph), ("region graph", graph), ("to merge history", whole)):
        print(f"{'waterz, ' + name:34}{timer.voxels / seconds / 1e6:8.1f} Mvoxel/s")
    print(f"{'':34}{len(np.unique(fragments)) - 1} fragments")
    return whole


def best_voi(truth: np.ndarray, cuts: Iterator[tuple[float, np.ndarray]]) -> str:
    """Return the least VOI over thresholds, in words."""
    found = []
    for threshold, labels in cuts:
        voi = variation_of_information(count_pairs(truth, labels))
        found.append((voi.total, voi.split, voi.merge, threshold))
    total, split, merge, threshold = min(found)
    return f"VOI {total:.4f} bits (split {split:.4f}, merge {merge:.4f}) at {threshold}"


def peak_bytes(program: str, path: Path, options: argparse.Namespace) -> int:
    """Return the peak memory of a program beside its input, from a process of its own."""
    words = ["--memory", program, "--input", str(path), "--low", options.low, "--high", options.high]
    command = [sys.executable, __file__, *map(str, words), "--floor", str(options.floor)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_own_peak(options: argparse.Namespace) -> None:
    """Be the process of :func:`peak_bytes`."""
    affinities = np.load(options.input)
    small = np.ascontiguousarray(affinities[:, :16, :16, :16])
    if options.memory == "bouton":
        step = lambda values: merge_history(values, bouton_params(options))  # noqa: E731
    else:
        step = lambda values: [None for _ in waterz_runs(values, options, [1 - options.floor])]  # noqa: E731
    step(small)
    # 5: forget the peak so far
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    step(affinities)
    print(_status("VmHWM") - before)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def compare(options: argparse.Namespace) -> None:
    """Measure bouton and waterz on one volume."""
    tissue = made_tissue(options.input, options.side)
    affinities = tissue.affinities(np.uint8) if tissue else read_affinities(options.input)
    truth = tissue.truth() if tissue else None
    timer = Timer(options.repeats, affinities[0].size)
    print(f"{options.input}, {affinities.shape[1:]} voxels; copying memory: {timer.bytes_per_s / 1e9:.1f} GB/s")
    print(f"low {options.low}, high {options.high}, floor {options.floor}, medians of {options.repeats}")
    own_seconds, (fragments, merges) = measure_parts(affinities, options, timer)
    own_peak = measure_peak("bouton", affinities, options)
    if truth is not None:
        limits = [threshold for threshold in THRESHOLDS if threshold >= options.floor]
        print(f"{'':34}{best_voi(truth, ((t, relabel(fragments, *cut(merges, t))) for t in limits))}")
    if importlib.util.find_spec("waterz") is None:
        print("waterz: absent, no ratio (pip install waterz)")
        return
    peers = {"uint8 / 255": lambda: affinities.astype(np.float32) / 255}
    if tissue:
        peers["float32, not rounded"] = lambda: tissue.affinities(np.float32)
    for name, make in peers.items():
        print(f"--- waterz on {name}")
        scaled = make()
        seconds = measure_waterz(scaled, options, timer)
        print(f"{'bouton is faster by':34}{seconds / own_seconds:8.2f} x")
        peak = measure_peak("waterz", scaled, options)
        with_inputs = (peak + scaled.nbytes) / (own_peak + affinities.nbytes)
        print(f"{'bouton needs less memory by':34}{peak / own_peak:8.2f} x, with the input {with_inputs:.2f} x")
        if truth is not None:
            labels = waterz_runs(scaled, options, [1 - threshold for threshold in reversed(limits)])
            print(f"{'':34}{best_voi(truth, zip(reversed(limits), labels, strict=True))}")


def measure_peak(program: str, affinities: np.ndarray, options: argparse.Namespace) -> int:
    """Print and return a program's peak memory beside its input."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "affinities.npy"
        np.save(path, affinities)
        peak = peak_bytes(program, path, options)
    n = affinities[0].size
    beside = f"{program}, memory beside its input"
    print(f"{beside:34}{peak / n:8.1f} bytes/voxel (the input: {affinities.nbytes / n:.0f})")
    return peak


def made_tissue(name: str, side: int, largest: int = affinity_inputs.LARGEST) -> affinity_inputs.Tissue | None:
    """Return the generated tissue of that name, if it is one."""
    makers = {"pinky40": affinity_inputs.pinky40, "phantom": affinity_inputs.phantom}
    return makers[name](side, largest) if name in makers else None


def read_affinities(name: str) -> np.ndarray:
    """Return affinities from a file."""
    return affinity_inputs.piriform() if name == "piriform" else affinity_inputs.from_file(name)


def scaling(options: argparse.Namespace) -> None:
    """Print the time against the volume, and the slope of the logarithms; the smallest volume, mirrored, is all."""
    params, rows = bouton_params(options), []
    for side in (side for side in SCALING_SIDES if side <= options.side):
        tissue = made_tissue(options.input, side, SCALING_SIDES[0])
        if tissue is None:
            raise SystemExit("--scaling takes --input pinky40 or phantom")
        affinities = tissue.affinities(np.uint8)
        timer = Timer(1 if side > 512 else options.repeats, side**3)
        seconds, _ = timer.part(f"{side}^3", 7, lambda values=affinities: merge_history(values, params))
        rows.append((np.log(side**3), np.log(seconds)))
    if len(rows) > 1:
        print(f"slope of log time over log voxels: {np.polyfit(*np.transpose(rows), 1)[0]:.3f}")


def workers(options: argparse.Namespace) -> None:
    """Print wall seconds of the engine with 1 and with 2 workers, of 256^3 blocks."""
    tissue = made_tissue(options.input, options.side)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "affinities.npy", tissue.affinities(np.uint8) if tissue else read_affinities(options.input))
        del tissue
        limits = {"low": options.low, "high": options.high, "floor": options.floor}
        (folder / "flow.yaml").write_text(FLOW.format(path=folder / "affinities.npy", **limits))
        seconds = []
        for count in (1, 2):
            flow = load_workflow(folder / "flow.yaml", Choices())
            started = time.perf_counter()
            run_workflow(flow, folder / f"runs{count}", "processes", count).raise_if_failed()
            seconds.append(time.perf_counter() - started)
            print(f"{count} workers{options.side**3 / seconds[-1] / 1e6:10.1f} Mvoxel/s  {seconds[-1]:.1f} s")
        print(f"two workers are faster by {seconds[0] / seconds[1]:.2f} x")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", default="pinky40")
    parser.add_argument("--side", type=int, help="voxels along each axis of generated inputs; default 256, or 1024")
    parser.add_argument("--low", type=float, default=0.1)
    parser.add_argument("--high", type=float, default=0.9999)
    parser.add_argument("--floor", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--workers", action="store_true")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.side = options.side or (1024 if options.scaling else 512 if options.workers else 256)
    if options.memory:
        print_own_peak(options)
    elif options.scaling:
        scaling(options)
    elif options.workers:
        workers(options)
    else:
        compare(options)


if __name__ == "__main__":
    main()
