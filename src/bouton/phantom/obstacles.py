"""Somata and capillaries: large bodies that push the neurites aside, found from the seed and a box alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.phantom.hashing import subkey, uniform
from bouton.phantom.params import PhantomParams

SOMA, VESSEL = 0, 1
CELL_NM = 540.0
DENDRITE_PERIOD = 5
SOMA_RADIUS_NM = (2900.0, 3900.0)
VESSEL_RADIUS_NM = (2300.0, 3200.0)
VESSEL_SPACING_NM = 45000.0
CORE = 0.5
REACH = 2.0
MAX_RADIUS_NM = 3900.0


@dataclass(frozen=True)
class Obstacles:
    """Bodies, sorted by their lattice place.

    Attributes
    ----------
    kind : int64 (n,)
        ``SOMA`` or ``VESSEL``.
    centre : float64 (n, 3)
        z, y, x in nm in tissue space (for a vessel: any point of its axis, which is axis ``axis`` of the tissue).
    axis : int64 (n,)
        -1 for a soma.
    radius : float64 (n,)
        nm.
    dendrite : int64 (n, 4)
        For a soma: axis and lattice cell of the dendrite it sits on.
    """

    kind: np.ndarray
    centre: np.ndarray
    axis: np.ndarray
    radius: np.ndarray
    dendrite: np.ndarray


def find_obstacles(params: PhantomParams, low: np.ndarray, high: np.ndarray) -> Obstacles:
    """Return the bodies that may touch the tissue between ``low`` and ``high`` (nm, (3,))."""
    rows = _somata(params, low, high) + (_vessels(params, low, high) if params.vessels else [])
    kind = np.array([row[0] for row in rows], dtype=np.int64)
    centre = np.array([row[1] for row in rows], dtype=np.float64).reshape(-1, 3)
    axis = np.array([row[2] for row in rows], dtype=np.int64)
    radius = np.array([row[3] for row in rows], dtype=np.float64)
    return Obstacles(kind, centre, axis, radius, np.array([row[4] for row in rows], dtype=np.int64).reshape(-1, 4))


def _somata(params: PhantomParams, low: np.ndarray, high: np.ndarray) -> list[tuple]:
    """One candidate per cube of dendrite periods: centred on a place of a dendrite of axis 0."""
    if params.somata_per_mm3 <= 0:
        return []
    key = np.uint64(subkey(np.uint64(params.seed), 11))
    step = DENDRITE_PERIOD * CELL_NM
    periods = 5
    spacing = periods * step
    chance = min(1.0, params.somata_per_mm3 * 1e-9 * (spacing / 1000.0) ** 3)
    margin = REACH * MAX_RADIUS_NM
    first = np.floor((low - margin) / spacing).astype(int) - 1
    last = np.ceil((high + margin) / spacing).astype(int) + 1
    rows = []
    for index in np.ndindex(*(last - first)):
        cz, cy, cx = (int(v) for v in first + np.array(index))
        if uniform(key, cz, cy, cx) >= chance:
            continue
        draw = [uniform(np.uint64(subkey(key, tag)), cz, cy, cx) for tag in range(1, 5)]
        # A spare period on each side keeps the bodies of neighbouring cubes apart.
        place = [int(1 + v * (periods - 2)) for v in draw[:3]]
        i = (cy * periods + place[1]) * DENDRITE_PERIOD + 2
        j = (cx * periods + place[2]) * DENDRITE_PERIOD
        k = (cz * periods + place[0]) * DENDRITE_PERIOD
        centre = ((k + 0.25) * CELL_NM, (i + 0.5) * CELL_NM, j * CELL_NM)
        radius = SOMA_RADIUS_NM[0] + draw[3] * (SOMA_RADIUS_NM[1] - SOMA_RADIUS_NM[0])
        if _touches(np.array(centre), low, high, margin):
            rows.append((SOMA, centre, -1, radius, (0, k, i, j)))
    return rows


def _vessels(params: PhantomParams, low: np.ndarray, high: np.ndarray) -> list[tuple]:
    key = np.uint64(subkey(np.uint64(params.seed), 12))
    margin = REACH * MAX_RADIUS_NM
    first = np.floor((low - margin) / VESSEL_SPACING_NM).astype(int) - 1
    last = np.ceil((high + margin) / VESSEL_SPACING_NM).astype(int) + 1
    rows = []
    for index in np.ndindex(*(last - first)[1:]):
        cy, cx = (int(v) for v in first[1:] + np.array(index))
        draw = [uniform(key, tag, cy, cx) for tag in range(3)]
        centre = (0.0, (cy + draw[0]) * VESSEL_SPACING_NM, (cx + draw[1]) * VESSEL_SPACING_NM)
        radius = VESSEL_RADIUS_NM[0] + draw[2] * (VESSEL_RADIUS_NM[1] - VESSEL_RADIUS_NM[0])
        if _touches(np.array(centre)[1:], low[1:], high[1:], margin):
            rows.append((VESSEL, centre, 0, radius, (-1, 0, 0, 0)))
    return rows


def _touches(centre: np.ndarray, low: np.ndarray, high: np.ndarray, margin: float) -> bool:
    return bool(np.all(centre > low - margin) and np.all(centre < high + margin))
