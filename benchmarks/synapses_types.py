"""Types and targets of synapses: how many are right on a phantom that the model has not seen, and how many a second.

    python benchmarks/synapses_types.py [--truth runs/t2004 --predicted runs/s2003] [--rounds 3]

``--predicted`` is a run of workflows/types/predicted.yaml, ``--truth`` one of truth.yaml, of seeds that no model was
trained on; without them a small phantom of seed 2004 with true layers is made here (targets only). Speed is that of
measuring features, on one core, of synapses in volumes on disk, in CPU seconds. What limits it is reading: a synapse
takes some 4 ms to measure, and the voxels that lie around it (333,000 of 30 x 10 x 10 nm for each synapse of a phantom,
17 bytes each with all layers) 5.5 ms to unpack once; a block reads up to 900 nm around it besides.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bouton.cli.train_types import Labelled, read_labelled
from bouton.geometry import ZYX, Box, Grid
from bouton.learn.synapse_types import TypesModel, read_types_model
from bouton.learn.synapse_types_training import reliability
from bouton.stage import BlockPart, BlockTask, TableData
from bouton.stages.synapse_types import STAGE, Params, types_model_path
from bouton.volume.run_folder import Run, open_run

ROOT = Path(__file__).parents[1]
TARGETS = {"type": ">= 0.93", "target": ""}


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predicted", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for what, target, measured in rows(given.predicted, given.truth, given.rounds):
        print(f"{what:<52} {target:<10} {measured}")


def rows(predicted: Path | None = None, truth: Path | None = None, rounds: int = 3) -> list[tuple[str, str, str]]:
    """Return (what, target, measured): answers on each run, and the speed on the first one."""
    model = read_types_model(types_model_path("synapse-types-phantom"))
    with tempfile.TemporaryDirectory() as folder:
        runs = [path for path in (predicted, truth) if path] or [_small_run(Path(folder))]
        found = []
        for path in runs:
            labelled = read_labelled(path, "test")
            for question in model.card.questions:
                found += _answers(model, labelled, question)
        return [*found, *_speeds(runs[0], rounds)]


def _small_run(folder: Path) -> Path:
    workflow = ROOT / "workflows" / "types" / "truth.yaml"
    command = [sys.executable, "-m", "bouton", "run", str(workflow), "--name", "t2004", "--runs", str(folder)]
    seed = ["--set", "steps.tissue.params.seed=2004", "--workers", "1"]
    subprocess.run([*command, *seed], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    return folder / "t2004"


def _answers(model: TypesModel, labelled: Labelled, question: str) -> list[tuple[str, str, str]]:
    asked = model.card.questions[question]
    chances, true = model.answer(question, labelled.features), labelled.classes[question].astype(str)
    known = np.isfinite(chances).all(axis=1) & np.isin(true, asked.classes)
    if not known.any():
        return []
    chances, true = chances[known], true[known]
    answers = np.array(asked.classes)[chances.argmax(axis=1)]
    right = answers == true
    pairs, numbers = np.unique(np.stack([true, answers]), axis=1, return_counts=True)
    confusion = ", ".join(f"{a} as {b} {n}" for a, b, n in zip(*pairs.tolist(), numbers.tolist(), strict=True))
    error = reliability(chances.max(axis=1), right)[1]
    return [
        (f"{labelled.name}: {question} right of matched (n = {len(right)})", TARGETS[question], f"{right.mean():.3f}"),
        (f"{labelled.name}: {question}, true as found", "", confusion),
        (f"{labelled.name}: {question}, expected calibration error", "", f"{error:.3f}"),
    ]


def _speeds(path: Path, rounds: int) -> list[tuple[str, str, str]]:
    """Return synapses a CPU second: in one block, in blocks of half its sides, and when nothing had to be read."""
    run = open_run(path)
    step = next(step for step in run.steps.values() if step.stage == "synapse_types")
    table = run.table(step.reads["synapses"])
    volumes: dict[str, Any] = {name: run.volume(ref) for name, ref in step.reads.items() if name != "synapses"}
    kept = {name: Kept(volume.read(Box.of_shape(run.shape))) for name, volume in volumes.items()}
    half = (-(-run.shape[0] // 2), -(-run.shape[1] // 2), -(-run.shape[2] // 2))
    what = f"{path.name}: synapses measured a CPU second"
    found = []
    for name, target, block, layers in (
        ("one block", ">= 100", run.shape, volumes),
        (f"blocks {half}, each with its halo", "", half, volumes),
        ("one block, layers in memory: without reading", "", run.shape, kept),
    ):
        speed = _speed(run, table, layers, block, rounds)
        found.append((f"{what}, {name}", target, f"{speed:.0f}"))
    return found


class Kept:
    """A layer in memory."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def read(self, box: Box) -> np.ndarray:
        """Return a box of it."""
        return self.array[(..., *box.slices)]


def _speed(run: Run, table: TableData, volumes: dict[str, Any], block: ZYX, rounds: int) -> float:
    bounds, params, part = Box.of_shape(run.shape), Params(model="none"), STAGE.parts[0]
    assert isinstance(part, BlockPart)
    halo, grid, taken = part.halo(params, run.voxel_size_nm), Grid(bounds, block), []
    for _ in range(rounds + 1):
        began = time.process_time()
        for index in grid:
            part.run(
                BlockTask(
                    params=params,
                    bounds=bounds,
                    shape=run.shape,
                    voxel_size_nm=run.voxel_size_nm,
                    volumes=volumes,
                    table=lambda name, over=None: table,
                    core=grid.core(index),
                    halo=halo,
                    given=frozenset(volumes),
                )
            )
        taken.append(time.process_time() - began)
    # the first round compiles
    return len(table["id"]) / float(np.median(taken[1:]))


if __name__ == "__main__":
    main()
