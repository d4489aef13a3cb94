"""How fast networks run: against the processor's measured limit, and against how others run the same network.

    python benchmarks/inference.py                  all rows but the last three, about ten minutes on one core
    python benchmarks/inference.py --rows peers peak io voi gpu
    python benchmarks/inference.py --rows memory    bytes a voxel of a tile: TILE_BYTES of bouton.learn.runners
    python benchmarks/inference.py --rows context   error by distance from a tile's face: how much overlap is enough
    python benchmarks/inference.py --rows overlap   VOI by tile, overlap and blend, sections 60-119

One core. Times are CPU seconds, so that other work on the machine does not count; the share of reading and writing is
of wall time. The peak is the largest of three libraries' float32 matrix products. ``plain`` is what most labs run:
torch, float32, eager, patches that overlap by half, blended. ``chunkflow`` is its default geometry (patch
20 x 256 x 256, crop 16 x 192 x 192, stride 14 x 160 x 160: 3.66 voxels in for each voxel out), in torch. Peers are
given the fastest of three patch shapes, and measured once more with the allocator's setting that our torch path makes.
Data: FIB-25, $BOUTON_DATA/fib25_ts2/volume.h5, of which sections 120-159 trained nothing.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # libraries read them when they are imported

# ruff: noqa: E402
import argparse
import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch

from bouton.engine import execute as engine_execute
from bouton.engine import inputs as engine_inputs
from bouton.engine import run_workflow
from bouton.errors import SpecError
from bouton.evaluate.contingency import count_pairs
from bouton.evaluate.partition import variation_of_information
from bouton.geometry import ZYX, Box
from bouton.learn.info import flops_per_voxel
from bouton.learn.model import load_model
from bouton.learn.package import check_package
from bouton.learn.predict import predict
from bouton.learn.quantise import calibration_of, compare, draw_crops, int8_files, int8_runner, quantise
from bouton.learn.runners import Runner, Runtime, normalised, open_runner
from bouton.learn.runners_openvino import float_graph
from bouton.learn.runners_torch import keep_freed_memory
from bouton.learn.shipped import model_path
from bouton.learn.tiles import Tiling
from bouton.segment.components import relabel
from bouton.segment.history import cut
from bouton.segment.whole import WholeParams, merge_history
from bouton.spec import Choices, load_workflow
from bouton.volume import create_volume

DATA = Path(os.environ.get("BOUTON_DATA") or Path(__file__).resolve().parents[1].parent / "shared" / "data")
FIB25 = DATA / "fib25_ts2" / "volume.h5"
MODEL = "affinity-fib25"
TILE, OVERLAP, NO_BLEND = (136, 136, 136), (8, 8, 8), (0, 0, 0)
WHOLE = WholeParams(low=0.0, floor=0.1, small_affinity=0.05)
THRESHOLD = 0.2  # of workflows/fib25.yaml, chosen on sections 60-119
CHUNKFLOW = 20 * 256 * 256 / (14 * 160 * 160)
ROWS = ("peers", "peak", "io", "voi", "gpu", "memory", "context", "overlap")


def row(what: str, value: str, limit: str = "", holds: bool | None = None) -> None:
    """Print one row of the table."""
    verdict = "" if holds is None else "holds" if holds else "MISSED"
    print(f"{what:62} {value:>24}   {limit:28} {verdict}", flush=True)


def best_seconds(action: Callable[[], object], times: int = 3) -> float:
    """Return the least CPU seconds of several calls, after one that does not count."""
    action()
    found = []
    for _ in range(times):
        started = time.process_time()
        action()
        found.append(time.process_time() - started)
    return min(found)


class Networks:
    """The shipped model in every form, made once."""

    def __init__(self) -> None:
        self.folder = model_path(MODEL)
        self.model = load_model(self.folder)
        self.info = self.model.info
        self.flops = flops_per_voxel(self.info.architecture)
        with h5py.File(FIB25) as file:
            self.image = file["volumes/raw"][:]
        self._graph: object = None

    def runner(self, precision: str) -> Runner:
        """Return OpenVINO in a precision; int8 is calibrated on sections 0-119."""
        return self.int8() if precision == "int8" else open_runner(self.folder, Runtime("openvino", precision))

    def int8(self) -> Runner:
        """Return the 8-bit network, calibrated on sections 0-119."""
        if self._graph is None:
            bounds = Box((0, 0, 0), (120, 250, 250))
            crops = draw_crops(lambda box: self.image[box.slices], bounds, (72, 72, 72), 16, 0)
            self._graph = quantise(float_graph(self.folder), self.info, [crop for _, crop in crops])
        return int8_runner(self._graph, self.info)

    def int8_folder(self, folder: Path) -> Path:
        """Return a copy of the model in ``folder``, with its 8-bit form."""
        crops = [self.image[:72, :72, :72]]
        runner = self.int8()
        change = compare(runner, runner, crops)
        sha = check_package(self.folder).weights.sha256
        files = int8_files(self._graph, sha, calibration_of("", Box.of_shape((72, 72, 72)), crops, 0), change)
        for name, data in {**{f.name: f.read_bytes() for f in self.folder.iterdir()}, **files}.items():
            (folder / name).write_bytes(data)
        return folder

    def eager(self) -> Callable[[np.ndarray], np.ndarray]:
        """Return what a script does: torch, float32, no layout asked for."""
        network = load_model(self.folder).network.to(memory_format=torch.contiguous_format)

        def run(values: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return torch.sigmoid(network(torch.from_numpy(values)) / self.info.temperature)[0].numpy()

        return run


def matmul_peaks(size: int = 2048) -> dict[str, float]:
    """Return float32 FLOP/s of a matrix product of numpy, torch and OpenVINO on one thread, and OpenVINO's in bf16."""
    import openvino
    from openvino import opset13 as ops

    random = np.random.default_rng(0)
    a, b = (random.random((size, size), dtype=np.float32) for _ in range(2))
    one, two = torch.from_numpy(a), torch.from_numpy(b)
    work = 2 * size**3
    found = {"numpy": work / best_seconds(lambda: a @ b), "torch": work / best_seconds(lambda: one @ two)}
    place = ops.parameter([size, size], np.float32)
    graph = openvino.Model([ops.matmul(place, ops.constant(b), False, False)], [place])
    for name, hint in (("openvino", "f32"), ("openvino bfloat16", "bf16")):
        settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": hint}
        request = openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()
        found[name] = work / best_seconds(lambda request=request: request.infer([a]))
    return found


def measure_peak(networks: Networks) -> None:
    """Print the limit, and what fraction of it each way of running a tile reaches."""
    peaks = matmul_peaks()
    for name, rate in peaks.items():
        row(f"matrix product, {name}", f"{rate / 1e9:.0f} GFLOP/s")
    peak = max(rate for name, rate in peaks.items() if "bfloat16" not in name)
    row("peak: the largest in float32", f"{peak / 1e9:.0f} GFLOP/s")
    row(f"{MODEL}", f"{networks.flops / 1e3:.1f} kFLOP/voxel")
    keep_freed_memory()
    values = normalised(networks.image[: TILE[0], : TILE[1], : TILE[2]], networks.info)
    eager, reference = networks.eager(), open_runner(networks.folder, Runtime())
    ways: dict[str, Callable[[], object]] = {
        "torch eager (with the allocator's setting)": lambda: eager(values),
        "torch (our reference: channels last)": lambda: reference.run(values),
    }
    for precision in ("float32", "bfloat16", "int8"):
        with contextlib.suppress(SpecError):
            runner = networks.runner(precision)
            ways[f"openvino {precision}"] = lambda runner=runner: runner.run(values)
    targets = {"openvino float32": 0.75, "openvino int8": 2.2}
    for name, action in ways.items():
        rate = values.size / best_seconds(action)
        share = rate * networks.flops / peak
        target = targets.get(name)
        limit = f"at least {target:.0%} of peak" if target else ""
        row(
            f"tile 136^3, {name}", f"{rate / 1e6:.2f} Mvoxel/s {share:5.0%}", limit, share >= target if target else None
        )


PATCHES: tuple[ZYX, ...] = ((72, 72, 72), (16, 160, 160), (24, 256, 256))


def plain_rate(networks: Networks, patch: ZYX) -> tuple[float, float]:
    """Return input voxels a CPU second of an eager patch, alone and with what blending costs."""
    run = networks.eager()
    ramps = [np.minimum(np.arange(n) + 1, n - np.arange(n)).astype(np.float32) for n in patch]
    weights = ramps[0][:, None, None] * ramps[1][None, :, None] * ramps[2][None, None, :]
    sums, totals = np.zeros((3, *patch), np.float32), np.zeros(patch, np.float32)
    image = np.resize(networks.image, patch)

    def blended() -> None:
        np.add(sums, run(normalised(image, networks.info)) * weights, out=sums)
        np.add(totals, weights, out=totals)

    alone = best_seconds(lambda: run(normalised(image, networks.info)))
    return image.size / alone, image.size / best_seconds(blended)


def our_rate(networks: Networks, runner: Runner) -> float:
    """Return output voxels a CPU second of whole blocks of 128^3 with the default tiles, in the middle of a volume."""
    image = np.pad(networks.image, 16, mode="reflect")
    bounds, core = Box.of_shape(image.shape), Box((128, 128, 128), (256, 256, 256))
    tiling = Tiling(TILE, OVERLAP, NO_BLEND, networks.info.architecture.multiple)
    return core.voxels / best_seconds(lambda: predict(runner, image, bounds, core, bounds, tiling))


def _print_peers(networks: Networks, how: str) -> tuple[float, float]:
    rates = {patch: plain_rate(networks, patch) for patch in PATCHES}
    for (z, y, x), (alone, _) in rates.items():
        row(f"eager float32, patch {z}x{y}x{x}, input{how}", f"{alone / 1e6:.2f} Mvoxel/s")
    plain = max(blended for _, blended in rates.values()) / 8
    row(f"plain: eager float32, 50 % overlap{how}", f"{plain / 1e6:.3f} Mvoxel/s")
    chunkflow = max(alone for alone, _ in rates.values()) / CHUNKFLOW
    row(f"chunkflow's defaults: 3.66 voxels in for 1 out{how}", f"{chunkflow / 1e6:.3f} Mvoxel/s")
    return plain, chunkflow


def measure_peers(networks: Networks) -> None:
    """Print output voxels a second, ours beside others' ways of running the same network."""
    # first: the setting of the allocator stays for the process
    plain, chunkflow = _print_peers(networks, "")
    keep_freed_memory()
    _print_peers(networks, ", with our allocator's setting")
    for precision, times in (("float32", 10), ("int8", 25)):
        rate = our_rate(networks, networks.runner(precision))
        row(f"ours: openvino {precision}, tile 136, overlap 8, block 128^3", f"{rate / 1e6:.2f} Mvoxel/s")
        row(f"  over plain, {precision}", f"{rate / plain:.1f} x", f"at least {times} x", rate >= times * plain)
        if precision == "float32":
            ratio = rate / chunkflow
            row("  over chunkflow's defaults, float32", f"{ratio:.1f} x", "at least 4 x", ratio >= 4)


WORKFLOW = """
name: io
block_zyx: [{block}, {block}, {block}]
data: {{image: {{path: {image}, voxel_size_nm: [10, 10, 10]}}}}
steps:
  network:
    stage: predict
    reads: {{image: image}}
    params: {{model: {model}, runtime: {runtime}, precision: {precision}, tile_zyx: {tile}, overlap_zyx: {overlap}}}
"""


def clocks() -> np.ndarray:
    """Return wall and CPU seconds."""
    return np.array([time.perf_counter(), time.process_time()])


@contextlib.contextmanager
def timed(owner: object, name: str, times: list[np.ndarray]) -> Iterator[None]:
    """Note the wall and CPU time of every call of a function while the block runs."""
    original = getattr(owner, name)

    def measured(*arguments: object, **named: object) -> object:
        started = clocks()
        try:
            return original(*arguments, **named)
        finally:
            times.append(clocks() - started)

    setattr(owner, name, measured)
    try:
        yield
    finally:
        setattr(owner, name, original)


def cube(image: np.ndarray, side: int) -> np.ndarray:
    """Return a cube of tissue: the image and its mirror images."""
    z, y, x = (np.pad(np.arange(n), (0, max(0, side - n)), mode="symmetric")[:side] for n in image.shape)
    return np.ascontiguousarray(image[np.ix_(z, y, x)])


def step_seconds(networks: Networks, sides: tuple[int, int], runtime: Runtime, model: Path) -> tuple[np.ndarray, ...]:
    """Return wall and CPU seconds of a whole predict step on a sharded volume, of its reads, and of its writes.

    ``sides`` are those of the volume and of a block.
    """
    side, block = sides
    image, reads, writes = cube(networks.image, side), list[np.ndarray](), list[np.ndarray]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layout = {"shape_zyx": image.shape, "block_zyx": (block,) * 3, "voxel_size_nm": (10, 10, 10)}
        sharded = create_volume(folder / "em.zarr", dtype="uint8", kind="image", **layout)
        sharded.write(sharded.box, image)
        choices = {
            "runtime": runtime.name,
            "precision": runtime.precision,
            "tile": list(TILE),
            "overlap": list(OVERLAP),
        }
        (folder / "io.yaml").write_text(WORKFLOW.format(image=folder / "em.zarr", model=model, block=block, **choices))
        workflow = load_workflow(folder / "io.yaml", Choices())
        started = clocks()
        with timed(engine_inputs.InputVolume, "read", reads), timed(engine_execute, "write_layers", writes):
            run_workflow(workflow, folder / "runs", "serial", 1).raise_if_failed()
        total = clocks() - started
    return total, np.sum(reads, axis=0), np.sum(writes, axis=0)


def measure_io(networks: Networks, sides: tuple[int, int]) -> None:
    """Print what share of a step is not computing."""
    with tempfile.TemporaryDirectory() as name:
        for precision in ("float32", "bfloat16", "int8"):
            model = networks.int8_folder(Path(name)) if precision == "int8" else networks.folder
            total, read, write = step_seconds(networks, sides, Runtime("openvino", precision), model)
            for kind, at in (("wall", 0), ("CPU", 1)):
                share = (read + write)[at] / total[at]
                what = f"step of {sides[0]}^3, blocks of {sides[1]}^3, {precision}: I/O, {kind} s"
                value = f"{read[at]:.1f} + {write[at]:.1f} of {total[at]:.0f} {share:5.1%}"
                row(what, value, "at most 5 %", share <= 0.05)


def segmentation_voi(affinities: np.ndarray, truth: np.ndarray, sections: slice) -> dict[float, float]:
    """Return threshold -> VOI (bits) on some sections of a segmentation made of all."""
    fragments, merges = merge_history(affinities, WHOLE)
    found = {}
    for threshold in (0.1, 0.15, THRESHOLD, 0.25, 0.3, 0.4):
        labels = np.ascontiguousarray(relabel(fragments, *cut(merges, threshold))[sections])
        voi = variation_of_information(count_pairs(truth, labels))
        found[threshold] = voi.split + voi.merge
    return found


def truth_of(sections: slice) -> np.ndarray:
    """Return true neuron ids of some sections of FIB-25."""
    with h5py.File(FIB25) as file:
        return file["volumes/labels/neuron_ids"][sections]


def measure_voi(networks: Networks) -> None:
    """Print what 8 bits change in the segmentation of tissue that trained nothing."""
    image, bounds = networks.image, Box.of_shape(networks.image.shape)
    tiling = Tiling(TILE, OVERLAP, NO_BLEND, networks.info.architecture.multiple)
    sections = slice(120, 160)
    truth = truth_of(sections)
    found = {}
    for precision in ("float32", "bfloat16", "int8"):
        affinities = predict(networks.runner(precision), image, bounds, bounds, bounds, tiling)["affinities"]
        found[precision] = segmentation_voi(affinities, truth, sections)[THRESHOLD]
        apart = found[precision] - found["float32"]
        limit, holds = ("at most +0.02 bits", apart <= 0.02) if precision == "int8" else ("", None)
        row(f"FIB-25 z 120-159, VOI, openvino {precision}", f"{found[precision]:.3f} bits {apart:+.3f}", limit, holds)


def measure_gpu(networks: Networks) -> None:
    """Print what a GPU does, if there is one."""
    if not torch.cuda.is_available():
        row("GPU: output voxels/s end to end; fraction of bf16 peak", "not measured", "no CUDA device")
        return
    device = torch.cuda.get_device_name()
    a = torch.randn((8192, 8192), device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(10):
        a @ a
    torch.cuda.synchronize()
    peak = 10 * 2 * 8192**3 / (time.perf_counter() - started)
    row(f"{device}: bf16 matrix product", f"{peak / 1e12:.0f} TFLOP/s")
    tiles = [np.resize(networks.image, (264, 264, 264))] * 12
    for precision in ("bfloat16", "float16"):
        runner = open_runner(networks.folder, Runtime("cuda", precision))
        list(runner.run_all(tiles[:2]))
        started = time.perf_counter()
        count = sum(values.shape[1] * values.shape[2] * values.shape[3] for values in runner.run_all(tiles))
        rate = count / (time.perf_counter() - started)
        row(f"{device}: tiles 264^3, {precision}", f"{rate / 1e6:.0f} Mvoxel/s {rate * networks.flops / peak:.0%}")
    total, read, write = step_seconds(networks, (512, 256), Runtime("cuda", "bfloat16"), networks.folder)
    rate = 512**3 / total[0]
    row(f"{device}: end to end", f"{rate / 1e6:.0f} Mvoxel/s", "at least 100 Mvoxel/s (H100)", rate >= 1e8)
    row(f"{device}: of that, read and write", f"{((read + write) / total)[0]:.0%}")


def measure_memory(networks: Networks) -> None:
    """Print the memory that a tile takes, over what the process held before."""
    width = networks.info.architecture.widths[0]
    values = normalised(networks.image[: TILE[0], : TILE[1], : TILE[2]], networks.info)
    for runtime in (Runtime(), *(Runtime("openvino", p) for p in ("float32", "bfloat16", "int8"))):
        runner = networks.int8() if runtime.precision == "int8" else open_runner(networks.folder, runtime)
        runner.run(values[:, :, :16, :16, :16])
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        runner.run(values)
        each = (_status("VmHWM") - before) / values.size
        row(
            f"memory of a tile, {runtime.name} {runtime.precision}",
            f"{each:.0f} bytes/voxel {each / width:.1f} x width",
        )
        del runner


def _status(key: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{key}:")[1].split()[0]) * 1024


def measure_context(networks: Networks, side: int = 96, count: int = 24) -> None:
    """Print the balanced error of affinities by distance to the nearest face of a tile, sections 0-119."""
    truth, random = truth_of(slice(0, 120)), np.random.default_rng(0)
    same = np.zeros((3, *truth.shape), bool)
    same[0, 1:], same[1, :, 1:] = truth[1:] == truth[:-1], truth[:, 1:] == truth[:, :-1]
    same[2, :, :, 1:] = truth[:, :, 1:] == truth[:, :, :-1]
    near = np.minimum(np.arange(side), side - 1 - np.arange(side))
    distance = np.minimum(np.minimum(near[:, None, None], near[None, :, None]), near[None, None, :])
    sums, counts = np.zeros(side // 2), np.zeros(side // 2)
    runner = networks.runner("float32")
    for _ in range(count):
        start = [int(random.integers(0, n - side + 1)) for n in truth.shape]
        place = tuple(slice(a, a + side) for a in start)
        found = runner.run(normalised(networks.image[place], networks.info)) > 0.5
        for channel in range(3):
            true = same[channel][place]
            weights = np.where(true, 0.5 / true.mean(), 0.5 / (1 - true.mean()))
            inner = np.arange(side).reshape([-1 if axis == channel else 1 for axis in range(3)]) > 0
            used = np.broadcast_to(inner, true.shape)
            sums += np.bincount(distance[used], ((found[channel] != true) * weights)[used], side // 2)
            counts += np.bincount(distance[used], minlength=side // 2)
    for d in (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 40):
        row(f"balanced error of affinities, {d:2} voxels from the face of a tile", f"{sums[d] / counts[d]:.4f}")


def measure_overlap(networks: Networks) -> None:
    """Print VOI on sections 60-119 by tile, overlap and blend."""
    image, bounds, core = networks.image[:120], Box((0, 0, 0), (120, 250, 250)), Box((60, 0, 0), (120, 250, 250))
    truth, runner = truth_of(slice(60, 120)), networks.runner("float32")
    for tile, overlap in itertools.chain([(160, 32), (144, 16), (136, 8)], [(96, 32), (80, 16), (72, 8), (64, 0)]):
        for blend in sorted({0, overlap // 2, overlap}):
            tiling = Tiling((tile,) * 3, (overlap,) * 3, (blend,) * 3, networks.info.architecture.multiple)
            affinities = predict(runner, image, bounds, core, bounds, tiling)["affinities"]
            voi = segmentation_voi(affinities, truth, slice(None))
            best = min(voi.values())
            row(f"tile {tile}, overlap {overlap}, blend {blend}", f"VOI {voi[THRESHOLD]:.3f}, best {best:.3f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS[:5]))
    parser.add_argument("--side", type=int, default=384, help="of the cube that the step's I/O share is measured on")
    parser.add_argument("--block", type=int, default=128, help="side of its blocks, a multiple of 128")
    options = parser.parse_args()
    if not FIB25.is_file():
        parser.error(f"no {FIB25}; set BOUTON_DATA")
    torch.set_num_threads(1)
    networks = Networks()
    actions = {
        "peak": measure_peak,
        "peers": measure_peers,
        "io": lambda networks: measure_io(networks, (options.side, options.block)),
        "voi": measure_voi,
        "gpu": measure_gpu,
        "memory": measure_memory,
        "context": measure_context,
        "overlap": measure_overlap,
    }
    for name in sorted(options.rows, key=ROWS.index):
        actions[name](networks)


if __name__ == "__main__":
    main()
