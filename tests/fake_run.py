"""A small run folder written by hand, without the engine: for the tests of report, viewer state and web service."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bouton.geometry import Box, Grid
from bouton.segment.history import MERGE_COLUMNS
from bouton.volume import create_volume, write_table

SHAPE = (20, 96, 112)
VOXEL_SIZE_NM = (30.0, 10.0, 10.0)
BLOCK = (10, 32, 32)
SYNAPSE_COLUMNS = {
    "id": "uint64",
    **{f"{axis}_nm": "float64" for axis in "zyx"},
    "pre_id": "uint64",
    "post_id": "uint64",
    **{f"{side}_{axis}_nm": "float64" for side in ("pre", "post") for axis in "zyx"},
    "size_voxels": "int64",
    "score": "float64",
    "type": "str",
}
SCORE_COLUMNS = {"metric": "str", "value": "float64", "unit": "str", "better": "str", "n": "int64"}


def cells(shape: tuple[int, int, int] = SHAPE, count: int = 24) -> np.ndarray:
    """Return a Voronoi tessellation, uint64 (z, y, x); ids are large, so that 32 bits would lose them."""
    random = np.random.default_rng(3)
    seeds = random.uniform(0, shape, size=(count, 3))
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 1, 3)
    away = ((grid - seeds) * np.array([3, 1, 1])) ** 2
    return (away.sum(axis=-1).argmin(axis=1) + 1).reshape(shape).astype(np.uint64) + np.uint64(2**40)


def edges(labels: np.ndarray) -> np.ndarray:
    """Return affinities, uint8 (3, z, y, x), of labels."""
    found = np.full((3, *labels.shape), 240, dtype=np.uint8)
    for axis in range(3):
        differ = np.diff(labels, axis=axis, prepend=np.take(labels, [0], axis=axis)) != 0
        found[axis][differ] = 20
    return found


def picture(labels: np.ndarray) -> np.ndarray:
    """Return an image, uint8 (z, y, x), with dark membranes."""
    noise = np.random.default_rng(4).normal(0, 12, size=labels.shape)
    dark = (edges(labels) < 128).any(axis=0)
    return np.clip(170 - 100 * dark + noise, 0, 255).astype(np.uint8)


def synapses(count: int = 30, box: Box | None = None) -> dict[str, np.ndarray]:
    """Return a synapse table with ``count`` rows inside ``box``."""
    random = np.random.default_rng(5)
    box = box or Box.of_shape(SHAPE)
    centre = random.uniform(box.start, box.stop, size=(count, 3)) * VOXEL_SIZE_NM
    away = random.normal(0, 60, size=(count, 3))
    kinds = np.array(["excitatory", "inhibitory", "unknown"], dtype=object)
    table: dict[str, np.ndarray] = {"id": np.arange(1, count + 1, dtype=np.uint64) * np.uint64(1000)}
    for axis, name in enumerate("zyx"):
        table[f"{name}_nm"] = centre[:, axis]
        table[f"pre_{name}_nm"] = centre[:, axis] - away[:, axis]
        table[f"post_{name}_nm"] = centre[:, axis] + away[:, axis]
    table["pre_id"] = random.integers(1, 5, count).astype(np.uint64) + np.uint64(2**40)
    table["post_id"] = random.integers(5, 25, count).astype(np.uint64) + np.uint64(2**40)
    table["size_voxels"] = random.integers(20, 900, count)
    table["score"] = random.uniform(0, 1, count)
    table["type"] = kinds[random.choice(3, count, p=[0.7, 0.2, 0.1])]
    return {name: table[name] for name in SYNAPSE_COLUMNS}


@dataclass
class FakeRun:
    """A run folder in the making; :meth:`save` writes ``run.json``."""

    folder: Path
    bounds: Box = field(default_factory=lambda: Box.of_shape(SHAPE))
    steps: list[dict[str, Any]] = field(default_factory=list)
    sources: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def step(self, name: str, stage: str, **values: Any) -> dict[str, Any]:
        """Add a step without outputs and return its entry."""
        key = f"{len(self.steps):08x}cafe"
        entry = {
            "name": name,
            "stage": stage,
            "version": 1,
            "key": key,
            "folder": f"{name}/{key}",
            "params": {},
            "reads": {},
            "bounds_zyx": str(self.bounds),
            "block_zyx": list(BLOCK),
            "outputs": {},
            "state": "done",
            "seconds": 12.5,
            "peak_bytes": 250_000_000,
            "size_bytes": 4_000_000,
            "tasks": len(Grid(self.bounds, BLOCK)),
            "done": len(Grid(self.bounds, BLOCK)),
            "reused": 0,
            "failures": [],
        }
        self.steps.append({**entry, **values})
        (self.folder / self.steps[-1]["folder"]).mkdir(parents=True)
        return self.steps[-1]

    def layer(self, step: dict[str, Any], name: str, kind: str, array: np.ndarray, skip: tuple = ()) -> Path:
        """Write a layer block by block inside the bounds, leaving out the blocks ``skip``."""
        channels = array.shape[0] if array.ndim == 4 else None
        path = f"{step['folder']}/{name}"
        volume = create_volume(
            self.folder / path,
            shape_zyx=SHAPE,
            dtype=array.dtype,
            channels=channels,
            voxel_size_nm=VOXEL_SIZE_NM,
            block_zyx=BLOCK,
            kind=kind,
        )
        grid = Grid(self.bounds, BLOCK)
        for index in grid:
            if index not in skip:
                core = grid.core(index)
                volume.write(core, np.ascontiguousarray(array[(..., *core.slices)]))
        step["outputs"][name] = {
            "type": "layer",
            "path": path,
            "kind": kind,
            "dtype": array.dtype.name,
            "channels": channels,
        }
        return self.folder / path

    def table(self, step: dict[str, Any], name: str, rows: dict[str, np.ndarray], columns: dict[str, str]) -> Path:
        """Write a table."""
        path = f"{step['folder']}/{name}.parquet"
        write_table(self.folder / path, rows, columns)
        step["outputs"][name] = {"type": "table", "path": path, "kind": None, "dtype": None, "channels": None}
        return self.folder / path

    def save(self, **values: Any) -> Path:
        """Write ``run.json`` and return the run folder."""
        info = {
            "bouton": "0.1.0",
            "workflow": "demo",
            "workflow_file": "workflows/demo.yaml",
            "shape_zyx": list(SHAPE),
            "voxel_size_nm": list(VOXEL_SIZE_NM),
            "sources": self.sources,
            "skipped": self.skipped,
            "steps": self.steps,
            "started": "2026-01-02T03:04:05+00:00",
            "finished": "2026-01-02T03:09:55+00:00",
            "command": "bouton run workflows/demo.yaml",
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "run.json").write_text(json.dumps({**info, **values}))
        return self.folder


def whole_run(folder: Path, bounds: Box | None = None) -> FakeRun:
    """Return a run with every kind of result, saved."""
    run = FakeRun(folder, bounds or Box.of_shape(SHAPE))
    labels = cells()
    phantom = run.step("tissue", "phantom", params={"seed": 7, "voxel_size_nm": [30, 10, 10]})
    run.layer(phantom, "image", "image", picture(labels))
    run.layer(phantom, "neuron_ids", "labels", labels)
    run.layer(phantom, "mask", "mask", (labels == labels[0, 0, 0]).astype(np.uint8))
    run.table(phantom, "synapses", synapses(40, run.bounds), SYNAPSE_COLUMNS)
    predict = run.step("affinities", "predict", params={"model": "organelles-phantom"}, reads={"image": "tissue.image"})
    affinities = edges(labels)
    run.layer(predict, "affinities", "affinities", affinities)
    run.layer(predict, "synapse_evidence", "probability", np.concatenate([255 - affinities, affinities[:1]]))
    final = run.step("segmentation", "segmentation", reads={"fragments": "fragments"}, params={"threshold": 0.5})
    run.layer(final, "segmentation", "labels", labels)
    found = run.step("synapses", "synapses", reads={"segmentation": "segmentation.segmentation"})
    run.table(found, "synapses", synapses(30, run.bounds), SYNAPSE_COLUMNS)
    for name, values in (("score_fragments", (1.2, 0.31, 0.5)), ("score_final", (0.4, 0.05, 0.91))):
        step = run.step(name, "evaluate_segmentation", reads={"segmentation": "segmentation.segmentation"})
        scores = {
            "metric": np.array(["voi_sum", "adapted_rand_error", "precision"], dtype=object),
            "value": np.array(values),
            "unit": np.array(["bits", "", ""], dtype=object),
            "better": np.array(["lower", "lower", "higher"], dtype=object),
            "n": np.array([1000, 1000, 30]),
        }
        run.table(step, "scores", scores, SCORE_COLUMNS)
    run.save()
    return run


def with_history(folder: Path) -> FakeRun:
    """Return a run whose cells are cut into two fragments each, with a merge history that can make them whole."""
    run = FakeRun(folder)
    whole = cells()
    names = np.unique(whole)
    # The upper half of a cell has another id, far above the lower half's.
    pieces = whole + np.where(np.arange(whole.shape[2]) >= 60, np.uint64(2**50), np.uint64(0))
    fragments = run.step("fragments", "fragments")
    run.layer(fragments, "fragments", "labels", pieces)
    step = run.step("agglomeration", "agglomeration", reads={"fragments": "fragments.fragments"})
    score = 60 + np.arange(len(names)) * 97 % 190
    known = np.unique(np.concatenate([names, names + np.uint64(2**50)]))
    merges = {"a": names, "b": names + np.uint64(2**50), "affinity_sum": score, "affinity_max": score}
    merges |= {"affinity_count": np.ones_like(score), "small": np.zeros(len(names), np.uint8)}
    merges |= {"score": score / 255, "floor": np.full(len(names), 0.2)}
    merges["affinity_quantile"] = np.full(len(names), -1)
    run.table(step, "merges", {name: merges[name] for name in MERGE_COLUMNS}, MERGE_COLUMNS)
    sizes = {"id": known, "voxels": np.ones(len(known), np.int64)}
    run.table(step, "fragment_sizes", sizes, {"id": "uint64", "voxels": "int64"})
    reads = {"fragments": "fragments.fragments", "merges": "agglomeration.merges"}
    final = run.step("segmentation", "segmentation", reads=reads, params={"threshold": 0.6})
    run.layer(final, "segmentation", "labels", whole)
    run.layer(run.step("picture", "phantom"), "image", "image", picture(whole))
    run.save()
    return run
