"""Which pair of voxels an affinity is about: the offsets of a head's channels, and an edge's two ends in arrays."""

from __future__ import annotations

from collections.abc import Sequence

from bouton.geometry import ZYX
from bouton.learn.info import ModelInfo

NEAREST: tuple[ZYX, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
Slices = tuple[slice, ...]


def head_offsets(info: ModelInfo, head: str) -> tuple[ZYX, ...] | None:
    """Return the offsets of a head's channels; None for a head that tells of single voxels."""
    return {"affinities": NEAREST, "long_affinities": info.long_offsets}.get(head)


def pair_slices(shape: Sequence[int], offset: ZYX) -> tuple[Slices, Slices]:
    """Return the slices of all voxels p for which p + offset lies inside, and of those partners."""
    here = tuple(slice(max(0, -o), min(n, n - o)) for n, o in zip(shape, offset, strict=True))
    there = tuple(slice(max(0, o), min(n, n + o)) for n, o in zip(shape, offset, strict=True))
    return here, there


def channel_of(edge: ZYX, offsets: Sequence[ZYX]) -> tuple[int, ZYX] | None:
    """Return the channel that holds the edges from p to p + edge, and by how much its voxel lies beyond p.

    That is 0 where the edge is one of the offsets, and the edge where its reverse is; None where neither is.
    """
    z, y, x = edge
    for offset, shift in ((edge, (0, 0, 0)), ((-z, -y, -x), edge)):
        if offset in offsets:
            return list(offsets).index(offset), shift
    return None
