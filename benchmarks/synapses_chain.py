"""Objects, contacts and partners on one core, given probabilities and a segmentation: in memory, and by the engine.

    python benchmarks/synapses_chain.py [--copies 2]

A phantom of 96 x 384 x 384 voxels (30 x 10 x 10 nm) is made once; its true neurons are the segmentation, its true
clefts and their two sides, with noise, the evidence. Copies of it stand side by side, with ids of their own. Measured
are CPU seconds, after a small run that compiles: of all that the stages do, block by block, on arrays in memory; and of
a run of the engine, with storage (zarr, zstd, reads hashed, tables durable). Beside them stands what copying the inputs
once through memory takes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from bouton import load_workflow, open_run
from bouton.engine import run_workflow
from bouton.geometry import Box
from bouton.learn.targets import SynapseTruth, synapse_classes
from bouton.phantom import PhantomParams, generate
from bouton.spec import Choices
from bouton.stages import clefts, contacts, synapse_sides, synapses
from bouton.volume import create_volume, open_volume

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import harness

SIZE = (30.0, 10.0, 10.0)
SHAPE = (96, 384, 384)
BLOCK = (96, 384, 384)
FLOW = """
name: chain
data:
  evidence: {{path: evidence.zarr}}
  segmentation: {{path: segmentation.zarr}}
block_zyx: [96, 384, 384]
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
        here = Box.of_shape(SHAPE).shift([i * n for i, n in zip(index, SHAPE, strict=True)])
        labels.write(here, np.where(segmentation, segmentation + np.uint64(number * most), 0).astype(np.uint64))
        images.write(here, evidence)
    return int(np.prod(shape))


def measure(folder: Path, patches: bool) -> tuple[float, dict[str, float]]:
    """Return the CPU seconds of a run, and the wall seconds of each step."""
    path = folder / "chain.yaml"
    path.write_text(FLOW.format(patches=str(patches).lower()))
    warm = Choices(bounds=Box((0, 0, 0), (96, 96, 96)))
    run_workflow(load_workflow(path, warm), folder / f"warm{patches}", "serial").raise_if_failed()
    start = time.process_time()
    summary = run_workflow(load_workflow(path), folder / f"runs{patches}", "serial")
    summary.raise_if_failed()
    seconds = time.process_time() - start
    run = open_run(folder / f"runs{patches}" / "chain")
    return seconds, {step.name: step.seconds for step in run.steps.values()}


def in_memory(folder: Path, box: Box, patches: bool) -> dict[str, float]:
    """Return the CPU seconds of each stage on arrays, block by block, one after another."""
    evidence = open_volume(folder / "evidence.zarr").read(box)
    segmentation = open_volume(folder / "segmentation.zarr").read(box)
    found: dict[str, float] = {}

    def run(module: Any, params: Any, **inputs: Any) -> dict[str, Any]:
        start = time.process_time()
        outputs = harness.run_stage(module.STAGE, params, inputs, BLOCK, SIZE)
        found[module.__name__.rpartition(".")[2]] = time.process_time() - start
        return outputs

    made = run(clefts, clefts.Params(), synapse_evidence=evidence)
    run(contacts, contacts.Params(patches=patches), segmentation=segmentation)
    given = {"segmentation": segmentation, "synapse_evidence": evidence}
    sides = run(synapse_sides, synapse_sides.Params(), clefts=made["clefts"], **given)
    tables = {name: sides[name] for name in ("sides", "cleft_sums", "touching")}
    # an array tells the extent of the data set
    run(synapses, synapses.Params(), **tables, extent=segmentation)
    return found


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
            how = "with" if patches else "without"
            in_memory(Path(name), Box.of_shape((96, 96, 96)), patches)
            each = in_memory(Path(name), Box.of_shape((SHAPE[0], copies * SHAPE[1], copies * SHAPE[2])), patches)
            found.append(_row(f"in memory, {how} patches", voxels / sum(each.values()) / 1e6, limit, each))
            found.append(_row(f"engine and storage, {how} patches", voxels / seconds / 1e6, limit, steps))
    return found


def _row(how: str, speed: float, limit: float, steps: dict[str, float]) -> Row:
    words = ", ".join(f"{step} {each:.1f} s" for step, each in steps.items())
    what = f"objects + contacts + partners, {how}, one core, Mvoxel/s"
    return what, ">= 20", f"{speed:.1f} ({speed / limit:.1%} of copying; {words})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=2, help="along y and along x")
    for what, target, measured in rows(parser.parse_args().copies):
        print(f"{what}: {measured} (target {target})")


if __name__ == "__main__":
    main()
