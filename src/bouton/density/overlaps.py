"""How many voxels of each label lie in each block of tissue, in its surround, and under the mask.

The counting rule of case study 2 of NeuroData (neurodata-papers/ndpaper, spatialsynapses/get_matrix.py): a label counts
in a block if more than half of its voxels in block and surround lie in the block; and it is unmasked if none of its
voxels in the block is masked. Voxels are counted in the part of a volume that is at hand, and counts of parts add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numba import njit

from bouton.density.grid import AnalysisGrid
from bouton.density.runs import label_runs
from bouton.density.sums import summed
from bouton.geometry import ZERO, Box

OVERLAP_COLUMNS = {"block": "int64", "id": "uint64", **dict.fromkeys(("inside", "around", "masked"), "int64")}
"""Voxels of a label in a block, in the block and its surround, and masked ones in the block."""
COUNT_COLUMNS = dict.fromkeys(("block", "total", "unmasked"), "int64")


def overlaps(labels: np.ndarray, mask: np.ndarray | None, grid: AnalysisGrid, core: Box) -> dict[str, np.ndarray]:
    """Count the voxels of labels in blocks and their surrounds.

    Parameters
    ----------
    labels : numpy.ndarray
        Unsigned integers (z, y, x) over the core, 0 = background.
    mask : numpy.ndarray, optional
        Unsigned integers (z, y, x) over the core, above 0 = masked.
    grid : AnalysisGrid
    core : Box
        In voxels of the data set.

    Returns
    -------
    dict
        ``OVERLAP_COLUMNS``, a row for each label and each block whose surround holds a voxel of it.
    """
    ids, runs = label_runs(labels)
    order = np.argsort(ids, kind="stable")
    ids, runs = ids[order], runs[order]
    runs += np.array([core.start[0], core.start[1], core.start[2], core.start[2]])
    reached = grid.met(core.grow(grid.pad)) if len(ids) else Box(ZERO, ZERO)
    layout = np.array([grid.start, grid.block, grid.counts, grid.pad, reached.start, reached.shape, core.start])
    covered = np.zeros(core.shape, dtype=np.uint8) if mask is None else mask
    blocks, owners, sums = _count(ids, runs, layout, covered)
    return dict(zip(OVERLAP_COLUMNS, (blocks, owners, sums[:, 0], sums[:, 1], sums[:, 2]), strict=True))


@njit(cache=True, nogil=True)
def _count(
    ids: np.ndarray, runs: np.ndarray, layout: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count label by label, in one scratch array over the blocks that the core's voxels can be seen from."""
    counts, low, extent = layout[2], layout[4], layout[5]
    scratch = np.zeros((extent[0], extent[1], extent[2], 3), np.int64)
    size, rows = 1024, 0
    blocks, owners, sums = np.empty(size, np.int64), np.empty(size, np.uint64), np.empty((size, 3), np.int64)
    span = np.empty((3, 2), np.int64)
    begin = 0
    while begin < len(ids):
        span[:, 0], span[:, 1] = extent, -1
        end = begin
        while end < len(ids) and ids[end] == ids[begin]:
            _add_run(runs[end], layout, mask, (scratch, span))
            end += 1
        for bz in range(span[0, 0], span[0, 1] + 1):
            for by in range(span[1, 0], span[1, 1] + 1):
                for bx in range(span[2, 0], span[2, 1] + 1):
                    if scratch[bz, by, bx, 1] == 0:
                        continue
                    if rows == size:
                        size *= 2
                        more = np.empty(size, np.int64), np.empty(size, np.uint64), np.empty((size, 3), np.int64)
                        more[0][:rows], more[1][:rows], more[2][:rows] = blocks, owners, sums
                        blocks, owners, sums = more
                    number = ((bz + low[0]) * counts[1] + by + low[1]) * counts[2] + bx + low[2]
                    blocks[rows], owners[rows], sums[rows] = number, ids[begin], scratch[bz, by, bx]
                    scratch[bz, by, bx] = 0
                    rows += 1
        begin = end
    return blocks[:rows], owners[:rows], sums[:rows]


@njit(cache=True, nogil=True)
def _seen_from(at: int, axis: int, layout: np.ndarray) -> tuple[int, int]:
    """Return the first and the last block whose surround holds a voxel, of those that the scratch array is for."""
    offset, block, pad = at - layout[0, axis], layout[1, axis], layout[3, axis]
    low, most = layout[4, axis], layout[4, axis] + layout[5, axis] - 1
    return max((offset - pad) // block, low) - low, min((offset + pad) // block, most) - low


@njit(cache=True, nogil=True)
def _add_run(run: np.ndarray, layout: np.ndarray, mask: np.ndarray, found: tuple[np.ndarray, np.ndarray]) -> None:
    scratch, span = found
    z, y, first, stop = run[0], run[1], run[2], run[3]
    start, block, pad, low, corner = layout[0], layout[1], layout[3], layout[4], layout[6]
    z0, z1 = _seen_from(z, 0, layout)
    y0, y1 = _seen_from(y, 1, layout)
    x0, x1 = _seen_from(first, 2, layout)[0], _seen_from(stop - 1, 2, layout)[1]
    if z0 > z1 or y0 > y1 or x0 > x1:
        return
    span[0, 0], span[0, 1] = min(span[0, 0], z0), max(span[0, 1], z1)
    span[1, 0], span[1, 1] = min(span[1, 0], y0), max(span[1, 1], y1)
    span[2, 0], span[2, 1] = min(span[2, 0], x0), max(span[2, 1], x1)
    for bz in range(z0, z1 + 1):
        for by in range(y0, y1 + 1):
            own = (z - start[0]) // block[0] == bz + low[0] and (y - start[1]) // block[1] == by + low[1]
            for bx in range(x0, x1 + 1):
                a = start[2] + (bx + low[2]) * block[2]
                b = a + block[2]
                scratch[bz, by, bx, 1] += max(0, min(stop, b + pad[2]) - max(first, a - pad[2]))
                if own:
                    left, right = max(first, a), min(stop, b)
                    scratch[bz, by, bx, 0] += max(0, right - left)
                    for x in range(left, right):
                        if mask[z - corner[0], y - corner[1], x - corner[2]] > 0:
                            scratch[bz, by, bx, 2] += 1


def split_overlaps(
    tables: Sequence[Mapping[str, np.ndarray]], grid: AnalysisGrid, box: Box
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Add up the rows of parts of ``box``; count where nothing outside of it can add.

    Returns
    -------
    counts : dict
        ``COUNT_COLUMNS``, of the blocks whose surround lies in the box and that count a label.
    rest : dict
        ``OVERLAP_COLUMNS`` of the others.
    """
    rows = summed(tables, ("block", "id"), ("inside", "around", "masked"))
    start = np.asarray(grid.start) + grid.index(rows["block"]) * np.asarray(grid.block)
    low, high = start - np.asarray(grid.pad), start + np.asarray(grid.block) + np.asarray(grid.pad)
    done = ((low >= box.start) & (high <= box.stop)).all(axis=1)
    total = done & (2 * rows["inside"] > rows["around"])
    blocks, at = np.unique(rows["block"][total], return_inverse=True)
    counts = {
        "block": blocks,
        "total": np.bincount(at, minlength=blocks.size).astype(np.int64),
        "unmasked": np.bincount(at[rows["masked"][total] == 0], minlength=blocks.size).astype(np.int64),
    }
    return counts, {name: values[~done] for name, values in rows.items()}
