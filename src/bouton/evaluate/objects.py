"""Objects found in a volume against true ones, by the voxels they share (the rule of VESICLE).

Gray Roncal et al. 2015 (doi:10.48550/arXiv.1403.3724) and its published evaluation: a true object is found if a
detection shares enough voxels with it, and takes that detection; a detection that shares enough voxels with any true
object but was not taken is a fragment, and counts neither way; every other detection is false.
"""

from __future__ import annotations

import numpy as np

from bouton.errors import SpecError
from bouton.evaluate.contingency import count_pairs
from bouton.evaluate.detection import Detection

LEAST_VOXELS = 10


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
