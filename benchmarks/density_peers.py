"""What densities are measured against: block by block with scipy, the study's procedure in numpy, and mere reading."""

from __future__ import annotations

import statistics
import time

import numpy as np
from density_tissue import VOXEL_NM
from density_volume import Made
from scipy import ndimage

from bouton.geometry import Box
from bouton.volume import open_volume, read_table
from bouton.volume.tables import TableData

REACH_NM, HALO = 300.0, (7, 3, 3)
BLOCK, PAD = (111, 39, 39), (45, 16, 16)


def by_distance_transform(made: Made, table: TableData, sample: int) -> tuple[float, bool, int]:
    """Return the CPU seconds of some blocks with numpy and scipy, whether counts are ours, and how many they were."""
    rows = np.random.default_rng(3).choice(len(table["synapses"]), min(sample, len(table["synapses"])), replace=False)
    points = read_table(made.table)
    voxels = np.stack(
        [np.floor(points[f"{axis}_nm"] / size) for axis, size in zip("zyx", VOXEL_NM, strict=True)], axis=1
    )
    mask, bounds, same = open_volume(made.mask), Box.of_shape(made.shape), True
    by_z = np.argsort(voxels[:, 0], kind="stable")
    voxels = voxels[by_z].astype(np.int64)
    start = time.process_time()
    for row in rows:
        core = Box(*(tuple(int(table[f"{axis}_{end}"][row]) for axis in "zyx") for end in ("start", "stop")))
        around = core.grow(HALO) & bounds
        far = ndimage.distance_transform_edt(mask.read(around) == 0, sampling=VOXEL_NM) > REACH_NM
        exposed = far[core.within(around).slices]
        low, high = np.searchsorted(voxels[:, 0], (core.start[0], core.stop[0]))
        near = voxels[low:high] - core.start
        near = near[((near >= 0) & (near < core.shape)).all(axis=1)]
        counted = int(exposed[tuple(near.transpose())].sum())
        same &= counted == table["synapses"][row] and exposed.sum() == table["exposed_voxels"][row]
    return time.process_time() - start, bool(same), len(rows)


def by_unique(labels: np.ndarray, mask: np.ndarray) -> tuple[float, int, int]:
    """Return the CPU seconds of the published procedure, the number of blocks, and the voxels of their cores."""
    counts = [(n - 2 * p) // b for n, p, b in zip(labels.shape, PAD, BLOCK, strict=True)]
    start = time.process_time()
    for index in np.ndindex(*counts):
        low = np.array(PAD) + np.array(index) * BLOCK
        core = Box(tuple(low.tolist()), tuple((low + BLOCK).tolist()))
        around = labels[core.grow(PAD).slices]
        inside, hidden = labels[core.slices], mask[core.slices] > 0
        ids, in_core = np.unique(inside[inside > 0], return_counts=True)
        all_ids, in_all = np.unique(around[around > 0], return_counts=True)
        counted = ids[in_core / in_all[np.searchsorted(all_ids, ids)] > 0.5]
        np.setdiff1d(counted, inside[hidden])
    return time.process_time() - start, int(np.prod(counts)), int(np.prod(counts) * np.prod(BLOCK))


def reading_s(labels: np.ndarray, mask: np.ndarray, repeats: int) -> float:
    """Return the CPU seconds of looking at every byte of labels and mask once."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        labels.max(), mask.max()
        times.append(time.process_time() - start)
    return statistics.median(times)
