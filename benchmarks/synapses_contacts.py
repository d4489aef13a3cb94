"""Contacts: Mvox/s and pairs/s of the kernel and of the stages' merges, beside cc3d.contacts in the same run.

    python benchmarks/synapses_contacts.py [--side 512] [--repeats 3] [--block 128]

Input: pinky40_seg512 (automated segmentation, 512^3 voxels of 40 x 32 x 32 nm; without crackle-codec, a phantom). Each
time is the least CPU seconds of the repeats, on one core. The limit is what reading the labels once (a sum over them)
takes. cc3d.contacts counts voxel pairs at 6 or 26 neighbours (``surface_area=False``); bouton counts along all 13
directions, sums up face centres, and finds the patches if asked.
Peers that are absent are named: pip install crackle-codec connected-components-3d.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import importlib.util
import time
from collections.abc import Callable
from functools import partial

import affinity_inputs
import numpy as np

from bouton.geometry import Box, Grid
from bouton.phantom import PhantomParams, generate
from bouton.segment.contacts import add_contacts, contacts, near_faces, split_contacts
from bouton.segment.contacts_patches import Patches, join_patches
from bouton.segment.contacts_roots import FragmentContacts, root_contacts
from bouton.segment.region_graph import TableData, add_sizes

Row = tuple[str, str, str]
TARGET = 4.0
SIZE_NM = (40.0, 32.0, 32.0)


def labels_of(side: int) -> np.ndarray:
    """Return uint64 labels, a cube of ``side`` voxels."""
    if importlib.util.find_spec("crackle") is None:
        return generate(Box.of_shape((side,) * 3), PhantomParams(voxel_size_nm=SIZE_NM)).neuron_ids.astype(np.uint64)
    packed = (affinity_inputs.data_folder() / "pinky40_seg512" / "connectomics.npy.ckl.gz").read_bytes()
    # the file's axes are x, y, z
    labels = np.moveaxis(importlib.import_module("crackle").decompress(gzip.decompress(packed)), (0, 1, 2), (2, 1, 0))
    return np.ascontiguousarray(labels[-side:, -side:, -side:]).astype(np.uint64)


def cpu_seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the least CPU seconds of one call, after one that compiles."""
    work()
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def whole(labels: np.ndarray, patches: bool) -> tuple[TableData, Patches | None]:
    """Return the contacts of an array in one piece."""
    box = Box.of_shape(labels.shape)
    return contacts(labels, box, box, box.shape, patches)


def in_blocks(labels: np.ndarray, side: int, patches: bool) -> tuple[TableData, Patches]:
    """Do what the stage does: blocks with their halo, then a merge of all of them at once."""
    bounds = Box.of_shape(labels.shape)
    sums, near, found = [], [], []
    for index in Grid(bounds, (side, side, side)):
        core = Grid(bounds, (side, side, side)).core(index)
        around = np.ascontiguousarray(labels[(core.grow((1, 1, 1)) & bounds).slices])
        table, parts = contacts(around, core, bounds, bounds.shape, patches)
        sums.append(table)
        near.append(near_faces(around, core, bounds))
        found.extend([parts] if parts else [])
    kept, *_ = split_contacts(add_contacts(sums), add_sizes(near), bounds, bounds)
    return kept, join_patches(found, bounds, bounds)[0]


def measure(side: int = 512, repeats: int = 3, block: int = 128) -> dict[str, float]:
    """Return figures by name: Mvox/s, except where the name tells another unit."""
    labels = labels_of(side)
    narrow = labels.astype(np.uint32)
    work: dict[str, Callable[[], object]] = {
        "limit: reading uint64": labels.sum,
        "13 directions, uint64": partial(whole, labels, False),
        "13 directions, uint32": partial(whole, narrow, False),
        "13 directions and patches, uint64": partial(whole, labels, True),
        f"blocks of {block}, with merges": partial(in_blocks, labels, block, False),
        f"blocks of {block}, patches, with merges": partial(in_blocks, labels, block, True),
    }
    if importlib.util.find_spec("cc3d"):
        cc3d = importlib.import_module("cc3d")
        for neighbours in (6, 26):
            work[f"cc3d.contacts {neighbours}"] = partial(
                cc3d.contacts, labels, connectivity=neighbours, surface_area=False
            )
    found = {name: labels.size / cpu_seconds(call, repeats) / 1e6 for name, call in work.items()}
    table, patches = whole(labels, True)
    assert patches is not None
    found["pairs"], found["patches"], found["links"] = (
        float(len(rows)) for rows in (table["a"], patches.patches["patch"], patches.links["p"])
    )
    found["pairs / s (13 directions, uint64)"] = found["pairs"] * found["13 directions, uint64"] * 1e6 / labels.size
    fragments = FragmentContacts(table, patches.patches, patches.links)
    none = np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    seconds = cpu_seconds(lambda: root_contacts(fragments, none, SIZE_NM), repeats)
    found["root_contacts: pairs / s"] = found["pairs"] / seconds
    return found


def rows() -> list[Row]:
    """Return (what, target, measured) for the table of all synapse benchmarks."""
    found = measure(512)
    result = []
    for neighbours in (6, 26):
        name = f"cc3d.contacts {neighbours}"
        measured = "cc3d is not installed"
        if name in found:
            ours = found["13 directions, uint64"]
            measured = f"{ours:.0f} Mvox/s, {ours / found[name]:.1f} x cc3d's {found[name]:.0f}"
        result.append((f"contacts alone, against cc3d.contacts at {neighbours}", f">= {TARGET:.0f} x", measured))
    return result


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--block", type=int, default=128)
    chosen = parser.parse_args()
    found = measure(chosen.side, chosen.repeats, chosen.block)
    for name, value in found.items():
        print(f"{name:45s} {value:14,.1f}")
    ours = found["13 directions, uint64"]
    for neighbours in (6, 26):
        if f"cc3d.contacts {neighbours}" in found:
            ratio = ours / found[f"cc3d.contacts {neighbours}"]
            print(f"13 directions / cc3d.contacts {neighbours}: {ratio:.1f} x (target {TARGET:.0f} x)")


if __name__ == "__main__":
    main()
