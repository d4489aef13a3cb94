"""densities: synapses per volume in blocks of tissue, exact across the blocks of the computation.

Blocks of tissue (:class:`bouton.density.grid.AnalysisGrid`) are cut by blocks of the computation wherever it falls;
all that these return are counts and sums, which add up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bouton.density.centroids import SUM_COLUMNS, add_sums, centroid_voxels, label_sums
from bouton.density.exposure import Exposure, count_voxels, exposure, hide_rim, nothing_masked, reach_voxels, rim_hides
from bouton.density.grid import UM, AnalysisGrid
from bouton.density.overlaps import COUNT_COLUMNS, OVERLAP_COLUMNS, overlaps, split_overlaps
from bouton.density.points import (
    Points,
    check_ids,
    check_positions,
    check_words,
    count_points,
    known_kinds,
    points_in,
    sort_points,
    voxels_of,
)
from bouton.density.tissues import count_tissues
from bouton.errors import DataError, SpecError
from bouton.geometry import NM, ZERO, ZYX, Box
from bouton.stage import (
    BlockPart,
    BlockTask,
    Layer,
    MergePart,
    MergeTask,
    Output,
    Planned,
    Stage,
    Table,
    TableData,
    Task,
    WholePart,
    WholeTask,
)
from bouton.volume.density_columns import BLOCK_COLUMNS, DENSITY_COLUMNS, PARTS, TISSUE_COLUMNS
from bouton.volume.synapse_columns import WORDS

CENTROID, PUBLISHED = "centroid", "neurodata-2016"
KINDS = {"type": PARTS[:2], "target": PARTS[2:]}
LAYERS = ("labels", "mask", "tissue")
NM3_PER_UM3 = 1e9
_POSITIONS = ("z_nm", "y_nm", "x_nm")


@dataclass(frozen=True)
class Params:
    """Parameters of ``densities``.

    Attributes
    ----------
    rule : str
        ``centroid``: a synapse counts in the block that holds the voxel of its centroid, if this voxel is exposed.
        ``neurodata-2016``: as published; a label counts where more than half of its voxels in the block and its
        surround lie in the block, and none of them there is masked.
    block_um : (float, float, float)
        Size of a block, z, y, x, in um, rounded to voxels.
    pad_um : (float, float, float)
        Surround of a block on each side, z, y, x, in um, rounded up to voxels; of ``neurodata-2016`` alone.
    exclusion_nm : float
        A voxel nearer to a masked one than this, or just as near, is not exposed; of ``centroid`` alone.
    """

    rule: str = CENTROID
    block_um: UM = (5.0, 5.0, 5.0)
    pad_um: UM = (2.0, 2.0, 2.0)
    exclusion_nm: float = 300.0

    def __post_init__(self) -> None:
        if self.rule not in (CENTROID, PUBLISHED):
            raise SpecError(f"rule = {self.rule!r}", expected=f"{CENTROID} or {PUBLISHED}", fix="choose one of them")
        if not all(0 < size < math.inf for size in self.block_um):
            raise SpecError(f"block_um = {list(self.block_um)}", expected="three numbers above 0 (z, y, x)")
        if not all(0 <= size < math.inf for size in self.pad_um):
            raise SpecError(f"pad_um = {list(self.pad_um)}", expected="three numbers of at least 0 (z, y, x)")
        if not 0 <= self.exclusion_nm < math.inf:
            raise SpecError(f"exclusion_nm = {self.exclusion_nm}", expected="at least 0")

    @property
    def reach_nm(self) -> float:
        """How far around a masked voxel nothing counts."""
        return self.exclusion_nm if self.rule == CENTROID else 0.0


def analysis_grid(params: Params, bounds: Box, voxel_size_nm: NM) -> AnalysisGrid:
    """Return the blocks of tissue that a step with these parameters counts in."""
    pad = params.pad_um if params.rule == PUBLISHED else (0.0, 0.0, 0.0)
    return AnalysisGrid.over(bounds, voxel_size_nm, params.block_um, pad)


def _grid(task: Task) -> AnalysisGrid:
    return analysis_grid(task.params, task.bounds, task.voxel_size_nm)


def _halo(params: Params, voxel_size_nm: NM) -> ZYX:
    return reach_voxels(params.reach_nm, voxel_size_nm)


def check_plan(plan: Planned) -> None:
    """Refuse what can be told before anything runs: inputs, rule and bounds that do not go together."""
    sources = sorted({"labels", "synapses"} & plan.given)
    if len(sources) != 1:
        raise SpecError(
            f"{' and '.join(sources) or 'neither'} given", expected="either labels or synapses",
            fix="reads: {synapses: ...}, or {labels: ...}",
        )  # fmt: skip
    if plan.params.rule == PUBLISHED and "synapses" in plan.given:
        raise SpecError(
            f"rule = {PUBLISHED!r} with a table of synapses", expected="labels: the rule counts their voxels",
            fix=f"reads: {{labels: ...}}, or rule: {CENTROID}",
        )  # fmt: skip
    if plan.params.rule == PUBLISHED and "tissue" in plan.given:
        raise SpecError(
            f"rule = {PUBLISHED!r} with tissue", expected="no tissue: a label has many voxels",
            fix=f"leave it out, or rule: {CENTROID}",
        )  # fmt: skip
    for name in LAYERS:
        if name in plan.sources:
            _check_shape(name, plan)
    analysis_grid(plan.params, plan.bounds, plan.voxel_size_nm)


def _check_shape(name: str, plan: Planned) -> None:
    """Refuse a layer of another grid: the bounds would be cut to what all layers share, and nobody told."""
    found = plan.sources[name].shape
    cut = [n < m and b == n for n, m, b in zip(found, plan.shape, plan.bounds.shape, strict=True)]
    if any(cut) or any(n > m for n, m in zip(found, plan.shape, strict=True)):
        raise DataError(
            f"{name} of {found} voxels, the data set has {plan.shape} (z, y, x)", expected="layers of one grid",
            fix="resample it, or give all layers of the same box",
        )  # fmt: skip


def check(task: WholeTask) -> Output:
    """Check the synapses of a table, and list them by block."""
    grid = _grid(task)
    if "synapses" not in task.given:
        return Output(tables={"_listed": _no_points(), "_listed_in": _per_block(np.zeros(len(grid), np.int64))})
    table = task.table("synapses")
    positions = [np.asarray(table[name], dtype=np.float64) for name in _POSITIONS]
    check_positions(positions, task.shape, task.voxel_size_nm, task.bounds)
    if "id" in table:
        check_ids(table["id"])
    check_words(table, WORDS)
    flags = known_kinds(table, KINDS, len(positions[0]))
    points = sort_points(voxels_of(positions, task.voxel_size_nm), flags, grid, task.shape)
    return Output(tables=_tables_of(points, "_listed"))


def sums(task: BlockTask) -> Output:
    """Add up the block's labels."""
    rows = label_sums(task.read("labels"), task.core.start) if "labels" in task.given else add_sums(_no_sums())
    return Output(tables={"_sums": rows})


def place(task: WholeTask) -> Output:
    """List the labels' centroids by block."""
    rows = add_sums(task.table("_sums") if task.params.rule == CENTROID else _no_sums())
    voxels = centroid_voxels(rows)
    points = sort_points(voxels, np.zeros(len(voxels), np.uint8), _grid(task), task.shape)
    return Output(tables=_tables_of(points, "_placed"))


def overlap(task: BlockTask) -> Output:
    """Count the voxels of the block's labels in blocks of tissue, in their surrounds and under the mask."""
    mask = task.read("mask", ZERO) if "mask" in task.given else None
    return Output(tables={"_overlaps": overlaps(task.read("labels"), mask, _grid(task), task.core)})


def decide(task: MergeTask) -> Output:
    """Count labels in the blocks of tissue whose surround lies in the node's box."""
    counts, rest = split_overlaps(task.rows("_overlaps", "_open_overlaps"), _grid(task), task.box)
    return Output(tables={"_counts": counts, "_open_overlaps": rest})


def count(task: BlockTask) -> Output:
    """Count masked and exposed voxels, and synapses at exposed ones, in each block of tissue that the core meets."""
    grid = _grid(task)
    found = nothing_masked(task.core) if grid.met(task.core).is_empty else _exposure(task)
    numbers = grid.numbers(grid.met(task.core))
    inside = points_in(_points(task), task.core, grid, task.shape)
    masked, exposed = count_voxels(found, grid, task.core)
    everything, counted = count_points(found, inside, len(numbers), len(PARTS))
    rows = {"block": numbers, "masked": masked, "exposed": exposed, "all": everything, "counted": counted[0]}
    rows |= dict(zip(PARTS, counted[1:], strict=True))
    tissues = {"block": numbers[:0], "tissue": np.zeros(0, np.uint64), "exposed": masked[:0], "synapses": masked[:0]}
    if "tissue" in task.given and len(numbers):
        classes, volumes, synapses = count_tissues(found, task.read("tissue", ZERO), grid, task.core, inside)
        block, kind = np.nonzero(volumes)
        tissues = {
            "block": numbers[block], "tissue": classes[kind],
            "exposed": volumes[block, kind], "synapses": synapses[block, kind],
        }  # fmt: skip
    return Output(tables={"_rows": rows, "_tissue_rows": tissues})


def _exposure(task: BlockTask) -> Exposure:
    """Return what is exposed; outside of the bounds everything is as unusable as under the mask.

    A synapse that the bounds cut has the centroid of its visible part inside of them wherever the whole one had it.
    """
    found = nothing_masked(task.core)
    if "mask" in task.given:
        # Where the rim alone hides the block, only what lies in the mask is left to count.
        all_hidden = rim_hides(task.core, task.bounds, task.halo)
        halo, reach_nm = (ZERO, 0.0) if all_hidden else (task.halo, task.params.reach_nm)
        core = task.core.within(task.box(halo))
        found = exposure(task.read("mask", halo), core, reach_nm, task.voxel_size_nm)
    return hide_rim(found, task.core, task.bounds, task.halo)


def _points(task: BlockTask) -> Points:
    if task.params.rule == PUBLISHED:
        return Points(np.zeros(0, np.uint64), np.zeros(0, np.uint8), np.zeros(len(_grid(task)) + 1, np.int64))
    name = "_listed" if "synapses" in task.given else "_placed"
    table = task.table(name)
    ends = np.cumsum(task.table(f"{name}_in")["n"])
    return Points(table["voxel"], table["flags"], np.concatenate([np.zeros(1, np.int64), ends]))


def finish(task: WholeTask) -> Output:
    """Add up the counts of every block."""
    grid, rows = _grid(task), task.table("_rows")
    added = {name: _add(rows["block"], rows[name], len(grid)) for name in rows if name != "block"}
    rows = added | {"synapses": added["counted"], "all_synapses": added["all"]}
    if task.params.rule == PUBLISHED:
        found = task.table("_counts")
        names = {"synapses": "unmasked", "all_synapses": "total"}
        rows |= {name: _add(found["block"], found[column], len(grid)) for name, column in names.items()}
    return Output(tables={"densities": _densities(grid, rows, task.voxel_size_nm), "tissues": _tissues(grid, task)})


def _add(block: np.ndarray, values: np.ndarray, blocks: int) -> np.ndarray:
    found = np.zeros(blocks, dtype=np.int64)
    np.add.at(found, block, values)
    return found


def _densities(grid: AnalysisGrid, rows: TableData, voxel_size_nm: NM) -> TableData:
    index = grid.index(np.arange(len(grid)))
    start = np.asarray(grid.start) + index * np.asarray(grid.block)
    stop = start + np.asarray(grid.block)
    centre = (start + stop) / 2 * np.asarray(voxel_size_nm)
    voxels = np.full(len(grid), grid.block_voxels, dtype=np.int64)
    volume = rows["exposed"] * (math.prod(voxel_size_nm) / NM3_PER_UM3)
    shown = volume > 0
    density = np.full(len(grid), np.nan)
    np.divide(rows["synapses"], volume, out=density, where=shown)
    places = np.concatenate([index, start, stop, centre], axis=1)
    table = {
        name: places[:, i].astype(kind)
        for i, (name, kind) in enumerate(list(DENSITY_COLUMNS.items())[: places.shape[1]])
    }
    return table | {
        "voxels": voxels,
        "masked_voxels": rows["masked"],
        "exposed_voxels": rows["exposed"],
        "masked_share": rows["masked"] / voxels,
        "exposed_um3": volume,
        **{name: rows[name] for name in ("synapses", "all_synapses", *PARTS)},
        "density_um3": density,
        "reason": np.where(shown, "", "no exposed volume").astype(object),
    }


def _tissues(grid: AnalysisGrid, task: WholeTask) -> TableData:
    rows = task.table("_tissue_rows")
    keys, at = np.unique(
        np.stack([rows["block"].astype(np.uint64), rows["tissue"]], axis=1), axis=0, return_inverse=True
    )
    places = grid.index(keys[:, 0].astype(np.int64))
    return {
        **{name: places[:, axis] for axis, name in enumerate(BLOCK_COLUMNS)},
        "tissue": keys[:, 1],
        "exposed_voxels": _add(at.ravel(), rows["exposed"], len(keys)),
        "synapses": _add(at.ravel(), rows["synapses"], len(keys)),
    }


def _no_points() -> TableData:
    return {"voxel": np.zeros(0, dtype=np.uint64), "flags": np.zeros(0, dtype=np.uint8)}


def _no_sums() -> TableData:
    return {name: np.zeros(0, dtype=kind) for name, kind in SUM_COLUMNS.items()}


def _per_block(count: np.ndarray) -> TableData:
    return {"n": count}


def _tables_of(points: Points, name: str) -> dict[str, TableData]:
    return {name: {"voxel": points.voxel, "flags": points.flags}, f"{name}_in": _per_block(np.diff(points.starts))}


def _by_centroid(params: Params) -> bool:
    return params.rule == CENTROID


def _as_published(params: Params) -> bool:
    return params.rule == PUBLISHED


POINTS, PER_BLOCK, SUMS = Table({"voxel": "uint64", "flags": "uint8"}), Table({"n": "int64"}), Table(SUM_COLUMNS)
OVERLAPS = Table(OVERLAP_COLUMNS)
ROWS = Table(dict.fromkeys(("block", "masked", "exposed", "all", "counted", *PARTS), "int64"))
TISSUE_ROWS = Table({"block": "int64", "tissue": "uint64", "exposed": "int64", "synapses": "int64"})
LABELS = ("uint64", "uint32", "uint16", "uint8")

STAGE = Stage(
    version=1,
    params=Params,
    reads={
        "labels": Layer(LABELS, kind="labels"),
        "synapses": Table(dict.fromkeys(_POSITIONS, "float64")),
        "mask": Layer(LABELS, kind="mask"),
        "tissue": Layer(LABELS, kind="labels"),
    },
    optional=frozenset({"labels", "synapses", "mask", "tissue"}),
    writes=("densities", "tissues"),
    parts=(
        WholePart("check", check, tables={"_listed": POINTS, "_listed_in": PER_BLOCK}, memory_bytes=5 << 29),
        BlockPart("sums", sums, tables={"_sums": SUMS}, bytes_per_voxel=10.0, when=_by_centroid),
        WholePart("place", place, tables={"_placed": POINTS, "_placed_in": PER_BLOCK}, memory_bytes=5 << 29),
        BlockPart("overlap", overlap, tables={"_overlaps": OVERLAPS}, bytes_per_voxel=13.0, when=_as_published),
        MergePart(
            "decide", decide, ("_overlaps",), {"_open_overlaps": OVERLAPS},
            kept={"_counts": Table(COUNT_COLUMNS)}, when=_as_published,
        ),
        BlockPart(
            "count", count, tables={"_rows": ROWS, "_tissue_rows": TISSUE_ROWS}, halo=_halo, bytes_per_voxel=11.0,
            fixed_bytes=lambda params: 1 << 28,
        ),
        WholePart("finish", finish, tables={"densities": Table(DENSITY_COLUMNS), "tissues": Table(TISSUE_COLUMNS)}),
    ),
    check=check_plan,
)  # fmt: skip
