"""VESICLE-RF: its speed on one core, and its synapses beside those of a U-Net on rows that neither saw.

    python benchmarks/synapses_forest.py FOREST [--chosen-on FOREST] [--unet FOLDER]

FOREST: what `bouton train workflows/train/vnc_forest.yaml` made. --chosen-on: the same, trained on rows 0-399; its
operating point is the best on rows 400-559, and serves FOREST on rows 560-639, which are looked at once. --unet: what
`bouton train workflows/train/vnc.yaml` made; its operating point is the best on rows 0-559, as in benchmarks/models.py.
Both count by VESICLE's rule, a synapse where most of it lies.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from models import DATA, detected, own
from scipy import ndimage

from bouton.evaluate.detection import Detection
from bouton.evaluate.objects import match_objects
from bouton.geometry import Box
from bouton.learn.forest import predict_forest
from bouton.learn.predict import predict
from bouton.learn.runners_forest import ForestRunner, candidate_places, open_forest
from bouton.learn.vesicle_features import features_at

Row = tuple[str, str, str]
PARTS = {"first": slice(0, 400), "second": slice(400, 560), "trained": slice(0, 560), "held": slice(560, 640)}
LEVELS = tuple(range(128, 250, 6))
SIZES = (100, 200, 300, 450, 600, 1000, 2000)
UNET_LEVELS = (64, 96, 128, 160, 192, 208, 224, 232, 240, 245, 248, 250, 252)
UNET_SIZES = (100, 300, 600, 1000, 2000)


def stack() -> tuple[np.ndarray, np.ndarray]:
    """Return image and synapses, uint64 ids, of rows 0-639."""
    with h5py.File(DATA / "vnc_gerhard2013" / "stack1.h5") as file:
        image, painted = file["volumes/raw"][:, :640], file["volumes/labels/synapses"][:, :640] > 0
    return image, ndimage.label(painted, np.ones((3, 3, 3)))[0].astype(np.uint64)


def clefts(runner: object, image: np.ndarray) -> np.ndarray:
    """Return probability times 255, uint8 (z, y, x)."""
    box = Box.of_shape(image.shape)
    return predict(runner, image, box, box, box)["clefts"][0]  # type: ignore[arg-type]


def matched(truth: np.ndarray, values: np.ndarray, point: tuple[int, int], rows: slice) -> Detection:
    """Return how an operating point does on some rows."""
    return match_objects(own(truth, rows), own(detected(values, *point), rows))


def chosen(truth: np.ndarray, values: np.ndarray, rows: slice, points: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the operating point of the best F1; of equal ones the middle one."""
    scores = [matched(truth, values, point, rows).f1.value for point in points]
    best = [point for point, score in zip(points, scores, strict=True) if score == max(scores)]
    return best[len(best) // 2]


def told(name: str, point: tuple[int, int], found: Detection) -> Row:
    """Return a row of the table."""
    f1, p, r = found.f1, found.precision, found.recall
    counts = f"tp {found.tp} fp {found.fp} fn {found.fn}, p {point[0] / 255:.2f}, {point[1]} voxels"
    measured = f"F1 {f1.value:.3f} [{f1.low:.3f}, {f1.high:.3f}], P {p.value:.2f}, R {r.value:.2f} ({counts})"
    return f"VNC, rows 560-639, {name}", "better one >= 0.70", measured


def accuracy(options: argparse.Namespace) -> list[Row]:
    """Return the rows of the held-out synapses."""
    image, truth = stack()
    points, rows = [(level, size) for level in LEVELS for size in SIZES], list[Row]()
    if options.chosen_on:
        watched = clefts(open_forest(options.chosen_on), image)
        point = chosen(truth, watched, PARTS["second"], points)
        rows.append(
            told("VESICLE-RF", point, matched(truth, clefts(open_forest(options.forest), image), point, PARTS["held"]))
        )
    if options.unet:
        from bouton.learn.model import load_model

        values = clefts(load_model(options.unet), image)
        points = [(level, size) for level in UNET_LEVELS for size in UNET_SIZES]
        point = chosen_as_in_models(truth, values, points)
        rows.append(told("U-Net", point, matched(truth, values, point, PARTS["held"])))
    return rows


def chosen_as_in_models(truth: np.ndarray, values: np.ndarray, points: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the first operating point of the best F1 on the rows trained on."""
    return max(points, key=lambda point: matched(truth, values, point, PARTS["trained"]).f1.value)


def speed(runner: ForestRunner) -> list[Row]:
    """Return the rows of the speed: CPU seconds of one process, prediction, threshold and objects."""
    image, _ = stack()
    clefts(runner, image[:, :200, :200])
    began = time.process_time()
    values = clefts(runner, image)
    between = time.process_time()
    detected(values, 200, 300)
    whole = time.process_time() - began
    parts, share = _parts(runner, image)
    nodes = runner.forest.feature.size / runner.forest.trees
    rate = image.size / whole / 1e6
    return [
        ("VESICLE-RF, features + forest + objects, one core", ">= 1.0 Mvoxel/s",
         f"{rate:.2f} Mvoxel/s of CPU time (objects {(whole - between + began) / image.size * 1e9:.0f} ns/voxel)"),
        ("its parts, without the overlap of tiles", "", parts),
        ("candidates; a tree", "", f"{share:.1%} of the voxels; {nodes:.0f} nodes of 8 bytes, 8 of values"),
    ]  # fmt: skip


def _parts(runner: ForestRunner, image: np.ndarray) -> tuple[str, float]:
    given = runner.given
    began = time.process_time()
    places = candidate_places(image, given)
    found = time.process_time()
    features = features_at(image, places, given)
    made = time.process_time()
    predict_forest(runner.forest, features)
    done = time.process_time()
    voxels = image.size
    each = (done - made) / max(1, len(places)) / runner.forest.trees * 1e9
    text = (
        f"candidates {(found - began) / voxels * 1e9:.0f}, features {(made - found) / voxels * 1e9:.0f} ns/voxel; "
        f"forest {(done - made) / max(1, len(places)) * 1e9:.0f} ns/candidate = {each:.1f} ns a tree"
    )
    inside = np.prod([n - 2 * h for n, h in zip(image.shape, given.windows.halo, strict=True)])
    return text, len(places) / float(inside)


def rows(arguments: Sequence[str] | None = None) -> list[Row]:
    """Return (what, target, measured) of all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("forest", type=Path)
    parser.add_argument("--chosen-on", type=Path)
    parser.add_argument("--unet", type=Path)
    options = parser.parse_args(arguments)
    return [*speed(open_forest(options.forest)), *accuracy(options)]


if __name__ == "__main__":
    for row in rows():
        print(" | ".join(row), flush=True)
