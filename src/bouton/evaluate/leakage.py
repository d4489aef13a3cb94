"""Whether what a model is scored on was seen in its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bouton.geometry import ZYX, Box


@dataclass(frozen=True)
class Region:
    """A box of an image. ``image`` names the data: equal names are the same data; ``name`` is for people."""

    image: str
    box: Box
    name: str


@dataclass(frozen=True)
class Leak:
    """A region that is scored and one that was trained on, and what they share: ``seen`` also where it is only context.

    Attributes
    ----------
    trained, scored : Region
    shared_voxels : int
        Voxels in both; 0 where only the surroundings meet.
    share : float
        Of the scored region, in [0, 1].
    """

    trained: Region
    scored: Region
    shared_voxels: int
    share: float


def leaks(trained: Sequence[Region], scored: Sequence[Region], context_zyx: ZYX = (0, 0, 0)) -> list[Leak]:
    """Return where scored regions come within ``context_zyx`` voxels of trained ones.

    A network that was trained up to the edge of a box has seen half its receptive field beyond it: a score is only
    clean that much farther off.
    """
    found = []
    for one in trained:
        for other in scored:
            if one.image == other.image and not (one.box.grow(context_zyx) & other.box).is_empty:
                shared = (one.box & other.box).voxels
                found.append(Leak(one, other, shared, shared / max(1, other.box.voxels)))
    return found
