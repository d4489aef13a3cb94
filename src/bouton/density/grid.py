"""The blocks of tissue in which synapses are counted: whole blocks of one size in um, from a corner of the bounds.

They have nothing to do with the blocks of the computation. Blocks of 5 um with a surround of 2 um: case study 2 of
NeuroData, https://github.com/neurodata-papers/ndpaper (spatialsynapses).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bouton.errors import SpecError
from bouton.geometry import NM, ZERO, ZYX, Box, nm_to_voxels

NM_PER_UM = 1000.0
UM = tuple[float, float, float]


@dataclass(frozen=True)
class AnalysisGrid:
    """Whole blocks of tissue.

    Attributes
    ----------
    start : (z, y, x)
        First voxel of block (0, 0, 0).
    block : (z, y, x)
        Voxels of a block.
    counts : (z, y, x)
        Blocks along each axis; block ``n`` is the n-th in C order.
    pad : (z, y, x)
        Voxels of the surround that is seen on each side of a block.
    """

    start: ZYX
    block: ZYX
    counts: ZYX
    pad: ZYX = ZERO

    @classmethod
    def over(cls, bounds: Box, voxel_size_nm: NM, block_um: UM, pad_um: UM = (0.0, 0.0, 0.0)) -> AnalysisGrid:
        """Return the whole blocks inside of ``bounds``, each with its whole surround.

        A block has ``block_um`` rounded to whole voxels, a surround ``pad_um`` rounded up.

        Raises
        ------
        SpecError
            A block is smaller than a voxel, or none fits.
        """
        block = block_voxels(block_um, voxel_size_nm)
        pad = ZERO if not any(pad_um) else _each(_pad_voxels(um, size) for um, size in _pairs(pad_um, voxel_size_nm))
        room = [n - 2 * p for n, p in zip(bounds.shape, pad, strict=True)]
        counts = _each(max(0, n) // b for n, b in zip(room, block, strict=True))
        if min(counts) == 0:
            around = f" and {pad} around it" if any(pad) else ""
            raise SpecError(
                f"no whole block of {block} voxels{around} fits the bounds {bounds} (z,y,x)",
                expected=f"bounds of at least {_each(b + 2 * p for b, p in zip(block, pad, strict=True))} voxels",
                fix="a smaller block_um, or larger bounds",
            )
        return cls(_each(a + p for a, p in zip(bounds.start, pad, strict=True)), block, counts, pad)

    def __len__(self) -> int:
        return math.prod(self.counts)

    @property
    def block_voxels(self) -> int:
        """Voxels of one block."""
        return math.prod(self.block)

    @property
    def box(self) -> Box:
        """The voxels of all blocks."""
        return Box(self.start, _each(a + b * n for a, b, n in zip(self.start, self.block, self.counts, strict=True)))

    def met(self, box: Box) -> Box:
        """Return the indices of the blocks that share a voxel with ``box``, half-open; empty if there are none."""
        inside = box & self.box
        if inside.is_empty:
            return Box(ZERO, ZERO)
        start = _each((a - s) // b for a, s, b in zip(inside.start, self.start, self.block, strict=True))
        stop = _each(-(-(a - s) // b) for a, s, b in zip(inside.stop, self.start, self.block, strict=True))
        return Box(start, stop)

    def index(self, numbers: np.ndarray) -> np.ndarray:
        """Return the indices of blocks, int64 (n, 3), z, y, x."""
        return np.stack(np.unravel_index(np.asarray(numbers, np.int64), self.counts), axis=1).astype(np.int64)

    def numbers(self, indices: Box) -> np.ndarray:
        """Return the numbers of the blocks with these indices, int64 (n,), in C order."""
        z, y, x = (np.arange(a, b, dtype=np.int64) for a, b in zip(indices.start, indices.stop, strict=True))
        _, ny, nx = self.counts
        return ((z[:, None, None] * ny + y[None, :, None]) * nx + x[None, None, :]).ravel()

    def edges(self, core: Box, axis: int) -> np.ndarray:
        """Return where the blocks that ``core`` meets begin along an axis inside of it, and where the last one ends.

        Returns
        -------
        numpy.ndarray
            int64 (blocks + 1,), voxels of the core.
        """
        met = self.met(core)
        at = self.start[axis] + np.arange(met.start[axis], met.stop[axis] + 1, dtype=np.int64) * self.block[axis]
        found: np.ndarray = np.clip(at, core.start[axis], core.stop[axis]) - core.start[axis]
        return found


def block_voxels(block_um: UM, voxel_size_nm: NM) -> ZYX:
    """Return the voxels of a block: its size in um, rounded.

    Raises
    ------
    SpecError
        It is smaller than a voxel.
    """
    if any(um * NM_PER_UM < size for um, size in _pairs(block_um, voxel_size_nm)):
        raise SpecError(
            f"block_um = {list(block_um)} with voxels of {list(voxel_size_nm)} nm (z, y, x)",
            expected="blocks of at least a voxel",
            fix="give block_um in um",
        )
    return _each(round(um * NM_PER_UM / size) for um, size in _pairs(block_um, voxel_size_nm))


def _pad_voxels(um: float, size_nm: float) -> int:
    return nm_to_voxels(um * NM_PER_UM, (size_nm, size_nm, size_nm))[0]


def _pairs(um: UM, size_nm: NM) -> list[tuple[float, float]]:
    return list(zip(um, size_nm, strict=True))


def _each(values: object) -> ZYX:
    z, y, x = (int(value) for value in values)  # type: ignore[attr-defined]
    return z, y, x
