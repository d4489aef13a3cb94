"""Contacts by the real engine: blocks and workers change nothing, and roots need no voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import bouton
from bouton.spec import Choices, load_workflow
from harness import assert_same, sort_rows

FLOW = """\
name: contacts
grid: {shape_zyx: [20, 60, 60], voxel_size_nm: [30, 10, 10]}
steps:
  tissue:        {stage: phantom, params: {seed: 5}}
  contacts:      {stage: contacts, reads: {segmentation: tissue.neuron_ids}}
  areas:
    stage: root_contacts
    reads: {contacts: contacts, patches: contacts.patches, patch_links: contacts.patch_links}
"""
OUTPUTS = ("contacts.contacts", "contacts.patches", "contacts.patch_links", "areas.root_contacts")


def tables(folder: Path, block, workers: int) -> dict:
    path = folder / "contacts.yaml"
    path.write_text(FLOW)
    flow = load_workflow(path, Choices(block=block))
    run = bouton.run_workflow(flow, folder / "runs", "processes" if workers > 1 else "serial", workers)
    return {name: sort_rows(bouton.open_run(run.folder).table(name)) for name in OUTPUTS}


def test_blocks_and_workers_change_nothing(tmp_path: Path) -> None:
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    one = tables(tmp_path / "one", (20, 60, 60), 1)
    areas = one["areas.root_contacts"]
    assert len(areas["a_id"]) > 10
    assert areas["patches"].sum() == len(one["contacts.patches"]["patch"])
    assert np.all(areas["area_um2"] > 0)
    assert_same(one, tables(tmp_path / "many", (11, 17, 32), 2), OUTPUTS)
