"""Counter-based random numbers: a pure function of a seed and integer coordinates, so that no box depends on another.

The mixer is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2714064.2660195).
"""

from __future__ import annotations

import numpy as np
from numba import njit

_A, _B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_K1, _K2, _K3 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0xD6E8FEB86659FD93)
_S27, _S30, _S31, _S11 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(11)


@njit(cache=True, nogil=True, inline="always")
def mix(h: np.uint64) -> np.uint64:
    """Return 64 well mixed bits of ``h``."""
    h = (h ^ (h >> _S30)) * _A
    h = (h ^ (h >> _S27)) * _B
    return h ^ (h >> _S31)


@njit(cache=True, nogil=True)
def hash3(key: np.uint64, a: int, b: int, c: int) -> np.uint64:
    """Return 64 random bits for integer coordinates (a, b, c) under ``key``."""
    h = mix(key + np.uint64(a) * _K1)
    h = mix(h ^ (np.uint64(b) * _K2))
    return mix(h ^ (np.uint64(c) * _K3))


@njit(cache=True, nogil=True)
def subkey(seed: np.uint64, tag: int) -> np.uint64:
    """Return the key of the random stream ``tag`` of ``seed``."""
    return mix(mix(seed + _K1) ^ (np.uint64(tag) * _K2))


@njit(cache=True, nogil=True, inline="always")
def unit(h: np.uint64) -> float:
    """Return bits as a float64 in [0, 1)."""
    return float(h >> _S11) * 1.1102230246251565e-16


@njit(cache=True, nogil=True)
def uniform(key: np.uint64, a: int, b: int, c: int) -> float:
    """Return a float64 in [0, 1) for integer coordinates."""
    return unit(hash3(key, a, b, c))


@njit(cache=True, nogil=True)
def smooth_noise(key: np.uint64, z: float, y: float, x: float) -> float:
    """Return value noise in [-1, 1] with one random value per unit lattice point, C2 smooth."""
    iz, iy, ix = int(np.floor(z)), int(np.floor(y)), int(np.floor(x))
    fz, fy, fx = z - iz, y - iy, x - ix
    wz = fz * fz * fz * (fz * (fz * 6.0 - 15.0) + 10.0)
    wy = fy * fy * fy * (fy * (fy * 6.0 - 15.0) + 10.0)
    wx = fx * fx * fx * (fx * (fx * 6.0 - 15.0) + 10.0)
    total = 0.0
    for dz in range(2):
        plane = mix(key + np.uint64(iz + dz) * _K1)
        for dy in range(2):
            line = mix(plane ^ (np.uint64(iy + dy) * _K2))
            w = (wz if dz else 1.0 - wz) * (wy if dy else 1.0 - wy)
            left = unit(mix(line ^ (np.uint64(ix) * _K3)))
            right = unit(mix(line ^ (np.uint64(ix + 1) * _K3)))
            total += w * (left + (right - left) * wx)
    return 2.0 * total - 1.0
