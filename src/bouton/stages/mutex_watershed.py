"""mutex_watershed: affinities -> segments by the mutex watershed, in memory: for volumes that fit.

An alternative to ``fragments`` + ``agglomeration`` + ``segmentation``, or to ``fragments`` alone: agglomeration takes
its segments as fragments. Its result depends on the whole box at once (:mod:`bouton.segment.mutex`), so one task
computes it and ``max_voxels`` limits it; blocks then write the layer. Needs ``pip install 'bouton[mutex]'``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.errors import SpecError
from bouton.geometry import nm_to_voxels
from bouton.segment.mutex import RUN_COLUMNS, MutexRule, check_package, label_runs, mutex_watershed, paint_runs
from bouton.segment.region_graph import SIZE_COLUMNS, fragment_sizes
from bouton.stage import BlockPart, BlockTask, Layer, Output, Stage, Table, WholePart, WholeTask

BYTES_PER_VOXEL = 600
"""Measured at six edges a voxel."""


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    bias : float
        Affinities above this (0 to 1) attract, others repel.
    reach_nm : float
        Distance along each axis, in nm, at which voxels with a boundary between them repel; 0: neighbours only.
    low : float
        A voxel whose best affinity is not above this (0 to 1) is background.
    dust_voxels : int
        Segments of fewer voxels become background.
    max_voxels : int
        Largest box, in voxels: it is segmented in memory at once.
    """

    bias: float = 0.5
    reach_nm: float = 50.0
    low: float = 0.1
    dust_voxels: int = 0
    max_voxels: int = 16_777_216

    def __post_init__(self) -> None:
        if not (0 <= self.bias <= 1 and 0 <= self.low <= 1):
            raise SpecError(f"bias = {self.bias}, low = {self.low}", expected="both 0 to 1")
        if self.reach_nm < 0 or self.dust_voxels < 0 or self.max_voxels < 1:
            raise SpecError(
                f"reach_nm = {self.reach_nm}, dust_voxels = {self.dust_voxels}, max_voxels = {self.max_voxels}",
                expected="none below 0, and max_voxels at least 1",
            )


def segments(task: WholeTask) -> Output:
    """Segment the whole box; keep the labels as runs."""
    params, bounds = task.params, task.bounds
    if bounds.voxels > params.max_voxels:
        need = bounds.voxels * BYTES_PER_VOXEL >> 30
        raise SpecError(
            f"{bounds.voxels} voxels are more than max_voxels = {params.max_voxels}",
            expected="a box that is segmented in memory at once",
            fix=f"--bounds-zyx BOX, or max_voxels: {bounds.voxels} with about {need + 1} GiB of memory, or the stages "
            "fragments, agglomeration and segmentation, which have no such limit",
        )
    rule = MutexRule(params.bias, nm_to_voxels(params.reach_nm, task.voxel_size_nm), params.low)
    labels = mutex_watershed(task.volumes["affinities"].read(bounds), rule, bounds, task.shape)
    sizes = fragment_sizes(labels, bounds)
    large = sizes["voxels"] >= params.dust_voxels
    labels[np.isin(labels, sizes["id"][~large])] = 0
    kept = {name: values[large] for name, values in sizes.items()}
    return Output(tables={"_runs": label_runs(labels, bounds, task.shape), "segment_sizes": kept})


def segmentation(task: BlockTask) -> Output:
    """Write the block's labels."""
    return Output(layers={"segmentation": paint_runs(task.table("_runs"), task.core, task.shape)})


STAGE = Stage(
    version=1,
    params=Params,
    reads={"affinities": Layer("uint8", channels=3, kind="affinities")},
    writes=("segmentation", "segment_sizes"),
    parts=(
        WholePart(
            "segments",
            segments,
            tables={"_runs": Table(RUN_COLUMNS), "segment_sizes": Table(SIZE_COLUMNS)},
            memory_bytes=Params.max_voxels * BYTES_PER_VOXEL,
        ),
        BlockPart(
            "segmentation",
            segmentation,
            layers={"segmentation": Layer("uint64", kind="labels")},
            bytes_per_voxel=24.0,
        ),
    ),
    check=lambda plan: check_package(),
)
