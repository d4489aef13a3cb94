"""Speed and memory of stage ``clefts`` on one core, beside scipy.ndimage and cc3d on the same evidence.

    python benchmarks/synapses_objects.py [--side 384] [--repeats 5] [--rows 10000000]

The evidence is noise below the threshold with discs of 320 nm at random angles, 0.8 % of the voxels; 30 x 10 x 10 nm.
``objects`` is all that the stage's functions do in blocks of 256^3: labels, sums, borders, joining, judging, painting.
The limit beside it is what looking at every byte of the evidence twice and writing 8 bytes a voxel takes. Every time is
the median of CPU seconds. The peers get the same threshold and rules, and return the same labels up to their numbers:
the number of clefts and of their voxels is compared. cc3d is measured where it can be imported (pip install
connected-components-3d; it is no part of bouton).
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from bouton.geometry import Box, Grid
from bouton.synapse.clefts import FOUND_COLUMNS, KEPT, PRESETS, Rules, candidates, cleft_runs, removed
from bouton.synapse.objects import Node, join_children, merge_parts
from bouton.synapse.runs import Runs, border_voxels, paint, reach_of, sum_parts

SIZE = (30.0, 10.0, 10.0)
BLOCK = (256, 256, 256)
RULES = PRESETS["bouton"]
Row = tuple[str, str, str]


def discs(side: int, density: float = 0.008) -> np.ndarray:
    """Return evidence, uint8 (side / 2, side, side)."""
    rng, shape = np.random.default_rng(5), (side // 2, side, side)
    evidence = rng.integers(0, 90, shape, np.uint8)
    offsets = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in (6, 18, 18)), indexing="ij"), -1).reshape(-1, 3)
    filled = 0
    while filled < density * evidence.size:
        axis = rng.normal(size=3)
        nm = offsets * SIZE
        across = np.abs(nm @ (axis / np.linalg.norm(axis)))
        inside = offsets[(across <= 15) & ((nm**2).sum(1) <= 160**2)] + rng.integers(0, shape)
        z, y, x = inside[((inside >= 0) & (inside < shape)).all(1)].transpose()
        evidence[z, y, x] = rng.integers(130, 256, len(z), np.uint8)
        filled += len(z)
    return evidence


def objects(evidence: np.ndarray, rules: Rules = RULES) -> tuple[list[np.ndarray], int]:
    """Do what the stage does, block by block; return the labels of the blocks and the number of clefts."""
    bounds, shape, lowest = Box.of_shape(evidence.shape), evidence.shape, rules.lowest
    cores = [Grid(bounds, BLOCK).core(index) for index in Grid(bounds, BLOCK)]
    parts, borders = [], []
    for core in cores:
        values, runs = _runs(evidence, core, rules)
        parts.append(sum_parts(runs, values, lowest, core, shape))
        borders.append(border_voxels(runs, reach_of(rules.links), core, bounds, shape))
    done, _, _ = join_children(parts, borders, Node(bounds, bounds, shape, rules.links))
    whole = merge_parts(done)
    rule = removed(whole, rules, SIZE)
    clefts = np.where(rule == KEPT, whole["first"], np.uint64(0))
    order = np.argsort(done["component"])
    component, final = done["component"][order], clefts[np.searchsorted(whole["root"], done["root"][order])]
    painted = []
    for core in cores:
        values, runs = _runs(evidence, core, rules)
        painted.append(paint(runs, final[np.searchsorted(component, runs.labels)], values, lowest))
    return painted, int((rule == KEPT).sum())


def _whole(painted: list[np.ndarray], shape: tuple[int, int, int]) -> np.ndarray:
    grid, labels = Grid(Box.of_shape(shape), BLOCK), np.empty(shape, np.uint64)
    for index, block in zip(grid, painted, strict=True):
        labels[grid.core(index).slices] = block
    return labels


def _runs(evidence: np.ndarray, core: Box, rules: Rules) -> tuple[np.ndarray, Runs]:
    # The engine hands every task an array of its own.
    values = np.ascontiguousarray(evidence[core.slices])
    return values, cleft_runs(values, core, core, rules, SIZE, evidence.shape)


def with_scipy(evidence: np.ndarray) -> tuple[np.ndarray, int]:
    """Label, judge and relabel with scipy.ndimage."""
    return _judge(*ndimage.label(evidence >= RULES.lowest), evidence)


def with_cc3d(evidence: np.ndarray) -> tuple[np.ndarray, int]:
    """Label with cc3d; judge and relabel with numpy."""
    import cc3d

    return _judge(*cc3d.connected_components(evidence >= RULES.lowest, connectivity=6, return_N=True), evidence)


def _judge(labels: np.ndarray, count: int, evidence: np.ndarray) -> tuple[np.ndarray, int]:
    inside = np.flatnonzero(labels)
    label = labels.ravel()[inside]
    peak = np.zeros(count + 1, np.uint8)
    np.maximum.at(peak, label, evidence.ravel()[inside])
    size = np.bincount(label, minlength=count + 1)
    keep = (peak >= RULES.high * 255) & (size * np.prod(SIZE) >= RULES.min_volume_nm3)
    ids = np.where(keep, np.arange(count + 1), 0).astype(np.uint64)
    return ids[labels], int(keep.sum())


def limit(evidence: np.ndarray) -> float:
    """Return the seconds of looking at every byte twice and writing 8 bytes a voxel."""
    start = time.process_time()
    evidence.max(), evidence.max()
    np.full(evidence.shape, 1, np.uint64)
    return time.process_time() - start


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median CPU seconds; the first run compiles and does not count."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def speed_rows(side: int, repeats: int) -> list[Row]:
    """Measure objects, the limit and the peers."""
    evidence = discs(side)
    painted, count = objects(evidence)
    labels = _whole(painted, evidence.shape)
    mega, share = evidence.size / 1e6, (labels > 0).mean()
    ours = mega / seconds(lambda: objects(evidence), repeats)
    most = mega / statistics.median(limit(evidence) for _ in range(repeats))
    what = f"objects, {mega:.0f} Mvoxel, {share:.2%} cleft, {count} clefts"
    rows = [(what, ">= 60 Mvoxel/s", f"{ours:.0f} Mvoxel/s ({ours / most:.0%} of the limit {most:.0f})")]
    peers = {"scipy.ndimage": with_scipy} | ({"cc3d": with_cc3d} if importlib.util.find_spec("cc3d") else {})
    for name, peer in peers.items():
        other, found = peer(evidence)
        same = found == count and np.array_equal(other > 0, labels > 0)
        rate = mega / seconds(lambda peer=peer: peer(evidence), repeats)
        rows.append((f"objects against {name}", "faster", f"{ours / rate:.1f} x ({rate:.0f} Mvoxel/s), same: {same}"))
    for name, rules in {
        "gap_nm 60": Rules(gap_nm=60.0),
        "gap_sections 2": Rules(gap_sections=2),
        "connectivity 26": Rules(connectivity=26),
    }.items():
        rate = mega / seconds(lambda rules=rules: objects(evidence, rules), max(1, repeats // 2))
        rows.append((f"objects, {name}", "", f"{rate:.0f} Mvoxel/s"))
    return rows


def memory_row(count: int) -> Row:
    """Measure the one part that holds all candidates."""
    rng = np.random.default_rng(1)
    found = {name: rng.integers(1, 2**40, count).astype(dtype) for name, dtype in FOUND_COLUMNS.items()}
    found["rule"] %= 5
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    candidates(found, SIZE)
    took, grown = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    held = sum(values.nbytes for values in found.values()) + grown * 1024
    return f"list of {count / 1e6:g} M candidates", "", f"{took:.1f} s, {held / count:.0f} bytes a row, input included"


def rows(side: int = 384, repeats: int = 5, candidate_rows: int = 10_000_000) -> list[Row]:
    """Return what was measured: what, target, figure."""
    return [memory_row(candidate_rows), *speed_rows(side, repeats)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=10_000_000)
    given = parser.parse_args()
    for what, target, measured in rows(given.side, given.repeats, given.rows):
        print(f"{what:55} {target:16} {measured}")


if __name__ == "__main__":
    main()
