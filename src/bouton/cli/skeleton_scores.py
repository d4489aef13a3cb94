"""The skeleton part of ``bouton evaluate``: run lengths, splits and merges of true skeletons in a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bouton.cli.sweep_inputs import given_skeletons, labels_at
from bouton.errors import SpecError
from bouton.evaluate.scores import score_table
from bouton.evaluate.skeletons import overlap, skeleton_scores
from bouton.geometry import NM, Box
from bouton.server.cuts import MappedVolume, Mapping
from bouton.volume import TableData, Volume
from bouton.volume.mapping import read_mapping


def evaluate_skeletons(
    segmentation: Volume, mapping: Path | None, skeletons: tuple[Sequence[Path], float], place: tuple[Box, NM | None]
) -> TableData:
    """Return the scores as columns metric, value, unit, better, n.

    Parameters
    ----------
    segmentation : Volume
        Integer ids.
    mapping : path, optional
        Table id, root: the segmentation holds fragments, scored as their roots.
    skeletons : (paths, float)
        Files or folders of true skeletons, and the unit of SWC files in nm.
    place : (Box, (z, y, x))
        The box, in voxels, whose skeleton nodes count, and the voxel size in nm.
    """
    box, size = place
    if size is None:
        raise SpecError("no volume says its voxel size", expected="--voxel-size-nm z,y,x such as 40,4,4")
    table = given_skeletons(*skeletons, box, size)
    labels = MappedVolume(segmentation, Mapping(*read_mapping(mapping))) if mapping else segmentation
    return score_table(skeleton_scores(overlap(table, labels_at(labels, table, box, size))))
