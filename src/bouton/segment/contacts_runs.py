"""One walk over the runs of equal labels: per pair of touching segments, integer sums; and where the faces lie.

A row of voxels is a list of runs along x. Two neighbouring rows meet where their runs overlap, and the overlap of two
runs, one of them shifted by a voxel or none, is at once the number of neighbouring voxel pairs along one direction, so
all 13 directions cost one walk over the runs of four pairs of rows. The idea of counting on runs: Lehmann and Legland,
"Efficient N-dimensional surface estimation using Crofton formula and run-length encoding", Insight Journal 2012.

A neighbouring pair of voxels belongs to the block that owns its upper voxel.
"""

# in a kernel, numpy's integers are integers
# mypy: disable-error-code="assignment, return-value, arg-type"

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bouton.geometry import Box
from bouton.segment.compiled import kernel

# from the lower to the upper voxel of a pair: along the row, then to the rows y - 1, and y + 1, y, y - 1 of z - 1
DIRECTIONS = (
    (0, 0, 1), (0, 1, -1), (0, 1, 0), (0, 1, 1), (1, -1, -1), (1, -1, 0), (1, -1, 1),
    (1, 0, -1), (1, 0, 0), (1, 0, 1), (1, 1, -1), (1, 1, 0), (1, 1, 1),
)  # fmt: skip
ALONG_X, ALONG_Y, ALONG_Z = 2, 4, 10  # columns of ``sums``: two ids, 13 counts, sums of face centres in half voxels
CENTRE = 2 + len(DIRECTIONS)
WIDTH = CENTRE + 3
PAIRS, INTERVALS = 0, 1
INTERVAL_FIELDS = ("low", "high", "pair", "axis", "faces")
BACK = 8  # how many intervals of a row are searched for one to be continued


class Walk(NamedTuple):
    """All that the walk knows: plain arrays, which grow between rows."""

    labels: np.ndarray
    place: np.ndarray  # core's start and stop in the array, the array's origin in the data set
    starts: np.ndarray  # (2, ...) of this and the last section: the runs' starts, each row ended by its length
    values: np.ndarray  # (2, ...) the runs' labels
    first: np.ndarray  # (2, y) where a row's runs start
    slots: np.ndarray  # hash table: row of ``sums`` + 1
    sums: np.ndarray  # uint64 (n, WIDTH)
    low: np.ndarray  # intervals of faces of one pair along a row: x from ``low`` to ``high`` of the upper voxels
    high: np.ndarray
    pair: np.ndarray
    axis: np.ndarray  # of the interval's smallest face
    faces: np.ndarray
    row_stops: np.ndarray  # (rows of the core,) the number of intervals up to each row's end
    scratch: np.ndarray  # (3, x, 3) one row's intervals by axis
    filled: np.ndarray  # (3,) how many of each
    used: np.ndarray  # pairs, intervals


def walk_runs(labels: np.ndarray, core: Box, origin: tuple[int, int, int], faces: bool) -> Walk:
    """Walk over the core; ``sums`` and the intervals of the result are cut to what is used.

    Parameters
    ----------
    labels : numpy.ndarray
        Unsigned (z, y, x): the core with one voxel more on every side, where the bounds allow; 0 is background.
    core : Box
        In coordinates of ``labels``.
    origin : (z, y, x)
        Where ``labels`` begins in the data set.
    faces : bool
        Whether to list the intervals of faces.
    """
    walk = _new_walk(np.ascontiguousarray(labels), core, origin, faces)
    at = (core.start[0], core.start[1])
    while True:
        at = _walk(walk, at[0], at[1], faces)
        if at[0] < 0:
            break
        walk = _grown(walk, faces)
    n, m = walk.used[PAIRS], walk.used[INTERVALS]
    cut = {name: getattr(walk, name)[:m] for name in INTERVAL_FIELDS}
    return walk._replace(sums=walk.sums[:n], **cut)


def _new_walk(labels: np.ndarray, core: Box, origin: tuple[int, int, int], faces: bool) -> Walk:
    _, ny, nx = labels.shape
    pairs = 1 << (16 * nx).bit_length()
    intervals = max(4 * nx, labels.size // 16) if faces else 0
    rows = core.shape[0] * core.shape[1]
    return Walk(
        labels=labels,
        place=np.array([*core.start, *core.stop, *origin], np.int64),
        starts=np.empty((2, ny * (nx + 1)), np.int32),
        values=np.empty((2, ny * (nx + 1)), np.uint64),
        first=np.zeros((2, ny), np.int64),
        slots=np.zeros(2 * pairs, np.int32),
        sums=np.zeros((pairs, WIDTH), np.uint64),
        low=np.empty(intervals, np.int32),
        high=np.empty(intervals, np.int32),
        pair=np.empty(intervals, np.int32),
        axis=np.empty(intervals, np.int8),
        faces=np.empty(intervals, np.int32),
        row_stops=np.zeros(rows, np.int64),
        scratch=np.empty((3, nx, 3) if faces else (3, 0, 3), np.int32),
        filled=np.zeros(3, np.int64),
        used=np.zeros(2, np.int64),
    )


def _grown(walk: Walk, faces: bool) -> Walk:
    """Double what is nearly full."""
    if not _room_for_pairs(walk):
        sums = np.concatenate([walk.sums, np.zeros_like(walk.sums)])
        slots = np.zeros(2 * len(walk.slots), np.int32)
        _rehash(slots, sums, walk.used[PAIRS])
        walk = walk._replace(sums=sums, slots=slots)
    if faces and not _room_for_intervals(walk):
        longer = {n: np.concatenate([getattr(walk, n)] * 2) for n in INTERVAL_FIELDS}
        walk = walk._replace(**longer)
    return walk


@kernel
def _room_for_pairs(walk: Walk) -> bool:
    return walk.used[0] + 13 * walk.labels.shape[2] <= len(walk.sums)


@kernel
def _room_for_intervals(walk: Walk) -> bool:
    return walk.used[1] + 3 * walk.labels.shape[2] <= len(walk.low)


@kernel
def _walk(walk: Walk, z: int, y: int, faces: bool) -> tuple[int, int]:
    """Walk on from row (z, y) to the end, or until an array could become too full; return where that was."""
    place, ny = walk.place, walk.labels.shape[1]
    if z == place[0] and y == place[1] and z > 0:
        _list_runs(walk, z - 1)
    while z < place[3]:
        if y == place[1]:
            _list_runs(walk, z)
        while y < place[4]:
            if not _room_for_pairs(walk) or (faces and not _room_for_intervals(walk)):
                return z, y
            walk.filled[:] = 0
            _along_row(walk, z, y, faces)
            if y > 0:
                _between(walk, z, y, z, y - 1, faces)
            if z > 0 and y + 1 < ny:
                _between(walk, z, y, z - 1, y + 1, False)
            if z > 0:
                _between(walk, z, y, z - 1, y, faces)
            if z > 0 and y > 0:
                _between(walk, z, y, z - 1, y - 1, False)
            if faces:
                _sort_faces(walk, z, y)
            y += 1
        z, y = z + 1, place[1]
    return -1, 0


@kernel
def _list_runs(walk: Walk, z: int) -> None:
    """List the runs of all rows of a section."""
    labels, side, n = walk.labels, z & 1, np.int64(0)
    _, ny, nx = labels.shape
    for y in range(ny):
        walk.first[side, y] = n
        walk.starts[side, n] = 0
        n += 1
        for x in range(1, nx):
            walk.starts[side, n] = x
            n += np.int64(labels[z, y, x] != labels[z, y, x - 1])
        walk.starts[side, n] = nx
        for i in range(walk.first[side, y], n):
            walk.values[side, i] = labels[z, y, walk.starts[side, i]]
        n += 1


@kernel
def _along_row(walk: Walk, z: int, y: int, faces: bool) -> None:
    """Add the faces between voxels x - 1 and x of one row."""
    side, nx, place = z & 1, walk.labels.shape[2], walk.place
    i = walk.first[side, y]
    x = walk.starts[side, i + 1]
    while x < nx and x < place[5]:
        one, other = walk.values[side, i], walk.values[side, i + 1]
        if x >= place[2] and one != 0 and other != 0:
            row = _row_of(walk, one, other)
            walk.sums[row, ALONG_X] += np.uint64(1)
            walk.sums[row, CENTRE] += np.uint64(2 * (place[6] + z) + 1)
            walk.sums[row, CENTRE + 1] += np.uint64(2 * (place[7] + y) + 1)
            walk.sums[row, CENTRE + 2] += np.uint64(2 * (place[8] + x))
            if faces:
                _note_faces(walk, 2, x, x + 1, row)
        i += 1
        x = walk.starts[side, i + 1]


@kernel
def _between(walk: Walk, z: int, y: int, lower_z: int, lower_y: int, faces: bool) -> None:
    """Add the pairs of a voxel of row (z, y) and one of a lower row whose x differs by at most 1."""
    starts, values, place = walk.starts, walk.values, walk.place
    side, other_side, end = z & 1, lower_z & 1, walk.labels.shape[2]
    i, j = walk.first[side, y], walk.first[other_side, lower_y]
    stop = np.int64(0)
    while stop < end and stop < place[5]:
        start, stop = max(np.int64(starts[side, i]), place[2]), min(np.int64(starts[side, i + 1]), place[5])
        label = values[side, i]
        i += 1
        if start >= stop or label == 0:
            continue
        while starts[other_side, j + 1] < start:
            j += 1
        k = j
        low = np.int64(starts[other_side, k])
        while low <= stop and low < end:
            high = np.int64(starts[other_side, k + 1])
            lower = values[other_side, k]
            if lower != label and lower != 0:
                at, ends = (z, y, z - lower_z, y - lower_y), (start, stop, low, high)
                _overlap(walk, _row_of(walk, label, lower), at, ends, faces)
            k, low = k + 1, high


@kernel
def _overlap(walk: Walk, row: int, at: tuple[int, int, int, int], ends: tuple[int, int, int, int], faces: bool) -> None:
    """Add the neighbours of the run from ``start`` to ``stop`` in the lower run from ``low`` to ``high``."""
    z, y, dz, dy = at
    start, stop, low, high = ends
    column = ALONG_Y if dz == 0 else ALONG_Z + 3 * dy
    sums = walk.sums
    sums[row, column - 1] += np.uint64(max(0, min(stop, high - 1) - max(start, low - 1)))
    sums[row, column + 1] += np.uint64(max(0, min(stop, high + 1) - max(start, low + 1)))
    start, stop = max(start, low), min(stop, high)
    if stop <= start:
        return
    count = np.uint64(stop - start)
    sums[row, column] += count
    if dz + dy == 1 and (dz == 0 or dy == 0):
        place = walk.place
        sums[row, CENTRE] += count * np.uint64(2 * (place[6] + z) + 1 - dz)
        sums[row, CENTRE + 1] += count * np.uint64(2 * (place[7] + y) + 1 - dy)
        sums[row, CENTRE + 2] += count * np.uint64(2 * place[8] + start + stop)
        if faces:
            _note_faces(walk, dy, start, stop, row)


@kernel
def _note_faces(walk: Walk, axis: int, start: int, stop: int, row: int) -> None:
    n = walk.filled[axis]
    walk.scratch[axis, n, 0], walk.scratch[axis, n, 1], walk.scratch[axis, n, 2] = start, stop, row
    walk.filled[axis] = n + 1


@kernel
def _sort_faces(walk: Walk, z: int, y: int) -> None:
    """Put the row's intervals, three sorted lists, into one sorted by start; those of one pair that touch are one."""
    scratch, filled, place = walk.scratch, walk.filled, walk.place
    i, j, k, first = 0, 0, 0, walk.used[INTERVALS]
    far = np.int64(walk.labels.shape[2])
    while i + j + k < filled[0] + filled[1] + filled[2]:
        of_z = np.int64(scratch[0, i, 0]) if i < filled[0] else far
        of_y = np.int64(scratch[1, j, 0]) if j < filled[1] else far
        of_x = np.int64(scratch[2, k, 0]) if k < filled[2] else far
        if of_z <= of_y and of_z <= of_x:
            axis, at, i = 0, i, i + 1
        elif of_y <= of_x:
            axis, at, j = 1, j, j + 1
        else:
            axis, at, k = 2, k, k + 1
        _add_interval(walk, axis, at, first)
    walk.row_stops[(z - place[0]) * (place[4] - place[1]) + y - place[1]] = walk.used[INTERVALS]


@kernel
def _add_interval(walk: Walk, axis: int, at: int, first: int) -> None:
    """Continue a late interval of the row, or begin a new one."""
    low, high, pair = walk.scratch[axis, at, 0], walk.scratch[axis, at, 1], walk.scratch[axis, at, 2]
    n = walk.used[INTERVALS]
    for i in range(n - 1, max(first, n - BACK) - 1, -1):
        if walk.pair[i] == pair and walk.high[i] >= low:
            walk.high[i] = max(walk.high[i], high)
            walk.faces[i] += high - low
            return
    walk.low[n], walk.high[n], walk.pair[n] = low, high, pair
    walk.axis[n], walk.faces[n] = axis, high - low
    walk.used[INTERVALS] = n + 1


@kernel
def _row_of(walk: Walk, one: np.uint64, other: np.uint64) -> int:
    """Return the row of ``sums`` of a pair of labels; a new one where the pair is new."""
    a, b = min(one, other), max(one, other)
    sums, slots = walk.sums, walk.slots
    slot = _slot_of(slots, sums, a, b)
    if slots[slot] == 0:
        n = walk.used[PAIRS]
        walk.used[PAIRS] = n + 1
        slots[slot] = n + 1
        sums[n, 0], sums[n, 1] = a, b
    return np.int64(slots[slot]) - 1


@kernel
def _slot_of(slots: np.ndarray, sums: np.ndarray, a: np.uint64, b: np.uint64) -> np.uint64:
    mask = np.uint64(len(slots) - 1)
    mixed = a * np.uint64(0x9E3779B97F4A7C15) ^ (b + np.uint64(0x632BE59BD9B4E019)) * np.uint64(0xC2B2AE3D27D4EB4F)
    slot = (mixed ^ (mixed >> np.uint64(29))) & mask
    while slots[slot] != 0 and (sums[slots[slot] - 1, 0] != a or sums[slots[slot] - 1, 1] != b):
        slot = (slot + np.uint64(1)) & mask
    return slot


@kernel
def _rehash(slots: np.ndarray, sums: np.ndarray, used: int) -> None:
    for row in range(used):
        slots[_slot_of(slots, sums, sums[row, 0], sums[row, 1])] = row + 1
