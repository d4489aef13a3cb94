"""Layers of a run as Neuroglancer precomputed volumes, made on request: ``info`` and raw chunks.

Whatever the format on disk (OME-Zarr shards, HDF5, TIFF, ...), the viewer sees one simple one. The chunk grid is
anchored at voxel 0 and divides the compute block, so a chunk never needs more than one block.
Format: https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/volume.md
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from bouton.errors import DataError
from bouton.geometry import ZYX, Box, to_xyz, to_zyx
from bouton.volume import Volume
from bouton.volume.run_folder import Run
from bouton.volume.run_layers import RunLayer, read_layer

LARGEST_CHUNK = 64
SCALE = "full"
_CHUNK_NAME = re.compile("_".join([r"([0-9]{1,18})-([0-9]{1,18})"] * 3))
_NARROW = {"float64": "float32", "float16": "float32", "bool": "uint8", "int64": "uint64"}


def chunk_shape(layer: RunLayer) -> ZYX:
    """Return the shape (z, y, x) of the chunks that the viewer asks for."""
    z, y, x = (_divisor(size) for size in layer.block)
    return z, y, x


def volume_info(run: Run, layer: RunLayer) -> dict[str, Any]:
    """Return the content of the layer's ``info`` file."""
    start = _grid_start(layer)
    size = [b - a for a, b in zip(start, layer.bounds.stop, strict=True)]
    scale = {
        "key": SCALE,
        "encoding": "raw",
        "resolution": list(to_xyz(run.voxel_size_nm)),
        "voxel_offset": list(to_xyz(start)),
        "size": list(to_xyz(size)),
        "chunk_sizes": [list(to_xyz(chunk_shape(layer)))],
    }
    return {
        "@type": "neuroglancer_multiscale_volume",
        "type": "segmentation" if layer.kind == "labels" else "image",
        "data_type": served_dtype(layer),
        "num_channels": layer.channels or 1,
        "scales": [scale],
    }


def served_dtype(layer: RunLayer) -> str:
    """Return the dtype of the chunks: one that Neuroglancer knows and that holds the layer's values."""
    return _NARROW.get(layer.dtype, layer.dtype)


def chunk_bytes(volume: Volume, layer: RunLayer, name: str) -> bytes:
    """Return a raw chunk.

    Parameters
    ----------
    volume : Volume
        What holds the layer.
    layer : RunLayer
    name : str
        ``x0-x1_y0-y1_z0-z1`` as Neuroglancer asks for it.

    Returns
    -------
    bytes
        Little endian, x fastest, then y, z, channel. 0 between the start of the chunk grid and the bounds.

    Raises
    ------
    DataError
        No such chunk, or its voxels are missing or damaged.
    """
    box = _chunk_box(layer, name)
    inside = box & layer.bounds
    values = read_layer(volume, layer, inside)
    whole = np.zeros((layer.channels or 1, *box.shape), dtype=np.dtype(served_dtype(layer)).newbyteorder("<"))
    whole[(slice(None), *inside.within(box).slices)] = values
    return whole.tobytes()


def _chunk_box(layer: RunLayer, name: str) -> Box:
    match = _CHUNK_NAME.fullmatch(name)
    if match is None:
        raise DataError(f"chunk name {name!r}", expected="x0-x1_y0-y1_z0-z1")
    numbers = [int(v) for v in match.groups()]
    box = Box(to_zyx(numbers[0::2]), to_zyx(numbers[1::2]))
    shape, start = chunk_shape(layer), _grid_start(layer)
    limits = Box(start, layer.bounds.stop)
    fits = all(a % s == 0 and b - a <= s for a, b, s in zip(box.start, box.stop, shape, strict=True))
    if box.is_empty or not fits or not limits.contains(box) or (box & layer.bounds).is_empty:
        raise DataError(f"no chunk {name}", where=f"layer {layer.name}", expected=f"a chunk of the grid in {limits}")
    return box


def _grid_start(layer: RunLayer) -> ZYX:
    z, y, x = (a // s * s for a, s in zip(layer.bounds.start, chunk_shape(layer), strict=True))
    return z, y, x


def _divisor(size: int) -> int:
    """Return the largest divisor of ``size`` that is no more than LARGEST_CHUNK."""
    small = [d for d in range(1, math.isqrt(size) + 1) if size % d == 0]
    return max(d for d in (*small, *(size // d for d in small)) if d <= LARGEST_CHUNK)
