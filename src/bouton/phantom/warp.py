"""The map from the volume to the lattice in which neurites are straight rods.

Three steps, each one-to-one: rotation and smooth noise bend the rods; somata and vessels, then thick dendrites,
grow from a slim core in the lattice to their radius in the tissue, which pushes their neighbours aside without
cutting them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bouton.phantom.hashing import hash3, smooth_noise, subkey, uniform, unit
from bouton.phantom.obstacles import CELL_NM, CORE, DENDRITE_PERIOD, REACH

# A rotation by 0.6, 0.5 and 0.9 rad: no neurite runs along an axis of the volume.
ROTATION = ((0.545514, -0.687434, -0.479426), (0.478235, 0.725087, -0.49552), (0.688263, 0.041035, 0.7243))
OCTAVE_NM = (5200.0, 1500.0, 480.0, 230.0)
OCTAVE_AMPLITUDE_NM = (950.0, 210.0, 58.0, 18.0)
DENDRITE_CORE = 0.29
DENDRITE_REACH_NM = 675.0
DENDRITE_RADIUS_NM = (200.0, 400.0)
JITTER = 0.13
MAX_SHIFT_NM = 2500.0


@njit(cache=True, nogil=True)
def rod_offset(key: np.uint64, axis: int, i: int, j: int, t: float, which: int) -> float:
    """Return how far, in cells, rod (axis, i, j) strays from its line at ``t`` along transverse axis ``which``."""
    u = t - 0.25
    k = int(np.floor(u))
    f = u - k
    w = f * f * (3.0 - 2.0 * f)
    rod = hash3(key, axis * 2 + which, i, j)
    a = unit(hash3(rod, k, 0, 0))
    b = unit(hash3(rod, k + 1, 0, 0))
    return JITTER * (2.0 * (a + (b - a) * w) - 1.0)


@njit(cache=True, nogil=True)
def is_dendrite(key: np.uint64, axis: int, i: int, j: int) -> bool:
    """Return whether rod (axis, i, j) is a thick dendrite."""
    if i % DENDRITE_PERIOD != 2 or j % DENDRITE_PERIOD != 0:
        return False
    return uniform(subkey(key, 21), axis, i, j) < 0.88


@njit(cache=True, nogil=True)
def typical_radius(key: np.uint64, axis: int, i: int, j: int) -> float:
    """Return the mean radius in nm of dendrite (axis, i, j)."""
    low, high = DENDRITE_RADIUS_NM
    return low + (high - low) * uniform(subkey(key, 22), axis, i, j)


@njit(cache=True, nogil=True)
def dendrite_radius(key: np.uint64, axis: int, i: int, j: int, t: float) -> float:
    """Return the radius in nm of dendrite (axis, i, j) at ``t``."""
    low, high = DENDRITE_RADIUS_NM
    rod = hash3(subkey(key, 22), axis, i, j)
    base = unit(rod)
    wave = smooth_noise(rod, t * 0.31, 0.0, 0.0)
    return min(high, max(low, low + (high - low) * base + 70.0 * wave))


@njit(cache=True, nogil=True)
def to_tissue(key: np.uint64, p: np.ndarray) -> np.ndarray:
    """Return the bent place (nm) of volume place ``p`` (nm)."""
    w = np.empty(3)
    for axis in range(3):
        w[axis] = ROTATION[axis][0] * p[0] + ROTATION[axis][1] * p[1] + ROTATION[axis][2] * p[2]
        for octave in range(4):
            length = OCTAVE_NM[octave]
            noise = smooth_noise(subkey(key, 100 + octave * 3 + axis), p[0] / length, p[1] / length, p[2] / length)
            w[axis] += OCTAVE_AMPLITUDE_NM[octave] * noise
    return w


@njit(cache=True, nogil=True)
def shrink(d: float, radius: float, core: float, reach: float) -> float:
    """Return the factor that takes distance ``d`` from a body of ``radius`` to one of ``core``; 1 from ``reach`` on."""
    if d >= reach:
        return 1.0
    if d <= radius:
        return core / radius
    return (core + (d - radius) * (reach - core) / (reach - radius)) / d


@njit(cache=True, nogil=True)
def to_lattice(key: np.uint64, centre: np.ndarray, axes: np.ndarray, radii: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return the lattice place, in cells, of volume place ``p`` (nm)."""
    w = to_tissue(key, p)
    for n in range(len(radii)):
        d2 = 0.0
        for axis in range(3):
            if axis != axes[n]:
                d2 += (w[axis] - centre[n, axis]) ** 2
        if d2 < (REACH * radii[n]) ** 2:
            s = shrink(np.sqrt(d2), radii[n], CORE * radii[n], REACH * radii[n])
            for axis in range(3):
                if axis != axes[n]:
                    w[axis] = centre[n, axis] + (w[axis] - centre[n, axis]) * s
    q = w / CELL_NM
    period = DENDRITE_PERIOD
    for axis in range(3):
        e, f = (axis + 1) % 3, (axis + 2) % 3
        i = int(np.floor((q[e] - 2.5) / period + 0.5)) * period + 2
        j = int(np.floor(q[f] / period + 0.5)) * period
        if not is_dendrite(key, axis, i, j):
            continue
        ce = i + 0.5 + rod_offset(key, axis, i, j, q[axis], 0)
        cf = j + rod_offset(key, axis, i, j, q[axis], 1)
        d = np.sqrt((q[e] - ce) ** 2 + (q[f] - cf) ** 2) * CELL_NM
        if d < DENDRITE_REACH_NM:
            r = dendrite_radius(key, axis, i, j, q[axis])
            s = shrink(d, r, DENDRITE_CORE * CELL_NM, DENDRITE_REACH_NM)
            q[e] = ce + (q[e] - ce) * s
            q[f] = cf + (q[f] - cf) * s
    return q


@njit(cache=True, nogil=True)
def sample_map(
    key: np.uint64,
    bodies: tuple[np.ndarray, np.ndarray, np.ndarray],
    first: np.ndarray,
    shape: np.ndarray,
    spacing: float,
) -> np.ndarray:
    """Return :func:`to_lattice` at the global grid points ``first + (0 .. shape)``, float64 (z, y, x, 3)."""
    centre, axes, radii = bodies
    out = np.empty((shape[0], shape[1], shape[2], 3))
    p = np.empty(3)
    for z in range(shape[0]):
        p[0] = (first[0] + z) * spacing
        for y in range(shape[1]):
            p[1] = (first[1] + y) * spacing
            for x in range(shape[2]):
                p[2] = (first[2] + x) * spacing
                out[z, y, x] = to_lattice(key, centre, axes, radii, p)
    return out


@njit(cache=True, nogil=True)
def _unrotate(v: np.ndarray) -> np.ndarray:
    out = np.empty(3)
    for axis in range(3):
        out[axis] = ROTATION[0][axis] * v[0] + ROTATION[1][axis] * v[1] + ROTATION[2][axis] * v[2]
    return out


@njit(cache=True, nogil=True)
def to_volume(
    key: np.uint64, bodies: tuple[np.ndarray, np.ndarray, np.ndarray], q: np.ndarray
) -> tuple[bool, np.ndarray]:
    """Return whether the search converged, and the volume place (nm) of lattice place ``q`` (cells)."""
    centre, axes, radii = bodies
    target = q * CELL_NM
    p = _unrotate(target)
    for _ in range(80):
        gap = target - to_lattice(key, centre, axes, radii, p) * CELL_NM
        step = _unrotate(gap)
        p += 0.8 * step
        if step[0] ** 2 + step[1] ** 2 + step[2] ** 2 < 4.0:
            return True, p
    return False, p
