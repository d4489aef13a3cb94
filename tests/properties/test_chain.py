"""From phantom to connectome, by the real engine: blocks, workers and kills change nothing, to the bit."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bouton
from bouton.spec import Choices, load_workflow
from engine.shuffled import Shuffled
from harness import sort_rows

FLOW = """\
name: chain
grid: {shape_zyx: [26, 100, 100], voxel_size_nm: [30, 10, 10]}
steps:
  tissue:        {stage: phantom, params: {seed: 5}}
  network:       {stage: predict, reads: {image: tissue.image}, params: {model: organelles-phantom}}
  fragments:     {stage: fragments, reads: {affinities: network.affinities}}
  agglomeration: {stage: agglomeration, reads: {affinities: network.affinities, fragments: fragments}}
  segmentation:  {stage: segmentation, reads: {fragments: fragments, merges: agglomeration.merges}}
  touching:      {stage: contacts, reads: {segmentation: fragments}}
  contacts:
    stage: root_contacts
    reads:
      contacts: touching.contacts
      patches: touching.patches
      patch_links: touching.patch_links
      merges: agglomeration.merges
  clefts:
    stage: clefts
    reads: {synapse_evidence: network.synapse_evidence}
    params: {low: 0.3, high: 0.4, gap_sections: 1, max_section_area_nm2: 100000}
  beside:
    stage: synapse_sides
    reads: {clefts: clefts, segmentation: fragments, synapse_evidence: network.synapse_evidence}
  synapses:
    stage: synapses
    reads:
      sides: beside.sides
      cleft_sums: beside.cleft_sums
      touching: beside.touching
      merges: agglomeration.merges
  shown:
    stage: partner_network
    reads:
      image: tissue.image
      clefts: clefts
      segmentation: fragments
      sides: beside.sides
      cleft_sums: beside.cleft_sums
  types:
    stage: synapse_types
    reads:
      synapses: synapses
      segmentation: segmentation
      synapse_evidence: network.synapse_evidence
      vesicles: network.vesicles
      mitochondria: network.mitochondria
      tissue: network.tissue
  connectome:    {stage: connectome, reads: {synapses: types}}
"""
BLOCKS = [(26, 100, 100), (13, 50, 50), (11, 37, 64), (26, 29, 100)]
OUTPUTS = [
    "tissue.image", "tissue.neuron_ids", "tissue.synapses", "network.affinities", "network.synapse_evidence",
    "fragments.fragments", "agglomeration.merges", "segmentation.segmentation", "touching.patches",
    "touching.patch_links", "contacts.root_contacts", "clefts.clefts", "clefts.candidates", "beside.sides",
    "beside.cleft_sums", "beside.touching", "synapses.synapses", "synapses.assignments", "shown.sides",
    "types.synapses", "connectome.connectome",
]  # fmt: skip


def write_flow(folder: Path) -> Path:
    path = folder / "chain.yaml"
    path.write_text(FLOW)
    return path


def digests(folder: Path) -> dict[str, str]:
    """Return a hash of the values (not of the files) of every output."""
    run = bouton.open_run(folder)
    found = {}
    for ref in OUTPUTS:
        hasher = hashlib.blake2b(digest_size=8)
        step, output = ref.split(".")
        if run.steps[step].outputs[output]["type"] == "table":
            for name, column in sort_rows(run.table(ref)).items():
                hasher.update(repr((name, column.tolist())).encode())
        else:
            hasher.update(run.volume(ref)[...].tobytes())
        found[ref] = hasher.hexdigest()
    return found


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("reference")
    flow = load_workflow(write_flow(folder), Choices(block=BLOCKS[0]))
    run = bouton.run_workflow(flow, folder / "runs", "serial")
    assert len(bouton.open_run(run.folder).table("synapses")["id"]) > 0, "a chain without synapses proves little"
    return run.folder, digests(run.folder)


TILINGS = [pytest.param(BLOCKS[1], 1, marks=pytest.mark.slow), *((block, 2) for block in BLOCKS[1:])]


@pytest.mark.parametrize(("block", "workers"), TILINGS, ids=str)
def test_blocks_and_workers_change_nothing(block, workers, reference, tmp_path: Path) -> None:
    flow = load_workflow(write_flow(tmp_path), Choices(block=block))
    run = bouton.run_workflow(flow, tmp_path / "runs", "processes", workers)
    assert digests(run.folder) == reference[1]


def test_the_order_of_completion_changes_nothing(reference, tmp_path: Path) -> None:
    flow = load_workflow(write_flow(tmp_path), Choices(block=BLOCKS[2]))
    run = bouton.run_workflow(flow, tmp_path / "runs", Shuffled(3))
    assert digests(run.folder) == reference[1]


@pytest.mark.slow
def test_twenty_kills_change_nothing(reference, tmp_path: Path) -> None:
    """SIGKILL the coordinator or a worker at 20 random instants; each time, the same command goes on."""
    command = [sys.executable, "-m", "bouton", "run", str(write_flow(tmp_path)), "--runs", str(tmp_path / "runs")]
    command += ["--block-zyx", "11,37,64", "--workers", "2"]
    chance, kills = random.Random(7), 0
    while True:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        if kills < 20:
            time.sleep(chance.uniform(0.5, 9))
            kills += process.poll() is None
            victim = chance.choice([process.pid, *_children(process.pid)])
            if process.poll() is None:
                os.kill(victim, signal.SIGKILL)
        process.wait(timeout=600)
        if kills >= 20 and process.returncode == 0:
            break
        if process.returncode == 0:
            subprocess.run(["rm", "-rf", str(tmp_path / "runs")], check=True)
    assert digests(tmp_path / "runs" / "chain") == reference[1]


def _children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(word) for word in found.split()]
