"""Scores of the agglomeration and its alternatives, and of bridged gaps, on sections of real tissue.

    bouton run workflows/fib25.yaml --until network
    python benchmarks/alternatives.py runs/fib25 TRUTH.h5:DATASET --sections 60:120 --choose
    python benchmarks/alternatives.py runs/fib25 TRUTH.h5:DATASET --sections 120:160
    python benchmarks/alternatives.py runs/fib25 TRUTH.h5:DATASET --sections 60:120 --gaps

Every segmentation is made of the given sections alone. ``--choose`` goes over a grid of parameters; without it, those
are used that had the least VOI on sections 60-119 (``CHOSEN``). ``--gaps`` blanks runs of sections in three places
and scores the others. Prints VOI split, merge, sum, adapted Rand error, segments, CPU seconds.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator

import numpy as np

from bouton import open_run
from bouton.evaluate.contingency import count_pairs
from bouton.evaluate.partition import adapted_rand, variation_of_information
from bouton.geometry import Box
from bouton.segment.basins import Thresholds, fragments_of
from bouton.segment.components import join, relabel
from bouton.segment.contraction import MAXIMUM, MEAN, Rule, contract
from bouton.segment.history import MERGE_COLUMNS, cut, join_histories, merge_rows
from bouton.segment.masks import Bridge
from bouton.segment.multicut import multicut
from bouton.segment.mutex import MutexRule, mutex_watershed
from bouton.segment.ratios import level
from bouton.segment.region_graph import contract_edges, contract_sizes, fragment_sizes, region_graph
from bouton.volume import open_volume

FLOOR, SMALL_VOXELS, SMALL_AFFINITY = 0.1, 100, 0.05
CHOSEN = {"agglomeration": [0.2], "multicut": [0.14], "mutex": [(0.45, 3)], "mutex + agglomeration": [(0.8, 3, 0.2)]}
GRID = {
    "agglomeration": [0.1, 0.15, 0.2, 0.3, 0.5],
    "multicut": [0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.3, 0.5],
    "mutex": list(itertools.product([0.4, 0.45, 0.5, 0.55, 0.6, 0.8], [0, 2, 3, 4, 5])),
    "mutex + agglomeration": list(itertools.product([0.5, 0.8], [3, 5], [0.1, 0.15, 0.2, 0.3, 0.5])),
}
GAPS_AT = (10, 30, 45)


def agglomerate(affinities: np.ndarray, fragments: np.ndarray, threshold: float) -> np.ndarray:
    """Return the fragments merged as the stages agglomeration and segmentation merge them."""
    whole = Box.of_shape(fragments.shape)
    edges, sizes = region_graph(fragments, affinities, whole), fragment_sizes(fragments, whole)
    free = np.zeros(len(sizes["id"]), np.bool_)
    small = contract(edges, sizes, free, Rule(MAXIMUM, level(SMALL_AFFINITY), SMALL_VOXELS)).history
    moves = join(small["a"], small["b"])
    edges, sizes = contract_edges(edges, *moves), contract_sizes(sizes, *moves)
    large = contract(edges, sizes, np.zeros(len(sizes["id"]), np.bool_), Rule(MEAN, level(FLOOR))).history
    rows = [merge_rows(small, True, FLOOR), merge_rows(large, False, FLOOR)]
    return relabel(fragments, *cut(join_histories(rows, MERGE_COLUMNS), threshold))


def mutex(affinities: np.ndarray, bias: float, reach: int) -> np.ndarray:
    """Return the mutex watershed, every voxel with an edge above 0 in a segment."""
    box = Box.of_shape(affinities.shape[1:])
    return mutex_watershed(affinities, MutexRule(bias, (reach, reach, reach), 0.0), box, box.shape)


def segmentations(affinities: np.ndarray, params: dict[str, list]) -> Iterator[tuple[str, object, np.ndarray, float]]:
    """Yield method, parameters, segmentation and CPU seconds."""
    fragments = fragments_of(affinities, Thresholds(0.0, 0.99))
    graph = region_graph(fragments, affinities, Box.of_shape(fragments.shape))
    methods = {
        "agglomeration": lambda threshold: agglomerate(affinities, fragments, threshold),
        "multicut": lambda boundary: relabel(fragments, *multicut(graph, boundary, 10)),
        "mutex": lambda chosen: mutex(affinities, *chosen),
        "mutex + agglomeration": lambda chosen: agglomerate(affinities, mutex(affinities, *chosen[:2]), chosen[2]),
    }
    for name, values in params.items():
        for value in values:
            started = time.process_time()
            labels = methods[name](value)
            yield name, value, labels, time.process_time() - started


def show(name: str, truth: np.ndarray, labels: np.ndarray, seconds: float) -> None:
    """Print a row."""
    table = count_pairs(truth, labels)
    voi, rand = variation_of_information(table), adapted_rand(table)
    parts = f"{voi.split:.3f} {voi.merge:.3f} {voi.total:.3f} {rand.error:.3f}"
    print(f"{name:44} {parts} {len(np.unique(labels)):8} {seconds:6.1f} s", flush=True)


def gaps(affinities: np.ndarray, truth: np.ndarray) -> None:
    """Blank runs of sections, and score the others: as they are, blank, and bridged."""
    for length in (1, 2, 3, 5, 8):
        gap = sorted({z + i for z in GAPS_AT for i in range(length)})
        kept = np.array([z not in gap for z in range(affinities.shape[1])])
        blank, bridged = affinities.copy(), affinities.copy()
        blank[:, gap] = 0
        blank[0, [z + 1 for z in gap]] = 0
        bridge = Bridge(frozenset(gap), 0, affinities.shape[1])
        for z in range(affinities.shape[1]):
            bridged[1:, z], bridged[0, z] = blank[1:, bridge.section(z)], blank[0, bridge.edge(z)]
        for name, volume in (("imaged", affinities), ("blank", blank), ("bridged", bridged)):
            started = time.process_time()
            labels = agglomerate(volume, fragments_of(volume, Thresholds(0.0, 0.99)), CHOSEN["agglomeration"][0])
            show(f"{length} sections {name}", truth[kept], labels[kept], time.process_time() - started)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("truth", help="file:dataset")
    parser.add_argument("--sections", default="120:160")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--gaps", action="store_true")
    args = parser.parse_args()
    file, _, dataset = args.truth.partition(":")
    start, stop = (int(z) for z in args.sections.split(":"))
    labels = open_volume(file, dataset or None, voxel_size_nm=(10, 10, 10))
    box = Box((start, 0, 0), (stop, *labels.box.stop[1:]))
    truth, affinities = labels.read(box), np.ascontiguousarray(open_run(args.run).volume("network").read(box))
    print(f"{'method':44} split merge sum are segments CPU")
    if args.gaps:
        gaps(affinities, truth)
        return
    for name, value, found, seconds in segmentations(affinities, GRID if args.choose else CHOSEN):
        show(f"{name} {value}", truth, found, seconds)


if __name__ == "__main__":
    main()
