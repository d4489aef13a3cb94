"""Prediction in tiles that lie on one global grid, so that the blocks in which a volume is computed never show.

A tile is run alone, on the image inside the bounds, mirrored where the tile leaves them: its output is a function of
the data and the bounds. Where tiles hand over (:mod:`bouton.learn.tiles`), a voxel's value is their weighted mean,
summed in C order. Of tiles in which the image has one value all over what they own, and of those that nobody wants,
nothing is computed: their output is 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from bouton.errors import DataError
from bouton.geometry import Box
from bouton.learn.runners import Runner
from bouton.learn.tiles import Tile, Tiling, tiling_of

if TYPE_CHECKING:
    from bouton.learn.model import Model


@dataclass(frozen=True)
class View:
    """An image, uint8 (z, y, x), over ``box``, and the bounds outside of which nothing exists.

    Raises
    ------
    DataError
        The image is not uint8.
    """

    image: np.ndarray
    box: Box
    bounds: Box

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8:
            raise DataError(
                f"image of {self.image.dtype}", expected="uint8", fix="convert it with `bouton convert --dtype uint8`"
            )

    def of(self, tile: Tile) -> np.ndarray:
        """Return what a tile sees, uint8 (z, y, x); mirrored at the bounds."""
        box, inside = tile.box, tile.box & self.bounds
        ends = zip(inside.start, box.start, box.stop, inside.stop, strict=True)
        pad = [(i - a, b - j) for i, a, b, j in ends]
        return np.pad(self.image[inside.within(self.box).slices], pad, mode="reflect")

    def is_blank(self, tile: Tile) -> bool:
        """Whether the image has one value all over what a tile owns."""
        owned = self.image[tile.owned.within(self.box).slices]
        return bool((owned == owned[0, 0, 0]).all())


def predict(
    model: Model | Runner, image: np.ndarray, image_box: Box, core: Box, bounds: Box, tiling: Tiling | None = None
) -> dict[str, np.ndarray]:
    """Return the outputs of a model over ``core``.

    Parameters
    ----------
    model : Model or Runner
        A model is run with torch.
    image : numpy.ndarray
        uint8 (z, y, x) over ``image_box``.
    image_box : Box
        Holds ``core`` grown by the tiling's halo, clipped to the bounds.
    core : Box
    bounds : Box
        Outside of it nothing exists.
    tiling : Tiling, optional
        Default: the model's.

    Returns
    -------
    dict of str -> numpy.ndarray
        Per head uint8 (c, z, y, x): probability times 255, rounded.

    Raises
    ------
    DataError
        The image is not uint8.
    """
    runner = as_runner(model)
    tiling = tiling or tiling_of(runner.info)
    return predict_tiles(runner, tiling.tiles(core, bounds), View(image, image_box, bounds), core)


def as_runner(model: Model | Runner) -> Runner:
    """Return what runs a model: itself, or torch."""
    if not hasattr(model, "network"):
        return cast("Runner", model)
    # torch takes seconds to import: only who runs a network with it waits
    from bouton.learn.runners_torch import TorchRunner

    return TorchRunner(cast("Model", model))


def predict_tiles(runner: Runner, tiles: Iterable[Tile], view: View, core: Box) -> dict[str, np.ndarray]:
    """Return the outputs over ``core``, as :func:`predict` does, of these tiles; 0 where there is none.

    Parameters
    ----------
    runner : Runner
    tiles : iterable of Tile
        In C order.
    view : View
        Holds what each of the tiles sees of the bounds.
    core : Box
    """
    kept = [tile for tile in tiles if not view.is_blank(tile)]
    blended = any(ramp.min() < 1 for tile in kept for ramp in tile.ramps)
    values = np.zeros((runner.info.architecture.outputs, *core.shape), np.float32 if blended else np.uint8)
    for tile, found in zip(kept, runner.run_all(view.of(tile) for tile in kept), strict=True):
        part = tile.owned & core
        here, there = part.within(core).slices, part.within(tile.box).slices
        if blended:
            values[:, *here] += found[:, *there] * tile.weights(part)
        else:
            values[:, *here] = found[:, *there]
    if blended:
        values += np.float32(0.5)
        values = values.astype(np.uint8)
    cuts = np.cumsum(list(runner.info.heads.values()))[:-1]
    return dict(zip(runner.info.heads, np.split(values, cuts), strict=True))
