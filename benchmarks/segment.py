"""Speed of fragments, region graph, agglomeration and relabelling on synthetic affinities, one core.

    python benchmarks/segment.py [--side 256] [--repeats 3]

Prints voxels per CPU second of each part, the share of what memory alone would allow (the bytes a part must read and
write at the measured copy speed) and the ratio to waterz at equal thresholds, where it is installed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from bouton.geometry import Box
from bouton.segment.basins import fragments_of
from bouton.segment.components import relabel
from bouton.segment.contraction import MAXIMUM, MEAN, Rule, contract
from bouton.segment.history import cut, merge_rows
from bouton.segment.ratios import level
from bouton.segment.region_graph import contract_edges, contract_sizes, fragment_sizes, region_graph

LOW, HIGH, FLOOR, THRESHOLD = 0.1, 0.99, 0.2, 0.5


def tissue_affinities(side: int, seed: int = 0) -> np.ndarray:
    """Return uint8 (3, z, y, x) affinities of a Voronoi tissue: weak near borders, with smooth noise at two scales."""
    rng = np.random.default_rng(seed)
    cells = rng.random((max(2, side**3 // 12000), 3)) * side
    grid = np.moveaxis(np.indices((side,) * 3, dtype=np.float32), 0, -1).reshape(-1, 3)
    labels = cKDTree(cells).query(grid)[1].reshape((side,) * 3).astype(np.int32)
    border = np.zeros(labels.shape, np.bool_)
    for axis in range(3):
        border |= np.diff(labels, axis=axis, prepend=np.take(labels, [0], axis)) != 0
    distance = np.minimum(ndimage.distance_transform_edt(~border) * 10, 80)
    score = (distance - 24) / 10 + sum(_noise(rng, labels.shape, sigma) for sigma in (1.2, 5.0))
    affinities = np.zeros((3, *labels.shape), np.uint8)
    for c in range(3):
        lower = np.roll(score, 1, axis=c)
        same = np.roll(labels, 1, axis=c) == labels
        affinities[c] = np.round(255 / (1 + np.exp(-(np.minimum(score, lower) + np.where(same, 2, -2)))))
    return affinities


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    return noise / noise.std()


def best_time(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the shortest CPU time in seconds of ``repeats`` runs, after one that compiles, and the last result."""
    result, times = function(), []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return min(times), result


def copy_bytes_per_s() -> float:
    """Return the bytes per second, read and written, of a large array copy."""
    source = np.ones(1 << 25, np.uint64)
    target = np.empty_like(source)
    return 2 * source.nbytes / best_time(lambda: np.copyto(target, source), 5)[0]


def agglomerate(edges: dict, sizes: dict) -> dict:
    """Merge small segments, then by mean affinity; return the merge history."""
    free = np.zeros(len(sizes["id"]), np.bool_)
    small = contract(edges, sizes, free, Rule(MAXIMUM, level(0.3), 100))
    pairs = cut(merge_rows(small.history, True, FLOOR), 1.0)
    edges, sizes = contract_edges(edges, *pairs), contract_sizes(sizes, *pairs)
    done = contract(edges, sizes, np.zeros(len(sizes["id"]), np.bool_), Rule(MEAN, level(FLOOR)))
    rows = [merge_rows(small.history, True, FLOOR), merge_rows(done.history, False, FLOOR)]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    affinities, n = tissue_affinities(options.side), options.side**3
    whole, memory = Box.of_shape((options.side,) * 3), copy_bytes_per_s()
    print(f"{options.side}^3 voxels, one core; copying memory: {memory / 1e9:.1f} GB/s")
    # bytes per voxel that a part must at least read and write
    seconds, labels = _part("fragments", lambda: fragments_of(affinities, LOW, HIGH), 11, n, memory, options.repeats)
    total = seconds
    seconds, edges = _part(
        "region graph", lambda: region_graph(labels, affinities, whole), 11, n, memory, options.repeats
    )
    total += seconds
    seconds, sizes = _part("fragment sizes", lambda: fragment_sizes(labels, whole), 8, n, memory, options.repeats)
    total += seconds
    seconds, merges = best_time(lambda: agglomerate(edges, sizes), options.repeats)
    total += seconds
    counts = f"{len(sizes['id'])} fragments, {len(edges['a'])} edges, {len(merges['a'])} merges"
    rate = f"{len(edges['a']) / seconds / 1e6:8.2f} Medges/s"
    print(f"{'agglomeration':16}{n / seconds / 1e6:8.1f} Mvoxel/s {rate}  {counts}")
    pairs = cut(merges, THRESHOLD)
    seconds, segments = _part("relabel", lambda: relabel(labels, *pairs), 16, n, memory, options.repeats)
    total += seconds
    print(f"{'end to end':16}{n / total / 1e6:8.1f} Mvoxel/s  {len(np.unique(segments)) - 1} segments")
    _peer(affinities, n, total)


def _part(name: str, function: Callable[[], Any], size: int, n: int, memory: float, repeats: int) -> tuple[float, Any]:
    seconds, result = best_time(function, repeats)
    share = size * n / memory / seconds
    print(f"{name:16}{n / seconds / 1e6:8.1f} Mvoxel/s {100 * share:8.1f} % of the memory limit ({size} bytes/voxel)")
    return seconds, result


def _peer(affinities: np.ndarray, n: int, own_seconds: float) -> None:
    if importlib.util.find_spec("waterz") is None:
        print("waterz: absent, no ratio (pip install waterz)")
        return
    waterz = importlib.import_module("waterz")
    scaled = affinities.astype(np.float32) / 255
    scoring = "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>"
    start = time.process_time()
    for _ in waterz.agglomerate(
        scaled, [1 - THRESHOLD], aff_threshold_low=LOW, aff_threshold_high=HIGH, scoring_function=scoring
    ):
        seconds = time.process_time() - start
    print(f"waterz: {n / seconds / 1e6:.1f} Mvoxel/s end to end; bouton is {seconds / own_seconds:.2f} times as fast")


if __name__ == "__main__":
    main()
