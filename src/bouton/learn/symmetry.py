"""The mean over the symmetric images of a tile ("test-time augmentation"): flipped, and turned within a section.

A tissue has no handedness that a network should know, so what it says of a flipped image, flipped back, is as good.
For a channel about one voxel that is all. An affinity is about an edge from ``p`` to ``p + offset``: flipped, it tells
of the edge from ``p`` to ``p + flipped offset``, which another channel holds, or this one at the edge's other end.
The voxels of that edge that lie outside of a tile have no value there; the mean is over the variants that have one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bouton.errors import SpecError
from bouton.geometry import ZYX
from bouton.learn.info import ModelInfo

FLIPS = ("none", "yx", "zyx")
NEAREST: tuple[ZYX, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
SPATIAL = (-3, -2, -1)


@dataclass(frozen=True)
class Variant:
    """A symmetry: y and x change places (or not), then axes are flipped."""

    swap: bool
    flip: tuple[bool, bool, bool]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Return an array (..., z, y, x) turned."""
        return self._flipped(_swapped(array) if self.swap else array)

    def undo(self, array: np.ndarray) -> np.ndarray:
        """Return an array (..., z, y, x) turned back."""
        array = self._flipped(array)
        return _swapped(array) if self.swap else array

    def offset_undone(self, offset: ZYX) -> ZYX:
        """Return the step, in the image, that ``offset`` is in the turned image."""
        z, y, x = (-v if flip else v for v, flip in zip(offset, self.flip, strict=True))
        return (z, x, y) if self.swap else (z, y, x)

    def _flipped(self, array: np.ndarray) -> np.ndarray:
        return np.flip(array, tuple(axis for axis, flip in zip(SPATIAL, self.flip, strict=True) if flip))


def _swapped(array: np.ndarray) -> np.ndarray:
    """Return an array with y and x in each other's place: a quarter turn, then a flip."""
    return np.flip(np.rot90(array, axes=(-2, -1)), -2)


def variants(flips: str) -> list[Variant]:
    """Return the symmetries of ``flips``, the identity first: 1, 8 (``yx``) or 16 (``zyx``)."""
    if flips == "none":
        return [Variant(False, (False, False, False))]
    depth = (False, True) if flips == "zyx" else (False,)
    return [
        Variant(swap, (z, y, x))
        for z, swap, y, x in itertools.product(depth, (False, True), (False, True), (False, True))
    ]


def edges_of(info: ModelInfo) -> list[ZYX | None]:
    """Return each output channel's offset; None for a channel about single voxels."""
    offsets: list[ZYX | None] = []
    for name, count in info.heads.items():
        edges: Sequence[ZYX | None] = [None] * count
        if name in ("affinities", "long_affinities"):
            edges = NEAREST if name == "affinities" else info.long_offsets
        offsets.extend(edges)
    return offsets


def check_flips(info: ModelInfo, flips: str) -> None:
    """Check that every channel of a model has a counterpart under every symmetry.

    Raises
    ------
    SpecError
        It has not, or voxels are longer along one axis than along another that it changes places with.
    """
    if flips != "none" and info.voxel_size_nm[1] != info.voxel_size_nm[2]:
        raise SpecError(
            f"flips {flips!r} with voxels of {info.voxel_size_nm} nm (z, y, x)",
            expected="one length along y and x", fix="flips: none",
        )  # fmt: skip
    for variant in variants(flips):
        _sources(info, variant, flips)


def _sources(info: ModelInfo, variant: Variant, flips: str = "") -> list[tuple[int, ZYX]]:
    """Return, per channel of a turned output, the channel of the image that it tells of, and by how far it moves.

    Of channel ``c`` of the output turned back, the value at ``p`` belongs to channel ``found[c][0]`` at
    ``p + found[c][1]``.
    """
    edges, start, found = edges_of(info), 0, []
    for count in info.heads.values():
        own = edges[start : start + count]
        for channel, edge in enumerate(own):
            if edge is None:
                found.append((start + channel, (0, 0, 0)))
                continue
            turned = variant.offset_undone(edge)
            z, y, x = turned
            reverse = (-z, -y, -x)
            if turned in own:
                found.append((start + own.index(turned), (0, 0, 0)))
            elif reverse in own:
                found.append((start + own.index(reverse), turned))
            else:
                raise SpecError(
                    f"flips {flips!r}, but no channel of the model has the offset {edge} turned, {turned} or {reverse}",
                    expected="a model whose long_offsets are symmetric", fix="flips: none, or yx",
                )  # fmt: skip
        start += count
    return found


class _Runs(Protocol):
    info: ModelInfo

    def run(self, values: np.ndarray) -> np.ndarray: ...


class Symmetric:
    """Runs a network on every variant of a tile, and returns the mean of what belongs together."""

    def __init__(self, runner: _Runs, flips: str) -> None:
        self.info, self._runner = runner.info, runner
        self._variants = [(variant, _sources(runner.info, variant, flips)) for variant in variants(flips)]

    def run(self, values: np.ndarray) -> np.ndarray:
        """Return probabilities, float32 (c, z, y, x), of a normalised image, float32 (1, 1, z, y, x)."""
        shape = (self.info.architecture.outputs, *values.shape[2:])
        sums, counts = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        for variant, sources in self._variants:
            found = variant.undo(self._runner.run(np.ascontiguousarray(variant.apply(values))))
            for channel, (target, shift) in enumerate(sources):
                here, there = zip(*_overlaps(shape[1:], shift), strict=True)
                sums[target, *here] += found[channel, *there]
                counts[target, *here] += 1
        return np.asarray(sums / counts)


def _overlaps(shape: Sequence[int], shift: ZYX) -> Iterator[tuple[slice, slice]]:
    """Yield, per axis, the slices that ``p + shift`` and ``p`` take where both lie inside."""
    for size, step in zip(shape, shift, strict=True):
        yield slice(max(0, step), size + min(0, step)), slice(max(0, -step), size - max(0, step))
