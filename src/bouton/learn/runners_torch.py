"""torch as a runner: on the CPU the reference that is always there, on a GPU through one CUDA graph for each shape."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bouton.errors import RunError
from bouton.learn.model import Model
from bouton.learn.runners import InOrder

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WORKER = "BOUTON_WORKER"
MOST_SHAPES = 4
WARM_UPS = 3
MALLOPT = ((-4, 0), (-1, 2**31 - 1))  # glibc: M_MMAP_MAX, M_TRIM_THRESHOLD


class _TorchTile:
    def __init__(self, model: Model) -> None:
        self.info, self._network = model.info, model.network

    def run(self, values: np.ndarray) -> np.ndarray:
        """Return probabilities, float32 (c, z, y, x), of a normalised image, float32 (1, 1, z, y, x)."""
        torch.set_num_threads(1)
        tensor = torch.from_numpy(values).to(memory_format=torch.channels_last_3d)
        with torch.inference_mode():
            logits = self._network(tensor)[0].float()
            result: np.ndarray = torch.sigmoid(logits / self.info.temperature).contiguous().numpy()
        return result


class TorchRunner(InOrder):
    """Runs a model with torch, in float32, on one thread."""

    def __init__(self, model: Model) -> None:
        keep_freed_memory()
        super().__init__(_TorchTile(model))


def keep_freed_memory() -> None:
    """Let this process keep memory that it frees, for its next layer, instead of asking the system for pages again.

    glibc maps every array above 32 MB afresh, and the system then clears each page: nearly half of the time of a large
    tile in torch. The engine gives freed memory back between tasks.
    """
    with contextlib.suppress(OSError, AttributeError):
        for parameter, value in MALLOPT:
            ctypes.CDLL(None).mallopt(parameter, value)


@dataclass(frozen=True)
class _Captured:
    """A CUDA graph for one shape: it reads ``image``, uint8 (1, 1, z, y, x), and writes ``values``."""

    graph: torch.cuda.CUDAGraph
    image: Tensor
    values: Tensor


class CudaRunner:
    """Runs a model on a GPU: upload, network and download of a tile are queued before the last tile is waited for.

    With several GPUs, worker process ``n`` takes the ``n``-th, counted around. Two or three workers a GPU hide the
    reading and writing of blocks.

    Raises
    ------
    RunError
        There is no GPU.
    """

    def __init__(self, model: Model, precision: str) -> None:
        if not torch.cuda.is_available():
            raise RunError(
                "runtime cuda, but torch finds no GPU", expected="an NVIDIA GPU and a torch built for CUDA",
                fix="params.runtime: openvino, or torch",
            )  # fmt: skip
        self.info, self._type = model.info, TYPES[precision]
        self._device = torch.device("cuda", int(os.environ.get(WORKER, "0")) % torch.cuda.device_count())
        # Picking kernels by timing, or summing in the order in which threads finish, would change bits between runs.
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        network = copy.deepcopy(model.network).to(self._device, self._type)
        self._network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._graphs: OrderedDict[tuple[int, ...], _Captured] = OrderedDict()
        self._buffers: dict[tuple[int, ...], Tensor] = {}

    def run(self, values: np.ndarray) -> np.ndarray:
        """Return probabilities, float32 (c, z, y, x), of a normalised image, float32 (1, 1, z, y, x)."""
        with torch.inference_mode():
            result: np.ndarray = self._probabilities(torch.from_numpy(values).to(self._device)).cpu().numpy()
        return result

    def run_all(self, tiles: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield probabilities times 255, uint8 (c, z, y, x), of each image, uint8 (z, y, x)."""
        before = None
        for number, tile in enumerate(tiles):
            queued = self._queue(tile, number % 2)
            if before is not None:
                yield _waited(*before)
            before = queued
        if before is not None:
            yield _waited(*before)

    def _probabilities(self, values: Tensor) -> Tensor:
        logits = self._network(values.to(self._type).to(memory_format=torch.channels_last_3d))[0]
        return torch.sigmoid(logits.float() / self.info.temperature).contiguous()

    def _forward(self, image: Tensor) -> Tensor:
        probabilities = self._probabilities((image.float() - self.info.mean) / self.info.std)
        return (probabilities * 255 + 0.5).to(torch.uint8)

    def _captured(self, shape: tuple[int, ...]) -> _Captured:
        if shape not in self._graphs:
            if len(self._graphs) == MOST_SHAPES:
                self._graphs.popitem(last=False)
            self._graphs[shape] = self._capture(shape)
        self._graphs.move_to_end(shape)
        return self._graphs[shape]

    def _capture(self, shape: tuple[int, ...]) -> _Captured:
        image = torch.zeros((1, 1, *shape), dtype=torch.uint8, device=self._device)
        side = torch.cuda.Stream(self._device)
        side.wait_stream(torch.cuda.current_stream(self._device))
        # libraries make their plans and buffers on the first calls, which a graph cannot record
        with torch.inference_mode(), torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self._forward(image)
        torch.cuda.current_stream(self._device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.device(self._device), torch.cuda.graph(graph):
            values = self._forward(image)
        return _Captured(graph, image, values)

    def _queue(self, tile: np.ndarray, turn: int) -> tuple[Tensor, torch.cuda.Event]:
        captured = self._captured(tile.shape)
        source, target = self._pinned(tile.shape, turn), self._pinned(tuple(captured.values.shape), turn)
        source.copy_(torch.from_numpy(tile))
        with torch.cuda.device(self._device):
            captured.image[0, 0].copy_(source, non_blocking=True)
            captured.graph.replay()
            target.copy_(captured.values, non_blocking=True)
            done = torch.cuda.Event()
            done.record()
        return target, done

    def _pinned(self, shape: tuple[int, ...], turn: int) -> Tensor:
        """Return page-locked memory that the GPU can copy from and to meanwhile; two of each, used in turn."""
        key = (*shape, turn)
        if key not in self._buffers:
            self._buffers[key] = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        return self._buffers[key]


def _waited(target: Tensor, done: torch.cuda.Event) -> np.ndarray:
    done.synchronize()
    return np.asarray(target.numpy())
