"""Which voxels are cleft, and which components of them are clefts.

Hysteresis (Canny 1986, doi:10.1109/TPAMI.1986.4767851): a component of voxels of at least ``low`` counts if one of its
voxels reaches ``high``. Voxels may be joined across gaps first, because a thin oblique cleft breaks into pieces
where sections are thick. Everything a component is judged by is a sum, a maximum or a minimum over its voxels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy.ndimage import distance_transform_edt

from bouton.geometry import NM
from bouton.synapse.tables import changes

TableData = Mapping[str, np.ndarray]


def at_least(evidence: np.ndarray, probability: float) -> np.ndarray:
    """Return where uint8 ``evidence`` (v / 255) is at least ``probability`` in [0, 1]; bool, same shape."""
    return evidence >= level(probability)


def level(probability: float) -> int:
    """Return the smallest uint8 value v with v / 255 >= ``probability``."""
    return math.ceil(probability * 255 - 1e-9)


def bridge(mask: np.ndarray, gap_nm: float, voxel_size_nm: NM) -> np.ndarray:
    """Return the mask grown by half of ``gap_nm``: what lies at most that far apart becomes connected.

    Parameters
    ----------
    mask : numpy.ndarray
        bool (z, y, x). Right only where half a gap of surroundings is given.
    """
    if gap_nm <= 0 or not mask.any():
        return mask
    # The tolerance keeps a distance that equals the reach on one side whatever its rounding.
    return distance_transform_edt(~mask, sampling=voxel_size_nm) <= gap_nm / 2 * (1 + 1e-9)


def component_rows(
    labels: np.ndarray, mask: np.ndarray, evidence: np.ndarray, ids: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what each component has in a block.

    Parameters
    ----------
    labels : numpy.ndarray
        uint64 (z, y, x): components, 0 = none; may cover more than the mask (bridges).
    mask : numpy.ndarray
        bool (z, y, x): cleft voxels.
    evidence : numpy.ndarray
        uint8 (z, y, x), probability of cleft * 255.
    ids : numpy.ndarray
        uint64 (z, y, x), global voxel ids.

    Returns
    -------
    dict
        ``component`` uint64 (sorted), ``size_voxels`` and ``peak`` int64, ``first`` uint64 (smallest voxel id);
        voxels of the mask alone count.
    """
    inside = mask & (labels != 0)
    rows = {
        "component": labels[inside],
        "size_voxels": np.ones(int(inside.sum()), dtype=np.int64),
        "peak": evidence[inside].astype(np.int64),
        "first": ids[inside],
    }
    return merge_components(rows, rows["component"])


def merge_components(rows: TableData, component: np.ndarray) -> dict[str, np.ndarray]:
    """Combine rows of :func:`component_rows` whose entries of ``component`` (uint64, one a row) are equal."""
    order = np.argsort(component, kind="stable")
    component = component[order]
    firsts = np.flatnonzero(changes([component]))
    if not firsts.size:
        return {name: rows[name][:0] for name in ("component", "size_voxels", "peak", "first")}
    return {
        "component": component[firsts],
        "size_voxels": np.add.reduceat(rows["size_voxels"][order], firsts),
        "peak": np.maximum.reduceat(rows["peak"][order], firsts),
        "first": np.minimum.reduceat(rows["first"][order], firsts),
    }


def select(rows: TableData, high: float, min_voxels: float) -> np.ndarray:
    """Return which whole components are clefts: a voxel reaches ``high`` and there are ``min_voxels``; bool (n,)."""
    return (rows["peak"] >= level(high)) & (rows["size_voxels"] >= min_voxels)
