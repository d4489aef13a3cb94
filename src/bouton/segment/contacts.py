"""Contacts: for every pair of touching segments, integer sums from which area, centroid and patches follow.

The sums are numbers of neighbouring voxel pairs along the 13 directions of the 26 neighbours and sums of coordinates:
they add up over blocks and over the fragments of a root, in any order. Areas are made of them once, at the end
(:mod:`bouton.segment.contacts_area`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bouton.errors import DataError
from bouton.geometry import ZYX, Box
from bouton.segment.contacts_patches import Patches, patches_of_walk
from bouton.segment.contacts_runs import DIRECTIONS, walk_runs
from bouton.segment.pair_sums import order_of_pairs
from bouton.segment.region_graph import (
    TableData,
    add_sizes,
    concatenate,
    fragment_sizes,
    rows_where,
    touches_face,
)


def _name_of(direction: ZYX) -> str:
    return "n_" + "".join(f"m{-step}" if step < 0 else str(step) for step in direction)


COUNTS = tuple(_name_of(direction) for direction in DIRECTIONS)
CONTACT_COLUMNS = {
    "a": "uint64",
    "b": "uint64",
    **dict.fromkeys(COUNTS, "int64"),
    **dict.fromkeys(("z_sum", "y_sum", "x_sum"), "int64"),
}
FACES = {"z": "n_100", "y": "n_010", "x": "n_001"}


def contacts(labels: np.ndarray, core: Box, bounds: Box, shape: ZYX, patches: bool) -> tuple[TableData, Patches | None]:
    """Return the contacts that the core owns, and its patches.

    Parameters
    ----------
    labels : numpy.ndarray
        uint32 or uint64 (z, y, x): the voxels of ``core.grow((1, 1, 1)) & bounds``; 0 is background.
    core, bounds : Box
        In voxels of the data set.
    shape : (z, y, x)
        Of the data set.
    patches : bool
        Whether patches are wanted.

    Returns
    -------
    contacts : dict of str -> numpy.ndarray
        ``CONTACT_COLUMNS``, a < b, sorted by (a, b). ``n_<direction>`` is the number of voxel pairs of the two segments
        at that offset (z, y, x; ``m1`` for -1), ``z_sum`` ... the sum of the centres of their voxel faces, in half
        voxels of the data set.
    patches : Patches, optional
    """
    around = core.grow((1, 1, 1)) & bounds
    if labels.dtype not in (np.uint32, np.uint64) or labels.shape != around.shape:
        raise DataError(f"labels {labels.dtype} {labels.shape}", expected=f"uint32 or uint64 {around.shape}")
    walk = walk_runs(labels, core.within(around), around.start, patches)
    order = order_of_pairs(walk.sums[:, 0], walk.sums[:, 1])
    rows = walk.sums[order]
    table = {name: rows[:, i].astype(dtype) for i, (name, dtype) in enumerate(CONTACT_COLUMNS.items())}
    return table, patches_of_walk(walk, core, bounds, shape) if patches else None


def near_faces(labels: np.ndarray, core: Box, bounds: Box) -> TableData:
    """Return the labels beside the core's faces, on either side, that are no faces of the bounds.

    Returns
    -------
    dict of str -> numpy.ndarray
        Columns of ``SIZE_COLUMNS``, sorted by id: voxels and bounding boxes of what lies there.
    """
    around = core.grow((1, 1, 1)) & bounds
    slabs = []
    for axis in range(3):
        start, stop = list(around.start), list(around.stop)
        if core.start[axis] > bounds.start[axis]:
            slabs.append(Box(around.start, _with(stop, axis, core.start[axis] + 1)))
        if core.stop[axis] < bounds.stop[axis]:
            slabs.append(Box(_with(start, axis, core.stop[axis] - 1), around.stop))
    return add_sizes([fragment_sizes(labels[slab.within(around).slices], slab) for slab in slabs])


def _with(corner: list[int], axis: int, value: int) -> ZYX:
    z, y, x = (value if i == axis else at for i, at in enumerate(corner))
    return z, y, x


def add_contacts(tables: Sequence[TableData]) -> TableData:
    """Concatenate contacts and add up the rows of equal (a, b); sorted by (a, b)."""
    rows = concatenate(tables, CONTACT_COLUMNS)
    order = order_of_pairs(rows["a"], rows["b"])
    a, b = rows["a"][order], rows["b"][order]
    new = np.ones(len(a), np.bool_)
    new[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    first = np.flatnonzero(new)
    sums = {name: rows[name][order] for name in list(CONTACT_COLUMNS)[2:]}
    if len(first):
        sums = {name: np.add.reduceat(values, first) for name, values in sums.items()}
    return {"a": a[first], "b": b[first], **sums}


def split_contacts(table: TableData, near: TableData, box: Box, bounds: Box) -> tuple[TableData, TableData, TableData]:
    """Return the contacts to which nothing outside of ``box`` adds, the others, and the labels near the box's faces.

    A pair touches outside only where both segments have voxels beside a face of the box, inside or outside.
    """
    near = rows_where(near, touches_face(near, box, bounds))
    waits = np.isin(table["a"], near["id"]) & np.isin(table["b"], near["id"])
    return rows_where(table, ~waits), rows_where(table, waits), near


def faces_of(table: TableData) -> np.ndarray:
    """Return int64 (n,): the voxel faces of each contact."""
    faces: np.ndarray = table[FACES["z"]] + table[FACES["y"]] + table[FACES["x"]]
    return faces
