"""Accuracy on real tissue of bouton and its peers: every threshold is chosen on other data than is reported.

    bouton run workflows/fib25.yaml
    python benchmarks/accuracy.py --run runs/fib25

FIB-25: affinities of the shipped network, the same for all; thresholds chosen on sections 60-119, scores of sections
120-159. gala train: affinities 1 - max(boundary probability of the two voxels), from the classifier of gala's authors;
thresholds chosen on snemi_mini (its boundary probabilities treated alike), because the network was trained on gala
train. waterz and the mutex watershed take part where they are installed (pip install waterz mwatershed).
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import tifffile

from bouton import open_run
from bouton.evaluate.contingency import count_pairs
from bouton.evaluate.partition import adapted_rand, variation_of_information
from bouton.geometry import Box
from bouton.segment.components import relabel
from bouton.segment.contraction import QUANTILE, Rule, contract
from bouton.segment.histograms import contract_histograms, histogram_rows
from bouton.segment.history import cut, merge_rows
from bouton.segment.mutex import MutexRule, mutex_watershed
from bouton.segment.ratios import level
from bouton.segment.region_graph import contract_edges, contract_sizes, fragment_sizes, region_graph
from bouton.segment.whole import WholeParams, merge_history

THRESHOLDS = [round(0.1 + 0.05 * i, 2) for i in range(17)]
BIASES = [0.3, 0.45, 0.6, 0.8]
FLOOR = 0.1
PARAMS = WholeParams(low=0.0, floor=FLOOR, small_affinity=0.05)


@dataclass(frozen=True)
class Case:
    """One data set: uint8 (3, z, y, x) affinities, true labels, and the sections that choose or report."""

    affinities: np.ndarray
    truth: np.ndarray
    sections: slice

    def score(self, labels: np.ndarray) -> tuple[float, float, float]:
        """Return VOI split, VOI merge and adapted Rand error."""
        table = count_pairs(self.truth[self.sections], np.ascontiguousarray(labels[self.sections]))
        voi = variation_of_information(table)
        return voi.split, voi.merge, adapted_rand(table).error


def bouton_mean(affinities: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (threshold, labels) of bouton by mean affinity."""
    yield from _cuts(*merge_history(affinities, PARAMS))


def bouton_quantile(affinities: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (threshold, labels) of bouton by the 75 % quantile."""
    fragments, merges = merge_history(affinities, PARAMS)
    whole = Box.of_shape(fragments.shape)
    small = {name: values[merges["small"] != 0] for name, values in merges.items()}
    moves = cut(small, 1.0)
    edges = contract_edges(region_graph(fragments, affinities, whole), *moves)
    sizes = contract_sizes(fragment_sizes(fragments, whole), *moves)
    counts = contract_histograms(histogram_rows(fragments, affinities, whole), *moves)
    rule = Rule(QUANTILE, level(FLOOR), quantile=0.75)
    done = contract(edges, sizes, np.zeros(len(sizes["id"]), np.bool_), rule, counts)
    rows = merge_rows(done.history, False, FLOOR)
    yield from _cuts(fragments, {name: np.concatenate([small[name], rows[name]]) for name in rows})


def _cuts(fragments: np.ndarray, merges: dict[str, np.ndarray]) -> Iterator[tuple[float, np.ndarray]]:
    for threshold in THRESHOLDS:
        yield threshold, relabel(fragments, *cut(merges, threshold))


def waterz_mean(affinities: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (threshold, labels) of waterz by mean affinity, at bouton's low and high."""
    waterz = importlib.import_module("waterz")
    scoring = "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"
    scaled = affinities.astype(np.float32) / 255
    limits = {"aff_threshold_low": 0.0, "aff_threshold_high": 0.99}
    costs = [1 - threshold for threshold in reversed(THRESHOLDS)]
    for cost, labels in zip(costs, waterz.agglomerate(scaled, costs, scoring_function=scoring, **limits), strict=True):
        yield round(1 - cost, 2), labels.copy()


def mutex(affinities: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (bias, labels) of the mutex watershed; voxels repel at three voxels' distance."""
    box = Box.of_shape(affinities.shape[1:])
    for bias in BIASES:
        yield bias, mutex_watershed(affinities, MutexRule(bias, (3, 3, 3), 0.1), box, box.shape)


METHODS: dict[str, tuple[str, Callable]] = {
    "waterz, mean affinity": ("waterz", waterz_mean),
    "mutex watershed": ("mwatershed", mutex),
    "bouton, mean affinity": ("", bouton_mean),
    "bouton, 75 % quantile": ("", bouton_quantile),
}


def fib25(folder: Path, run: Path) -> tuple[Case, Case, dict[str, np.ndarray]]:
    """Return what chooses, what reports, and published segmentations."""
    with h5py.File(folder / "fib25_ts2" / "volume.h5") as file:
        labels = {
            name: values[...].astype(np.uint64) for name, values in file["volumes/labels"].items() if values.ndim == 3
        }
    affinities = open_run(run).volume("network.affinities")[...]
    truth = labels["neuron_ids"]
    published = {
        "over-segmentation of the data's authors": labels["neuroproof_oversegmentation"],
        "FFN, published": labels["ffn_segmentation"],
    }
    return Case(affinities, truth, slice(60, 120)), Case(affinities, truth, slice(120, 160)), published


def gala(folder: Path) -> tuple[Case, Case, dict[str, np.ndarray]]:
    """Return what chooses (snemi_mini), what reports (gala train), and the authors' watershed."""
    with h5py.File(folder / "fib25_gala" / "train.h5") as file:
        boundary = file["volumes/boundary_probability"][...]
        truth = file["volumes/labels/neuron_ids"][...].astype(np.uint64)
        watershed = file["volumes/labels/watershed"][...].astype(np.uint64)
    snemi = folder / "snemi_mini"
    # dark is membrane there
    other = 1 - tifffile.imread(snemi / "train-probabilities.tif").astype(np.float32) / 255
    other_truth = tifffile.imread(snemi / "train-labels.tif").astype(np.uint64)
    everything = slice(None)
    chooses = Case(affinities_of(other), other_truth, everything)
    return chooses, Case(affinities_of(boundary), truth, everything), {"watershed of the data's authors": watershed}


def affinities_of(boundary: np.ndarray) -> np.ndarray:
    """Return uint8 (3, z, y, x): 1 - the greater boundary probability of the two voxels."""
    inside = np.clip(1 - boundary, 0, 1)
    affinities = np.zeros((3, *inside.shape), np.uint8)
    for axis in range(3):
        upper = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        lower = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        affinities[axis][upper] = np.rint(255 * np.minimum(inside[upper], inside[lower]))
    return affinities


def best_threshold(method: Callable, chooses: Case) -> float:
    """Return the threshold of least VOI; of several the greatest."""
    return min((sum(chooses.score(labels)[:2]), -t) for t, labels in method(chooses.affinities))[1] * -1


def compare(name: str, chooses: Case, reports: Case, published: dict[str, np.ndarray]) -> None:
    """Print a row a segmentation."""
    print(f"\n{name}\n{'':42} threshold  VOI split + merge = sum       ARE")
    for label, segmentation in published.items():
        _row(label, "", reports.score(segmentation))
    for label, (package, method) in METHODS.items():
        if package and importlib.util.find_spec(package) is None:
            print(f"{label:42} absent: pip install {package}")
            continue
        chosen = best_threshold(method, chooses)
        labels = next(labels for threshold, labels in method(reports.affinities) if threshold == chosen)
        _row(label, f"{chosen:.2f}", reports.score(labels))


def _row(label: str, threshold: str, scores: tuple[float, float, float]) -> None:
    split, merge, error = scores
    print(f"{label:42} {threshold:>9}  {split:9.3f} + {merge:.3f} = {split + merge:.3f}  {error:.4f}", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/fib25"), help="run folder of workflows/fib25.yaml")
    options = parser.parse_args()
    folder = Path(os.environ.get("BOUTON_DATA", Path(__file__).parents[2] / "shared" / "data"))
    compare("FIB-25, sections 120-159 (chosen on 60-119)", *fib25(folder, options.run))
    compare("gala train (chosen on snemi_mini)", *gala(folder))


if __name__ == "__main__":
    main()
