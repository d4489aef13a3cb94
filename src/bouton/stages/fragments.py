"""fragments: affinities -> fragments (supervoxels), the same for every block shape.

Every voxel joins its greatest incident edge above ``low``; edges of at least ``high`` always join; a fragment is a
connected component and its id is the global id of its first voxel. Voxels without an edge above ``low`` are background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.segment.basins import Thresholds, Window, cut_at_bounds, joined_edges, label_basins, threshold_levels
from bouton.segment.components import distinct_pairs, face, join, relabel
from bouton.segment.equivalences import OPEN_COLUMNS, PAIR_COLUMNS, border_labels, join_inside
from bouton.stage import BlockPart, BlockTask, Layer, MergePart, MergeTask, Output, Stage, Table


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    low : float
        A voxel whose best affinity is not above this (0 to 1) is background.
    high : float
        Affinities of at least this (0 to 1) always join; above ``low``.
    flat : float
        Affinities of at least this (0 to 1) join where no edge of either voxel is greater, equal ones or not.
    """

    low: float = 0.1
    high: float = 0.99
    flat: float = 0.9

    def __post_init__(self) -> None:
        threshold_levels(_thresholds(self))


def _thresholds(params: Params) -> Thresholds:
    return Thresholds(params.low, params.high, params.flat)


PAIRS = Table(PAIR_COLUMNS)
OPEN = Table(OPEN_COLUMNS)


def basins(task: BlockTask) -> Output:
    """Label the components inside the block by their first voxels' global ids."""
    window = Window(task.box(), task.core, task.bounds)
    thresholds = _thresholds(task.params)
    return Output(layers={"_basins": label_basins(task.read("affinities"), window, task.shape, thresholds)})


def links(task: BlockTask) -> Output:
    """Emit the labels on the block's faces, and the pairs that are joined across the lower ones."""
    pairs = [_across(task, axis) for axis in range(3) if task.core.start[axis] > task.bounds.start[axis]]
    none = np.zeros(0, np.uint64)
    a = np.concatenate([pair[0] for pair in pairs] or [none])
    b = np.concatenate([pair[1] for pair in pairs] or [none])
    a, b = distinct_pairs(a, b)
    border = border_labels(task.volumes["_basins"].read, task.core, task.bounds)
    return Output(tables={"_pairs": {"a": a, "b": b}, "_border": border})


def _across(task: BlockTask, axis: int) -> tuple[np.ndarray, np.ndarray]:
    upper = face(task.core, axis, task.core.start[axis])
    box = upper.grow((1, 1, 1)) & task.bounds
    affinities = cut_at_bounds(task.volumes["affinities"].read(box), box, task.bounds)
    joined, _ = joined_edges(affinities, upper.within(box), _thresholds(task.params))
    crossing = (joined >> axis) & 1 == 1
    lower = face(task.core, axis, task.core.start[axis] - 1)
    below, above = (task.volumes["_basins"].read(plane) for plane in (lower, upper))
    return below[crossing], above[crossing]


def equivalences(task: MergeTask) -> Output:
    """Join the labels inside the node's box; keep which ones ended, hand on what touches its faces."""
    opened, pairs = task.rows("_border", "_open"), task.rows("_pairs", "_open_pairs")
    moves, opened, pairs = join_inside(opened, pairs, task.box, task.bounds)
    return Output(tables={"_moves": moves, "_open": opened, "_open_pairs": pairs})


def fragments(task: BlockTask) -> Output:
    """Give every label its fragment's id."""
    moves = task.table("_moves", task.core)
    return Output(layers={"fragments": relabel(task.read("_basins"), *join(moves["a"], moves["b"]))})


STAGE = Stage(
    version=2,
    params=Params,
    reads={"affinities": Layer("uint8", channels=3, kind="affinities")},
    writes=("fragments",),
    parts=(
        BlockPart(
            "basins",
            basins,
            layers={"_basins": Layer("uint64", kind="labels")},
            halo=lambda params, voxel_size_nm: (1, 1, 1),
            bytes_per_voxel=16.0,
        ),
        BlockPart(
            "links",
            links,
            tables={"_pairs": PAIRS, "_border": OPEN},
            halo=lambda params, voxel_size_nm: (1, 1, 1),
            bytes_per_voxel=1.0,
        ),
        MergePart(
            "equivalences",
            equivalences,
            source=("_border", "_pairs"),
            tables={"_open": OPEN, "_open_pairs": PAIRS},
            kept={"_moves": PAIRS},
        ),
        BlockPart("fragments", fragments, layers={"fragments": Layer("uint64", kind="labels")}, bytes_per_voxel=16.5),
    ),
)
