"""Types and targets of synapses: how many are right on a phantom that the model has not seen, and how many a second.

    python benchmarks/synapses_types.py [--truth runs/t2004 --predicted runs/s2003 ...] [--calibration runs/s3005 ...]

``--predicted`` are runs of workflows/types/predicted.yaml, ``--truth`` one of truth.yaml, of seeds that no model was
trained on; ``--calibration`` the runs that the model was calibrated on: how far its probabilities can be trusted in
each of them when they are calibrated on the others alone. Beside a calibration error stands, in brackets, what as few
rows show of probabilities that are right. Without runs a small phantom of seed 2004 with true layers is made here
(targets only).

Speed is that of measuring features, on one core, of synapses in volumes on disk, in CPU seconds. What limits it is
reading: a synapse takes some 4 ms to measure, and the voxels around it (270,000 of 30 x 10 x 10 nm for each synapse
of a phantom, 17 bytes each with all layers) 5.5 ms to unpack once; a block reads up to 900 nm around it besides.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bouton.cli.train_types import Labelled, read_labelled
from bouton.geometry import ZYX, Box, Grid
from bouton.learn.shipped import model_path
from bouton.learn.synapse_types import (
    SYNAPSE_TYPES,
    Classifier,
    TypesModel,
    calibrated,
    no_calibration,
    read_types_model,
)
from bouton.learn.synapse_types_training import calibration_table, reliability
from bouton.stage import BlockPart, BlockTask, TableData
from bouton.stages.synapse_types import STAGE, Params
from bouton.volume.run_folder import Run, open_run

ROOT = Path(__file__).parents[1]
TARGETS = {"type": ">= 0.93", "target": ""}


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predicted", type=Path, nargs="*", default=[])
    parser.add_argument("--calibration", type=Path, nargs="*", default=[])
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found = rows(given.predicted, given.truth, given.rounds) + calibration_rows(given.calibration)
    for what, target, measured in found:
        print(f"{what:<52} {target:<10} {measured}")


def rows(predicted: Sequence[Path] = (), truth: Path | None = None, rounds: int = 3) -> list[tuple[str, str, str]]:
    """Return (what, target, measured): answers on each run, and the speed on the first one."""
    model = read_types_model(model_path("synapse-types-phantom", SYNAPSE_TYPES))
    with tempfile.TemporaryDirectory() as folder:
        runs = [*predicted, *([truth] if truth else [])] or [_small_run(Path(folder))]
        found = []
        for path in runs:
            labelled = read_labelled(path, "test")
            for question in model.card.questions:
                found += _answers(model, labelled, question)
        if len(predicted) > 1:
            for question in model.card.questions:
                found.append(_together(model, [read_labelled(path, "test") for path in predicted], question))
        return [*found, *_speeds(runs[0], rounds)]


def _small_run(folder: Path) -> Path:
    workflow = ROOT / "workflows" / "types" / "truth.yaml"
    command = [sys.executable, "-m", "bouton", "run", str(workflow), "--name", "t2004", "--runs", str(folder)]
    seed = ["--set", "steps.tissue.params.seed=2004", "--workers", "1"]
    subprocess.run([*command, *seed], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    return folder / "t2004"


def _known(model: TypesModel, labelled: Labelled, question: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the calibrated probabilities (n, classes) of rows of known class, and the class of each."""
    asked = model.card.questions[question]
    chances, true = model.answer(question, labelled.features), labelled.classes[question].astype(str)
    known = np.isfinite(chances).all(axis=1) & np.isin(true, asked.classes)
    return chances[known], np.array([asked.classes.index(name) for name in true[known].tolist()], dtype=np.int64)


def _trust(chances: np.ndarray, true: np.ndarray) -> str:
    """Return the expected calibration error, and what it would be if the probabilities were right."""
    confidence, rng = chances.max(axis=1), np.random.default_rng(0)
    error = reliability(confidence, chances.argmax(axis=1) == true)[1]
    least = [reliability(confidence, rng.random(len(true)) < confidence)[1] for _ in range(500)]
    return f"{error:.3f} ({np.mean(least):.3f})"


def _answers(model: TypesModel, labelled: Labelled, question: str) -> list[tuple[str, str, str]]:
    chances, true = _known(model, labelled, question)
    if not len(true):
        return []
    classes, answers = np.array(model.card.questions[question].classes), chances.argmax(axis=1)
    pairs, numbers = np.unique(np.stack([classes[true], classes[answers]]), axis=1, return_counts=True)
    confusion = ", ".join(f"{a} as {b} {n}" for a, b, n in zip(*pairs.tolist(), numbers.tolist(), strict=True))
    share = f"{(answers == true).mean():.3f}"
    return [
        (f"{labelled.name}: {question} right of matched (n = {len(true)})", TARGETS[question], share),
        (f"{labelled.name}: {question}, true as found", "", confusion),
        (f"{labelled.name}: {question}, expected calibration error", "", _trust(chances, true)),
    ]


def _together(model: TypesModel, runs: Sequence[Labelled], question: str) -> tuple[str, str, str]:
    parts = [_known(model, each, question) for each in runs]
    chances, true = (np.concatenate([part[n] for part in parts]) for n in range(2))
    what = f"predicted runs together: {question} right (n = {len(true)}), calibration error"
    return what, "", f"{(chances.argmax(axis=1) == true).mean():.3f}, {_trust(chances, true)}"


def calibration_rows(paths: Sequence[Path]) -> list[tuple[str, str, str]]:
    """Return how far probabilities can be trusted that were calibrated on the other runs: for runs s*, together."""
    model, found = read_types_model(model_path("synapse-types-phantom", SYNAPSE_TYPES)), []
    for question, asked in model.card.questions.items():
        plain = Classifier(model.classifiers[question].forest, no_calibration(len(asked.classes)))
        raw = TypesModel(model.card, {question: plain})
        runs = {path.name: _known(raw, read_labelled(path, "calibrate"), question) for path in paths}
        parts = []
        for name in (name for name in runs if name.startswith("s")):
            others = [run for other, run in runs.items() if other != name]
            table = calibration_table(
                *(np.concatenate([run[n] for run in others]) for n in range(2)), asked.calibration
            )
            parts.append((calibrated(runs[name][0], table), runs[name][1]))
        if parts:
            chances, true = (np.concatenate([part[n] for part in parts]) for n in range(2))
            what = f"calibrated on the other runs: {question} right (n = {len(true)}), calibration error"
            found.append((what, "", f"{(chances.argmax(axis=1) == true).mean():.3f}, {_trust(chances, true)}"))
    return found


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
