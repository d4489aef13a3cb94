"""The cleft part of ``bouton evaluate``: objects and voxels of clefts against true ones."""

from __future__ import annotations

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.evaluate.cremi_synapses import cleft_ids, score_clefts
from bouton.evaluate.objects import match_centres, match_iou, match_objects
from bouton.evaluate.scores import Score, detection_rows, score_table
from bouton.evaluate.synapse_rows import cleft_rows
from bouton.geometry import NM, Box
from bouton.volume import TableData, Volume

MOST_VOXELS = 2**30


def evaluate_clefts(
    clefts: Volume, truth: Volume, bounds: str | None, size: NM | None, max_distance_nm: float
) -> TableData:
    """Return the scores as columns metric, value, unit, better, n.

    Reads both volumes whole: about 60 bytes of memory a voxel of the box.

    Parameters
    ----------
    clefts, truth : Volume
        Cleft ids; the challenge's files with their own background and invalid voxels, too.
    bounds : str, optional
        Box to score, in voxels.
    size : (z, y, x), optional
        Voxel size in nm where the truth does not say.
    max_distance_nm : float
        The largest distance of centres that match.
    """
    size = truth.voxel_size_nm or clefts.voxel_size_nm or size
    if size is None:
        raise SpecError("no cleft volume says its voxel size", expected="--voxel-size-nm z,y,x such as 40,4,4")
    box = Box.parse(bounds) if bounds else truth.box
    for name, volume in (("--clefts", clefts), ("--truth-clefts", truth)):
        if not volume.box.contains(box) or (bounds is None and volume.box != box):
            raise DataError(
                f"{name} covers {volume.box}, the box to score is {box}",
                where=str(volume.path),
                expected="the same voxels (z, y, x), or a box that lies in both",
                fix=f"--bounds-zyx {volume.box & box}, if both begin at the same voxel",
            )
    if box.voxels > MOST_VOXELS:
        raise SpecError(
            f"{box.voxels:,} voxels to score at once",
            expected=f"at most {MOST_VOXELS:,}: distances need the whole box in memory",
            fix="--bounds-zyx for a part of it",
        )
    return score_table(_scores(truth.read(box), clefts.read(box), size, max_distance_nm))


def _scores(truth: np.ndarray, found: np.ndarray, size: NM, max_distance_nm: float) -> list[Score]:
    true_ids, ids = cleft_ids(truth), cleft_ids(found)
    iou, mean_iou = match_iou(true_ids, ids)
    centres, mean_distance = match_centres(true_ids, ids, size, max_distance_nm)
    return [
        *detection_rows("cleft_objects", match_objects(true_ids, ids), "clefts"),
        *detection_rows("cleft_iou", iou, "clefts"),
        Score("cleft_iou_mean", mean_iou, "", "higher", iou.tp),
        *detection_rows("cleft_centres", centres, "clefts"),
        Score("cleft_centres_distance", mean_distance, "nm", "lower", centres.tp),
        *cleft_rows(score_clefts(truth, found, size)),
    ]
