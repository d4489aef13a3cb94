"""Prediction in tiles that lie on one global grid, so that the blocks in which a volume is computed never show.

Tile ``i`` of an axis covers the voxels from ``i * stride`` to ``i * stride + tile``, ``stride = tile - overlap``,
counted from voxel 0 of the data set. Of the grid those tiles are used that are needed to cover the bounds once. A tile
is run alone (batch 1, one shape, one thread) on the image inside the bounds, reflected where the tile leaves them: its
output is a function of the data and the bounds. A voxel's value is the weighted mean of its tiles, summed in C order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch

from bouton.errors import DataError
from bouton.geometry import Box
from bouton.learn.info import ModelInfo
from bouton.learn.model import Model


def tiles_of(core: Box, bounds: Box, info: ModelInfo) -> Iterator[Box]:
    """Yield the tiles (C order, not clipped) that share a voxel with ``core``."""
    axes = []
    for axis in range(3):
        tile = info.tile_zyx[axis]
        stride = tile - info.overlap_zyx[axis]
        first = bounds.start[axis] // stride
        last = max(first, -(-(bounds.stop[axis] - tile) // stride))
        low = max(first, (core.start[axis] - tile) // stride + 1)
        high = min(last, (core.stop[axis] - 1) // stride)
        axes.append([(i * stride, i * stride + tile) for i in range(low, high + 1)])
    for (z0, z1), (y0, y1), (x0, x1) in itertools.product(*axes):
        yield Box((z0, y0, x0), (z1, y1, x1))


def tile_weights(info: ModelInfo) -> np.ndarray:
    """Return the weights of a tile's voxels, float32 (z, y, x) in (0, 1]: a ramp over the overlap on every side."""
    ramps = []
    for tile, overlap in zip(info.tile_zyx, info.overlap_zyx, strict=True):
        steps = np.arange(tile)
        ramps.append(np.minimum(np.minimum(steps, steps[-1] - steps) + 1, overlap + 1) / (overlap + 1))
    z, y, x = (ramp.astype(np.float32) for ramp in ramps)
    return z[:, None, None] * y[None, :, None] * x[None, None, :]


def predict(model: Model, image: np.ndarray, image_box: Box, core: Box, bounds: Box) -> dict[str, np.ndarray]:
    """Return the outputs of a model over ``core``.

    Parameters
    ----------
    model : Model
    image : numpy.ndarray
        uint8 (z, y, x) over ``image_box``.
    image_box : Box
        Holds ``core`` grown by :func:`bouton.learn.info.tile_halo`, clipped to the bounds.
    core : Box
    bounds : Box
        Outside of it nothing exists.

    Returns
    -------
    dict of str -> numpy.ndarray
        Per head uint8 (c, z, y, x): probability times 255, rounded.

    Raises
    ------
    DataError
        The image is not uint8.
    """
    if image.dtype != np.uint8:
        raise DataError(
            f"image of {image.dtype}", expected="uint8", fix="convert it with `bouton convert --dtype uint8`"
        )
    torch.set_num_threads(1)
    sums = np.zeros((model.info.architecture.outputs, *core.shape), np.float32)
    totals = np.zeros(core.shape, np.float32)
    weights = tile_weights(model.info)
    for tile in tiles_of(core, bounds, model.info):
        part = tile & core
        here, there = part.within(core).slices, part.within(tile).slices
        probability = run_tile(model, image, image_box, tile, bounds)
        sums[:, *here] += probability[:, *there] * weights[there]
        totals[here] += weights[there]
    # + 0.5 and truncation: one rounding rule for every processor
    values = (sums / totals * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    cuts = np.cumsum(list(model.info.heads.values()))[:-1]
    return dict(zip(model.info.heads, np.split(values, cuts), strict=True))


def run_tile(model: Model, image: np.ndarray, image_box: Box, tile: Box, bounds: Box) -> np.ndarray:
    """Return the probabilities, float32 (c, z, y, x), of one tile; the image is reflected at the bounds."""
    inside = tile & bounds
    pad = [(i - a, b - j) for i, a, b, j in zip(inside.start, tile.start, tile.stop, inside.stop, strict=True)]
    values = np.pad(image[inside.within(image_box).slices], pad, mode="reflect").astype(np.float32)
    values = (values - np.float32(model.info.mean)) / np.float32(model.info.std)
    tensor = torch.from_numpy(values)[None, None].to(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        result: np.ndarray = (
            torch.sigmoid(model.network(tensor).float() / model.info.temperature)[0].contiguous().numpy()
        )
    return result
