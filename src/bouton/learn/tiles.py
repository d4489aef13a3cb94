"""Tiles on one global grid: which of them a block needs, and which voxels of each count.

Along an axis, tile ``i`` owns the voxels from ``i * stride`` to ``(i + 1) * stride``, counted from voxel 0 of the data
set, ``stride = tile - overlap``, and sees ``overlap`` voxels more, half of them on either side: context, whose own
output is dropped. With ``blend`` above 0, neighbours hand over along a ramp of ``blend`` voxels centred on the border
between them; with 0, every voxel is the output of exactly one tile, and blocks whose sides are multiples of the stride
compute no tile twice. Nothing here depends on blocks; of the bounds only the first and the last tile of an axis do,
which see no further beyond the bounds than their context.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bouton.errors import SpecError
from bouton.geometry import ZYX, Box
from bouton.learn.info import ModelInfo, needed_overlap


@dataclass(frozen=True)
class Tile:
    """What the network sees, and what of its output counts.

    Attributes
    ----------
    box : Box
        Input and output of the network; may leave the bounds, where the image is mirrored.
    owned : Box
        Voxels in the bounds to which the output contributes.
    ramps : tuple of numpy.ndarray
        Weights along z, y, x, float32, over ``owned``; a voxel's weight is their product. The weights of a voxel's
        tiles add up to 1.
    """

    box: Box
    owned: Box
    ramps: tuple[np.ndarray, np.ndarray, np.ndarray]

    def weights(self, part: Box) -> np.ndarray:
        """Return the weights over ``part`` of what the tile owns, float32 (z, y, x)."""
        z, y, x = (ramp[cut] for ramp, cut in zip(self.ramps, part.within(self.owned).slices, strict=True))
        weights: np.ndarray = z[:, None, None] * y[None, :, None] * x[None, None, :]
        return weights


@dataclass(frozen=True)
class Tiling:
    """How tiles lie, all in voxels (z, y, x).

    Attributes
    ----------
    tile, overlap, blend : (z, y, x)
        What the network sees at once; how much of it neighbours share; along how much they hand over.
    multiple : (z, y, x)
        What the shape of an input of the network must be divisible by.

    Raises
    ------
    SpecError
        A tile is no multiple of ``multiple``, the overlap more than half a tile, or ``blend`` more than the overlap.
    """

    tile: ZYX
    overlap: ZYX
    blend: ZYX = (0, 0, 0)
    multiple: ZYX = (1, 1, 1)

    def __post_init__(self) -> None:
        if any(t < 1 or t % m for t, m in zip(self.tile, self.multiple, strict=True)):
            raise SpecError(f"tile_zyx {list(self.tile)}", expected=f"multiples of {list(self.multiple)} (z, y, x)")
        if any(not 0 <= 2 * o <= t for o, t in zip(self.overlap, self.tile, strict=True)):
            raise SpecError(f"overlap_zyx {list(self.overlap)}", expected=f"0 to half of the tile {list(self.tile)}")
        if any(not 0 <= b <= o for b, o in zip(self.blend, self.overlap, strict=True)):
            raise SpecError(f"blend_zyx {list(self.blend)}", expected=f"0 to the overlap {list(self.overlap)}")

    @property
    def stride(self) -> ZYX:
        """Distance between tiles; blocks of its multiples compute no tile twice."""
        z, y, x = (t - o for t, o in zip(self.tile, self.overlap, strict=True))
        return z, y, x

    @property
    def halo(self) -> ZYX:
        """How far around a block its tiles reach at most."""
        z, y, x = (self._axis(axis).reach for axis in range(3))
        return z, y, x

    def tiles(self, core: Box, bounds: Box) -> Iterator[Tile]:
        """Yield, in C order, the tiles that contribute to a voxel of ``core``."""
        axes = [
            self._axis(axis).spans((core.start[axis], core.stop[axis]), (bounds.start[axis], bounds.stop[axis]))
            for axis in range(3)
        ]
        for z, y, x in itertools.product(*axes):
            box = Box((z.seen[0], y.seen[0], x.seen[0]), (z.seen[1], y.seen[1], x.seen[1]))
            owned = Box((z.owned[0], y.owned[0], x.owned[0]), (z.owned[1], y.owned[1], x.owned[1]))
            yield Tile(box, owned, (z.ramp, y.ramp, x.ramp))

    def _axis(self, axis: int) -> _Axis:
        return _Axis(self.tile[axis], self.overlap[axis], self.blend[axis], self.multiple[axis])


def tiling_of(info: ModelInfo, tile: ZYX | None = None, overlap: ZYX | None = None, blend: ZYX | None = None) -> Tiling:
    """Return the tiling of a model; what is given replaces what the model says. ``blend`` is 0 unless given.

    Raises
    ------
    SpecError
        See :class:`Tiling`; or the overlap is less than the windows of a forest need.
    """
    tile, overlap = tile or info.tile_zyx, overlap or info.overlap_zyx
    needed = needed_overlap(info)
    if any(o < n for o, n in zip(overlap, needed, strict=True)):
        raise SpecError(
            f"overlap_zyx {list(overlap)}", expected=f"{list(needed)} or more, which the forest's windows need"
        )
    return Tiling(tile, overlap, blend or (0, 0, 0), info.architecture.multiple)


@dataclass(frozen=True)
class _Span:
    seen: tuple[int, int]
    owned: tuple[int, int]
    ramp: np.ndarray


@dataclass(frozen=True)
class _Axis:
    tile: int
    overlap: int
    blend: int
    multiple: int

    @property
    def stride(self) -> int:
        return self.tile - self.overlap

    @property
    def before(self) -> int:
        """Voxels of context below what a tile owns."""
        return self.overlap // 2

    @property
    def below(self) -> int:
        """How far the ramp reaches below the border of two tiles; above it, it reaches ``blend - below``."""
        return self.blend // 2

    @property
    def reach(self) -> int:
        downwards = self.before + self.blend - self.below
        upwards = self.below + self.overlap - self.before
        return self.stride - 1 + max(downwards, upwards)

    def spans(self, core: tuple[int, int], bounds: tuple[int, int]) -> list[_Span]:
        first, last = bounds[0] // self.stride, (bounds[1] - 1) // self.stride
        low = max(first, (core[0] - self.blend + self.below) // self.stride)
        high = min(last, (core[1] + self.below - 1) // self.stride)
        return [self._span(i, (first, last), bounds) for i in range(low, high + 1)]

    def _span(self, i: int, ends: tuple[int, int], bounds: tuple[int, int]) -> _Span:
        border, above = i * self.stride, self.blend - self.below
        start = bounds[0] if i == ends[0] else max(bounds[0], border - self.below)
        stop = bounds[1] if i == ends[1] else min(bounds[1], border + self.stride + above)
        place = np.arange(start, stop)
        ramp = np.ones(len(place))
        if i > ends[0]:
            ramp = np.minimum(ramp, (place - border + self.below + 1) / (self.blend + 1))
        if i < ends[1]:
            ramp = np.minimum(ramp, (border + self.stride + above - place) / (self.blend + 1))
        return _Span(self._seen(i, ends, bounds), (start, stop), ramp.astype(np.float32))

    def _seen(self, i: int, ends: tuple[int, int], bounds: tuple[int, int]) -> tuple[int, int]:
        """Return start and stop of a tile, cut in steps of ``multiple`` where it would see only mirrored image."""
        start = i * self.stride - self.before
        stop = start + self.tile
        if i == ends[0]:
            start += max(0, bounds[0] - self.before - start) // self.multiple * self.multiple
        if i == ends[1]:
            needed = bounds[1] + self.overlap - self.before - start
            stop = min(stop, start + -(-needed // self.multiple) * self.multiple)
        return start, stop
