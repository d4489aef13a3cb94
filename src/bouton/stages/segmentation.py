"""segmentation: fragments + merge history -> segments at a threshold.

A segment's id is its smallest fragment's, which is the global id of the segment's first voxel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.errors import SpecError
from bouton.segment.components import relabel
from bouton.segment.history import MERGE_COLUMNS, cut
from bouton.segment.region_graph import SIZE_COLUMNS, add_sizes, fragment_sizes, rows_where, touches_face
from bouton.stage import (
    BlockPart,
    BlockTask,
    Layer,
    MergePart,
    MergeTask,
    Output,
    Stage,
    Table,
)


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    threshold : float
        Mean affinity (0 to 1) from which on segments merge; at least the agglomeration's floor.
    dust_voxels : int
        Segments of fewer voxels become background.
    """

    threshold: float = 0.5
    dust_voxels: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1 or self.dust_voxels < 0:
            raise SpecError(
                f"threshold = {self.threshold}, dust_voxels = {self.dust_voxels}",
                expected="a threshold from 0 to 1, and dust_voxels of at least 0",
            )


def pieces(task: BlockTask) -> Output:
    """Count each segment's voxels in the block."""
    return Output(tables={"_pieces": fragment_sizes(_segments(task), task.core)})


def segment_sizes(task: MergeTask) -> Output:
    """Add up the segments' voxels; keep those that lie in the node's box, without the dust."""
    sizes = add_sizes(task.rows("_pieces", "_partial_sizes"))
    touching = touches_face(sizes, task.box, task.bounds)
    large = sizes["voxels"] >= task.params.dust_voxels
    kept, rest = rows_where(sizes, ~touching & large), rows_where(sizes, touching)
    return Output(tables={"segment_sizes": kept, "_partial_sizes": rest})


def segmentation(task: BlockTask) -> Output:
    """Write each voxel's segment."""
    labels = _segments(task)
    if task.params.dust_voxels > 1:
        labels = _without_dust(labels, task.table("segment_sizes", task.core)["id"])
    return Output(layers={"segmentation": labels})


def _segments(task: BlockTask) -> np.ndarray:
    # all merges of a block's fragments were made in boxes that hold the block
    moves = cut(task.table("merges", task.core), task.params.threshold)
    return relabel(task.read("fragments"), *moves)


def _without_dust(labels: np.ndarray, large: np.ndarray) -> np.ndarray:
    found = np.unique(labels)
    dust = found[~np.isin(found, large)]
    return relabel(labels, dust, np.zeros_like(dust))


SIZES = Table(SIZE_COLUMNS)

STAGE = Stage(
    version=2,
    params=Params,
    reads={"fragments": Layer("uint64", kind="labels"), "merges": Table(MERGE_COLUMNS)},
    writes=("segmentation", "segment_sizes"),
    parts=(
        BlockPart("pieces", pieces, tables={"_pieces": SIZES}, bytes_per_voxel=18.0),
        MergePart(
            "segment_sizes", segment_sizes, ("_pieces",), {"_partial_sizes": SIZES}, kept={"segment_sizes": SIZES}
        ),
        BlockPart(
            "segmentation", segmentation, layers={"segmentation": Layer("uint64", kind="labels")}, bytes_per_voxel=18.0
        ),
    ),
)
