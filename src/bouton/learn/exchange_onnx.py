"""ONNX (https://onnx.ai) out and in: a network of bouton's as a graph, and a graph from elsewhere as a model.

A graph of bouton's takes ``image``, float32 (n, 1, z, y, x), normalised as the card says, and returns
``probabilities``, float32 (n, outputs, z, y, x). It carries the card in its metadata and keeps the names of the
tensors, so it comes back as the same model, byte for byte. A graph from elsewhere is kept as it is (``network.onnx``)
and never runs as code: operators that are not ONNX's own, or that read other files, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.geometry import NM, ZYX
from bouton.learn.card import CARD, WEIGHTS, Card, Weights, parse_card
from bouton.learn.info import HEADS, Architecture, ModelInfo, OnnxGraph, network_of
from bouton.learn.package import package_files, read_package, weights_of
from bouton.learn.runners import require

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

WANTED, EXTRA = "onnx 1.18", "bioimage"
METADATA_KEY = "bouton_card"
IMAGE, PROBABILITIES = "image", "probabilities"
OPSET, IR_VERSION = 17, 8
LARGEST_BYTES = 1 << 31
OWN_DOMAINS = ("", "ai.onnx")
SQUASHING = ("Sigmoid", "HardSigmoid", "Softmax", "Clip")


@dataclass(frozen=True)
class Given:
    """What a graph from elsewhere does not say of itself.

    Attributes
    ----------
    name, description, licence : str
    heads : tuple of str
        What its outputs are, in the order of their channels.
    voxel_size_nm : (z, y, x), optional
    tile_zyx : (z, y, x), optional
        Voxels it sees at once.
    overlap_zyx : (z, y, x), optional
        How many of them neighbouring tiles share; by default, a quarter.
    multiple : (z, y, x), optional
        What the shape of an input must be divisible by; by default, the tile.
    mean, std : float, optional
        Images, 0 to 255, enter as (image - mean) / std.
    output : str
        Which of its outputs is meant; "" where it has one.
    logits : bool, optional
        Whether a sigmoid is still to come; by default, as its last operator tells.
    """

    name: str
    description: str = ""
    licence: str = "not stated"
    heads: tuple[str, ...] = ()
    voxel_size_nm: NM | None = None
    tile_zyx: ZYX | None = None
    overlap_zyx: ZYX | None = None
    multiple: ZYX | None = None
    mean: float | None = None
    std: float | None = None
    output: str = ""
    logits: bool | None = None


def onnx_bytes(folder: str | Path) -> bytes:
    """Return the model in ``folder`` as an ONNX graph.

    Raises
    ------
    SpecError
        The package onnx is not installed.
    DataError
        The model is damaged, or an ONNX graph already.
    """
    require("onnx", WANTED, EXTRA)
    card, data = read_package(folder)
    network_of(card.prediction)
    weights = weights_of(card, data, Path(folder) / WEIGHTS)
    return _graph_bytes(card, weights, (Path(folder) / CARD).read_text())


def _graph_bytes(card: Card, weights: Mapping[str, np.ndarray], card_text: str) -> bytes:
    from onnx import TensorProto, checker, helper, numpy_helper

    info, architecture = card.prediction, network_of(card.prediction)
    constants = {"temperature": np.float32(info.temperature)}
    initial = [
        numpy_helper.from_array(np.asarray(value), name) for name, value in sorted({**weights, **constants}.items())
    ]
    shape = ["n", None, "z", "y", "x"]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [*shape[:1], channels, *shape[2:]])
        for name, channels in ((IMAGE, 1), (PROBABILITIES, architecture.outputs))
    ]
    graph = helper.make_graph([*_nodes(architecture)], card.name, ends[:1], ends[1:], initial)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="bouton"
    )
    helper.set_model_props(model, {METADATA_KEY: card_text})
    checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _nodes(architecture: Architecture) -> Iterator[NodeProto]:
    """Yield the operators of :class:`bouton.learn.network.ResidualUNet`, in its order."""
    from onnx import helper

    def convolution(x: str, name: str, kernel: ZYX) -> NodeProto:
        inputs, pads = [x, f"{name}.weight", f"{name}.bias"], [size // 2 for size in kernel] * 2
        return helper.make_node("Conv", inputs, [name], name=name, kernel_shape=[*kernel], pads=pads)

    def relu(x: str, name: str) -> NodeProto:
        return helper.make_node("Relu", [x], [name], name=name)

    def residual(x: str, name: str, kernel: ZYX) -> Iterator[NodeProto]:
        yield relu(x, f"{name}.relu")
        yield convolution(f"{name}.relu", f"{name}.first", kernel)
        yield relu(f"{name}.first", f"{name}.first.relu")
        yield convolution(f"{name}.first.relu", f"{name}.second", kernel)
        yield helper.make_node("Add", [x, f"{name}.second"], [name], name=name)

    kernels, pools = architecture.kernels, architecture.pools
    yield convolution(IMAGE, "entry", architecture.entry)
    x = "entry"
    for level, kernel in enumerate(kernels):
        yield from residual(x, f"down.{level}", kernel)
        x = f"down.{level}"
        if level < len(pools):
            pool = [*pools[level]]
            yield helper.make_node("MaxPool", [x], [f"pool.{level}"], kernel_shape=pool, strides=pool)
            yield convolution(f"pool.{level}", f"wider.{level}", (1, 1, 1))
            x = f"wider.{level}"
    for level in reversed(range(len(pools))):
        name, pool = f"finer.{level}", [*pools[level]]
        inputs = [x, f"{name}.weight", f"{name}.bias"]
        yield helper.make_node("ConvTranspose", inputs, [name], name=name, kernel_shape=pool, strides=pool)
        yield helper.make_node("Add", [name, f"down.{level}"], [f"sum.{level}"], name=f"sum.{level}")
        yield from residual(f"sum.{level}", f"up.{level}", kernels[level])
        x = f"up.{level}"
    yield relu(x, "exit.relu")
    yield convolution("exit.relu", "exit", (1, 1, 1))
    yield helper.make_node("Div", ["exit", "temperature"], ["softened"], name="softened")
    yield helper.make_node("Sigmoid", ["softened"], [PROBABILITIES], name=PROBABILITIES)


def import_onnx(data: bytes, where: str | Path, given: Given) -> dict[str, bytes]:
    """Return the files of the model's folder that an ONNX file becomes: name -> bytes.

    One that :func:`onnx_bytes` made comes back as it was, and ``given`` adds nothing to it.

    Raises
    ------
    DataError
        It is no ONNX, reads other files, needs operators that are not ONNX's own, or has inputs and outputs that are
        not those of a network from an image to probabilities.
    SpecError
        It does not say what ``given`` leaves out.
    """
    model = _parsed(data, where)
    props = {prop.key: prop.value for prop in model.metadata_props}
    if METADATA_KEY in props:
        return _own(model, props[METADATA_KEY].encode(), where)
    graph, given = _graph(model, given, where)
    card = Card(
        name=given.name,
        description=given.description,
        notes=(f"Imported from {Path(where).name}, made by {model.producer_name or 'an unknown program'}.",),
        prediction=_prediction(graph, given),
        weights=Weights(sha256="0" * 64, licence=given.licence),
    )
    kept = [output for output in model.graph.output if output.name == graph.output]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return package_files(card, bytes(model.SerializeToString(deterministic=True)))


def _parsed(data: bytes, where: str | Path) -> ModelProto:
    require("onnx", WANTED, EXTRA)
    import onnx
    from google.protobuf.message import DecodeError

    fix = "export the network again, as one ONNX file"
    if len(data) > LARGEST_BYTES:
        raise DataError(f"{len(data)} bytes of ONNX", where=str(where), expected=f"at most {LARGEST_BYTES}", fix=fix)
    try:
        model = onnx.load_model_from_string(data)
        _check_own(model, where)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
        raise DataError(f"no ONNX, or a damaged one ({reason})", where=str(where), expected="ONNX", fix=fix) from None
    return model


def _check_own(model: ModelProto, where: str | Path) -> None:
    """Refuse what would read other files or need code: tensors kept apart, and operators that are not ONNX's own."""
    from onnx import TensorProto

    fix = "export the network again, with ONNX's own operators and its weights inside"
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise DataError(f"ONNX whose tensor {tensor.name} is in another file", where=str(where), fix=fix)
    foreign = sorted({node.op_type for node in _all_nodes(model.graph) if node.domain not in OWN_DOMAINS})
    if foreign or model.functions:
        what = f"operator {foreign[0]}" if foreign else "functions of its own"
        raise DataError(f"ONNX with {what}", where=str(where), expected="operators of ONNX alone", fix=fix)


def _all_nodes(graph: Any) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _all_nodes(inner)


def _own(model: ModelProto, text: bytes, where: str | Path) -> dict[str, bytes]:
    from onnx import numpy_helper

    card = parse_card(text, where)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    files = package_files(card, {name: value for name, value in found.items() if name.startswith(_LAYERS)})
    if parse_card(files[CARD], where).weights.sha256 != card.weights.sha256:
        raise DataError(
            f"an export of bouton's whose {WEIGHTS} were changed afterwards", where=str(where),
            expected=f"weights of SHA-256 {card.weights.sha256}", fix="export the model again: bouton model export",
        )  # fmt: skip
    return {WEIGHTS: files[WEIGHTS], CARD: text}


_LAYERS = ("entry.", "down.", "up.", "wider.", "finer.", "exit.")


def _graph(model: ModelProto, given: Given, where: str | Path) -> tuple[OnnxGraph, Given]:
    """Return the one input and output, and ``given`` with the tile where the graph fixes it."""
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in initial]
    outputs = [each for each in model.graph.output if given.output in ("", each.name)]
    names = ", ".join(each.name for each in model.graph.output)
    if len(inputs) != 1 or len(outputs) != 1:
        raise DataError(
            f"ONNX of {len(inputs)} inputs and of outputs {names}", where=str(where),
            expected="one input, and one output or its name", fix="name the output: --output NAME",
        )  # fmt: skip
    into, out = _sizes(inputs[0]), _sizes(outputs[0])
    if len(into) != 5 or len(out) != 5 or into[1] not in (None, 1) or into[0] not in (None, 1):
        shown = " -> ".join(str(tuple("?" if n is None else n for n in sizes)) for sizes in (into, out))
        raise DataError(
            f"ONNX that maps {shown}", where=str(where), expected="(1, 1, z, y, x) -> (1, channels, z, y, x)",
            fix="bouton runs networks of three dimensions and one channel",
        )  # fmt: skip
    given = _with_tile(given, into[2:])
    multiple = given.multiple or given.tile_zyx
    assert multiple is not None
    channels = out[1] or sum((HEADS.get(head) or 0) for head in given.heads)
    last = next((node.op_type for node in model.graph.node if outputs[0].name in node.output), "")
    logits = last not in SQUASHING if given.logits is None else given.logits
    return OnnxGraph(inputs[0].name, outputs[0].name, channels, multiple, logits), given


def _sizes(value: Any) -> list[int | None]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims]


def _with_tile(given: Given, sizes: list[int | None]) -> Given:
    """Return ``given`` with the tile that the graph fixes; or with its own, where that fits."""
    wanted = given.tile_zyx or (None, None, None)
    z, y, x = (fixed or size for fixed, size in zip(sizes, wanted, strict=True))
    if z is None or y is None or x is None:
        raise SpecError("the graph takes tiles of any size", expected="a size", fix="--tile-zyx 16,128,128")
    if given.tile_zyx not in (None, (z, y, x)):
        raise SpecError(f"tile {given.tile_zyx}", expected=f"{(z, y, x)}, which the graph fixes", fix="leave it out")
    return replace(given, tile_zyx=(z, y, x))


def _prediction(graph: OnnxGraph, given: Given) -> ModelInfo:
    missing = [
        f"{option} {example}"
        for value, option, example in (
            (given.heads or None, "--heads", "boundaries"),
            (given.voxel_size_nm, "--voxel-size-nm", "40,4,4"),
            (given.mean, "--mean", "0"),
            (given.std, "--std", "255"),
        )
        if value is None
    ]
    if missing or given.voxel_size_nm is None or given.mean is None or given.std is None or given.tile_zyx is None:
        raise SpecError(
            f"{given.name}: the file does not say {', '.join(word.split()[0][2:] for word in missing)}",
            expected="them to be given", fix=" ".join(missing),
        )  # fmt: skip
    unknown = [head for head in given.heads if head not in HEADS]
    if unknown:
        raise SpecError(f"head {unknown[0]!r}", expected=f"heads among {', '.join(HEADS)}", fix="--heads boundaries")
    z, y, x = (size // 4 for size in given.tile_zyx)
    return ModelInfo(
        architecture=graph,
        heads={head: HEADS[head] or 0 for head in given.heads},
        voxel_size_nm=given.voxel_size_nm,
        tile_zyx=given.tile_zyx,
        overlap_zyx=given.overlap_zyx or (z, y, x),
        mean=given.mean,
        std=given.std,
    )
