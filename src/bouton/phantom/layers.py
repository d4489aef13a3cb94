"""Truth that a voxel's owner and its distance to the membrane tell: kinds of tissue, and membranes."""

from __future__ import annotations

import numpy as np
from numba import njit

from bouton.phantom.lattice import GLIA as GLIAL_ROD
from bouton.phantom.lattice import MYELINATED, sheath_nm
from bouton.phantom.obstacles import SOMA as SOMA_BODY
from bouton.phantom.render import MEMBRANE_NM

MYELIN, GLIA, SOMA = 1, 2, 4


@njit(cache=True, nogil=True)
def tissue_bits(
    key: np.uint64, own: np.ndarray, tree: np.ndarray, distance: np.ndarray, flat: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Return what every voxel is part of, as a sum of ``MYELIN``, ``GLIA`` and ``SOMA``, uint8 (z, y, x).

    Parameters
    ----------
    key : uint64
    own : int32 (z, y, x)
        Index into the flattened tables; beyond their size it is a body.
    tree : uint64 (z, y, x)
    distance : float32 (z, y, x)
        To the nearest membrane in nm.
    flat
        kind of every flattened table entry (uint8), kind of every body (int64).
    """
    kinds, bodies = flat
    bits = np.zeros(own.shape, dtype=np.uint8)
    last_tree, sheath = np.uint64(0), 0.0
    for z in range(own.shape[0]):
        for y in range(own.shape[1]):
            for x in range(own.shape[2]):
                index = own[z, y, x]
                if index >= len(kinds):
                    bits[z, y, x] = SOMA if bodies[index - len(kinds)] == SOMA_BODY else 0
                elif kinds[index] == GLIAL_ROD:
                    bits[z, y, x] = GLIA
                elif kinds[index] == MYELINATED:
                    if tree[z, y, x] != last_tree:
                        last_tree, sheath = tree[z, y, x], sheath_nm(key, tree[z, y, x])
                    bits[z, y, x] = MYELIN if distance[z, y, x] < sheath else 0
    return bits


def membranes(distance: np.ndarray, tilt: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return where a membrane passes, uint8 (z, y, x), 0 or 1.

    Parameters
    ----------
    distance : float32 (z, y, x)
        To the middle of the nearest membrane in nm.
    tilt : float32 (z, y, x)
        Component along z of the membrane's unit normal, 0 to 1.
    size : float64 (3,)
        Of a voxel, z, y, x, nm. A membrane is at least as wide as half a voxel on either side, so that it has no holes.
    """
    across = np.sqrt(np.maximum(0, 1 - tilt.astype(np.float64) ** 2))
    half = np.maximum(MEMBRANE_NM, 0.5 * (tilt * size[0] + across * size[1:].max()))
    return (distance <= half).astype(np.uint8)
