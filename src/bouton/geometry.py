"""Boxes, grids and voxel sizes. Everything is (z, y, x); boxes are half-open; voxel ``p`` covers ``[p, p + 1)``.

Only :func:`to_xyz` and :func:`to_zyx` flip axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from bouton.errors import SpecError

T = TypeVar("T")
ZYX = tuple[int, int, int]
NM = tuple[float, float, float]
ZERO: ZYX = (0, 0, 0)


def to_xyz(zyx: Sequence[T]) -> tuple[T, T, T]:
    """Return a (z, y, x) triple as (x, y, z)."""
    z, y, x = zyx
    return x, y, z


def to_zyx(xyz: Sequence[T]) -> tuple[T, T, T]:
    """Return an (x, y, z) triple as (z, y, x)."""
    x, y, z = xyz
    return z, y, x


def _zyx(values: Sequence[int]) -> ZYX:
    z, y, x = (int(value) for value in values)
    return z, y, x


@dataclass(frozen=True, order=True)
class Box:
    """The voxels ``start <= p < stop``, both (z, y, x)."""

    start: ZYX
    stop: ZYX

    @classmethod
    def of_shape(cls, shape: Sequence[int]) -> Box:
        """Return the box from the origin to ``shape``."""
        return cls(ZERO, _zyx(shape))

    @classmethod
    def parse(cls, text: str) -> Box:
        """Read ``0:64,0:128,0:128`` (z, y, x).

        Raises
        ------
        SpecError
            The text is no box, or the box is empty.
        """
        try:
            pairs = [tuple(int(v) for v in part.split(":")) for part in text.split(",")]
            (z0, z1), (y0, y1), (x0, x1) = pairs
        except ValueError:
            raise SpecError(
                f"{text!r} is no box", expected="z0:z1,y0:y1,x0:x1 in voxels", fix="such as 0:64,0:128,0:128"
            ) from None
        box = cls((z0, y0, x0), (z1, y1, x1))
        if box.is_empty or min(box.start) < 0:
            raise SpecError(
                f"box {text!r} is empty or negative", expected="0 <= start < stop on every axis (z, y, x)",
                fix="such as 0:64,0:128,0:128",
            )  # fmt: skip
        return box

    def __str__(self) -> str:
        return ",".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))

    @property
    def shape(self) -> ZYX:
        """Voxels along z, y, x; 0 where the box is empty."""
        return _zyx([max(0, b - a) for a, b in zip(self.start, self.stop, strict=True)])

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def is_empty(self) -> bool:
        """Whether the box holds no voxel."""
        return self.voxels == 0

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as three slices."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    def grow(self, halo: Sequence[int]) -> Box:
        """Return the box with ``halo`` voxels more on both sides of every axis (negative shrinks)."""
        start = _zyx([a - h for a, h in zip(self.start, halo, strict=True)])
        return Box(start, _zyx([b + h for b, h in zip(self.stop, halo, strict=True)]))

    def shift(self, by: Sequence[int]) -> Box:
        """Return the box moved by ``by`` voxels."""
        start = _zyx([a + d for a, d in zip(self.start, by, strict=True)])
        return Box(start, _zyx([b + d for b, d in zip(self.stop, by, strict=True)]))

    def within(self, outer: Box) -> Box:
        """Return the box in coordinates whose origin is ``outer.start`` (to index an array read from ``outer``)."""
        return self.shift([-a for a in outer.start])

    def __and__(self, other: Box) -> Box:
        start = _zyx([max(a, b) for a, b in zip(self.start, other.start, strict=True)])
        stop = _zyx([min(a, b) for a, b in zip(self.stop, other.stop, strict=True)])
        return Box(start, stop)

    def __or__(self, other: Box) -> Box:
        """Return the smallest box that holds both."""
        start = _zyx([min(a, b) for a, b in zip(self.start, other.start, strict=True)])
        stop = _zyx([max(a, b) for a, b in zip(self.stop, other.stop, strict=True)])
        return Box(start, stop)

    def contains(self, other: Box) -> bool:
        """Whether every voxel of ``other`` lies in this box."""
        return (self & other) == other


@dataclass(frozen=True)
class Grid:
    """Blocks of one shape on a global grid anchored at voxel (0, 0, 0), clipped to ``bounds``.

    Blocks of two grids of one block shape coincide wherever the bounds leave them whole.
    """

    bounds: Box
    block: ZYX

    def __post_init__(self) -> None:
        if min(self.block) < 1:
            raise SpecError(f"block shape {self.block}", expected="at least one voxel on every axis")

    @property
    def first(self) -> ZYX:
        """Index of the lowest block."""
        return _zyx([a // b for a, b in zip(self.bounds.start, self.block, strict=True)])

    @property
    def counts(self) -> ZYX:
        """Number of blocks along z, y, x."""
        last = [-(-b // s) for b, s in zip(self.bounds.stop, self.block, strict=True)]
        return _zyx([b - a for a, b in zip(self.first, last, strict=True)])

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __iter__(self) -> Iterator[ZYX]:
        """Yield the block indices in C order."""
        axes = [range(f, f + n) for f, n in zip(self.first, self.counts, strict=True)]
        yield from itertools.product(*axes)

    def core(self, index: ZYX) -> Box:
        """Return the voxels that block ``index`` owns."""
        start = _zyx([i * b for i, b in zip(index, self.block, strict=True)])
        return Box(start, _zyx([a + b for a, b in zip(start, self.block, strict=True)])) & self.bounds

    def blocks_in(self, box: Box) -> Iterator[ZYX]:
        """Yield the indices of the blocks that share a voxel with ``box``."""
        part = box & self.bounds
        if not part.is_empty:
            yield from Grid(part, self.block)


def block_name(index: ZYX) -> str:
    """Return the name of a block, as in ledgers, logs and file names: ``3-0-12``."""
    return "-".join(str(i) for i in index)


def voxel_ids(box: Box, shape: ZYX) -> np.ndarray:
    """Return each voxel's global id: its C-order index in a volume of ``shape``, plus one.

    Returns
    -------
    numpy.ndarray
        uint64, shape ``box.shape``; 0 never occurs, so an id can be a label.
    """
    z, y, x = (np.arange(a, b, dtype=np.uint64) for a, b in zip(box.start, box.stop, strict=True))
    ny, nx = np.uint64(shape[1]), np.uint64(shape[2])
    return (z[:, None, None] * ny + y[None, :, None]) * nx + x[None, None, :] + np.uint64(1)


def centres_nm(positions: np.ndarray, voxel_size_nm: NM) -> np.ndarray:
    """Return the centres in nm, float64 (n, 3) z, y, x, of the voxels at ``positions`` (n, 3)."""
    return (np.asarray(positions, dtype=np.float64) + 0.5) * np.asarray(voxel_size_nm)


def nm_to_voxels(length_nm: float, voxel_size_nm: NM) -> ZYX:
    """Return the voxels along z, y, x that a length in nm spans, rounded up."""
    return _zyx([math.ceil(length_nm / size - 1e-9) for size in voxel_size_nm])
