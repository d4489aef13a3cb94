"""Sums over the parts of objects and over the faces between parts: what lists of errors are made from.

Objects are true neurons and parts the segments in them, or the other way round. Every sum is over integers, and a face
between two voxels belongs to the block that owns the upper one: tables of disjoint blocks add up, in any order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from bouton.evaluate.contingency import Contingency
from bouton.geometry import ZYX, Box

TableData = dict[str, np.ndarray]

SUMS = {"voxels": "int64", "z_sum": "int64", "y_sum": "int64", "x_sum": "int64", "first": "uint64"}
PART_COLUMNS = {"object": "uint64", "part": "uint64", **SUMS}
"""Voxels of each part of each object, sums of their coordinates, and the first one's global id."""
CONTACT_COLUMNS = {"object": "uint64", "a": "uint64", "b": "uint64", **SUMS}
"""The same of the upper voxels of the faces between parts a < b of an object."""


def part_sums(objects: np.ndarray, parts: np.ndarray, box: Box, shape: ZYX) -> TableData:
    """Return ``PART_COLUMNS`` of the voxels of ``box`` whose object is not 0, sorted by (object, part).

    Parameters
    ----------
    objects, parts : numpy.ndarray
        uint64 (z, y, x), C-contiguous, the voxels of ``box``.
    box : Box
        Where they lie in the data set.
    shape : (z, y, x)
        Shape of the whole data set.
    """
    keys, values = _part_sums(objects, parts, np.asarray(box.start), np.asarray(shape))
    rows = _rows(PART_COLUMNS, [keys[:, 0], keys[:, 1]], values)
    return _sorted(rows, keys[:, 0] != 0)


def contacts(objects: np.ndarray, parts: np.ndarray, core: Box, box: Box, shape: ZYX) -> TableData:
    """Return ``CONTACT_COLUMNS`` of the faces that the core owns, sorted by (object, a, b).

    Parameters
    ----------
    objects, parts : numpy.ndarray
        uint64 (z, y, x), C-contiguous, the voxels of ``box``. Faces of object 0 and of part 0 do not count.
    core : Box
        The voxels owned.
    box : Box
        The core, with one voxel more on the lower sides where the bounds allow.
    shape : (z, y, x)
        Shape of the whole data set.
    """
    inner = core.within(box)
    keys, values = _contacts(
        objects, parts, np.asarray(inner.start), np.asarray(inner.stop), np.asarray(box.start), np.asarray(shape)
    )
    rows = _rows(CONTACT_COLUMNS, [keys[:, 0], keys[:, 1], keys[:, 2]], values)
    return _sorted(rows, keys[:, 0] != 0)


def add_sums(tables: Sequence[TableData], columns: dict[str, str]) -> TableData:
    """Return the sums over disjoint boxes: ``columns`` is ``PART_COLUMNS`` or ``CONTACT_COLUMNS``."""
    empty = {name: np.zeros(0, dtype) for name, dtype in columns.items()}
    rows = {name: np.concatenate([table[name] for table in (empty, *tables)]) for name in columns}
    names = [name for name in columns if name not in SUMS]
    order = np.lexsort([rows[name] for name in reversed(names)])
    rows = {name: values[order] for name, values in rows.items()}
    first = np.flatnonzero(changes([rows[name] for name in names]))
    added = {name: rows[name][first] for name in names}
    for name in SUMS:
        reduce = np.minimum if name == "first" else np.add
        added[name] = reduce.reduceat(rows[name], first) if len(first) else rows[name]
    return added


def swapped(parts: TableData) -> TableData:
    """Return the segments of each true neuron as the true neurons of each segment, segment 0 with them."""
    rows = parts | {"object": parts["part"], "part": parts["object"]}
    return _sorted(rows, np.ones(len(rows["part"]), np.bool_))


def contingency(parts: TableData) -> Contingency:
    """Return the contingency table of parts whose objects are true neurons and whose parts are segments."""
    return Contingency(parts["object"], parts["part"], parts["voxels"])


def changes(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return where a row differs from the row before, bool; the first always does."""
    new = np.ones(len(columns[0]), np.bool_)
    new[1:] = False
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return new


def _rows(columns: dict[str, str], keys: Sequence[np.ndarray], values: np.ndarray) -> TableData:
    data = [*keys, *(values[:, i] for i in range(values.shape[1]))]
    return {name: column.astype(dtype) for (name, dtype), column in zip(columns.items(), data, strict=True)}


def _sorted(rows: TableData, keep: np.ndarray) -> TableData:
    names = [name for name in rows if name not in SUMS]
    rows = {name: values[keep] for name, values in rows.items()}
    order = np.lexsort([rows[name] for name in reversed(names)])
    return {name: values[order] for name, values in rows.items()}


@njit(cache=True, nogil=True)
def _slot(keys: np.ndarray, a: np.uint64, b: np.uint64, c: np.uint64) -> np.int64:
    """Return where (a, b, c) is, or goes, in an open-addressing table whose size is a power of two; a = 0 is empty."""
    mask = np.uint64(len(keys) - 1)
    mixed = a * np.uint64(0x9E3779B97F4A7C15) ^ (b + np.uint64(0x632BE59BD9B4E019)) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed = (mixed ^ (mixed >> np.uint64(31))) + c * np.uint64(0xD6E8FEB86659FD93)
    slot = (mixed ^ (mixed >> np.uint64(32))) & mask
    while keys[slot, 0] != 0 and (keys[slot, 0] != a or keys[slot, 1] != b or keys[slot, 2] != c):
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)


@njit(cache=True, nogil=True)
def _grown(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wide, more = np.zeros((len(keys) * 4, 3), np.uint64), np.zeros((len(keys) * 4, 5), np.int64)
    for i in range(len(keys)):
        if keys[i, 0] != 0:
            slot = _slot(wide, keys[i, 0], keys[i, 1], keys[i, 2])
            wide[slot], more[slot] = keys[i], values[i]
    return wide, more


@njit(cache=True, nogil=True)
def _part_sums(
    objects: np.ndarray, parts: np.ndarray, start: np.ndarray, extent: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    keys, values, used = np.zeros((1 << 10, 3), np.uint64), np.zeros((1 << 10, 5), np.int64), 0
    nz, ny, nx = objects.shape
    none = np.uint64(0)
    for z in range(nz):
        for y in range(ny):
            x = 0
            while x < nx:
                begin, a, b = x, objects[z, y, x], parts[z, y, x]
                x += 1
                while x < nx and objects[z, y, x] == a and parts[z, y, x] == b:
                    x += 1
                if a == 0:
                    continue
                slot = _slot(keys, a, b, none)
                if keys[slot, 0] == 0:
                    if used * 2 >= len(keys):
                        keys, values = _grown(keys, values)
                        slot = _slot(keys, a, b, none)
                    keys[slot, 0], keys[slot, 1] = a, b
                    at = ((start[0] + z) * extent[1] + start[1] + y) * extent[2] + start[2] + begin + 1
                    values[slot, 4] = at
                    used += 1
                n = x - begin
                values[slot, 0] += n
                values[slot, 1] += n * (start[0] + z)
                values[slot, 2] += n * (start[1] + y)
                values[slot, 3] += n * (start[2] + begin) + n * (n - 1) // 2
    return keys, values


@njit(cache=True, nogil=True)
def _contacts(
    objects: np.ndarray, parts: np.ndarray, low: np.ndarray, high: np.ndarray, start: np.ndarray, extent: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    keys, values, used = np.zeros((1 << 10, 3), np.uint64), np.zeros((1 << 10, 5), np.int64), 0
    x0, x1 = low[2], high[2]
    x2 = max(x0, 1)
    for z in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            while (used + 3 * (x1 - x0)) * 2 > len(keys):
                keys, values = _grown(keys, values)
            own, part = objects[z, y], parts[z, y]
            at = (start[0] + z, start[1] + y, start[2] + x0, extent[1], extent[2])
            if z > 0:
                lower = (objects[z - 1, y, x0:x1], parts[z - 1, y, x0:x1])
                used += _add_faces(keys, values, (own[x0:x1], part[x0:x1]), lower, at)
            if y > 0:
                lower = (objects[z, y - 1, x0:x1], parts[z, y - 1, x0:x1])
                used += _add_faces(keys, values, (own[x0:x1], part[x0:x1]), lower, at)
            at = (start[0] + z, start[1] + y, start[2] + x2, extent[1], extent[2])
            lower = (own[x2 - 1 : x1 - 1], part[x2 - 1 : x1 - 1])
            used += _add_faces(keys, values, (own[x2:x1], part[x2:x1]), lower, at)
    return keys, values


@njit(cache=True, nogil=True)
def _add_faces(
    keys: np.ndarray,
    values: np.ndarray,
    upper: tuple[np.ndarray, np.ndarray],
    lower: tuple[np.ndarray, np.ndarray],
    at: tuple[int, int, int, int, int],
) -> int:
    """Count the faces between two rows of voxels; return how many pairs are new. There is room for all of them."""
    own, part = upper
    lower_own, lower_part = lower
    slot, new, last_own, last_a, last_b = np.int64(0), 0, np.uint64(0), np.uint64(0), np.uint64(0)
    for x in range(len(part)):
        a, b = part[x], lower_part[x]
        if a == b or own[x] != lower_own[x] or own[x] == 0 or a == 0 or b == 0:
            continue
        if a > b:
            a, b = b, a
        if own[x] != last_own or a != last_a or b != last_b:
            slot, last_own, last_a, last_b = _slot(keys, own[x], a, b), own[x], a, b
            if keys[slot, 0] == 0:
                keys[slot, 0], keys[slot, 1], keys[slot, 2] = own[x], a, b
                new += 1
        first = (at[0] * at[3] + at[1]) * at[4] + at[2] + x + 1
        values[slot, 4] = first if values[slot, 0] == 0 else min(values[slot, 4], first)
        values[slot, 0] += 1
        values[slot, 1] += at[0]
        values[slot, 2] += at[1]
        values[slot, 3] += at[2] + x
    return new
