"""A model's voxels and an image's: what a block of the image takes on the model's grid, and how outputs come back.

The model's grid, its tiles and both interpolations (:mod:`bouton.learn.resample`) follow from global coordinates, so
blocks do not show. Affinities stand for edges: one comes back to the edge of the image's grid whose middle lies where
its own edge has its middle, so that borders stay in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_

import numpy as np

from bouton.geometry import NM, ZERO, ZYX, Box
from bouton.learn.edges import head_offsets
from bouton.learn.info import ModelInfo
from bouton.learn.predict import View
from bouton.learn.resample import Resampling
from bouton.learn.tiles import Tile, Tiling


@dataclass(frozen=True)
class Grids:
    """The grid of a model, and that of an image with voxels of ``image_nm`` (z, y, x)."""

    info: ModelInfo
    image_nm: NM

    @cached_property
    def there(self) -> Resampling:
        """From the image to the model."""
        return Resampling(self.image_nm, self.info.voxel_size_nm)

    @property
    def density(self) -> float:
        """Voxels per voxel of the image that an array has, at the most, on its way to the model's grid and back."""
        return math.prod(max(1.0, self._ratio(axis)) for axis in range(3))

    def halo(self, reach: ZYX) -> ZYX:
        """Return how far around a block of the image reading goes where tiles reach ``reach`` voxels of the model."""
        z, y, x = (math.ceil(self._reads_nm(axis, reach[axis]) / self.image_nm[axis]) for axis in range(3))
        return z, y, x

    def wanted(self, core: Box, bounds: Box) -> Box:
        """Return the model's voxels on which the outputs over ``core`` (voxels of the image) depend."""
        seen = self.there.covers(bounds)
        backs = {back for head in self.info.heads for back in self._backs(head)}
        return reduce(or_, [back.reads(core, seen) for back in backs])

    def tiles(self, tiling: Tiling, core: Box, bounds: Box) -> Iterator[Tile]:
        """Yield, in C order, the tiles, on the model's grid, that contribute to ``core``."""
        return tiling.tiles(self.wanted(core, bounds), self.there.covers(bounds))

    def dependents(self, tile: Tile, core: Box) -> Box:
        """Return voxels of ``core``: all that depend on the tile, and perhaps a few more."""
        low, high = [], []
        for axis in range(3):
            ratio, margin = self._ratio(axis), self._back_reach(axis) + 1
            low.append(math.floor((tile.owned.start[axis] - margin) / ratio) - 1)
            high.append(math.ceil((tile.owned.stop[axis] + margin) / ratio) + 1)
        return Box((low[0], low[1], low[2]), (high[0], high[1], high[2])) & core

    def view(self, read: Callable[[Box], np.ndarray], tiles: list[Tile], bounds: Box) -> View:
        """Return what the tiles see; ``read`` gives the image, uint8 (z, y, x). Without tiles nothing is read."""
        seen = self.there.covers(bounds)
        if not tiles:
            return View(np.zeros(ZERO, np.uint8), Box(ZERO, ZERO), seen)
        box = reduce(or_, [tile.box for tile in tiles]) & seen
        place = self.there.reads(box, bounds)
        return View(self.there.apply(read(place), place, box, bounds), box, seen)

    def back(self, layers: Mapping[str, np.ndarray], place: Box, core: Box, bounds: Box) -> dict[str, np.ndarray]:
        """Return outputs over ``core``, uint8 (c, z, y, x), of those over ``place`` = :meth:`wanted`, uint8, too."""
        seen = self.there.covers(bounds)
        found = {}
        for head, values in layers.items():
            found[head] = np.empty((len(values), *core.shape), np.uint8)
            # channel by channel: interpolation takes several times the memory of what it works on
            for channel, back in enumerate(self._backs(head)):
                found[head][channel] = back.apply(values[channel], place, core, seen)
        return found

    def _ratio(self, axis: int) -> float:
        """Return the length of a voxel of the image in voxels of the model."""
        return self.image_nm[axis] / self.info.voxel_size_nm[axis]

    def _backs(self, head: str) -> list[Resampling]:
        """Return what brings each channel of a head back."""
        offsets = head_offsets(self.info, head) or (ZERO,) * self.info.heads[head]
        return [self.there.back.shifted(self._shift(offset)) for offset in offsets]

    def _shift(self, offset: ZYX) -> NM:
        """Return by how much, in voxels of the model, the place of an edge's middle differs between the grids."""
        z, y, x = (o * (self._ratio(axis) - 1) / 2 for axis, o in enumerate(offset))
        return z, y, x

    def _back_reach(self, axis: int) -> float:
        """Return how far from a voxel's centre, in voxels of the model, its outputs come from."""
        shifts = [abs(back.shift[axis]) for head in self.info.heads for back in self._backs(head)]
        return self.there.back.reach(axis) + max(shifts)

    def _reads_nm(self, axis: int, reach: int) -> float:
        """Return how far from a block reading goes, with one and a half voxels of either grid for rounding."""
        model = (reach + self._back_reach(axis) + 1.5) * self.info.voxel_size_nm[axis]
        return model + (self.there.reach(axis) + 1.5) * self.image_nm[axis]
