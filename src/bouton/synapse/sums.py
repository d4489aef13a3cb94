"""What a block holds of each cleft, of each segment beside it and of their contacts there, as integer sums.

Sums over the voxels that the block owns; a pair of voxels belongs to the block that owns its upper voxel. So sums of
blocks add up to the same whatever the tiling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

from bouton.geometry import ZYX
from bouton.synapse.ownership import Owned, is_empty
from bouton.synapse.tables import sum_rows

CLEFT_COLUMNS = {"id": "uint64", **dict.fromkeys(("voxels", "z", "y", "x", "cleft", "excitatory"), "int64")}
SIDE_COLUMNS = {
    "id": "uint64",
    "segment": "uint64",
    **dict.fromkeys(("voxels", "z", "y", "x", "pre", "post"), "int64"),
}
TOUCHING_COLUMNS = {
    **dict.fromkeys(("id", "a", "b"), "uint64"),
    **dict.fromkeys(("faces_z", "faces_y", "faces_x"), "int64"),
}
_FREE = np.uint64(0)  # numba compares an unsigned with a plain 0 as floats
_NOTHING = np.zeros((0, 0, 0), dtype=np.uint8)


@dataclass(frozen=True)
class Evidence:
    """What is known of a box's voxels: uint8 (z, y, x), probability * 255; None where nothing is.

    Attributes
    ----------
    cleft, pre, post, excitatory : numpy.ndarray or None
    """

    cleft: np.ndarray | None = None
    pre: np.ndarray | None = None
    post: np.ndarray | None = None
    excitatory: np.ndarray | None = None


@dataclass(frozen=True)
class Place:
    """Where the core lies.

    Attributes
    ----------
    start : (z, y, x)
        Of the core, in voxels of the data set.
    offset : (z, y, x)
        Of the core in arrays that also hold the voxels below it: 0 or 1 along each axis.
    """

    start: ZYX
    offset: ZYX


def cleft_sums(clefts: np.ndarray, evidence: Evidence, start: ZYX) -> dict[str, np.ndarray]:
    """Sum over the voxels of each cleft.

    Parameters
    ----------
    clefts : numpy.ndarray
        uint64 (z, y, x) over a core; 0 = none.
    evidence : Evidence
        Over the core.
    start : (z, y, x)
        Of the core, in voxels of the data set.

    Returns
    -------
    dict
        ``id`` uint64; int64: ``voxels``, ``z``, ``y``, ``x`` (sums of global voxel coordinates), ``cleft``,
        ``excitatory`` (sums of evidence; where there is none, 255 and -1 a voxel). Sorted by id.
    """
    keys, sums = _cleft_runs(clefts, _or_none(evidence.cleft), _or_none(evidence.excitatory), _array(start))
    return _sum_runs(CLEFT_COLUMNS, keys[:, :1], sums)


def side_sums(owned: Owned, segmentation: np.ndarray, evidence: Evidence, place: Place) -> dict[str, np.ndarray]:
    """Sum over the voxels of each segment beside each cleft.

    Parameters
    ----------
    owned : Owned
        Over the core and ``place.offset`` voxels below it.
    segmentation : numpy.ndarray
        uint64 (z, y, x) over the same; voxels of segment 0 are left out.
    evidence : Evidence
        Over the core.
    place : Place

    Returns
    -------
    dict
        ``id``, ``segment`` uint64; int64: ``voxels``, ``z``, ``y``, ``x``, ``pre``, ``post`` (0 where there is no
        evidence). Sorted by id, segment.
    """
    fields = (_or_none(evidence.pre), _or_none(evidence.post))
    keys, sums = _side_runs(_arrays(owned), segmentation, fields, _array(place.start), _array(place.offset))
    return _sum_runs(SIDE_COLUMNS, keys, sums)


def touching_sums(owned: Owned, segmentation: np.ndarray, offset: ZYX) -> dict[str, np.ndarray]:
    """Count the voxel faces between two segments beside each cleft: both voxels belong to it.

    Parameters
    ----------
    owned, segmentation
        As for :func:`side_sums`.
    offset : (z, y, x)
        As of :class:`Place`.

    Returns
    -------
    dict
        ``id``, ``a`` < ``b`` uint64; ``faces_z``, ``faces_y``, ``faces_x`` int64: faces across each axis. Sorted.
    """
    keys, sums = _face_runs(_arrays(owned), segmentation, _array(offset))
    return _sum_runs(TOUCHING_COLUMNS, keys, sums)


def _sum_runs(columns: Mapping[str, str], keys: np.ndarray, sums: np.ndarray) -> dict[str, np.ndarray]:
    """Add up the rows of equal keys, uint64 (n, k), the first ``columns``; the others are the sums."""
    values = [part[:, i] for part in (keys, sums) for i in range(part.shape[1])]
    return sum_rows(dict(zip(columns, values, strict=True)), list(columns)[: keys.shape[1]])


def _or_none(field: np.ndarray | None) -> np.ndarray:
    return _NOTHING if field is None else field


def _array(zyx: ZYX) -> np.ndarray:
    return np.asarray(zyx, dtype=np.int64)


def _arrays(owned: Owned) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return owned.owner, owned.first, owned.last


@njit(cache=True, nogil=True)
def _grown(array: np.ndarray, n: int) -> np.ndarray:
    """Return an array with room for row ``n``."""
    if n < len(array):
        return array
    larger = np.empty((2 * len(array), array.shape[1]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger


@njit(cache=True, nogil=True)
def _cleft_runs(
    clefts: np.ndarray, cleft: np.ndarray, excitatory: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return a row for each stretch of equal voxels along x."""
    keys, sums = np.empty((64, 1), dtype=np.uint64), np.empty((64, 6), dtype=np.int64)
    n = 0
    for z in range(clefts.shape[0]):
        for y in range(clefts.shape[1]):
            row = clefts[z, y]
            if is_empty(row):
                continue
            x = 0
            while x < len(row):
                label, begin, inside, type_sum = row[x], x, 0, 0
                while x < len(row) and row[x] == label:
                    if label != _FREE:
                        inside += cleft[z, y, x] if cleft.size else 255
                        type_sum += excitatory[z, y, x] if excitatory.size else -1
                    x += 1
                if label != _FREE:
                    keys, sums = _grown(keys, n), _grown(sums, n)
                    keys[n, 0] = label
                    _put(sums[n], (z + start[0], y + start[1], begin + start[2]), x - begin, inside, type_sum)
                    n += 1
    return keys[:n], sums[:n]


@njit(cache=True, nogil=True)
def _side_runs(
    owned: tuple[np.ndarray, np.ndarray, np.ndarray],
    segmentation: np.ndarray,
    evidence: tuple[np.ndarray, np.ndarray],
    start: np.ndarray,
    offset: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return a row for each stretch along x of one owner and one segment."""
    owner, first, last = owned
    pre, post = evidence
    keys, sums = np.empty((1024, 2), dtype=np.uint64), np.empty((1024, 6), dtype=np.int64)
    n = 0
    for z in range(offset[0], owner.shape[0]):
        for y in range(offset[1], owner.shape[1]):
            zz, yy, x = z - offset[0], y - offset[1], max(offset[2], first[z, y])
            end = last[z, y]
            while x < end:
                cleft, segment, begin = owner[z, y, x], segmentation[z, y, x], x
                while x < end and owner[z, y, x] == cleft and segmentation[z, y, x] == segment:
                    x += 1
                if cleft == _FREE or segment == _FREE:
                    continue
                a, b = begin - offset[2], x - offset[2]
                keys, sums = _grown(keys, n), _grown(sums, n)
                keys[n, 0], keys[n, 1] = cleft, segment
                more = _total(pre, zz, yy, a, b), _total(post, zz, yy, a, b)
                _put(sums[n], (zz + start[0], yy + start[1], a + start[2]), b - a, more[0], more[1])
                n += 1
    return keys[:n], sums[:n]


@njit(cache=True, nogil=True)
def _total(field: np.ndarray, z: int, y: int, a: int, b: int) -> int:
    total = 0
    if field.size:
        for x in range(a, b):
            total += field[z, y, x]
    return total


@njit(cache=True, nogil=True)
def _put(sums: np.ndarray, at: tuple[int, int, int], n: int, one: int, other: int) -> None:
    """Write the sums of n voxels along x, from voxel ``at`` on."""
    z, y, x = at
    sums[0], sums[1], sums[2], sums[3] = n, n * z, n * y, n * x + n * (n - 1) // 2
    sums[4], sums[5] = one, other


@njit(cache=True, nogil=True)
def _face_runs(
    owned: tuple[np.ndarray, np.ndarray, np.ndarray], segmentation: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of faces between segments; those that follow each other along x share a row."""
    owner, first, last = owned
    keys, sums = np.empty((1024, 3), dtype=np.uint64), np.empty((1024, 3), dtype=np.int64)
    open_row = np.full(3, -1)
    n = 0
    for z in range(offset[0], owner.shape[0]):
        for y in range(offset[1], owner.shape[1]):
            open_row[:] = -1
            for x in range(max(offset[2], first[z, y]), last[z, y]):
                cleft, segment = owner[z, y, x], segmentation[z, y, x]
                if cleft == _FREE or segment == _FREE:
                    continue
                for axis in range(3):
                    zz, yy, xx = z - (axis == 0), y - (axis == 1), x - (axis == 2)
                    if zz < 0 or yy < 0 or xx < 0 or owner[zz, yy, xx] != cleft:
                        continue
                    other = segmentation[zz, yy, xx]
                    if other in (segment, _FREE):
                        continue
                    a, b = min(segment, other), max(segment, other)
                    row = open_row[axis]
                    if row < 0 or keys[row, 0] != cleft or keys[row, 1] != a or keys[row, 2] != b:
                        keys, sums = _grown(keys, n), _grown(sums, n)
                        keys[n, 0], keys[n, 1], keys[n, 2], sums[n] = cleft, a, b, 0
                        open_row[axis] = row = n
                        n += 1
                    sums[row, axis] += 1
    return keys[:n], sums[:n]
