"""The tissue in which points could lie, and points drawn from it that keep a distance from one another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit

from bouton.density.blocks import DensityBlocks
from bouton.errors import DataError, SpecError

ROUNDS = 60
FULL = 1 - 1e-6


@dataclass(frozen=True)
class Window:
    """Where points could be seen.

    Attributes
    ----------
    exposed : bool (z, y, x)
        Voxels in which a point could lie.
    voxel_um : (z, y, x)
        Their size.
    origin_um : (z, y, x)
        The low corner of voxel (0, 0, 0).
    """

    exposed: np.ndarray
    voxel_um: tuple[float, float, float]
    origin_um: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.exposed.ndim != 3 or self.exposed.dtype != bool:
            found = f"a window of {self.exposed.ndim} axes and type {self.exposed.dtype}"
            raise DataError(found, expected="3 axes (z, y, x) of bool")
        if not all(np.isfinite(size) and size > 0 for size in self.voxel_um):
            raise SpecError(f"window voxels of {self.voxel_um} um", expected="3 sizes above 0")

    @property
    def volume_um3(self) -> float:
        """Volume of the exposed voxels."""
        return float(np.count_nonzero(self.exposed) * np.prod(self.voxel_um))

    def holds(self, points_um: np.ndarray) -> np.ndarray:
        """Return which points, float64 (n, 3), z, y, x, lie in an exposed voxel, bool (n,)."""
        places = (points_um - np.array(self.origin_um)) / np.array(self.voxel_um)
        inside = ((places >= 0) & (places < self.exposed.shape)).all(axis=1)
        found = np.zeros(len(points_um), bool)
        found[inside] = _at(self.exposed, places[inside].astype(np.int64))
        return found

    @cached_property
    def places(self) -> np.ndarray:
        """The exposed voxels, places in C order, int64 (n,)."""
        return np.flatnonzero(self.exposed)

    def drawn(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return points drawn evenly from the exposed voxels, float64 (count, 3), z, y, x in um."""
        chosen = self.places[rng.integers(0, len(self.places), size=count)]
        voxels = np.stack(np.unravel_index(chosen, self.exposed.shape), axis=1)
        return np.asarray((voxels + rng.random((count, 3))) * np.array(self.voxel_um) + np.array(self.origin_um))


def box_window(size_um: tuple[float, float, float]) -> Window:
    """Return a window of one box at the origin; size z, y, x."""
    return Window(np.ones((1, 1, 1), bool), size_um)


def block_window(blocks: DensityBlocks) -> Window:
    """Return the blocks of which everything is exposed as a window: where a mask cuts a block is not known.

    Raises
    ------
    DataError
        None is wholly exposed.
    """
    size = np.array(blocks.size_um, dtype=np.float64)
    whole = blocks.exposure_um3 >= FULL * np.prod(size)
    if not whole.any():
        raise DataError("no block is wholly exposed", expected="at least one block without mask")
    low = blocks.index[whole].min(axis=0)
    exposed = np.zeros(np.ptp(blocks.index[whole], axis=0) + 1, bool)
    places = blocks.index[whole] - low
    exposed[places[:, 0], places[:, 1], places[:, 2]] = True
    corner = (blocks.centre_um - size / 2 - (blocks.index - low) * size)[whole][0]
    return Window(exposed, _triple(size), _triple(corner))


def _at(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.asarray(values[places[:, 0], places[:, 1], places[:, 2]])


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def hard_core_points(window: Window, count: int, distance_um: float, rng: np.random.Generator) -> np.ndarray:
    """Return points that are placed one after the other, each at random where it keeps its distance from those before.

    Parameters
    ----------
    window : Window
        Where they may lie.
    count : int
        How many.
    distance_um : float
        The smallest distance of two points, at least 0.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    float64 (count, 3)
        Their places in um, z, y, x.

    Raises
    ------
    DataError
        So many points find no room, or the window is empty.
    """
    if not len(window.places):
        raise DataError("a window without an exposed voxel", expected="tissue in which points could lie")
    kept = np.zeros((0, 3))
    for _ in range(ROUNDS):
        more = window.drawn(int(1.3 * (count - len(kept))) + 8, rng)
        proposed = np.concatenate([kept, more])
        kept = apart(proposed, distance_um)[:count] if distance_um > 0 else proposed[:count]
        if len(kept) == count:
            return kept
    found = f"{len(kept)} of {count} points found room at {distance_um:g} um from one another"
    raise DataError(found, expected="a smaller distance", fix="give hard_core_um, or check the units of the positions")


def apart(points_um: np.ndarray, distance_um: float) -> np.ndarray:
    """Return the points, float64 (n, 3), that keep a distance above 0 from all kept before them, float64 (m, 3)."""
    low, extent = points_um.min(axis=0), np.ptp(points_um, axis=0)
    spacing = float(np.cbrt(max(np.prod(np.maximum(extent, distance_um)), 1e-12) / len(points_um)))
    side = max(distance_um, spacing)
    shape = (extent / side).astype(np.int64) + 1
    return np.asarray(points_um[_kept(points_um - low, distance_um, side, shape)], dtype=np.float64)


@njit(cache=True, nogil=True)
def _kept(points: np.ndarray, distance: float, side: float, shape: np.ndarray) -> np.ndarray:
    """Return which points, float64 (n, 3), at least 0, keep their distance, bool (n,); cells list theirs."""
    head = np.full(shape[0] * shape[1] * shape[2], -1, np.int64)
    after, kept = np.full(len(points), -1, np.int64), np.zeros(len(points), np.bool_)
    for point in range(len(points)):
        z, y, x = int(points[point, 0] / side), int(points[point, 1] / side), int(points[point, 2] / side)
        free = True
        for cell_z in range(max(z - 1, 0), min(z + 2, shape[0])):
            for cell_y in range(max(y - 1, 0), min(y + 2, shape[1])):
                for cell_x in range(max(x - 1, 0), min(x + 2, shape[2])):
                    other = head[(cell_z * shape[1] + cell_y) * shape[2] + cell_x]
                    while other >= 0 and free:
                        away = 0.0
                        for axis in range(3):
                            away += (points[point, axis] - points[other, axis]) ** 2
                        free = away >= distance * distance
                        other = after[other]
        if free:
            cell = (z * shape[1] + y) * shape[2] + x
            after[point], head[cell], kept[point] = head[cell], point, True
    return kept
