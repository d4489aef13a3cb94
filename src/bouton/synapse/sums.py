"""What a block holds of each cleft and of each segment beside it, as integer sums over the voxels it owns."""

from __future__ import annotations

import numpy as np

from bouton.geometry import Box
from bouton.synapse.tables import sum_rows

CLEFT, PRE, POST, EXCITATORY = range(4)


def cleft_sums(clefts: np.ndarray, evidence: np.ndarray, core: Box) -> dict[str, np.ndarray]:
    """Sum over the voxels of each cleft.

    Parameters
    ----------
    clefts : numpy.ndarray
        uint64 (z, y, x) over ``core``; 0 = none.
    evidence : numpy.ndarray
        uint8 (4, z, y, x): cleft, pre, post, excitatory; probability * 255.
    core : Box
        Where the arrays lie in the data set.

    Returns
    -------
    dict
        ``id`` uint64; int64: ``voxels``, ``z``, ``y``, ``x`` (sums of global voxel coordinates), ``cleft``,
        ``excitatory`` (sums of evidence). Sorted by id.
    """
    at = np.nonzero(clefts)
    rows = {"id": clefts[at], **_positions(at, core)}
    rows["cleft"] = evidence[CLEFT][at].astype(np.int64)
    rows["excitatory"] = evidence[EXCITATORY][at].astype(np.int64)
    return sum_rows(rows, ["id"])


def side_sums(owner: np.ndarray, segmentation: np.ndarray, evidence: np.ndarray, core: Box) -> dict[str, np.ndarray]:
    """Sum over the voxels of each segment beside each cleft.

    Parameters
    ----------
    owner : numpy.ndarray
        uint64 (z, y, x): the cleft that a voxel belongs to, 0 = none (:func:`bouton.synapse.ownership.owners`).
    segmentation : numpy.ndarray
        uint64 (z, y, x); voxels of segment 0 are left out.
    evidence, core
        As for :func:`cleft_sums`.

    Returns
    -------
    dict
        ``id``, ``segment`` uint64; int64: ``voxels``, ``z``, ``y``, ``x``, ``pre``, ``post``. Sorted by id, segment.
    """
    at = np.nonzero((owner != 0) & (segmentation != 0))
    rows = {"id": owner[at], "segment": segmentation[at], **_positions(at, core)}
    rows["pre"] = evidence[PRE][at].astype(np.int64)
    rows["post"] = evidence[POST][at].astype(np.int64)
    return sum_rows(rows, ["id", "segment"])


def _positions(at: tuple[np.ndarray, ...], core: Box) -> dict[str, np.ndarray]:
    positions = {name: at[axis].astype(np.int64) + core.start[axis] for axis, name in enumerate("zyx")}
    return {"voxels": np.ones(at[0].size, dtype=np.int64), **positions}
