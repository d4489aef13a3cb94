"""Arrays from one voxel size to another, exact whatever the blocks: weights follow from global coordinates alone.

Voxel p covers [p, p + 1) voxel sizes from the common origin of both grids. Towards smaller voxels this is linear
interpolation between voxel centres; towards larger ones, by a factor r, the mean of that interpolation over r - 1
source voxels around the target's centre, so that nothing is skipped. Either way slopes stay slopes, and equal voxel
sizes change nothing. Beyond the bounds the nearest voxel inside counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.geometry import NM, Box


@dataclass(frozen=True)
class Resampling:
    """From voxels of ``source_nm`` to voxels of ``target_nm``, both (z, y, x).

    Target voxels take their values from ``shift`` source voxels above their centres.
    """

    source_nm: NM
    target_nm: NM
    shift: NM = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if not all(0 < size < math.inf for size in (*self.source_nm, *self.target_nm)):
            raise SpecError(f"voxel sizes {self.source_nm} and {self.target_nm}", expected="nm above 0")

    @property
    def back(self) -> Resampling:
        """The other way, without a shift."""
        return Resampling(self.target_nm, self.source_nm)

    def shifted(self, shift: NM) -> Resampling:
        """Return the same with another shift."""
        return replace(self, shift=shift)

    def reach(self, axis: int) -> float:
        """Return how far from its centre, in source voxels, a target voxel's values come from, without a shift."""
        return 1 + max(0.0, self._ratio(axis) - 1) / 2

    def covers(self, bounds: Box) -> Box:
        """Return the target voxels that share a place with the source voxels ``bounds``."""
        axes = range(3)
        start = [math.floor(bounds.start[a] / self._ratio(a) + 1e-9) for a in axes]
        stop = [math.ceil(bounds.stop[a] / self._ratio(a) - 1e-9) for a in axes]
        return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))

    def reads(self, box: Box, bounds: Box) -> Box:
        """Return the source voxels, inside ``bounds``, on which the target voxels ``box`` depend."""
        ends = [self._taps(a, box, bounds)[0] for a in range(3)]
        start = [int(places.min()) for places in ends]
        stop = [int(places.max()) + 1 for places in ends]
        return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))

    def apply(self, values: np.ndarray, place: Box, box: Box, bounds: Box) -> np.ndarray:
        """Return the target voxels ``box``.

        Parameters
        ----------
        values : numpy.ndarray
            (z, y, x) or (c, z, y, x) over the source voxels ``place``.
        place : Box
            Holds :meth:`reads` of ``box``.
        box : Box
            Target voxels.
        bounds : Box
            Source voxels outside of which nothing exists.

        Returns
        -------
        numpy.ndarray
            float32; of uint8 values, rounded uint8.

        Raises
        ------
        DataError
            ``place`` lacks source voxels.
        """
        needed = self.reads(box, bounds)
        if not place.contains(needed):
            raise DataError(f"values over {place}", expected=f"{needed} (z, y, x) for {box}", fix="read a wider box")
        found = values.astype(np.float32)
        for axis in range(3):
            places, weights = self._taps(axis, box, bounds)
            found = _weighted(found, values.ndim - 3 + axis, places - place.start[axis], weights)
        return np.rint(found).astype(np.uint8) if values.dtype == np.uint8 else found

    def _ratio(self, axis: int) -> float:
        return self.target_nm[axis] / self.source_nm[axis]

    def _taps(self, axis: int, box: Box, bounds: Box) -> tuple[np.ndarray, np.ndarray]:
        """Return places int64 and weights float32, both (taps, n), of the n target voxels of ``box`` along an axis."""
        ratio = self._ratio(axis)
        width, reach = max(0.0, ratio - 1), self.reach(axis)
        centres = (np.arange(box.start[axis], box.stop[axis]) + 0.5) * ratio - 0.5 + self.shift[axis]
        first = np.ceil(centres - reach - 1e-6).astype(np.int64)
        places = first + np.arange(math.ceil(2 * reach) + 1)[:, None]
        away = centres - places
        if width < 1e-6:
            weights = np.maximum(0.0, 1.0 - np.abs(away))
        else:
            weights = (_under_triangle(away + width / 2) - _under_triangle(away - width / 2)) / width
        weights = np.where(weights < 1e-9, 0, weights)
        inside = np.clip(places, bounds.start[axis], bounds.stop[axis] - 1)
        # a tap of no weight must not ask for a voxel
        heaviest = np.take_along_axis(inside, weights.argmax(0)[None], 0)
        return np.where(weights > 0, inside, heaviest), weights.astype(np.float32)


def _under_triangle(ends: np.ndarray) -> np.ndarray:
    """Return the integral of max(0, 1 - |u|) from -1 to each of ``ends``."""
    ends = np.clip(ends, -1, 1)
    return np.where(ends < 0, (ends + 1) ** 2 / 2, 1 - (1 - ends) ** 2 / 2)


def _weighted(values: np.ndarray, axis: int, places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted sums along an axis, added tap by tap, so that their order is the same for every block."""
    shape = [1] * values.ndim
    shape[axis] = -1
    total = np.zeros((), np.float32)
    for at, weight in zip(places, weights, strict=True):
        total = total + values.take(at, axis) * weight.reshape(shape)
    return total
