"""Partners: speed of synapse_sides and of choosing the partners of a million clefts anew, and scores on fresh phantoms.

    python benchmarks/synapses_partners.py [--phantoms]

The million: clefts with six fragments beside each and nine contacts among them, evidence mostly on two of them, a merge
history over the fragments; from Parquet to Parquet. The phantoms (seeds 31 and 35, which nothing was chosen on) run the
demo's workflow; minutes each.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import bouton
from bouton.geometry import Box
from bouton.phantom import PhantomParams, generate
from bouton.segment.history import BY_MEAN, MERGE_COLUMNS
from bouton.spec import load_workflow
from bouton.stage import WholeTask
from bouton.stages import synapses
from bouton.synapse.ownership import owned
from bouton.synapse.points import nearest_voxels
from bouton.synapse.sums import Evidence, Place, cleft_sums, side_sums, touching_sums
from bouton.volume.tables import read_table, write_table

SIZE = (30.0, 10.0, 10.0)
SHAPE = (4_000, 20_000, 20_000)
DEMO = Path(__file__).parents[1] / "workflows" / "demo.yaml"
Row = tuple[str, str, str]


def million(n: int = 1_000_000, seed: int = 5) -> dict[str, dict[str, np.ndarray]]:
    """Return the tables that synapse_sides would write of ``n`` clefts, in no particular order, and a merge history."""
    rng = np.random.default_rng(seed)
    sides, pairs, fragments = 6, 9, 2 * n
    ids = np.sort(rng.choice(np.arange(1, 50 * n), n, replace=False).astype(np.uint64) * np.uint64(20_011))
    order = np.concatenate(list(reversed(np.array_split(np.arange(n), 64))))
    ids = ids[order]
    segment = np.sort(rng.integers(1, fragments, (n, sides)), axis=1).astype(np.uint64) * np.uint64(997)
    segment += np.arange(sides, dtype=np.uint64)  # different ones
    voxels = rng.integers(100, 4000, (n, sides))
    pre, post = rng.integers(0, 3, (n, sides)) * voxels, rng.integers(0, 3, (n, sides)) * voxels
    first, second = rng.integers(0, sides, n), rng.integers(1, sides, n)
    rows = np.arange(n)
    pre[rows, first] = 180 * voxels[rows, first]
    post[rows, (first + second) % sides] = 190 * voxels[rows, (first + second) % sides]
    table = {"id": np.repeat(ids, sides), "segment": segment.ravel(), "voxels": voxels.ravel()}
    at = [rng.integers(0, size, n)[:, None] * voxels for size in SHAPE]
    table |= {axis: values.ravel() for axis, values in zip("zyx", at, strict=True)}
    table |= {"pre": pre.ravel(), "post": post.ravel()}
    table["point"] = np.repeat(rng.integers(1, int(np.prod(SHAPE)), n).astype(np.uint64), sides)
    a, b = (np.array(side) for side in zip(*[(i, j) for i in range(6) for j in range(i + 1, 6)], strict=True))
    some = np.argsort(rng.random((n, len(a))), axis=1)[:, :pairs]
    touching = {"id": np.repeat(ids, pairs)}
    touching |= {"a": segment[rows[:, None], a[some]].ravel(), "b": segment[rows[:, None], b[some]].ravel()}
    touching |= {f"faces_{axis}": rng.integers(0, 200, n * pairs) for axis in "zyx"}
    sums = {"id": ids, "voxels": rng.integers(200, 2000, n)}
    sums |= {axis: rng.integers(0, size, n) * sums["voxels"] for axis, size in zip("zyx", SHAPE, strict=True)}
    sums |= {"cleft": 200 * sums["voxels"], "excitatory": rng.integers(0, 256, n) * sums["voxels"]}
    return {"sides": table, "touching": touching, "cleft_sums": sums, "merges": _merges(rng, np.unique(segment))}


def _merges(rng: np.random.Generator, segment: np.ndarray) -> dict[str, np.ndarray]:
    """Return a history that joins runs of eight fragments, each to its run's smallest."""
    member = np.flatnonzero(np.arange(segment.size) % 8)
    rows = {name: np.zeros(member.size, dtype=dtype) for name, dtype in MERGE_COLUMNS.items()}
    rows["a"], rows["b"] = segment[member // 8 * 8], segment[member]
    rows["affinity_count"], rows["score"] = np.ones(member.size, np.int64), rng.random(member.size)
    rows["affinity_quantile"][:], rows["affinity_sum"] = BY_MEAN, (rows["score"] * 255).astype(np.int64)
    return rows


def again(folder: Path) -> tuple[float, float]:
    """Choose the partners of a million clefts, from Parquet to Parquet; return CPU seconds and GiB at the peak."""
    columns = {name: dict(table.columns) for name, table in synapses.STAGE.reads.items()}
    for name, table in million().items():
        write_table(folder / f"{name}.parquet", table, columns[name])
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_timed, folder, columns).result()


def _timed(folder: Path, columns: dict[str, dict[str, str]]) -> tuple[float, float]:
    _choose(folder, columns)  # compiles
    begin = time.process_time()
    _choose(folder, columns)
    return time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _choose(folder: Path, columns: dict[str, dict[str, str]]) -> None:
    def table(name: str, over: Box | None = None) -> dict[str, np.ndarray]:
        return read_table(folder / f"{name}.parquet")

    params, bounds = synapses.Params(threshold=0.4, merge_nm=200.0), Box.of_shape(SHAPE)
    task = WholeTask(params, bounds, SHAPE, SIZE, {}, table, given=frozenset(columns))
    part = synapses.STAGE.parts[0]
    for name, rows in part.run(task).tables.items():
        write_table(folder / f"out-{name}.parquet", rows, dict(part.tables[name].columns))


def sides_speed() -> float:
    """Return Mvoxel/s of all kernels of synapse_sides over a phantom of 96 x 384 x 384, both passes."""
    box = Box.of_shape((96, 384, 384))
    made = generate(box, PhantomParams(seed=11, voxel_size_nm=SIZE))
    clefts, neurons = made.clefts.astype(np.uint64), made.neuron_ids.astype(np.uint64)
    evidence = Evidence(*np.random.default_rng(0).integers(0, 256, (4, *box.shape)).astype(np.uint8))
    best = np.inf
    for _ in range(4):
        begin = time.process_time()
        near = owned(clefts, box, 100.0, SIZE)
        cleft_sums(clefts, evidence, (0, 0, 0))
        sides = side_sums(near, neurons, evidence, Place((0, 0, 0), (0, 0, 0)))
        touching_sums(near, neurons, (0, 0, 0))
        nearest_voxels(owned(clefts, box, 100.0, SIZE), neurons, sides, (0, 0, 0), (box.shape, SIZE))
        best = min(best, time.process_time() - begin)
    return box.voxels / best / 1e6


def phantom_scores(seed: int, folder: Path) -> dict[str, float]:
    """Run the demo's workflow on another phantom; return the scores of its synapses."""
    flow = folder / f"seed{seed}.yaml"
    flow.write_text(DEMO.read_text().replace("seed: 7}", f"seed: {seed}}}").replace("name: demo", f"name: seed{seed}"))
    done = bouton.run_workflow(load_workflow(flow), folder / "runs", "serial")
    scores = bouton.open_run(done.folder).table("synapse_scores.scores")
    return dict(zip(scores["metric"].tolist(), scores["value"].tolist(), strict=True))


def rows(phantoms: bool = False) -> list[Row]:
    """Return what was measured, the target, the value."""
    found = [("synapse_sides, all kernels, one core", ">= 40 Mvoxel/s", f"{sides_speed():.0f} Mvoxel/s")]
    with tempfile.TemporaryDirectory() as name:
        seconds, memory = again(Path(name))
        found.append(("1,000,000 clefts assigned anew, Parquet to Parquet", "<= 10 s", f"{seconds:.1f} s CPU"))
        found.append(("  memory of its process at the peak", "", f"{memory:.1f} GiB"))
        for seed in (31, 35) if phantoms else ():
            scores = phantom_scores(seed, Path(name))
            for metric, target in _PHANTOM.items():
                found.append((f"phantom seed {seed}: {metric}", target, f"{scores[metric]:.3f}"))
    return found


_PHANTOM = {
    "synapse_partners_f1": ">= 0.90", "polarity_right": ">= 0.97", "type_right": ">= 0.93",
}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", action="store_true")
    for what, target, measured in rows(parser.parse_args().phantoms):
        print(f"{what:55s} {target:16s} {measured}")
