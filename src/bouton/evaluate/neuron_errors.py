"""Which true neurons are cut, and which segments join several: every error with its cost and a place to look at.

An *object* is divided into *parts*: a true neuron into the segments it is cut into (splits), or a segment into the true
neurons it joins (merges). The part with the most voxels is where the object belongs; every other part is one error.
Its cost is what the variation of information falls by when this error alone is corrected: with f(n) = n log2 n and N
all voxels, (f(n + m) - f(n) - f(m)) / N bits, n the part's voxels, m those of the part it should be joined to (split:
the largest) or of the rest it should be cut from (merge: the others together).

The lists are made from sums that blocks add up to (:mod:`bouton.evaluate.error_sums`). An error's place is where the
part touches the largest of those parts of its object that it touches (not the one it shares most faces with: a film one
voxel thick along a border has more faces than the place where a neurite was cut): the upper voxel of the face nearest
the faces' mean place; where nothing touches, the part's voxel nearest its own mean place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bouton.evaluate.error_sums import SUMS, TableData, changes
from bouton.geometry import NM, ZYX, Box, centres_nm, nm_to_voxels

Reader = Callable[[Box], tuple[np.ndarray, np.ndarray]]

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
    objects = np.flatnonzero(changes([parts["object"]]))
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
    return found | _where_to_look(found, {name: parts[name][rows] for name in SUMS}, parts, touching)


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
    order = order[changes([both["object"][order], part[order]])]
    at = _find(both["object"][order], part[order], errors["object"], errors["part"])
    touches = at >= 0
    row = order[at[touches]]
    found = {name: values.copy() for name, values in own.items()}
    for name in SUMS:
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
