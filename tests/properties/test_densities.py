"""Densities by the real engine: blocks, workers, order and kills change nothing, to the bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import bouton
from bouton.geometry import Box
from bouton.spec import Choices, load_workflow
from bouton.volume.ome_zarr import create_volume
from bouton.volume.tables import write_table
from engine.shuffled import Shuffled

SHAPE, SIZE = (40, 64, 90), (45.0, 20.0, 20.0)
FLOW = """\
name: densities
block_zyx: [40, 64, 90]
data:
  labels: {path: labels.zarr}
  mask: {path: mask.zarr}
  tissue: {path: tissue.zarr}
  synapses: {path: synapses.parquet}
steps:
  points:
    stage: densities
    reads: {synapses: synapses, mask: mask, tissue: tissue}
    params: {block_um: [0.4, 0.3, 0.33], exclusion_nm: 95.0}
  labelled:
    stage: densities
    reads: {labels: labels, mask: mask, tissue: tissue}
    params: {block_um: [0.4, 0.3, 0.33], exclusion_nm: 95.0}
  published:
    stage: densities
    reads: {labels: labels, mask: mask}
    params: {rule: neurodata-2016, block_um: [0.4, 0.3, 0.33], pad_um: [0.1, 0.1, 0.05]}
"""
OUTPUTS = ["points.densities", "points.tissues", "labelled.densities", "labelled.tissues", "published.densities"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the workflow and its data."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(4)
    labels, mask = np.zeros(SHAPE, np.uint64), np.zeros(SHAPE, np.uint8)
    for each in range(1, 900):
        at = [rng.integers(0, n) for n in SHAPE]
        labels[tuple(slice(a, a + rng.integers(1, 6)) for a in at)] = each
    for _ in range(30):
        at = [rng.integers(0, n) for n in SHAPE]
        mask[tuple(slice(a, a + rng.integers(1, 12)) for a in at)] = 1
    tissue = np.kron(rng.integers(0, 3, (5, 4, 3)).astype(np.uint8), np.ones((8, 16, 30), np.uint8))
    for name, array in {"labels": labels, "mask": mask, "tissue": tissue}.items():
        volume = create_volume(
            folder / f"{name}.zarr", shape_zyx=SHAPE, dtype=str(array.dtype), voxel_size_nm=SIZE, block_zyx=SHAPE,
            kind="mask" if name == "mask" else "labels",
        )  # fmt: skip
        volume.write(Box.of_shape(SHAPE), array)
    places = rng.random((2000, 3)) * SHAPE * SIZE
    columns = {f"{axis}_nm": places[:, i] for i, axis in enumerate("zyx")}
    write_table(folder / "synapses.parquet", columns, dict.fromkeys(columns, "float64"))
    (folder / "flow.yaml").write_text(FLOW)
    return folder


def tables(run: Path) -> dict[str, dict[str, list]]:
    opened = bouton.open_run(run)
    return {name: {c: np.asarray(v).astype(str).tolist() for c, v in opened.table(name).items()} for name in OUTPUTS}


@pytest.fixture(scope="module")
def reference(folder: Path) -> dict[str, dict[str, list]]:
    run = bouton.run_workflow(load_workflow(folder / "flow.yaml"), folder / "alone", "serial")
    run.raise_if_failed()
    found = tables(run.folder)
    for name in ("points", "labelled", "published"):
        assert sum(map(int, found[f"{name}.densities"]["synapses"])) > 0
    return found


@pytest.mark.parametrize(("block", "workers"), [((13, 23, 31), 2), ((40, 17, 64), 1)], ids=str)
def test_blocks_and_workers_change_nothing(block, workers, folder, reference, tmp_path: Path) -> None:
    flow = load_workflow(folder / "flow.yaml", Choices(block=block))
    run = bouton.run_workflow(flow, tmp_path, "processes", workers)
    run.raise_if_failed()
    assert tables(run.folder) == reference


def test_the_order_of_completion_changes_nothing(folder, reference, tmp_path: Path) -> None:
    run = bouton.run_workflow(load_workflow(folder / "flow.yaml", Choices(block=(11, 30, 20))), tmp_path, Shuffled(3))
    run.raise_if_failed()
    assert tables(run.folder) == reference


@pytest.mark.slow
def test_kills_change_nothing(folder, reference, tmp_path: Path) -> None:
    """SIGKILL the run five times at random instants; each time, the same command goes on."""
    command = [sys.executable, "-m", "bouton", "run", str(folder / "flow.yaml"), "--runs", str(tmp_path)]
    command += ["--block-zyx", "13,23,31", "--workers", "2"]
    chance, kills = random.Random(7), 0
    while True:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        if kills < 5:
            time.sleep(chance.uniform(1, 8))
            kills += process.poll() is None
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=600)
        if process.returncode == 0:
            break
    assert tables(tmp_path / "densities") == reference
