"""What a model says of itself, and what that costs; needs no torch, so that plans are made without waiting for it.

It is the part ``prediction`` of a model's card (:mod:`bouton.learn.card`): all that applying a network takes, weights
apart.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Discriminator, Tag

from bouton.errors import DataError, SpecError
from bouton.geometry import NM, ZYX
from bouton.learn.forest_info import ForestArchitecture, windows_of

HEADS: Mapping[str, int | None] = {
    "affinities": 3,
    "long_affinities": None,  # as many as the model's ``long_offsets``
    "boundaries": 1,
    "synapse_evidence": 4,  # cleft, presynaptic side, postsynaptic side, excitatory
    "clefts": 1,
    "vesicles": 1,
    "mitochondria": 1,
    "tissue": 3,  # myelin, glia, soma
    "partners": 2,  # of one cleft that the network is shown: presynaptic cell, postsynaptic cell
}
STRICT: Mapping[str, Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True)
class Architecture:
    """The shape of a network.

    Attributes
    ----------
    widths : tuple of int
        Channels of each level, finest first.
    kernels : tuple of (z, y, x)
        Kernel of each level's convolutions; odd.
    pools : tuple of (z, y, x)
        Factor between a level and the next; one fewer than levels.
    entry : (z, y, x)
        Kernel of the first convolution; odd.
    outputs : int
        Channels of the last layer.
    inputs : int
        Channels of what it sees: 1, the image; 2, the image and the mask of one cleft.
    """

    __pydantic_config__: ClassVar[Any] = STRICT

    widths: tuple[int, ...]
    kernels: tuple[ZYX, ...]
    pools: tuple[ZYX, ...]
    entry: ZYX
    outputs: int
    inputs: int = 1

    def __post_init__(self) -> None:
        if not self.widths or len(self.kernels) != len(self.widths) or len(self.pools) != len(self.widths) - 1:
            raise SpecError(
                f"network of {len(self.widths)} widths, {len(self.kernels)} kernels, {len(self.pools)} pools",
                expected="n widths, n kernels and n - 1 pools, n at least 1",
            )
        if any(size % 2 == 0 or size < 1 for kernel in (*self.kernels, self.entry) for size in kernel):
            raise SpecError(f"kernels {self.kernels}, entry {self.entry}", expected="odd sizes")
        if min(*self.widths, self.outputs, self.inputs) < 1 or any(size < 1 for pool in self.pools for size in pool):
            raise SpecError("a width, pool or number of channels below 1", expected="at least 1")

    @property
    def multiple(self) -> ZYX:
        """What the shape of an input must be divisible by."""
        z = y = x = 1
        for pool in self.pools:
            z, y, x = z * pool[0], y * pool[1], x * pool[2]
        return z, y, x


@dataclass(frozen=True)
class OnnxGraph:
    """A network that came as an ONNX graph: only OpenVINO runs it.

    Attributes
    ----------
    input, output : str
        Names of its tensors, float32 (1, 1, z, y, x) and (1, outputs, z, y, x) of one shape.
    outputs : int
    multiple : (z, y, x)
        What the shape of an input must be divisible by.
    logits : bool
        Whether a sigmoid is still to come; without it, outputs are probabilities.
    """

    __pydantic_config__: ClassVar[Any] = STRICT

    input: str
    output: str
    outputs: int
    multiple: ZYX
    logits: bool
    inputs: ClassVar[int] = 1


def _kind(value: Any) -> str:
    """Return which of the three a card's ``architecture`` is."""
    keys = value if isinstance(value, Mapping) else vars(value) if hasattr(value, "__dict__") else ()
    return "onnx" if "logits" in keys else "forest" if "trees" in keys else "network"


AnyArchitecture = Annotated[
    Annotated[Architecture, Tag("network")]
    | Annotated[OnnxGraph, Tag("onnx")]
    | Annotated[ForestArchitecture, Tag("forest")],
    Discriminator(_kind),
]


@dataclass(frozen=True)
class ModelInfo:
    """What a model says of itself.

    Attributes
    ----------
    architecture : Architecture, OnnxGraph or ForestArchitecture
    heads : mapping of name -> channels
        Outputs in the order of their channels.
    voxel_size_nm : (z, y, x)
        Of the images it was trained on.
    tile_zyx, overlap_zyx : (z, y, x)
        Voxels the network sees at once, and how many of them neighbouring tiles share.
    mean, std : float
        Images enter as (image - mean) / std, image 0 to 255.
    temperature : float
        Outputs are sigmoid(logit / temperature). At 1 a network that is sure of itself says 255 nearly everywhere, and
        the order of its affinities, on which the fragments rest, is lost to rounding; a higher one keeps it.
    long_offsets : tuple of (z, y, x)
        Channel c of the head ``long_affinities`` tells whether voxel p and p + long_offsets[c] are one cell.
    """

    __pydantic_config__: ClassVar[Any] = STRICT

    architecture: AnyArchitecture
    heads: Mapping[str, int]
    voxel_size_nm: NM
    tile_zyx: ZYX
    overlap_zyx: ZYX
    mean: float
    std: float
    temperature: float = 1.0
    long_offsets: tuple[ZYX, ...] = ()

    def __post_init__(self) -> None:
        multiple, heads, tile = self.architecture.multiple, self.heads, self.tile_zyx
        overlaps = zip(self.overlap_zyx, tile, strict=True)
        problems = [
            (
                not heads or any(head_channels(name, self.long_offsets) != n for name, n in heads.items()),
                f"heads {dict(heads)}",
            ),
            (sum(heads.values()) != self.architecture.outputs, f"number of outputs {self.architecture.outputs}"),
            (inputs_of(tuple(heads)) != self.architecture.inputs, f"number of inputs {self.architecture.inputs}"),
            (any(t < 1 or t % m for t, m in zip(tile, multiple, strict=True)), f"tile {tile}"),
            (any(not 0 <= 2 * o <= t for o, t in overlaps), f"overlap {self.overlap_zyx}"),
            (any(not 0 < v < math.inf for v in self.voxel_size_nm), f"voxel size {self.voxel_size_nm}"),
            (not (math.isfinite(self.mean) and 0 < self.std < math.inf), "normalisation"),
            (not 0 < self.temperature < math.inf, f"temperature {self.temperature}"),
        ]
        for wrong, what in problems:
            if wrong:
                raise DataError(
                    f"model with unusable {what}",
                    expected=f"heads of {', '.join(HEADS)}; tiles of n x {multiple}, overlaps up to half a tile",
                )


def needed_overlap(info: ModelInfo) -> ZYX:
    """Return the overlap that tiles need at least; of networks any will do, of a forest the windows decide."""
    if not isinstance(info.architecture, ForestArchitecture):
        return 0, 0, 0
    z, y, x = windows_of(info.architecture, info.voxel_size_nm).halo
    return 2 * z, 2 * y, 2 * x


def inputs_of(heads: Sequence[str]) -> int:
    """Return how many channels a network with these heads sees: partners are those of a cleft that it is shown."""
    return 2 if tuple(heads) == ("partners",) else 1


def head_channels(name: str, long_offsets: Sequence[ZYX]) -> int:
    """Return the number of channels of a head; 0 for an unknown one."""
    channels = HEADS.get(name, 0)
    return len(long_offsets) if channels is None else channels


def info_bytes(info: ModelInfo) -> bytes:
    """Return ``info`` as JSON: equal for equal models, so that it can stand for one in a result's name."""
    return json.dumps(asdict(info)).encode()


def read_info(path: str | Path) -> ModelInfo:
    """Read what a model says of itself, without its weights.

    Raises
    ------
    DataError
        The folder or its card is missing, damaged or no model of bouton.
    """
    # a card holds a ModelInfo, so that module imports this one
    from bouton.learn.card import read_card

    return read_card(path).prediction


def network_of(info: ModelInfo) -> Architecture:
    """Return the architecture of a model that bouton builds itself.

    Raises
    ------
    DataError
        It is an ONNX graph or a forest.
    """
    if isinstance(info.architecture, Architecture):
        return info.architecture
    if isinstance(info.architecture, ForestArchitecture):
        raise DataError(
            "a model that is a forest", expected="a network",
            fix="apply it with stage predict; train another with `bouton train`",
        )  # fmt: skip
    raise DataError(
        "a model that came as an ONNX graph",
        expected="a network of bouton's own, where torch is to run it",
        fix="run it with OpenVINO: pip install 'bouton[openvino]'",
    )


def parameter_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a network's weights, by its name (:mod:`bouton.learn.network`)."""
    widths, found = architecture.widths, dict[str, tuple[int, ...]]()

    def convolution(name: str, inputs: int, outputs: int, kernel: ZYX) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (outputs, inputs, *kernel), (outputs,)

    convolution("entry", architecture.inputs, widths[0], architecture.entry)
    for side, count in (("down", len(widths)), ("up", len(widths) - 1)):
        for level in range(count):
            for layer in ("first", "second"):
                convolution(f"{side}.{level}.{layer}", widths[level], widths[level], architecture.kernels[level])
    for level, (fine, coarse) in enumerate(itertools.pairwise(widths)):
        convolution(f"wider.{level}", fine, coarse, (1, 1, 1))
        found[f"finer.{level}.weight"] = (coarse, fine, *architecture.pools[level])
        found[f"finer.{level}.bias"] = (fine,)
    convolution("exit", widths[0], architecture.outputs, (1, 1, 1))
    return found


def level_of(name: str) -> int:
    """Return the level (0 is the finest) at which the layer of a tensor works; of a change of level, the finer one."""
    _, _, rest = name.partition(".")
    level = rest.partition(".")[0]
    return int(level) if level.isdigit() else 0


def parameter_count(architecture: Architecture) -> int:
    """Return the number of weights."""
    return sum(math.prod(shape) for shape in parameter_shapes(architecture).values())


def flops_per_voxel(architecture: Architecture) -> float:
    """Return floating-point operations per input voxel: 2 for each multiply-add of the convolutions, biases left out.

    Tiles that overlap cost more by their share of overlap.
    """
    total, shares = 0.0, [1.0]
    for pool in architecture.pools:
        shares.append(shares[-1] / math.prod(pool))
    for name, shape in parameter_shapes(architecture).items():
        if name.endswith(".weight"):
            level = level_of(name)
            # each weight works once a voxel of the layer's output; "finer" has a weight for each place of its pool
            share = shares[level + 1] if name.startswith(("wider", "finer")) else shares[level]
            total += 2.0 * math.prod(shape) * share
    return total


def receptive_field(architecture: Architecture) -> ZYX:
    """Return the extent (z, y, x), in voxels, of what any one voxel of the output can depend on."""
    z, y, x = (max(_field(architecture, axis, at) for at in range(architecture.multiple[axis])) for axis in range(3))
    return z, y, x


def _field(architecture: Architecture, axis: int, at: int) -> int:
    """Return the extent along one axis of what voxel ``at`` of the output depends on."""
    sizes = [kernel[axis] // 2 * 2 for kernel in architecture.kernels]
    pools = [pool[axis] for pool in architecture.pools]
    # upwards: the interval that each level's skip has to give
    spans = [(at, at)]
    for level, pool in enumerate(pools):
        low, high = spans[level]
        spans[level] = low, high = low - sizes[level], high + sizes[level]
        spans.append((low // pool, high // pool))
    low, high = spans[-1]
    for level in reversed(range(len(sizes))):
        low, high = min(low, spans[level][0]) - sizes[level], max(high, spans[level][1]) + sizes[level]
        if level:
            low, high = low * pools[level - 1], high * pools[level - 1] + pools[level - 1] - 1
    return high - low + 1 + architecture.entry[axis] // 2 * 2
