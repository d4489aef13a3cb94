"""Objects found in a volume against true ones, by the voxels they share (the rule of VESICLE).

Gray Roncal et al. 2015 (doi:10.48550/arXiv.1403.3724) and its published evaluation: a true object is found if a
detection shares enough voxels with it, and takes that detection; a detection that shares enough voxels with any true
object but was not taken is a fragment, and counts neither way; every other detection is false.

Two stricter ways match one to one: by intersection over union, and by the distance of the centres.
"""

from __future__ import annotations

import numpy as np

from bouton.errors import SpecError
from bouton.evaluate.contingency import count_pairs
from bouton.evaluate.detection import Detection
from bouton.evaluate.matching import assign, match_points
from bouton.geometry import NM

LEAST_VOXELS = 10
LEAST_IOU = 0.5


def match_objects(truth: np.ndarray, found: np.ndarray, least_voxels: int = LEAST_VOXELS) -> Detection:
    """Return how many true objects were found, how many detections are false, and how many objects were missed.

    True objects take their turn by id; each takes the free detection that it shares most voxels with.

    Parameters
    ----------
    truth, found : numpy.ndarray
        Unsigned ids (z, y, x) of one shape, 0 = nothing.
    least_voxels : int
        Voxels that an object and a detection must share, at least 1.
    """
    if least_voxels < 1:
        raise SpecError(f"least_voxels = {least_voxels}", expected="at least 1")
    table = count_pairs(truth, found)
    enough = (table.segment != 0) & (table.count >= least_voxels)
    order = np.lexsort((table.segment[enough], -table.count[enough].astype(np.int64), table.truth[enough]))
    pairs = zip(table.truth[enough][order].tolist(), table.segment[enough][order].tolist(), strict=True)
    taken: dict[int, int] = {}
    matched = set()
    for object_id, detection in pairs:
        if object_id not in matched and detection not in taken:
            matched.add(object_id)
            taken[detection] = object_id
    objects, detections = np.unique(table.truth).size, np.unique(found[found != 0]).size
    false = detections - np.unique(table.segment[enough]).size
    return Detection(tp=len(matched), fp=false, fn=objects - len(matched))


def match_iou(truth: np.ndarray, found: np.ndarray, least_iou: float = LEAST_IOU) -> tuple[Detection, float]:
    """Match objects one to one by intersection over union: as many pairs as possible, then the largest sum.

    Parameters
    ----------
    truth, found : numpy.ndarray
        Unsigned ids (z, y, x) of one shape, 0 = nothing.
    least_iou : float
        The least intersection over union of a pair, in (0, 1]. From 0.5 on no object has a choice.

    Returns
    -------
    Detection, float
        The counts, and the mean intersection over union of the pairs; NaN without one.
    """
    if not 0 < least_iou <= 1:
        raise SpecError(f"least_iou = {least_iou}", expected="above 0, at most 1")
    objects, sizes = np.unique(truth[truth != 0], return_counts=True)
    detections, their_sizes = np.unique(found[found != 0], return_counts=True)
    table = count_pairs(truth, found)
    some = table.segment != 0
    t, p = np.searchsorted(objects, table.truth[some]), np.searchsorted(detections, table.segment[some])
    iou = table.count[some] / (sizes[t] + their_sizes[p] - table.count[some])
    near = iou >= least_iou
    pairs = np.stack([t[near], p[near]], axis=1).astype(np.int64)
    chosen = assign(pairs, 1.0 - iou[near])
    tp = chosen.size
    mean = float(iou[near][chosen].mean()) if tp else float("nan")
    return Detection(tp=tp, fp=detections.size - tp, fn=objects.size - tp), mean


def match_centres(
    truth: np.ndarray, found: np.ndarray, voxel_size_nm: NM, max_distance_nm: float
) -> tuple[Detection, float]:
    """Match objects one to one by the distance of their centres of mass (Hungarian assignment).

    Parameters
    ----------
    truth, found : numpy.ndarray
        Unsigned ids (z, y, x), 0 = nothing.
    voxel_size_nm : (z, y, x)
    max_distance_nm : float
        The largest distance of a pair.

    Returns
    -------
    Detection, float
        The counts, and the mean distance of the pairs in nm; NaN without one.
    """
    centres, theirs = (_centres(labels, voxel_size_nm) for labels in (truth, found))
    matches = match_points(centres, theirs, max_distance_nm)
    tp = len(matches.truth)
    mean = float(matches.distance_nm.mean()) if tp else float("nan")
    return Detection(tp=tp, fp=len(theirs) - tp, fn=len(centres) - tp), mean


def _centres(labels: np.ndarray, voxel_size_nm: NM) -> np.ndarray:
    """Return the centres of mass of all objects, float64 (n, 3) in nm, by rising id."""
    at = np.nonzero(labels)
    ids, number, counts = np.unique(labels[at], return_inverse=True, return_counts=True)
    sums = [np.bincount(number, axis, ids.size) for axis in at]
    return (np.stack(sums, axis=1) / counts[:, None] + 0.5) * np.asarray(voxel_size_nm, dtype=np.float64)
