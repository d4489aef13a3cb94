"""All shapes but the block with nothing to read: sums over a halo, a merge of histograms, objects, slabs, a whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.stage import (
    BlockPart,
    BlockTask,
    ChainPart,
    ChainTask,
    Layer,
    MergePart,
    MergeTask,
    ObjectPart,
    ObjectTask,
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
    reach : int
        Voxels on either side that are summed along z.
    """

    reach: int = 2


HISTOGRAM = Table({"value": "uint64", "count": "int64"})


def smooth(task: BlockTask) -> Output:
    box = task.box()
    image = task.read("image").astype(np.uint32)
    total = np.zeros(task.core.shape, np.uint32)
    for shift in range(-task.params.reach, task.params.reach + 1):
        moved = task.core.shift((shift, 0, 0)) & box
        inside = (moved.shift((-shift, 0, 0))) & task.core
        if inside.is_empty:
            continue
        total[inside.within(task.core).slices] += image[inside.shift((shift, 0, 0)).within(box).slices]
    value, count = np.unique(total, return_counts=True)
    return Output({"total": total}, {"_histogram": {"value": value.astype(np.uint64), "count": count.astype(np.int64)}})


def merge(task: MergeTask) -> Output:
    values = np.concatenate([next(iter(child.values()))["value"] for child in task.children])
    counts = np.concatenate([next(iter(child.values()))["count"] for child in task.children])
    value, place = np.unique(values, return_inverse=True)
    count = np.bincount(place, counts, len(value)).astype(np.int64)
    nodes = {"voxels": np.array([task.box.voxels], np.int64)}
    return Output(tables={"histogram": {"value": value, "count": count}, "nodes": nodes})


def above(task: BlockTask) -> Output:
    return Output(tables={"above": {"voxels": np.sort(task.table("nodes", task.core)["voxels"])}})


def label(task: ObjectTask) -> Output:
    names = np.array([f"value {i}" for i in task.ids], dtype=object)
    return Output(tables={"names": {"value": task.ids, "name": names}})


def profile(task: ChainTask) -> Output:
    below = 0 if task.previous is None else int(task.previous["profile"]["total"][-1])
    total = below + task.read("total", (0, 0, 0)).sum(dtype=np.int64)
    return Output(tables={"profile": {"total": np.array([total], np.int64)}})


def finish(task: WholeTask) -> Output:
    histogram = task.table("histogram")
    total = int((histogram["value"].astype(np.int64) * histogram["count"]).sum())
    (task.folder / "sums.csv").write_text(f"total,{total}\n")
    (task.folder / "deep").mkdir()
    (task.folder / "deep" / "names.txt").write_text("\n".join(task.table("names")["name"]))
    values = [("voxels", float(histogram["count"].sum())), ("total", float(task.table("profile")["total"][-1]))]
    columns = {"metric": np.array([v[0] for v in values], object), "value": np.array([v[1] for v in values])}
    texts = {"unit": np.array(["", ""], object), "better": np.array(["", ""], object)}
    return Output(tables={"scores": columns | texts | {"n": np.ones(2, np.int64)}})


SCORES = Table({"metric": "str", "value": "float64", "unit": "str", "better": "str", "n": "int64"})
STAGE = Stage(
    version=1,
    params=Params,
    reads={"image": Layer(("uint8", "uint16"))},
    writes=("total", "histogram", "nodes", "above", "names", "profile", "scores", "exports"),
    parts=(
        BlockPart(
            "smooth",
            smooth,
            {"total": Layer("uint32")},
            {"_histogram": HISTOGRAM},
            halo=lambda params, voxel_size_nm: (params.reach, 0, 0),
        ),
        MergePart(
            "merge", merge, ("_histogram",), {"histogram": HISTOGRAM}, kept={"nodes": Table({"voxels": "int64"})}
        ),
        BlockPart("above", above, tables={"above": Table({"voxels": "int64"})}),
        ObjectPart("label", label, ("histogram", "value"), {"names": Table({"value": "uint64", "name": "str"})}, 100),
        ChainPart("profile", profile, tables={"profile": Table({"total": "int64"})}),
        WholePart("finish", finish, {"scores": SCORES}, ("exports",)),
    ),
)
