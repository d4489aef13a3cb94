"""The mean over the symmetric images of a tile ("test-time augmentation"): flipped, and turned within a section.

A tissue has no handedness that a network should know, so what it says of a flipped image, flipped back, is as good.
For a channel about one voxel that is all. An affinity is about an edge from ``p`` to ``p + offset``: flipped, it tells
of the edge from ``p`` to ``p + flipped offset``, which another channel holds, or this one at the edge's other end.
The voxels of that edge that lie outside of a tile have no value there; the mean is over the variants that have one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bouton.errors import SpecError
from bouton.geometry import ZYX
from bouton.learn.edges import channel_of, head_offsets, pair_slices
from bouton.learn.info import ModelInfo

FLIPS = ("none", "yx", "zyx")
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
    found: list[tuple[int, ZYX]] = []
    for head, count in info.heads.items():
        start, offsets = len(found), head_offsets(info, head)
        if offsets is None:
            found += [(start + channel, (0, 0, 0)) for channel in range(count)]
            continue
        for offset in offsets:
            turned = variant.offset_undone(offset)
            source = channel_of(turned, offsets)
            if source is None:
                z, y, x = turned
                reverse = (-z, -y, -x)
                raise SpecError(
                    f"flips {flips!r}, but no channel of the model has the offset {offset} turned, "
                    f"{turned} or {reverse}",
                    expected="a model whose long_offsets are symmetric", fix="flips: none, or yx",
                )  # fmt: skip
            found.append((start + source[0], source[1]))
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
                here, there = pair_slices(shape[1:], shift)
                sums[target][there] += found[channel][here]
                counts[target][there] += 1
        return np.asarray(sums / counts)
