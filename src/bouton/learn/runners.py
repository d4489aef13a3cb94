"""What runs a network on a tile: torch (the reference), OpenVINO or CUDA, behind one interface; needs none of them.

A forest runs behind the same interface.

Every runner gives the same bits for the same tile, whatever came before it: one shape, batch 1, one thread. Different
runners, precisions and processors differ by rounding; docs/stages/predict.md says how much.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

from bouton.errors import SpecError
from bouton.geometry import ZYX
from bouton.learn.forest_info import ForestArchitecture
from bouton.learn.info import Architecture, ModelInfo, read_info
from bouton.learn.symmetry import FLIPS, Symmetric, check_flips

PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "torch": ("float32",),
    "openvino": ("float32", "bfloat16", "int8"),
    "cuda": ("float32", "bfloat16", "float16"),
}
# Bytes a voxel of a tile for each channel of the finest level, measured (benchmarks/inference.py --rows memory).
TILE_BYTES: Mapping[tuple[str, str], float] = {
    ("torch", "float32"): 28.0,
    ("openvino", "float32"): 18.0,
    ("openvino", "bfloat16"): 10.0,
    ("openvino", "int8"): 9.5,
}
FOREST_BYTES = 40.0
WANTED = "openvino 2026.4"


@dataclass(frozen=True)
class Runtime:
    """What a network is run with.

    Attributes
    ----------
    name, precision : str
        A key of :data:`PRECISIONS` and one of its values.
    flips : str
        ``none``, or the mean over the symmetric images of a tile: ``yx`` (8) or ``zyx`` (16).
    """

    name: str = "torch"
    precision: str = "float32"
    flips: str = "none"

    def __post_init__(self) -> None:
        if self.name not in PRECISIONS:
            raise SpecError(f"runtime {self.name!r}", expected=f"one of {', '.join(PRECISIONS)}")
        if self.precision not in PRECISIONS[self.name]:
            known = ", ".join(PRECISIONS[self.name])
            others = [name for name, found in PRECISIONS.items() if self.precision in found]
            fix = f"runtime {' or '.join(others)} has {self.precision}" if others else ""
            raise SpecError(f"precision {self.precision!r} with runtime {self.name!r}", expected=known, fix=fix)
        if self.flips not in FLIPS:
            raise SpecError(f"flips {self.flips!r}", expected=f"one of {', '.join(FLIPS)}")


class Runner(Protocol):
    """Runs one network."""

    info: ModelInfo

    def run(self, values: np.ndarray) -> np.ndarray:
        """Return probabilities, float32 (c, z, y, x), of a normalised image, float32 (1, 1, z, y, x)."""

    def run_all(self, tiles: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield probabilities times 255, uint8 (c, z, y, x), of each image, uint8 (z, y, x).

        A yielded array is the caller's until the next one is asked for.
        """


def check_runtime(info: ModelInfo, runtime: Runtime) -> None:
    """Check, before anything runs, that a model can be run so.

    Raises
    ------
    SpecError
        A package is not installed, or the model is an ONNX graph, cannot be flipped, or is a forest.
    """
    if isinstance(info.architecture, ForestArchitecture):
        if runtime != Runtime():
            raise SpecError(
                f"runtime {runtime.name}, {runtime.precision}, flips {runtime.flips}, but the model is a forest",
                expected="none of them: a forest runs as it is", fix="leave params.runtime, precision and flips out",
            )  # fmt: skip
        return
    if runtime.name == "openvino":
        require("openvino", WANTED, "openvino")
    elif not isinstance(info.architecture, Architecture):
        raise SpecError(
            f"runtime {runtime.name!r}, but the model is an ONNX graph", expected="runtime openvino, which runs graphs",
            fix="params.runtime: openvino",
        )  # fmt: skip
    check_flips(info, runtime.flips)


def open_runner(path: Path, runtime: Runtime) -> Runner:
    """Return what runs the model in folder ``path``.

    Raises
    ------
    SpecError
        A package is not installed, there is no such device, or the model does not go with ``runtime``.
    DataError
        The model is damaged.
    """
    info = read_info(path)
    if isinstance(info.architecture, ForestArchitecture):
        check_runtime(info, runtime)
        # numba's kernels are compiled when they are imported: only who runs a forest waits for them
        from bouton.learn.runners_forest import open_forest

        return open_forest(path)
    # torch and OpenVINO take seconds to import: only who runs a network waits for them
    if runtime.name == "openvino":
        require("openvino", WANTED, "openvino")
        from bouton.learn.runners_openvino import open_openvino

        runner: Runner = open_openvino(path, runtime.precision)
    else:
        from bouton.learn.model import load_model
        from bouton.learn.runners_torch import CudaRunner, TorchRunner

        model = load_model(path)
        runner = CudaRunner(model, runtime.precision) if runtime.name == "cuda" else TorchRunner(model)
    check_runtime(runner.info, runtime)
    if runtime.flips == "none":
        return runner
    return InOrder(Symmetric(runner, runtime.flips))


class _Runs(Protocol):
    info: ModelInfo

    def run(self, values: np.ndarray) -> np.ndarray: ...


class InOrder:
    """A runner that runs tile after tile."""

    def __init__(self, runs: _Runs) -> None:
        self.info, self.run = runs.info, runs.run

    def run_all(self, tiles: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield probabilities times 255, uint8 (c, z, y, x), of each image, uint8 (z, y, x)."""
        for tile in tiles:
            yield to_bytes(self.run(normalised(tile, self.info)))


def normalised(tile: np.ndarray, info: ModelInfo) -> np.ndarray:
    """Return an image, uint8 (z, y, x), as float32 (1, 1, z, y, x): (image - mean) / std."""
    values = tile.astype(np.float32)
    values -= np.float32(info.mean)
    values /= np.float32(info.std)
    return values[None, None]


def to_bytes(probabilities: np.ndarray) -> np.ndarray:
    """Return probabilities times 255, rounded, as uint8; halves go up, on every processor."""
    values = probabilities * np.float32(255)
    values += np.float32(0.5)
    return values.astype(np.uint8)


def tile_bytes(info: ModelInfo, runtime: Runtime, tile: ZYX) -> int:
    """Return an upper estimate of the memory that running one tile takes; on a GPU, of the machine's own memory."""
    z, y, x = tile
    if isinstance(info.architecture, ForestArchitecture):
        return int(z * y * x * FOREST_BYTES)
    each = TILE_BYTES.get((runtime.name, runtime.precision), 0.0)
    # of a network that came from elsewhere nobody knows the width
    width = info.architecture.widths[0] if isinstance(info.architecture, Architecture) else 32
    variants = 8 * info.architecture.outputs if runtime.flips != "none" else 0
    return int(z * y * x * (each * width + 12 * info.architecture.outputs + variants + 8))


def require(module: str, wanted: str, extra: str) -> None:
    """Raise :class:`SpecError` unless ``module`` is installed; ``extra`` of bouton brings it."""
    if find_spec(module) is None:
        fix = f"pip install 'bouton[{extra}]'"
        raise SpecError(f"the package {module} is not installed", expected=f"{wanted} or later", fix=fix)
