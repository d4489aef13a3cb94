"""Patches of contact: connected components of the faces between two segments, block by block.

A face lies between two neighbouring voxels of different segments along an axis; its place is its upper voxel. Faces of
one pair whose upper voxels are the same or touch (26 neighbours) belong to one patch, so faces that share an edge or a
corner always do, and a gap of one voxel ends a patch. A face's number is ``3 * index of its upper voxel + axis + 1``; a
patch is named by its smallest face. Patches of different pairs that would be one if the pairs were the same are
*linked*: with the links, the patches of roots follow from those of their fragments without a look at a voxel.

Faces of one pair in a row of voxels form intervals. The intervals of neighbouring rows are compared as sorted lists;
the nodes of a merge tree do the same with the intervals on the faces of their children's boxes.
"""

# in a kernel, numpy's integers are integers
# mypy: disable-error-code="assignment, return-value, arg-type"

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bouton.geometry import ZYX, Box
from bouton.segment.compiled import kernel
from bouton.segment.components import distinct_pairs, find, join
from bouton.segment.contacts_runs import Walk
from bouton.segment.pair_sums import order_of_pairs
from bouton.segment.region_graph import TableData, concatenate, move, rows_where

PATCH_COLUMNS = {"patch": "uint64", "a": "uint64", "b": "uint64", "faces": "int64"}
LINK_COLUMNS = {"p": "uint64", "q": "uint64"}
BORDER_COLUMNS = {
    "z": "int64", "y": "int64", "x_start": "int64", "x_stop": "int64", "patch": "uint64", "a": "uint64", "b": "uint64",
}  # fmt: skip
CACHE = 1 << 13


@dataclass(frozen=True)
class Patches:
    """Patches of a box.

    Attributes
    ----------
    patches : dict
        ``PATCH_COLUMNS``: the smallest face, the two segments (a < b), the number of faces.
    links : dict
        ``LINK_COLUMNS``: patches of different pairs that touch, p < q, each once.
    border : dict
        ``BORDER_COLUMNS``: the intervals of faces whose upper voxels lie on the box's faces, bounds excepted.
    """

    patches: TableData
    links: TableData
    border: TableData


def no_patches() -> Patches:
    """Return empty tables."""
    return Patches(*(concatenate([], columns) for columns in (PATCH_COLUMNS, LINK_COLUMNS, BORDER_COLUMNS)))


class Intervals(NamedTuple):
    """Intervals of upper voxels along x, sorted by row, then start."""

    first: np.ndarray  # (rows + 1,)
    lower: np.ndarray  # (rows, 4): the rows (y - 1), and (y + 1, y, y - 1) of z - 1; -1 where there is none
    low: np.ndarray
    high: np.ndarray
    pair: np.ndarray
    parent: np.ndarray  # union-find


def patches_of_walk(walk: Walk, core: Box, bounds: Box, shape: ZYX) -> Patches:
    """Return the patches of a block from its intervals of faces (:func:`contacts_runs.walk_runs`).

    Parameters
    ----------
    core, bounds : Box
        In voxels of the data set.
    shape : (z, y, x)
        Of the data set: faces are numbered with it.
    """
    rows = core.shape[0] * core.shape[1]
    z, y = np.divmod(np.arange(rows), core.shape[1])
    first = np.concatenate([np.zeros(1, np.int64), walk.row_stops])
    parent = np.arange(len(walk.low), dtype=np.int32)
    found = Intervals(first, _rows_below(z, y, core.shape[:2]), walk.low, walk.high, walk.pair, parent)
    p, q = connect(found)
    row = np.repeat(np.arange(rows, dtype=np.int32), np.diff(first))
    place = (np.int64(core.start[0]), np.int64(core.start[1]), walk.place[8])
    names, faces, number = np.empty(len(parent), np.uint64), np.zeros(len(parent), np.int64), parent.copy()
    count = _name(
        found, row, (walk.axis, walk.faces), (place, (core.shape[1], shape[1], shape[2])), (names, faces, number)
    )
    heads = np.flatnonzero(parent == np.arange(len(parent)))
    ends = walk.sums[walk.pair[heads]]
    patches = {"patch": names[:count], "a": ends[:, 0].copy(), "b": ends[:, 1].copy(), "faces": faces[:count]}
    return Patches(
        _sorted_by_patch(patches),
        _links(*(names[ends] for ends in _distinct(number[p], number[q]))),
        _border_of_walk(found, row, number, patches, (core, bounds, place)),
    )


def join_patches(children: Sequence[Patches], box: Box, bounds: Box) -> tuple[Patches, Patches]:
    """Join the patches of boxes that tile ``box``; associative.

    Returns
    -------
    kept, rest : Patches
        What nothing outside of the box can change, and what the parent needs.
    """
    patches = concatenate([child.patches for child in children], PATCH_COLUMNS)
    border = concatenate([child.border for child in children], BORDER_COLUMNS)
    links = concatenate([child.links for child in children], LINK_COLUMNS)
    if len(children) > 1:
        border, found, p, q = _connect_border(border)
        same = found.pair[p] == found.pair[q]
        ids, roots = join(border["patch"][p[same]], border["patch"][q[same]])
        patches = _add_patches(patches | {"patch": move(patches["patch"], ids, roots)})
        border["patch"] = move(border["patch"], ids, roots)
        links = _links(
            move(np.concatenate([links["p"], border["patch"][p[~same]]]), ids, roots),
            move(np.concatenate([links["q"], border["patch"][q[~same]]]), ids, roots),
        )
    border = _on_faces(border, box, bounds)
    still = np.unique(border["patch"])
    waits = np.isin(patches["patch"], still)
    hangs = np.isin(links["p"], still) | np.isin(links["q"], still)
    return (
        Patches(rows_where(patches, ~waits), rows_where(links, ~hangs), no_patches().border),
        Patches(rows_where(patches, waits), rows_where(links, hangs), border),
    )


def connect(found: Intervals) -> tuple[np.ndarray, np.ndarray]:
    """Unite touching intervals of one pair in ``found.parent``; return those of different pairs that touch.

    Returns
    -------
    p, q : numpy.ndarray
        int32 (n,): intervals; each two components at least once.
    """
    cache = np.full((CACHE, 2), -1, np.int32)
    links, used, row = np.empty((max(1 << 12, len(found.low) // 4), 2), np.int32), 0, 0
    while True:
        row, used = _connect(found, row, links, used, cache)
        if row < 0:
            break
        links = np.concatenate([links, np.empty_like(links)])
    _settle(found.parent)
    return links[:used, 0], links[:used, 1]


def _connect_border(border: TableData) -> tuple[TableData, Intervals, np.ndarray, np.ndarray]:
    """Return the intervals sorted, and all that touch, of the same pair (united already, but told) or not."""
    border = rows_where(border, np.lexsort([border["x_start"], border["y"], border["z"]]))
    z, y = border["z"], border["y"]
    new = np.ones(len(z), np.bool_)
    new[1:] = (z[1:] != z[:-1]) | (y[1:] != y[:-1])
    first = np.append(np.flatnonzero(new), len(z)).astype(np.int64)
    lower = _rows_below(z[first[:-1]], y[first[:-1]], None)
    pair = _numbers_of_pairs(border["a"], border["b"])
    parent = np.arange(len(z), dtype=np.int32)
    found = Intervals(first, lower, border["x_start"], border["x_stop"], pair, parent)
    p, q = connect(found)
    one = np.arange(len(z), dtype=np.int32)
    return border, found, np.concatenate([p, one]), np.concatenate([q, found.parent])


def _rows_below(z: np.ndarray, y: np.ndarray, shape: tuple[int, int] | None) -> np.ndarray:
    """Return the numbers of the four rows below each row; rows are sorted, and with ``shape`` complete."""
    steps = ((0, -1), (-1, 1), (-1, 0), (-1, -1))
    if shape is not None:
        inside = [(z + dz >= 0) & (y + dy >= 0) & (y + dy < shape[1]) for dz, dy in steps]
        found = [np.where(ok, (z + dz) * shape[1] + y + dy, -1) for ok, (dz, dy) in zip(inside, steps, strict=True)]
        return np.stack(found, axis=1).astype(np.int32)
    if not len(z):
        return np.zeros((0, 4), np.int32)
    width = y.max() + 3
    key, found = z * width + y + 1, []
    for dz, dy in steps:
        at = np.minimum(np.searchsorted(key, key + dz * width + dy), len(key) - 1)
        found.append(np.where(key[at] == key + dz * width + dy, at, -1))
    return np.stack(found, axis=1).astype(np.int32)


def _numbers_of_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    order = order_of_pairs(a, b)
    new = np.ones(len(a), np.bool_)
    new[1:] = (a[order][1:] != a[order][:-1]) | (b[order][1:] != b[order][:-1])
    numbers = np.empty(len(a), np.int32)
    numbers[order] = np.cumsum(new) - 1
    return numbers


def _border_of_walk(
    found: Intervals, row: np.ndarray, number: np.ndarray, patches: TableData, where: tuple[Box, Box, tuple]
) -> TableData:
    core, bounds, place = where
    z, y = np.divmod(row, np.int32(core.shape[1]))
    shift = place[2] - core.start[2]
    starts, stops = (z, y, found.low + shift), (z + 1, y + 1, found.high + shift)
    near = np.zeros(len(row), np.bool_)
    for axis in range(3):
        if core.start[axis] > bounds.start[axis]:
            near |= starts[axis] == 0
        if core.stop[axis] < bounds.stop[axis]:
            near |= stops[axis] == core.shape[axis]
    border = {
        "z": z[near] + place[0],
        "y": y[near] + place[1],
        "x_start": found.low[near] + place[2],
        "x_stop": found.high[near] + place[2],
    }
    ends = {name: patches[name][number[near]] for name in ("patch", "a", "b")}
    return _on_faces(border | ends, core, bounds)


def _on_faces(border: TableData, box: Box, bounds: Box) -> TableData:
    """Keep what lies on the faces of ``box`` that are no faces of ``bounds``, each patch's voxels of a row once."""
    full = np.zeros(len(border["z"]), np.bool_)
    for axis, name in enumerate("zy"):
        if box.start[axis] > bounds.start[axis]:
            full |= border[name] == box.start[axis]
        if box.stop[axis] < bounds.stop[axis]:
            full |= border[name] == box.stop[axis] - 1
    found = [rows_where(border, full)]
    rest = rows_where(border, ~full)
    if box.start[2] > bounds.start[2]:
        ends = rows_where(rest, rest["x_start"] == box.start[2])
        found.append(ends | {"x_stop": ends["x_start"] + 1})
    if box.stop[2] < bounds.stop[2]:
        ends = rows_where(rest, rest["x_stop"] == box.stop[2])
        found.append(ends | {"x_start": ends["x_stop"] - 1})
    return concatenate(found, BORDER_COLUMNS)


def _links(p: np.ndarray, q: np.ndarray) -> TableData:
    return dict(zip(LINK_COLUMNS, distinct_pairs(np.minimum(p, q), np.maximum(p, q)), strict=True))


def _distinct(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct unordered pairs of int32 numbers; packed, they sort five times as fast."""
    packed = np.unique(np.minimum(p, q).astype(np.int64) << 32 | np.maximum(p, q))
    return packed >> 32, packed & 0xFFFFFFFF


def _sorted_by_patch(patches: TableData) -> TableData:
    return rows_where(patches, np.argsort(patches["patch"]))


def _add_patches(patches: TableData) -> TableData:
    """Add up the faces of equal patches; sorted by patch."""
    rows = _sorted_by_patch(patches)
    first = np.flatnonzero(np.append(True, rows["patch"][1:] != rows["patch"][:-1])[: len(rows["patch"])])
    faces = np.add.reduceat(rows["faces"], first) if len(first) else rows["faces"]
    return rows_where(rows, first) | {"faces": faces}


@kernel
def _connect(found: Intervals, row: int, links: np.ndarray, used: int, cache: np.ndarray) -> tuple[int, int]:
    """Connect from ``row`` on; stop at a row (to be done again) for which the links have no room."""
    while row < len(found.first) - 1:
        used = _touching(found, row, row, links, used, cache)
        for side in range(4):
            if found.lower[row, side] >= 0 and used >= 0:
                used = _touching(found, row, np.int64(found.lower[row, side]), links, used, cache)
        if used < 0:
            return row, -used - 1
        row += 1
    return -1, used


@kernel
def _touching(found: Intervals, row: int, other: int, links: np.ndarray, used: int, cache: np.ndarray) -> int:
    """Compare the intervals of two rows, or of a row among themselves; -1 - used where there is no more room."""
    j, stop = found.first[other], found.first[other + 1]
    for i in range(found.first[row], found.first[row + 1]):
        low, high = found.low[i], found.high[i]
        while j < stop and found.high[j] < low:
            j += 1
        k = i + 1 if row == other else j
        while k < stop and found.low[k] <= high:
            if found.high[k] >= low:
                if found.pair[i] == found.pair[k]:
                    _unite(found.parent, i, k)
                else:
                    if used >= len(links):
                        return -1 - used
                    used += _link(found.parent, i, k, links, used, cache)
            k += 1
    return used


@kernel
def _link(parent: np.ndarray, i: int, k: int, links: np.ndarray, used: int, cache: np.ndarray) -> int:
    """Note a link unless the same two components were noted lately; return how many were."""
    # parents instead of roots: a guess that mostly spares the search
    p, q = np.int64(parent[i]), np.int64(parent[k])
    slot = _place_of(p, q)
    if cache[slot, 0] == min(p, q) and cache[slot, 1] == max(p, q):
        return 0
    p, q = np.int64(find(parent, i)), np.int64(find(parent, k))
    slot = _place_of(p, q)
    if cache[slot, 0] == min(p, q) and cache[slot, 1] == max(p, q):
        return 0
    cache[slot, 0], cache[slot, 1] = min(p, q), max(p, q)
    links[used, 0], links[used, 1] = p, q
    return 1


@kernel
def _place_of(p: int, q: int) -> int:
    return (min(p, q) * 40503 ^ max(p, q) * 30011) & (CACHE - 1)


@kernel
def _unite(parent: np.ndarray, i: int, k: int) -> None:
    if parent[i] == parent[k]:
        return
    i, k = find(parent, i), find(parent, k)
    if i < k:
        parent[k] = i
    elif k < i:
        parent[i] = k


@kernel
def _settle(parent: np.ndarray) -> None:
    for i in range(len(parent)):
        parent[i] = parent[parent[i]]


@kernel
def _name(
    found: Intervals,
    row: np.ndarray,
    own: tuple[np.ndarray, np.ndarray],
    where: tuple[tuple[int, int, int], tuple[int, int, int]],
    result: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> int:
    """Number the components; find each one's smallest face and its number of faces; return how many there are."""
    (z, y, x), (rows_y, ny, nx) = where
    names, faces, number = result
    axis, own_faces = own
    count = 0
    for i in range(len(found.parent)):
        index = ((z + row[i] // rows_y) * ny + y + row[i] % rows_y) * nx + x + found.low[i]
        face = np.uint64(3) * np.uint64(index) + np.uint64(axis[i]) + np.uint64(1)
        if found.parent[i] == i:
            number[i], names[count] = count, face
            count += 1
        at = number[found.parent[i]]
        number[i] = at
        names[at] = min(names[at], face)
        faces[at] += own_faces[i]
    return count
