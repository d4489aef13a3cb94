"""Tissue masks and missing sections, applied to affinities.

A *missing* section holds no image, so no edge that touches it is known. It is bridged from above:

- its in-plane edges (y, x), and whether it is tissue, are those of the next valid section above it;
- an edge along z with a missing end takes the affinity, at the same y and x, of the next edge above it whose ends are
  both valid. For a run of missing sections s to t these are the edges (s - 1, s) to (t, t + 1), which take the one of
  (t + 1, t + 2). Where no such edge lies above, inside the bounds, the next one below is taken; without any, 0.
- A run that reaches an end of the bounds joins nothing: it is background, all its edges are 0.

"Above" is towards greater z. What a place takes depends on the bounds and the list alone, so it is the same for every
tiling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NOWHERE = -1
"""Source of a section or an edge that nothing replaces."""


@dataclass(frozen=True)
class Bridge:
    """Missing sections inside bounds.

    Attributes
    ----------
    missing : frozenset of int
        z of the missing sections; those outside of the bounds do not matter.
    start, stop : int
        The bounds along z, half-open.
    """

    missing: frozenset[int]
    start: int
    stop: int

    def section(self, z: int) -> int:
        """Return the section that section ``z`` takes its in-plane edges from: ``z`` if valid; NOWHERE at the ends."""
        if z not in self.missing:
            return z
        above, below = _next(z, 1, self.missing), _next(z, -1, self.missing)
        return above if above < self.stop and below >= self.start else NOWHERE

    def edge(self, z: int) -> int:
        """Return the z whose edge (z - 1, z) the edge (``z`` - 1, ``z``) takes; NOWHERE without any."""
        broken = _broken(self.missing)
        if z not in broken:
            return z
        above, below = _next(z, 1, broken), _next(z, -1, broken)
        if above < self.stop:
            return above
        return below if below > self.start else NOWHERE


def reach(missing: Sequence[int]) -> int:
    """Return how far along z, in sections, anything lies from where it takes its values.

    One run of n missing sections reaches n + 1; runs parted by a single valid section reach farther.
    """
    broken = _broken(frozenset(missing))
    return max((abs(_next(z, step, broken) - z) for z in broken for step in (1, -1)), default=0)


def _broken(missing: frozenset[int]) -> frozenset[int]:
    """Return the z of the edges (z - 1, z) with a missing end."""
    return missing | {z + 1 for z in missing}


def _next(z: int, step: int, skipped: frozenset[int]) -> int:
    while z in skipped:
        z += step
    return z


def zero_outside(affinities: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return a copy of ``affinities`` in which every edge with an end that is not ``inside`` is 0.

    Parameters
    ----------
    affinities : numpy.ndarray
        uint8 (3, z, y, x): channel c joins a voxel with its lower neighbour along axis c.
    inside : numpy.ndarray
        bool (z + 1, y + 1, x + 1): the same voxels with one more on the lower side of every axis.
    """
    upper = inside[1:, 1:, 1:]
    lower = (inside[:-1, 1:, 1:], inside[1:, :-1, 1:], inside[1:, 1:, :-1])
    result = np.empty_like(affinities)
    for channel, ends in enumerate(lower):
        np.multiply(affinities[channel], upper & ends, out=result[channel])
    return result
