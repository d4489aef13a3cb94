"""Which true neurons are cut, and which segments join several: every error with its cost and a place to look at.

An *object* is divided into *parts*: a true neuron into the segments it is cut into (splits), or a segment into the true
neurons it joins (merges). The part with the most voxels is where the object belongs; every other part is one error.
Its cost is what the variation of information falls by when this error alone is corrected: with f(n) = n log2 n and N
all voxels, (f(n + m) - f(n) - f(m)) / N bits, n the part's voxels, m those of the part it should be joined to (split:
the largest) or of the rest it should be cut from (merge: the others together).

Blocks give sums over the voxels and voxel faces that they own, so that blocks add up in any order to the same numbers.
A face between two voxels belongs to the block that owns the upper one. An error's place is where the part touches
the largest of those parts of its object that it touches (not the one it shares most faces with: a film one voxel thick
along a border has more faces than the place where a neurite was cut): the upper voxel of the face nearest the faces'
mean place; where nothing touches, the part's voxel nearest its own mean place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numba import njit

from bouton.evaluate.contingency import Contingency
from bouton.geometry import NM, ZYX, Box, centres_nm, nm_to_voxels

TableData = dict[str, np.ndarray]
Reader = Callable[[Box], tuple[np.ndarray, np.ndarray]]

_SUMS = {"voxels": "int64", "z_sum": "int64", "y_sum": "int64", "x_sum": "int64", "first": "uint64"}
PART_COLUMNS = {"object": "uint64", "part": "uint64", **_SUMS}
"""Voxels of each part of each object, sums of their coordinates, and the first one's global id."""
CONTACT_COLUMNS = {"object": "uint64", "a": "uint64", "b": "uint64", **_SUMS}
"""The same of the upper voxels of the faces between parts a < b of an object."""
ERROR_COLUMNS = {
    "object": "uint64",
    "part": "uint64",
    "bits": "float64",
    "voxels": "int64",
    "share": "float64",
    "parts": "int64",
    "largest": "uint64",
    "neighbour": "uint64",
    "faces": "int64",
    **{f"{axis}_nm": "float64" for axis in "zyx"},
    **{f"{axis}_voxel": "int64" for axis in "zyx"},
}
"""One error a row, the costliest first; ``neighbour`` 0 and ``faces`` 0 where the part touches no other."""
SPLIT_NAMES = {"object": "truth", "part": "segment", "parts": "pieces"}
MERGE_NAMES = {"object": "segment", "part": "truth", "parts": "neurons"}
SPLIT_COLUMNS = {SPLIT_NAMES.get(name, name): kind for name, kind in ERROR_COLUMNS.items()}
MERGE_COLUMNS = {MERGE_NAMES.get(name, name): kind for name, kind in ERROR_COLUMNS.items()}
NEAREST_READ = 16
FARTHEST_READ = 64


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
    names = [name for name in columns if name not in _SUMS]
    order = np.lexsort([rows[name] for name in reversed(names)])
    rows = {name: values[order] for name, values in rows.items()}
    first = np.flatnonzero(_changes([rows[name] for name in names]))
    added = {name: rows[name][first] for name in names}
    for name in _SUMS:
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


def split_errors(parts: TableData, touching: TableData, listed: int) -> TableData:
    """Return the costliest splits, without places: :func:`add_places` finds those.

    Parameters
    ----------
    parts : dict of str -> numpy.ndarray
        ``PART_COLUMNS``, the segments of each true neuron. Segment 0 is no part, but its voxels count for shares.
    touching : dict of str -> numpy.ndarray
        ``CONTACT_COLUMNS`` between these parts.
    listed : int
        At most this many rows.
    """
    return _errors(parts, touching, listed, joins=True)


def merge_errors(parts: TableData, touching: TableData, listed: int) -> TableData:
    """Return the costliest merges, as :func:`split_errors`: objects are segments, parts true neurons."""
    return _errors(parts, touching, listed, joins=False)


def _errors(parts: TableData, touching: TableData, listed: int, *, joins: bool) -> TableData:
    """Return errors with, in place of a place, the sums that tell where to look for it."""
    n = int(parts["voxels"].sum())
    objects = np.flatnonzero(_changes([parts["object"]]))
    sizes = np.add.reduceat(parts["voxels"], objects) if len(objects) else parts["voxels"]
    of = np.repeat(np.arange(len(objects)), np.diff(np.append(objects, len(parts["object"]))))
    # Unsegmented voxels are no part, and together no object.
    real = (parts["part"] != 0) & (parts["object"] != 0)
    # Sorted by part, so the first of equal sizes is the smallest id.
    order = np.lexsort((parts["part"], -parts["voxels"], ~real, parts["object"]))
    largest = order[objects]
    rows = np.flatnonzero(real & (np.arange(len(of)) != largest[of]))
    voxels = parts["voxels"][rows]
    other = parts["voxels"][largest[of[rows]]] if joins else sizes[of[rows]] - voxels
    bits = (_f(voxels + other) - _f(voxels) - _f(other)) / max(n, 1)
    worst = np.lexsort((parts["part"][rows], parts["object"][rows], -bits))[:listed]
    rows, bits = rows[worst], bits[worst]
    found = {"object": parts["object"][rows], "part": parts["part"][rows], "bits": bits}
    found |= {"voxels": parts["voxels"][rows], "share": parts["voxels"][rows] / sizes[of[rows]]}
    found |= {"parts": np.bincount(of[real], minlength=len(objects))[of[rows]].astype(np.int64)}
    found |= {"largest": parts["part"][largest[of[rows]]]}
    return found | _where_to_look(found, {name: parts[name][rows] for name in _SUMS}, parts, touching)


def _where_to_look(errors: TableData, own: TableData, parts: TableData, touching: TableData) -> TableData:
    """Return neighbour, faces, mean place and first voxel: of a contact with the largest part, else of the part itself.

    ``own`` are the rows of the errors in ``parts``. A part that a border mask hides has no voxels.
    """
    # Few objects have listed errors: nothing else is sorted.
    touching, parts = (_of_objects(table, errors["object"]) for table in (touching, parts))
    both = {name: np.concatenate([values, values]) for name, values in touching.items() if name not in "ab"}
    part = np.concatenate([touching["a"], touching["b"]])
    neighbour = np.concatenate([touching["b"], touching["a"]])
    at = _find(parts["object"], parts["part"], both["object"], neighbour)
    size = np.where(at >= 0, parts["voxels"][at], 0) if len(parts["voxels"]) else np.zeros(len(at), np.int64)
    order = np.lexsort((neighbour, -both["voxels"], -size, part, both["object"]))
    order = order[_changes([both["object"][order], part[order]])]
    at = _find(both["object"][order], part[order], errors["object"], errors["part"])
    touches = at >= 0
    row = order[at[touches]]
    found = {name: values.copy() for name, values in own.items()}
    for name in _SUMS:
        found[name][touches] = both[name][row]
    ends, faces = np.zeros(len(at), np.uint64), np.zeros(len(at), np.int64)
    ends[touches], faces[touches] = neighbour[row], both["voxels"][row]
    means = {f"{axis}_mean": found[f"{axis}_sum"] / np.maximum(found["voxels"], 1) for axis in "zyx"}
    return {"neighbour": ends, "faces": faces, **means, "first": found["first"]}


def _of_objects(rows: TableData, objects: np.ndarray) -> TableData:
    keep = np.isin(rows["object"], objects)
    return {name: values[keep] for name, values in rows.items()}


def _find(objects: np.ndarray, parts: np.ndarray, wanted_objects: np.ndarray, wanted_parts: np.ndarray) -> np.ndarray:
    """Return the row of each wanted pair among sorted pairs, -1 where there is none; int64."""
    ids = np.unique(np.concatenate([parts, wanted_parts]))
    # Ranks, as the ids themselves fill all 64 bits.
    names = np.unique(np.concatenate([objects, wanted_objects]))
    have = np.searchsorted(names, objects) * len(ids) + np.searchsorted(ids, parts)
    want = np.searchsorted(names, wanted_objects) * len(ids) + np.searchsorted(ids, wanted_parts)
    if not len(have):
        return np.full(len(want), -1, np.int64)
    at = np.minimum(np.searchsorted(have, want), len(have) - 1)
    return np.where(have[at] == want, at, -1)


def add_places(errors: TableData, read: Reader, bounds: Box, shape: ZYX, voxel_size_nm: NM) -> TableData:
    """Return ``ERROR_COLUMNS`` of what :func:`split_errors` or :func:`merge_errors` found.

    Parameters
    ----------
    errors : dict of str -> numpy.ndarray
    read : callable
        ``read(box)`` returns objects and parts, uint64 (z, y, x); asked for small boxes around the mean places.
    bounds : Box
        No box leaves these.
    shape : (z, y, x)
        Shape of the whole data set.
    voxel_size_nm : (z, y, x)
    """
    means = np.stack([errors[f"{axis}_mean"] for axis in "zyx"], axis=1)
    places = np.zeros((len(means), 3), np.int64)
    for i, mean in enumerate(means):
        ids = (errors["object"][i], errors["part"][i], errors["neighbour"][i])
        found = _nearest(ids, mean, read, bounds, voxel_size_nm)
        places[i] = _voxel(int(errors["first"][i]), shape) if found is None else found
    nm = centres_nm(places, voxel_size_nm)
    rows = errors | {f"{axis}_nm": nm[:, i] for i, axis in enumerate("zyx")}
    rows |= {f"{axis}_voxel": places[:, i] for i, axis in enumerate("zyx")}
    return {name: rows[name] for name in ERROR_COLUMNS}


def _nearest(
    ids: tuple[np.uint64, np.uint64, np.uint64], mean: np.ndarray, read: Reader, bounds: Box, voxel_size_nm: NM
) -> ZYX | None:
    """Return the voxel of the error nearest to ``mean``, looked for in growing boxes; None if there is none near."""
    size, middle = np.asarray(voxel_size_nm), np.floor(mean + 0.5).astype(np.int64)
    reach = NEAREST_READ
    while True:
        reach_nm = reach * float(size.min())
        halo = nm_to_voxels(reach_nm, voxel_size_nm)
        z, y, x = (int(v) for v in middle)
        box = Box((z, y, x), (z + 1, y + 1, x + 1)).grow([h + 1 for h in halo]) & bounds
        if not box.is_empty:
            found = np.argwhere(_voxels_of(ids, *read(box)))
            away = np.sqrt(np.square((found + np.asarray(box.start) - mean) * size).sum(axis=1))
            # Voxels outside of the box are farther than this.
            if len(found) and (away.min() <= reach_nm or reach >= FARTHEST_READ):
                nearest = found[np.argmin(away)] + np.asarray(box.start)
                return int(nearest[0]), int(nearest[1]), int(nearest[2])
        if reach >= FARTHEST_READ:
            return None
        reach *= 2


def _voxels_of(ids: tuple[np.uint64, np.uint64, np.uint64], objects: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Return the upper voxels of the faces between the two parts; without a neighbour, the part's voxels. bool."""
    own, part, neighbour = ids
    inside = objects == own
    a = inside & (parts == part)
    if neighbour == 0:
        return a
    b = inside & (parts == neighbour)
    upper = np.zeros(a.shape, np.bool_)
    upper[1:] |= (a[1:] & b[:-1]) | (b[1:] & a[:-1])
    upper[:, 1:] |= (a[:, 1:] & b[:, :-1]) | (b[:, 1:] & a[:, :-1])
    upper[:, :, 1:] |= (a[:, :, 1:] & b[:, :, :-1]) | (b[:, :, 1:] & a[:, :, :-1])
    return upper


def _voxel(voxel_id: int, shape: ZYX) -> ZYX:
    z, rest = divmod(voxel_id - 1, shape[1] * shape[2])
    return z, *divmod(rest, shape[2])


def _f(n: np.ndarray) -> np.ndarray:
    n = n.astype(np.float64)
    return n * np.log2(np.maximum(n, 1))


def _changes(columns: Sequence[np.ndarray]) -> np.ndarray:
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
    names = [name for name in rows if name not in _SUMS]
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
