"""Accuracy of the shipped models on data that no parameter was tuned on, each beside its target.

    python benchmarks/models.py [--only fib25 aniso isbi phantom vnc] [--models FOLDER] [--synapse-vnc FOLDER]

fib25: sections 120-159 of training sample 2; the threshold is the best on gala's cube. aniso: the same with every 4th
section kept. isbi: sections 0-22 of the ISBI 2012 training stack, which no model saw, brought to the model's voxel
size; the threshold is that of aniso; every section is segmented alone and scored on the truth's foreground. phantom:
workflows/demo.yaml with seeds and looks that the network was not trained on. vnc: rows 560-639 of the larval nerve
cord by VESICLE's rule (a synapse counts where most of it lies), with a network trained on rows 0-559 (not shipped: its
data are CC BY-NC-SA), at the operating point that is best on rows 0-559.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
from accuracy import PARAMS
from scipy import ndimage

from bouton import load_workflow, open_run, run_workflow
from bouton.evaluate.contingency import Contingency, count_pairs
from bouton.evaluate.objects import match_objects
from bouton.evaluate.partition import adapted_rand, v_info, v_rand, variation_of_information
from bouton.geometry import Box
from bouton.learn.model import Model, load_model
from bouton.learn.predict import predict
from bouton.learn.shipped import model_path
from bouton.phantom import UNSEEN_LOOKS
from bouton.segment.components import relabel
from bouton.segment.history import cut
from bouton.segment.whole import merge_history
from bouton.spec import Choices

DATA = Path(os.environ.get("BOUTON_DATA", Path(__file__).parents[2] / "shared" / "data"))
THRESHOLDS = [round(0.1 + 0.025 * i, 3) for i in range(33)]
REPORTED = slice(120, 160)
ROWS = 560
LEVELS = (64, 96, 128, 160, 192, 208, 224, 232, 240, 245, 248, 250, 252)


def outputs(model: Model, image: np.ndarray) -> dict[str, np.ndarray]:
    """Return all heads of a model over an image (z, y, x)."""
    box = Box.of_shape(image.shape)
    return predict(model, image, box, box, box)


def cuts(affinities: np.ndarray, thresholds: list[float]) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (threshold, labels)."""
    fragments, merges = merge_history(affinities, PARAMS)
    for threshold in thresholds:
        yield threshold, relabel(fragments, *cut(merges, threshold))


def best(affinities: np.ndarray, truth: np.ndarray) -> float:
    """Return the threshold of least VOI; of several the greatest."""
    found = [
        (variation_of_information(count_pairs(truth, labels)).total, -threshold)
        for threshold, labels in cuts(affinities, THRESHOLDS)
    ]
    return -min(found)[1]


def training_sample(keep_every: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image and truth of FIB-25 training sample 2; truth ends with section 159."""
    with h5py.File(DATA / "fib25_ts2" / "volume.h5") as file:
        image, truth = file["volumes/raw"][...], file["volumes/labels/neuron_ids"][:160].astype(np.uint64)
    return image[::keep_every], truth[::keep_every]


def gala(model: Model, keep_every: int) -> float:
    """Return the best threshold on gala's cube."""
    with h5py.File(DATA / "fib25_gala" / "train.h5") as file:
        image, truth = file["volumes/raw"][::keep_every], file["volumes/labels/neuron_ids"][::keep_every]
    return best(outputs(model, image)["affinities"], truth.astype(np.uint64))


def fib25(model: Model, keep_every: int, targets: tuple[str, str]) -> float:
    """Print the scores of the held-out sections, and return the threshold."""
    threshold = gala(model, keep_every)
    image, truth = training_sample(keep_every)
    affinities = outputs(model, image)["affinities"]
    held = slice(REPORTED.start // keep_every, REPORTED.stop // keep_every)
    [(_, labels)] = cuts(affinities, [threshold])
    table = count_pairs(truth[held], np.ascontiguousarray(labels[: len(truth)][held]))
    voi, rand = variation_of_information(table), adapted_rand(table)
    row("threshold, chosen on gala", f"{threshold:.3f}")
    row("VOI split + merge = sum, bits", f"{voi.split:.3f} + {voi.merge:.3f} = {voi.total:.3f}", targets[0])
    row("adapted Rand error", f"{rand.error:.4f}", targets[1])
    return threshold


def isbi(model: Model, threshold: float) -> None:
    """Print V-Rand and V-Info of sections that are segmented one by one."""
    with h5py.File(DATA / "isbi2012" / "train.h5") as file:
        image = file["volumes/raw"][...]
        inside = file["volumes/labels/intracellular"][...] > 0
    scale = 4.0 / model.info.voxel_size_nm[1]
    smooth = ndimage.gaussian_filter(image.astype(np.float32), (0, 0.5 / scale, 0.5 / scale))
    small = np.clip(np.rint(ndimage.zoom(smooth, (1, scale, scale), order=1, grid_mode=True, mode="nearest")), 0, 255)
    affinities = outputs(model, small.astype(np.uint8))["affinities"]
    rows = np.minimum((np.arange(image.shape[1]) * scale).astype(int), affinities.shape[2] - 1)
    tables: dict[float, list[Contingency]] = {t: [] for t in sorted({threshold, *THRESHOLDS})}
    for section, mask in enumerate(inside):
        alone = affinities[:, section : section + 1].copy()
        alone[0] = 0
        truth = ndimage.label(mask)[0].astype(np.uint64)[None]
        for t, labels in cuts(alone, list(tables)):
            tables[t].append(count_pairs(truth, labels[:, rows][:, :, rows].astype(np.uint64)))
    scores = {t: (pooled(v_rand, tables[t]), pooled(v_info, tables[t])) for t in tables}
    top = max(scores, key=lambda t: scores[t][0])
    for name, t in (("threshold of aniso", threshold), ("best threshold, for comparison", top)):
        row(f"V-Rand, V-Info at {t:.3f} ({name})", f"{scores[t][0]:.3f}, {scores[t][1]:.3f}", "reported")


def pooled(score: Callable[[Contingency], float], tables: list[Contingency]) -> float:
    """Return the mean over sections, as the challenge does."""
    return float(np.mean([score(table) for table in tables]))


def phantom(model: str) -> None:
    """Print scores of the demo's workflow on tissue of other seeds and another look."""
    workflow = Path(__file__).parents[1] / "workflows" / "demo.yaml"
    looks = {"usual": {}, **UNSEEN_LOOKS}
    for seed, (name, look) in enumerate(looks.items(), 31):
        changes = [f"steps.tissue.params.{key}={value}" for key, value in look.items()]
        with tempfile.TemporaryDirectory() as folder:
            overrides = [f"steps.tissue.params.seed={seed}", f"steps.network.params.model={model}", *changes]
            flow = load_workflow(workflow, Choices(overrides=tuple(overrides)))
            run_workflow(flow, Path(folder), workers=2).raise_if_failed()
            run = open_run(Path(folder) / "demo")
            cells, synapses = run.table("segmentation_scores.scores"), run.table("synapse_scores.scores")
            row(f"seed {seed}, {name} look: VOI sum, bits", f"{value(cells, 'voi_sum'):.3f}", "<= 0.35")
            row(f"seed {seed}, {name} look: cleft F1", f"{value(synapses, 'synapse_f1'):.3f}", ">= 0.92")


def value(table: dict[str, np.ndarray], metric: str) -> float:
    """Return one score of a score table."""
    return float(table["value"][list(table["metric"]).index(metric)])


def vnc(model: Model) -> None:
    """Print synapses of the held-out rows by VESICLE's rule, at the operating point that is best on the other rows."""
    with h5py.File(DATA / "vnc_gerhard2013" / "stack1.h5") as file:
        image, synapses = file["volumes/raw"][:, :640], file["volumes/labels/synapses"][:, :640] > 0
    cleft = outputs(model, image)["clefts"][0]
    truth = ndimage.label(synapses, np.ones((3, 3, 3)))[0].astype(np.uint64)
    points = [(level, size) for level in LEVELS for size in (100, 300, 600, 1000, 2000)]
    trained, held = (own(truth, rows) for rows in (slice(None, ROWS), slice(ROWS, None)))
    chosen = max(points, key=lambda p: match_objects(trained, own(detected(cleft, *p), slice(None, ROWS))).f1.value)
    found = match_objects(held, own(detected(cleft, *chosen), slice(ROWS, None)))
    row("probability, smallest object (chosen on rows 0-559)", f"{chosen[0] / 255:.2f}, {chosen[1]} voxels")
    for name in ("precision", "recall", "f1"):
        share, target = getattr(found, name), ">= 0.70" if name == "f1" else ""
        interval = f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
        row(f"{name} (tp {found.tp}, fp {found.fp}, fn {found.fn})", interval, target)


def detected(cleft: np.ndarray, level: int, size: int) -> np.ndarray:
    """Return the detections of one operating point, uint64 ids."""
    labels, _ = ndimage.label(cleft >= level, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.reshape(-1))
    labels[sizes[labels] < size] = 0
    return labels.astype(np.uint64)


def own(labels: np.ndarray, rows: slice) -> np.ndarray:
    """Return the labels of which more than half lies in these rows: an object cut by the border belongs to one side."""
    inside = np.bincount(labels[:, rows].reshape(-1).astype(np.int64), minlength=int(labels.max()) + 1)
    kept = 2 * inside > np.bincount(labels.reshape(-1).astype(np.int64))
    return np.where(kept[labels.astype(np.int64)], labels, np.uint64(0))


def row(name: str, found: str, target: str = "") -> None:
    """Print a line."""
    print(f"  {name:55} {found:32} {target}", flush=True)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("fib25", "aniso", "isbi", "phantom", "vnc")
    parser.add_argument("--only", nargs="*", choices=parts, default=parts)
    parser.add_argument("--models", type=Path, help="folder with other models of the same names")
    parser.add_argument("--synapse-vnc", type=Path, help="model that `bouton train workflows/train/vnc.yaml` made")
    options = parser.parse_args()

    def model(name: str) -> Path:
        return options.models / name if options.models else model_path(name)

    if "fib25" in options.only:
        print("FIB-25, sections 120-159 (affinity-fib25)")
        fib25(load_model(model("affinity-fib25")), 1, ("<= 1.0", "<= 0.12"))
    if "aniso" in options.only or "isbi" in options.only:
        aniso = load_model(model("affinity-aniso"))
        print("FIB-25, every 4th section of 120-159 (affinity-aniso)")
        threshold = fib25(aniso, 4, ("reported", "reported"))
        if "isbi" in options.only:
            print("ISBI 2012, sections 0-22 (affinity-aniso, without training)")
            isbi(aniso, threshold)
    if "phantom" in options.only:
        print("phantom (organelles-phantom)")
        phantom(str(model("organelles-phantom")))
    if "vnc" in options.only:
        print("VNC, rows 560-639 (synapse-vnc)")
        if options.synapse_vnc:
            vnc(load_model(options.synapse_vnc))
        else:
            print("  not measured: --synapse-vnc FOLDER")


if __name__ == "__main__":
    main()
