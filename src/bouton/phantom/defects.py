"""What goes wrong in cutting and imaging, section by section.

Folds, cracks and charging follow level lines of smooth noise, so they run through any box of a section unbroken.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bouton.geometry import Box
from bouton.phantom.hashing import smooth_noise, subkey, uniform
from bouton.phantom.params import PhantomParams

JITTER_NM = 60.0
MISSING, FOLD, CRACK, CHARGING = 0, 1, 2, 3
NAMES = ("missing", "fold", "crack", "charging")
FOLD_WAVE_NM, FOLD_HALF = 5000.0, 0.035
CRACK_WAVE_NM, CRACK_HALF = 7000.0, 0.022
CHARGE_WAVE_NM = (900.0, 4000.0)


def jitter_nm(params: PhantomParams) -> float:
    """Return by how many nm, at most, a section is displaced."""
    return JITTER_NM if "jitter" in params.defects else 0.0


@njit(cache=True, nogil=True)
def strikes(key: np.uint64, defect: int, z: int, rate: float) -> bool:
    """Return whether ``defect`` strikes section ``z``."""
    return uniform(subkey(key, 120 + defect), z, 0, 0) < rate


@njit(cache=True, nogil=True)
def _spoil(key: np.uint64, image: np.ndarray, missing: np.ndarray, frame: tuple, chosen: tuple, rate: float) -> None:
    start, size = frame
    for z in range(image.shape[0]):
        section = start[0] + z
        gone = chosen[MISSING] and strikes(key, MISSING, section, rate)
        fold = chosen[FOLD] and strikes(key, FOLD, section, rate)
        crack = chosen[CRACK] and strikes(key, CRACK, section, rate)
        charge = chosen[CHARGING] and strikes(key, CHARGING, section, rate)
        if not (gone or fold or crack or charge):
            continue
        for y in range(image.shape[1]):
            py = (start[1] + y + 0.5) * size[1]
            for x in range(image.shape[2]):
                px = (start[2] + x + 0.5) * size[2]
                value = float(image[z, y, x])
                if charge:
                    glow = smooth_noise(subkey(key, 131), section, py / CHARGE_WAVE_NM[0], px / CHARGE_WAVE_NM[1])
                    value += 150.0 * max(0.0, glow) ** 1.5 - 40.0 * max(0.0, -glow)
                if fold:
                    level = smooth_noise(subkey(key, 132), section, py / FOLD_WAVE_NM, px / FOLD_WAVE_NM)
                    value *= 0.25 if abs(level) < FOLD_HALF else 1.0
                if crack:
                    level = smooth_noise(subkey(key, 133), section, py / CRACK_WAVE_NM, px / CRACK_WAVE_NM)
                    value = 250.0 if abs(level) < CRACK_HALF else value
                if gone:
                    value = 0.0
                    missing[z, y, x] = True
                image[z, y, x] = np.uint8(min(255.0, max(0.0, value)))


def spoil(key: np.uint64, image: np.ndarray, box: Box, params: PhantomParams) -> np.ndarray:
    """Put the chosen defects into ``image`` (uint8, of ``box``'s shape) and return where nothing was imaged, bool."""
    missing = np.zeros(image.shape, dtype=bool)
    chosen = tuple(name in params.defects for name in NAMES)
    if any(chosen):
        frame = (np.array(box.start), np.array(params.voxel_size_nm, dtype=np.float64))
        _spoil(key, image, missing, frame, chosen, params.defect_rate)
    return missing
