"""OpenVINO (https://docs.openvino.ai) as a runner: the same network, compiled for this processor; CPU only.

Sources of the graph: the network's weights (float32, bfloat16), ``int8.xml`` that `bouton quantise` put into the
model's folder, or the ``network.onnx`` of a model that came from elsewhere. No usage statistics are sent anywhere.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bouton.errors import DataError, RunError
from bouton.learn.card import GRAPH
from bouton.learn.info import ModelInfo, OnnxGraph, read_info
from bouton.learn.int8 import GRAPH_FILE
from bouton.learn.package import check_package
from bouton.learn.runners import InOrder

if TYPE_CHECKING:
    from bouton.learn.model import Model

HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
MOST_SHAPES = 8


def open_openvino(path: Path, precision: str) -> OpenVinoRunner:
    """Return what runs the model in folder ``path``.

    Raises
    ------
    DataError
        The model is damaged, or has no 8-bit graph.
    RunError
        The processor cannot compute in ``precision``.
    """
    if precision == "int8":
        return OpenVinoRunner(read_info(path), read_graph(path / GRAPH_FILE), precision)
    return OpenVinoRunner(read_info(path), float_graph(path), precision)


def float_graph(path: Path) -> Any:
    """Return the ``openvino.Model`` of the model in folder ``path``, as :func:`graph_of` does.

    Raises
    ------
    DataError
        The model is damaged.
    """
    if isinstance(read_info(path).architecture, OnnxGraph):
        check_package(path)
        return read_graph(path / GRAPH)
    from bouton.learn.model import load_model

    return graph_of(load_model(path))


def graph_of(model: Model) -> Any:
    """Return an ``openvino.Model`` of a network: float32 (1, inputs, z, y, x) of any shape -> logits."""
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # openvino.convert_model does the same, and reports to a statistics server
    frontend = FrontEndManager().load_by_framework("pytorch")
    example = torch.zeros((1, model.info.architecture.inputs, *model.info.architecture.multiple))
    with torch.inference_mode(), warnings.catch_warnings():
        # OpenVINO's own tracer, which torch has deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        decoder = TorchScriptPythonDecoder(model.network, example_input=example)
        return frontend.convert(frontend.load(decoder))


def read_graph(path: Path) -> Any:
    """Return the ``openvino.Model`` in an ``.xml`` or ``.onnx`` file.

    Raises
    ------
    DataError
        There is none, or it is damaged.
    """
    import openvino

    if not path.is_file():
        fix = (
            f"bouton quantise {path.parent} IMAGE --out FOLDER"
            if path.name == GRAPH_FILE
            else "restore the model's folder"
        )
        raise DataError(f"the model has no {path.name}", where=str(path.parent), fix=fix)
    try:
        return openvino.Core().read_model(path)
    except RuntimeError as error:
        raise DataError(
            f"OpenVINO cannot read {path.name} ({_last_line(error)})",
            where=str(path.parent), fix="restore the file, or make it again",
        ) from None  # fmt: skip


class _OpenVinoTile:
    def __init__(self, info: ModelInfo, graph: Any, precision: str) -> None:
        import openvino

        self.info, self._graph, self._core = info, _with_sigmoid(graph, info), openvino.Core()
        self._hint = HINTS[precision]
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bfloat16" and "BF16" not in able:
            raise RunError(
                "precision bfloat16 on a processor without it", expected=f"one of its own: {', '.join(able)}",
                fix="params.precision: float32, or int8",
            )  # fmt: skip

    def run(self, values: np.ndarray) -> np.ndarray:
        """Return probabilities, float32 (c, z, y, x), of a normalised image, float32 (1, 1, z, y, x)."""
        request = self._request(values.shape)
        request.infer([values], share_inputs=True)
        # the request keeps its own memory and uses it again
        return np.array(request.get_output_tensor(0).data[0])

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._requests:
            if len(self._requests) == MOST_SHAPES:
                self._requests.popitem(last=False)
            self._requests[shape] = self._compiled(shape)
        self._requests.move_to_end(shape)
        return self._requests[shape]

    def _compiled(self, shape: tuple[int, ...]) -> Any:
        # one thread: sums then come out in one order, and workers share the cores among themselves
        settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": self._hint}
        try:
            self._graph.reshape(list(shape))
            return self._core.compile_model(self._graph, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            raise RunError(
                f"OpenVINO cannot compile the network for an input of {shape} ({_last_line(error)})",
                fix="params.runtime: torch shows whether the model itself is sound",
            ) from None


class OpenVinoRunner(InOrder):
    """Runs a graph with OpenVINO on one thread of the CPU.

    Parameters
    ----------
    info : ModelInfo
    graph : openvino.Model
        float32 (1, 1, z, y, x) -> float32 (1, c, z, y, x).
    precision : str
        ``float32``, ``bfloat16``, or ``int8`` for a graph that says itself what is computed in 8 bits.
    """

    def __init__(self, info: ModelInfo, graph: Any, precision: str) -> None:
        super().__init__(_OpenVinoTile(info, graph, precision))


def _with_sigmoid(graph: Any, info: ModelInfo) -> Any:
    """Return a graph of probabilities, in float32 whatever is computed before."""
    from openvino import Model as Graph
    from openvino import opset13 as ops

    if isinstance(info.architecture, OnnxGraph) and not info.architecture.logits:
        return graph
    logits = graph.outputs[0].get_node().input_value(0)
    softened = ops.divide(logits, ops.constant(np.float32(info.temperature)))
    return Graph([ops.sigmoid(softened)], graph.get_parameters(), "probabilities")


def _last_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:120]
