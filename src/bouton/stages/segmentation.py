"""segmentation: fragments + merge history -> segments at a threshold.

A segment's id is its smallest fragment's, which is the global id of the segment's first voxel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.segment.components import relabel
from bouton.segment.history import MERGE_COLUMNS, cut
from bouton.segment.region_graph import SIZE_COLUMNS, add_sizes, fragment_sizes
from bouton.stage import (
    BlockPart,
    BlockTask,
    Layer,
    MergePart,
    MergeTask,
    Output,
    Stage,
    Table,
    WholePart,
    WholeTask,
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


def roots(task: WholeTask) -> Output:
    """Cut the merge history at the threshold."""
    ids, root = cut(task.table("merges"), task.params.threshold)
    return Output(tables={"_roots": {"id": ids, "root": root}})


def pieces(task: BlockTask) -> Output:
    """Count each segment's voxels in the block."""
    return Output(tables={"_pieces": fragment_sizes(_segments(task), task.core)})


def segment_sizes(task: MergeTask) -> Output:
    """Add up the segments' voxels; at the root, leave out the dust."""
    sizes = add_sizes(task.rows("_pieces", "segment_sizes"))
    if task.is_root:
        large = sizes["voxels"] >= task.params.dust_voxels
        sizes = {name: values[large] for name, values in sizes.items()}
    return Output(tables={"segment_sizes": sizes})


def segmentation(task: BlockTask) -> Output:
    """Write each voxel's segment."""
    labels = _segments(task)
    if task.params.dust_voxels > 1:
        labels = _without_dust(labels, task.table("segment_sizes")["id"])
    return Output(layers={"segmentation": labels})


def _segments(task: BlockTask) -> np.ndarray:
    moves = task.table("_roots")
    return relabel(task.read("fragments"), moves["id"], moves["root"])


def _without_dust(labels: np.ndarray, large: np.ndarray) -> np.ndarray:
    found = np.unique(labels)
    dust = found[~np.isin(found, large)]
    return relabel(labels, dust, np.zeros_like(dust))


STAGE = Stage(
    version=1,
    params=Params,
    reads={"fragments": Layer("uint64", kind="labels"), "merges": Table(MERGE_COLUMNS)},
    writes=("segmentation", "segment_sizes"),
    parts=(
        WholePart("roots", roots, tables={"_roots": Table({"id": "uint64", "root": "uint64"})}),
        BlockPart("pieces", pieces, tables={"_pieces": Table(SIZE_COLUMNS)}, bytes_per_voxel=24.0),
        MergePart("segment_sizes", segment_sizes, ("_pieces",), {"segment_sizes": Table(SIZE_COLUMNS)}),
        BlockPart(
            "segmentation", segmentation, layers={"segmentation": Layer("uint64", kind="labels")}, bytes_per_voxel=28.0
        ),
    ),
)
