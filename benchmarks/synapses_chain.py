"""Objects, contacts and partners in one run of the engine: one process, given probabilities and a segmentation.

    python benchmarks/synapses_chain.py [--copies 2]

A phantom of 96 x 384 x 384 voxels (30 x 10 x 10 nm) is made once; its true neurons are the segmentation, its true
clefts and their two sides, with noise, the evidence. Copies of it stand side by side, with ids of their own. Measured
are the CPU seconds of the engine, storage (zarr, zstd) included, after a small run that compiles. Beside it stands what
copying the inputs once through memory takes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from bouton import load_workflow, open_run
from bouton.engine import run_workflow
from bouton.geometry import Box, Grid
from bouton.learn.targets import SynapseTruth, synapse_classes
from bouton.phantom import PhantomParams, generate
from bouton.spec import Choices
from bouton.volume import create_volume

SIZE = (30.0, 10.0, 10.0)
SHAPE = (96, 384, 384)
BLOCK = (96, 192, 192)
FLOW = """
name: chain
data:
  evidence: {{path: evidence.zarr}}
  segmentation: {{path: segmentation.zarr}}
block_zyx: [96, 192, 192]
steps:
  clefts:   {{stage: clefts, reads: {{synapse_evidence: evidence}}}}
  contacts: {{stage: contacts, reads: {{segmentation: segmentation}}, params: {{patches: {patches}}}}}
  sides:    {{stage: synapse_sides, reads: {{clefts: clefts, segmentation: segmentation, synapse_evidence: evidence}}}}
  synapses: {{stage: synapses, reads: {{sides: sides.sides, cleft_sums: sides.cleft_sums, touching: sides.touching}}}}
"""
Row = tuple[str, str, str]


def phantom(seed: int = 41) -> tuple[np.ndarray, np.ndarray]:
    """Return evidence, uint8 (4, z, y, x), and segmentation, uint64 (z, y, x)."""
    made = generate(Box.of_shape(SHAPE), PhantomParams(seed=seed, voxel_size_nm=SIZE))
    table = made.synapses
    truth = SynapseTruth(table["id"], table["pre_id"], table["post_id"], table["type"] == "excitatory")
    bits = synapse_classes(made.clefts, made.neuron_ids, truth, 80.0, SIZE)
    rng = np.random.default_rng(seed)
    evidence = np.stack([(bits >> bit & 1) * np.uint8(200) for bit in range(4)])
    evidence += rng.integers(0, 40, evidence.shape, np.uint8)
    _, small = np.unique(made.neuron_ids, return_inverse=True)
    return evidence, small.reshape(SHAPE).astype(np.uint64)


def write_inputs(folder: Path, copies: int) -> int:
    """Write the volumes and return their number of voxels."""
    evidence, segmentation = phantom()
    shape = (SHAPE[0], SHAPE[1] * copies, SHAPE[2] * copies)
    layout = {"shape_zyx": shape, "voxel_size_nm": SIZE, "block_zyx": BLOCK}
    images = create_volume(folder / "evidence.zarr", dtype="uint8", channels=4, kind="probability", **layout)
    labels = create_volume(folder / "segmentation.zarr", dtype="uint64", kind="labels", **layout)
    most = int(segmentation.max())
    for number, index in enumerate(np.ndindex(1, copies, copies)):
        corner = [i * n for i, n in zip(index, SHAPE, strict=True)]
        for block in Grid(Box.of_shape(SHAPE), BLOCK):
            here = Grid(Box.of_shape(SHAPE), BLOCK).core(block)
            part = segmentation[here.slices]
            labels.write(here.shift(corner), np.where(part, part + np.uint64(number * most), 0).astype(np.uint64))
            images.write(here.shift(corner), evidence[:, *here.slices])
    return int(np.prod(shape))


def measure(folder: Path, patches: bool) -> tuple[float, dict[str, float]]:
    """Return the CPU seconds of a run, and the wall seconds of each step."""
    path = folder / "chain.yaml"
    path.write_text(FLOW.format(patches=str(patches).lower()))
    warm = Choices(bounds=Box((0, 0, 0), (96, 192, 192)))
    run_workflow(load_workflow(path, warm), folder / f"warm{patches}", "serial").raise_if_failed()
    start = time.process_time()
    summary = run_workflow(load_workflow(path), folder / f"runs{patches}", "serial")
    summary.raise_if_failed()
    seconds = time.process_time() - start
    run = open_run(folder / f"runs{patches}" / "chain")
    return seconds, {step.name: step.seconds for step in run.steps.values()}


def rows(copies: int = 2) -> list[Row]:
    """Return what was measured: what, target, figure."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        voxels = write_inputs(Path(name), copies)
        start = time.process_time()
        np.ones(voxels * 12 // 8).copy()
        limit = voxels / (time.process_time() - start) / 1e6
        for patches in (False, True):
            seconds, steps = measure(Path(name), patches)
            words = ", ".join(f"{step} {each:.1f} s" for step, each in steps.items())
            speed = voxels / seconds / 1e6
            what = f"objects + contacts + partners, {'with' if patches else 'without'} patches, one core, Mvoxel/s"
            found.append((what, ">= 20", f"{speed:.1f} ({speed / limit:.1%} of copying; wall: {words})"))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=2, help="along y and along x")
    for what, target, measured in rows(parser.parse_args().copies):
        print(f"{what}: {measured} (target {target})")


if __name__ == "__main__":
    main()
