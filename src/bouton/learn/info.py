"""What a model file says of itself; needs no torch, so that plans are made without waiting for it.

A model file is safetensors. Key ``bouton_model`` of its metadata is JSON::

    {"architecture": {...}, "heads": {"affinities": 3}, "voxel_size_nm": [10, 10, 10], "tile_zyx": [...],
     "overlap_zyx": [...], "normalisation": {"mean": 128, "std": 48}}

safetensors hold numbers only, so that a file from anywhere can be opened without running anything it brings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bouton.errors import BoutonError, DataError, SpecError
from bouton.geometry import NM, ZYX

HEADS: Mapping[str, int | None] = {
    "affinities": 3,
    "long_affinities": None,  # as many as the model's ``long_offsets``
    "boundaries": 1,
    "synapse_evidence": 4,  # cleft, presynaptic side, postsynaptic side, excitatory
    "clefts": 1,
    "vesicles": 1,
    "mitochondria": 1,
    "tissue": 3,  # myelin, glia, soma
}
METADATA_KEY = "bouton_model"
LARGEST_HEADER_BYTES = 1 << 20


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
    """

    widths: tuple[int, ...]
    kernels: tuple[ZYX, ...]
    pools: tuple[ZYX, ...]
    entry: ZYX
    outputs: int

    def __post_init__(self) -> None:
        if not self.widths or len(self.kernels) != len(self.widths) or len(self.pools) != len(self.widths) - 1:
            raise SpecError(
                f"network of {len(self.widths)} widths, {len(self.kernels)} kernels, {len(self.pools)} pools",
                expected="n widths, n kernels and n - 1 pools, n at least 1",
            )
        if any(size % 2 == 0 or size < 1 for kernel in (*self.kernels, self.entry) for size in kernel):
            raise SpecError(f"kernels {self.kernels}, entry {self.entry}", expected="odd sizes")
        if min(*self.widths, self.outputs) < 1 or any(size < 1 for pool in self.pools for size in pool):
            raise SpecError("a width, pool or number of outputs below 1", expected="at least 1")

    @property
    def multiple(self) -> ZYX:
        """What the shape of an input must be divisible by."""
        z = y = x = 1
        for pool in self.pools:
            z, y, x = z * pool[0], y * pool[1], x * pool[2]
        return z, y, x


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says of itself.

    Attributes
    ----------
    architecture : Architecture
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

    architecture: Architecture
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


def head_channels(name: str, long_offsets: Sequence[ZYX]) -> int:
    """Return the number of channels of a head; 0 for an unknown one."""
    channels = HEADS.get(name, 0)
    return len(long_offsets) if channels is None else channels


def tile_halo(info: ModelInfo) -> ZYX:
    """Return how far around a block its tiles reach at most."""
    z, y, x = (size - 1 for size in info.tile_zyx)
    return z, y, x


def info_text(info: ModelInfo) -> str:
    """Return the JSON of :func:`parse_info`."""
    fields = {
        "architecture": asdict(info.architecture),
        "heads": dict(info.heads),
        "voxel_size_nm": info.voxel_size_nm,
        "tile_zyx": info.tile_zyx,
        "overlap_zyx": info.overlap_zyx,
        "normalisation": {"mean": info.mean, "std": info.std},
        "temperature": info.temperature,
        "long_offsets": info.long_offsets,
    }
    return json.dumps(fields)


def read_info(path: str | Path) -> ModelInfo:
    """Read what a model file says of itself, without its weights.

    Raises
    ------
    DataError
        The file is missing, damaged or no model of bouton.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(min(length, LARGEST_HEADER_BYTES))
    except OSError as error:
        raise DataError(
            f"cannot read the model ({error.strerror})",
            where=str(path),
            expected="a .safetensors file written by `bouton train`",
            fix="check the path, or name a model that ships with bouton",
        ) from None
    return parse_info(header, path)


def parse_info(header: bytes, path: Path) -> ModelInfo:
    """Return what the JSON header of a safetensors file says.

    Raises
    ------
    DataError
        It is not the header of a model of bouton.
    """
    try:
        return _info_of(json.loads(json.loads(header)["__metadata__"][METADATA_KEY]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise not_a_model(path, f"{type(error).__name__} in its header") from None
    except BoutonError as error:
        raise DataError(error.found, where=str(path), expected=error.expected, fix=error.fix) from None


def not_a_model(path: Path, reason: str) -> DataError:
    """Return the error for a file that is no model."""
    return DataError(
        f"no model of bouton, or a damaged one ({reason})",
        where=str(path),
        expected="a .safetensors file written by `bouton train`",
        fix="restore the file, or train it again with `bouton train`",
    )


def _info_of(found: Mapping[str, Any]) -> ModelInfo:
    shape = found["architecture"]
    architecture = Architecture(
        widths=tuple(int(w) for w in shape["widths"]),
        kernels=tuple(_triple(k) for k in shape["kernels"]),
        pools=tuple(_triple(p) for p in shape["pools"]),
        entry=_triple(shape["entry"]),
        outputs=int(shape["outputs"]),
    )
    z, y, x = (float(v) for v in found["voxel_size_nm"])
    return ModelInfo(
        architecture=architecture,
        heads={str(name): int(n) for name, n in found["heads"].items()},
        voxel_size_nm=(z, y, x),
        tile_zyx=_triple(found["tile_zyx"]),
        overlap_zyx=_triple(found["overlap_zyx"]),
        mean=float(found["normalisation"]["mean"]),
        std=float(found["normalisation"]["std"]),
        temperature=float(found["temperature"]),
        long_offsets=tuple(_triple(offset) for offset in found.get("long_offsets", ())),
    )


def _triple(values: Any) -> ZYX:
    z, y, x = (int(v) for v in values)
    return z, y, x
