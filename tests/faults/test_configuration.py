"""Workflow files that ask for the impossible, and files that change while a run works."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.learn.shipped import model_path
from bouton.spec import load_workflow
from bouton.volume.run_folder import open_run
from faults.command_line import AFFINITIES, CHAIN, DATA, PREDICT, SPEC, Call, flow, results, run

GRID = {"shape_zyx": [10000, 10000, 10000], "voxel_size_nm": [30, 10, 10]}
TISSUE = {"tissue": {"stage": "phantom"}}
BOUTON = "import sys; from bouton.cli.main import main; main(sys.argv[1:])"


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_trillion_blocks(verb: str, folder: Path, bad: Call) -> None:
    flow(data={}, grid=GRID, steps=TISSUE, block_zyx=[1, 1, 1])
    said = ["flow.yaml:", "block_zyx [1, 1, 1] makes 1000000000000 blocks", "at most 10000000000", "larger blocks"]
    bad(SPEC, said, verb, "flow.yaml")
    assert not Path("runs").exists()


@pytest.mark.parametrize("block", [[-8, 8, 8], [8, 8], [8, 8, 8.5], "8", [8, "x", 8]])
def test_blocks_that_are_none(block: object, folder: Path, bad: Call) -> None:
    flow(block_zyx=block)
    bad(SPEC, ["flow.yaml:", "block_zyx"], *run())


def test_a_voxel_size_in_micrometres(folder: Path, bad: Call, good: Call) -> None:
    flow(size=[0.03, 0.01, 0.01])
    bad(DATA, ["aff.npy", "[0.03, 0.01, 0.01]: micrometres given for nanometres?", "way out: voxel_size_nm"], *run())
    good(*run("--set", "data.aff.voxel_size_nm=[30, 10, 10]"))


def test_a_circle_of_three(folder: Path, bad: Call) -> None:
    steps = {name: {"stage": "segmentation", "reads": {"fragments": before}} for name, before in ("ab", "bc", "ca")}
    flow(steps=steps)
    bad(SPEC, ["flow.yaml:", "in a circle: a -> b -> c -> a"], *run())


def test_the_workflow_file_changes_while_it_runs(folder: Path, good: Call) -> None:
    """A run keeps to what it read at its start; the next one computes what differs, and nothing else."""
    flow(block_zyx=[4, 6, 6])
    words = [sys.executable, "-c", BOUTON, "run", "flow.yaml", "--executor", "serial"]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not Path("runs/t/run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    steps = open_run("runs/t").steps
    keys = {name: step.key for name, step in steps.items()}
    flow(block_zyx=[4, 6, 6], steps=_with_low(0.5))
    assert process.wait(120) == 0
    assert {name: step.key for name, step in open_run("runs/t").steps.items()} == keys
    first = results()
    shutil.copytree("runs", "before")
    good(*run())
    changed = {name: step.key for name, step in open_run("runs/t").steps.items()}
    assert all(changed[name] != keys[name] for name in keys)
    flow(block_zyx=[4, 6, 6])
    good(*run())
    assert np.array_equal(results(), first)


def _with_low(low: float) -> dict:
    return CHAIN | {"fragments": CHAIN["fragments"] | {"params": {"low": low}}}


def test_data_that_change_while_they_are_read_make_another_run(folder: Path, good: Call) -> None:
    """Input voxels are part of every key: results of other voxels are never taken for those of these."""
    good(*run())
    keys, first = {name: step.key for name, step in open_run("runs/t").steps.items()}, results()
    np.save("aff.npy", 255 - AFFINITIES)
    good(*run())
    assert all(step.key != keys[name] for name, step in open_run("runs/t").steps.items())
    assert not np.array_equal(results(), first)


def test_a_model_that_changes_makes_another_key(folder: Path) -> None:
    np.save("image.npy", AFFINITIES[0])
    shutil.copytree(model_path("affinity-aniso"), "model")
    flow(path="image.npy", steps={"network": PREDICT["network"] | {"params": {"model": "model"}}})
    before = load_workflow(Path("flow.yaml")).steps[0].key
    assert load_workflow(Path("flow.yaml")).steps[0].key == before
    weights = Path("model/weights.safetensors")
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    try:
        after = load_workflow(Path("flow.yaml")).steps[0].key
    except DataError:
        after = "refused"
    assert after != before
