"""Scores of a segmentation against the truth: variation of information and adapted Rand error."""

from __future__ import annotations

from dataclasses import dataclass

from bouton.evaluate.contingency import Contingency, add, count_pairs
from bouton.evaluate.scores import SCORE_COLUMNS, score_table, segmentation_scores
from bouton.stage import BlockPart, BlockTask, Layer, MergePart, MergeTask, Output, Stage, Table, WholePart, WholeTask


@dataclass(frozen=True)
class Params:
    """``evaluate_segmentation`` has no parameters: voxels whose truth is 0 are left out, all others count."""


def _count(task: BlockTask) -> Output:
    table = count_pairs(task.read("truth"), task.read("segmentation"))
    return Output(tables={"_pair_parts": _columns(table)})


def _add(task: MergeTask) -> Output:
    tables = task.rows("_pair_parts", "_pairs")
    return Output(tables={"_pairs": _columns(add([_contingency(table) for table in tables]))})


def _score(task: WholeTask) -> Output:
    return Output(tables={"scores": score_table(segmentation_scores(_contingency(task.table("_pairs"))))})


def _columns(table: Contingency) -> dict:
    return {"truth": table.truth, "segment": table.segment, "count": table.count}


def _contingency(table: dict) -> Contingency:
    return Contingency(table["truth"], table["segment"], table["count"])


_PAIRS = Table({"truth": "uint64", "segment": "uint64", "count": "int64"})
_LABELS = Layer(("uint64", "uint32", "uint16", "uint8", "int64", "int32"), kind="labels")

STAGE = Stage(
    version=1,
    params=Params,
    reads={"segmentation": _LABELS, "truth": _LABELS},
    writes=("scores",),
    parts=(
        BlockPart("count", _count, tables={"_pair_parts": _PAIRS}, bytes_per_voxel=64),
        MergePart("add", _add, ("_pair_parts",), {"_pairs": _PAIRS}, bytes_per_row=100),
        WholePart("score", _score, tables={"scores": Table(SCORE_COLUMNS)}),
    ),
)
