"""Clefts: connected components of the cleft evidence, exact across blocks.

Blocks keep no labels between parts: labelling runs of cleft voxels again costs less than storing and reading a layer.
Components are joined and judged up an octree of blocks (:mod:`bouton.synapse.objects`).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from bouton.errors import SpecError
from bouton.geometry import NM, ZYX
from bouton.stage import BlockPart, BlockTask, Layer, MergePart, MergeTask, Output, Stage, Table, WholePart, WholeTask
from bouton.synapse.clefts import (
    CANDIDATE_COLUMNS,
    FOUND_COLUMNS,
    KEPT,
    PRESETS,
    SECTION_AREA,
    Rules,
    candidates,
    cleft_runs,
    found_rows,
    halo_of,
    removed,
    removed_by_area,
)
from bouton.synapse.objects import Node, join_children, merge_parts
from bouton.synapse.runs import (
    BORDER_COLUMNS,
    PART_COLUMNS,
    Runs,
    border_voxels,
    keep_values,
    label_runs,
    paint,
    reach_of,
    sum_parts,
)

MOST_GAP_SECTIONS = 20  # above it nothing tells one cleft from the next; blocks hand on all voxels that near a face


@dataclass(frozen=True)
class Params:
    """Parameters of ``clefts``. What is not given is the preset's; values in brackets: ``bouton`` / ``vesicle``.

    Attributes
    ----------
    preset : str
        ``bouton``, or ``vesicle`` for the rules of VESICLE-RF as published, at 30 x 6 x 6 nm.
    low : float, optional
        Voxels of at least this cleft probability, in (0, 1], form components (0.5 / 0.9).
    high : float, optional
        A component counts only if one of its voxels reaches this probability, in [low, 1] (0.7 / 0.9).
    min_volume_nm3 : float, optional
        Smaller components are dropped (100,000 / 2,160,000).
    gap_nm : float, optional
        Cleft voxels at most about this far apart are one cleft even where no cleft voxel connects them (0 / 0).
    gap_sections : int, optional
        Cleft voxels above one another are one cleft across so many sections without cleft (0 / 0).
    min_sections : int, optional
        Components of fewer sections, from the first to the last, are dropped (1 / 1).
    min_section_area_nm2, max_section_area_nm2 : float, optional
        Components of a section that are smaller or greater are deleted before 3-D components are formed
        (none / 0 to 180,000).
    connectivity : int, optional
        Voxels that share a face (6), an edge (18) or a corner (26) are connected (6 / 18).
    """

    preset: str = "bouton"
    low: float | None = None
    high: float | None = None
    min_volume_nm3: float | None = None
    gap_nm: float | None = None
    gap_sections: int | None = None
    min_sections: int | None = None
    min_section_area_nm2: float | None = None
    max_section_area_nm2: float | None = None
    connectivity: int | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise SpecError(f"preset = {self.preset!r}", expected=" or ".join(PRESETS), fix="choose one of them")
        rules = self.rules
        # Records of runs show the values that held, and a value given equals the same one by default.
        for field in dataclasses.fields(Rules):
            value = getattr(rules, field.name)
            object.__setattr__(self, field.name, None if value == math.inf else value)
        if not 0 < rules.low <= rules.high <= 1:
            raise SpecError(f"low = {rules.low}, high = {rules.high}", expected="0 < low <= high <= 1")
        if rules.connectivity not in (6, 18, 26):
            raise SpecError(f"connectivity = {rules.connectivity}", expected="6, 18 or 26")
        for name in ("min_volume_nm3", "gap_nm", "gap_sections", "min_sections", "min_section_area_nm2"):
            if not 0 <= getattr(rules, name) < math.inf:
                raise SpecError(f"{name} = {getattr(rules, name)}", expected="not below 0")
        if rules.gap_sections > MOST_GAP_SECTIONS:
            raise SpecError(f"gap_sections = {rules.gap_sections}", expected=f"at most {MOST_GAP_SECTIONS}")
        low, high = rules.min_section_area_nm2, rules.max_section_area_nm2
        if not low <= high or high <= 0:
            raise SpecError(
                f"min_section_area_nm2 = {low}, max_section_area_nm2 = {high}",
                expected="the minimum at most the maximum, the maximum above 0",
            )

    @property
    def rules(self) -> Rules:
        """What these parameters mean: the preset's rules with those given in their place."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        del given["preset"]
        return dataclasses.replace(PRESETS[self.preset], **given)


def _halo(params: Params, voxel_size_nm: NM) -> ZYX:
    return halo_of(params.rules, voxel_size_nm)


def _evidence(task: BlockTask, name: str = "synapse_evidence") -> np.ndarray:
    values = task.read(name)
    return values if values.ndim == 3 else values[0]


def _block_tables(
    names: tuple[str, str], task: BlockTask, runs: Runs, values: np.ndarray, joined: np.ndarray
) -> Output:
    parts = sum_parts(runs, values, task.params.rules.lowest, task.core, task.shape)
    borders = border_voxels(runs, reach_of(joined), task.core, task.bounds, task.shape)
    return Output(tables=dict(zip(names, (parts, borders), strict=True)))


def _section_runs(task: BlockTask) -> tuple[Runs, np.ndarray]:
    rules, values = task.params.rules, _evidence(task)
    return label_runs(values, rules.lowest, rules.flat_links, task.core, task.shape), values


def _cleft_runs(task: BlockTask) -> tuple[Runs, np.ndarray]:
    """Label the block; return the runs and the evidence under them."""
    rules = task.params.rules
    values = _evidence(task, "_kept" if rules.limits_areas else "synapse_evidence")
    runs = cleft_runs(values, task.box(), task.core, rules, task.voxel_size_nm, task.shape)
    return runs, values[task.core.within(task.box()).slices]


def sections(task: BlockTask) -> Output:
    """Label the components of every section."""
    names = ("_section_parts", "_section_borders")
    return _block_tables(names, task, *_section_runs(task), task.params.rules.flat_links)


def judge_sections(task: MergeTask) -> Output:
    """Join them across blocks; find those whose area is out of the limits."""
    rules = task.params.rules
    parts = task.rows("_section_parts", "_open_section_parts")
    borders = task.rows("_section_borders", "_open_section_borders")
    done, opened, still = join_children(parts, borders, Node(task.box, task.bounds, task.shape, rules.flat_links))
    whole = merge_parts(done)
    gone = removed_by_area(whole["voxels"], rules, task.voxel_size_nm)
    lost = {name: values[gone] for name, values in whole.items()}
    deleted = done["component"][np.isin(done["root"], lost["root"])]
    found = found_rows(lost, np.full(len(lost["root"]), SECTION_AREA))
    return Output(
        tables={
            "_open_section_parts": opened, "_open_section_borders": still,
            "_deleted": {"component": deleted}, "_deleted_rows": found,
        }
    )  # fmt: skip


def keep(task: BlockTask) -> Output:
    """Write the evidence that no such component holds."""
    runs, values = _section_runs(task)
    gone = np.isin(runs.labels, task.table("_deleted", task.core)["component"])
    return Output(layers={"_kept": keep_values(runs, ~gone, values)})


def label(task: BlockTask) -> Output:
    """Label the block's components, and tell what each has and where it meets the faces."""
    return _block_tables(("_parts", "_borders"), task, *_cleft_runs(task), task.params.rules.links)


def judge(task: MergeTask) -> Output:
    """Join components across blocks; decide about those that end inside of the node's box."""
    rules = task.params.rules
    parts, borders = task.rows("_parts", "_open_parts"), task.rows("_borders", "_open_borders")
    done, opened, still = join_children(parts, borders, Node(task.box, task.bounds, task.shape, rules.links))
    whole = merge_parts(done)
    rule = removed(whole, rules, task.voxel_size_nm)
    final = np.where(rule == KEPT, whole["first"], np.uint64(0))
    clefts = final[np.searchsorted(whole["root"], done["root"])]
    order = np.argsort(done["component"])
    fates = {"component": done["component"][order], "cleft": clefts[order]}
    return Output(
        tables={
            "_open_parts": opened, "_open_borders": still, "_fates": fates, "_found": found_rows(whole, rule),
        }
    )  # fmt: skip


def list_clefts(task: WholeTask) -> Output:
    """Sort the candidates and the clefts among them."""
    found = [task.table(name) for name in ("_found", "_deleted_rows")[: 1 + task.params.rules.limits_areas]]
    rows = candidates({name: np.concatenate([each[name] for each in found]) for name in found[0]}, task.voxel_size_nm)
    kept = rows["removed_by"] == ""
    sizes = {name: rows[name][kept] for name in ("id", "size_voxels")}
    return Output(tables={"candidates": rows, "cleft_sizes": sizes})


def relabel(task: BlockTask) -> Output:
    """Label the block again, now by the clefts' ids."""
    runs, values = _cleft_runs(task)
    fates = task.table("_fates", task.core)
    ids, place = np.unique(runs.labels, return_inverse=True)
    mine = np.isin(fates["component"], ids)
    order = np.argsort(fates["component"][mine])
    labels = fates["cleft"][mine][order][place]
    return Output(layers={"clefts": paint(runs, labels, values, task.params.rules.lowest)})


def _bytes(written: float) -> object:
    """Return the memory of a part per voxel: four channels of evidence, bridges if wanted, what it writes."""
    return lambda params, voxel_size_nm: 16.0 + 4.0 * (params.rules.gap_nm > 0) + written


def _limits_areas(params: Params) -> bool:
    return params.rules.limits_areas


PARTS, BORDERS, FOUND = Table(PART_COLUMNS), Table(BORDER_COLUMNS), Table(FOUND_COLUMNS)

STAGE = Stage(
    version=2,
    params=Params,
    reads={"synapse_evidence": Layer("uint8", channels=(None, 1, 4), kind="probability")},
    writes=("clefts", "cleft_sizes", "candidates"),
    parts=(
        BlockPart(
            "sections", sections, tables={"_section_parts": PARTS, "_section_borders": BORDERS},
            bytes_per_voxel=_bytes(0), when=_limits_areas,
        ),
        MergePart(
            "judge_sections",
            judge_sections,
            source=("_section_parts", "_section_borders"),
            tables={"_open_section_parts": PARTS, "_open_section_borders": BORDERS},
            kept={"_deleted": Table({"component": "uint64"}), "_deleted_rows": FOUND},
            when=_limits_areas,
        ),
        BlockPart(
            "keep", keep, layers={"_kept": Layer("uint8", kind="probability")}, bytes_per_voxel=_bytes(1),
            when=_limits_areas,
        ),
        BlockPart(
            "label", label, tables={"_parts": PARTS, "_borders": BORDERS}, halo=_halo, bytes_per_voxel=_bytes(0)
        ),
        MergePart(
            "judge",
            judge,
            source=("_parts", "_borders"),
            tables={"_open_parts": PARTS, "_open_borders": BORDERS},
            kept={"_fates": Table({"component": "uint64", "cleft": "uint64"}), "_found": FOUND},
        ),
        WholePart(
            "list",
            list_clefts,
            tables={
                "cleft_sizes": Table({"id": "uint64", "size_voxels": "int64"}),
                "candidates": Table(CANDIDATE_COLUMNS),
            },
        ),
        BlockPart(
            "relabel", relabel, layers={"clefts": Layer("uint64", kind="labels")}, halo=_halo, bytes_per_voxel=_bytes(8)
        ),
    ),
)  # fmt: skip
