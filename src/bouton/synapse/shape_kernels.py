"""Loops over the voxels of a segment: shortest walks, balls that fit, connected pieces, faces between two segments.

All work in the box around what they look at alone, and hold one float64 array of that box.
"""

from __future__ import annotations

import numpy as np
from numba import njit

CLOSED = -np.inf
GONE = -2


@njit(cache=True, nogil=True)
def _open_voxels(labels: np.ndarray, low: np.ndarray, best: np.ndarray, frame: tuple) -> None:
    """Set ``best`` to infinity where a walk may go; it lies one voxel around the box that starts at ``low``."""
    start, reach, spacing = frame
    wanted = labels[start[0], start[1], start[2]]
    for z in range(best.shape[0] - 2):
        dz = (z + low[0] - start[0]) * spacing[0]
        for y in range(best.shape[1] - 2):
            dy = (y + low[1] - start[1]) * spacing[1]
            if dz * dz + dy * dy > reach * reach:
                continue
            for x in range(best.shape[2] - 2):
                if labels[z + low[0], y + low[1], x + low[2]] == wanted:
                    dx = (x + low[2] - start[2]) * spacing[2]
                    if dz * dz + dy * dy + dx * dx <= reach * reach:
                        best[z + 1, y + 1, x + 1] = np.inf


@njit(cache=True, nogil=True)
def _spread_out(best: np.ndarray, first: int, offsets: np.ndarray, lengths: np.ndarray) -> int:
    """Write the length of the shortest walk from voxel ``first`` into every open voxel; return how many were reached.

    Voxels wait in a ring of buckets as wide as the shortest step: whatever waits in the nearest one is final but for
    rounding, so that a queue in order is not needed (Dial 1969, doi:10.1145/363269.363610). Each voxel waits once, in
    lists linked both ways, since arrays that grow cost more than the walk.
    """
    width, many = lengths.min(), np.int64(lengths.max() / lengths.min()) + 3
    heads = np.full(many, -1, dtype=np.int64)
    # of a voxel that waits: the next one in its bucket, and the one before it
    after, before = np.empty(len(best), dtype=np.int64), np.empty(len(best), dtype=np.int64)
    best[first], after[first], heads[0] = 0.0, -1, first
    waiting, reached, bucket = 1, 1, 0
    while waiting > 0:
        while heads[bucket % many] >= 0:
            here = heads[bucket % many]
            heads[bucket % many], after[here] = after[here], GONE
            waiting -= 1
            for n in range(len(offsets)):
                there, further, old = here + offsets[n], best[here] + lengths[n], best[here + offsets[n]]
                if further >= old:
                    continue
                best[there] = further
                place = np.int64(further / width)
                if old == np.inf:
                    reached += 1
                elif after[there] != GONE:
                    was = np.int64(old / width)
                    if was == place:
                        continue
                    if heads[was % many] == there:
                        heads[was % many] = after[there]
                    else:
                        after[before[there]] = after[there]
                    if after[there] >= 0:
                        before[after[there]] = before[there]
                    waiting -= 1
                after[there] = heads[place % many]
                if after[there] >= 0:
                    before[after[there]] = there
                heads[place % many] = there
                waiting += 1
        bucket += 1
    return reached


@njit(cache=True, nogil=True)
def walk_voxels(labels: np.ndarray, steps: np.ndarray, lengths: np.ndarray, frame: tuple) -> tuple:
    """Return what a walk through a segment reaches: index int64 (n, 3) in C order, length float64 (n,), leaves bool.

    Parameters
    ----------
    labels : numpy.ndarray
        uint64 (z, y, x).
    steps, lengths : numpy.ndarray
        int64 (26, 3) and float64 (26,), nm.
    frame
        start (voxel, int64 (3,)), reach in nm, spacing in nm (float64 (3,)).
    """
    start, reach, spacing = frame
    low, shape = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    for axis in range(3):
        far = np.int64(reach / spacing[axis]) + 1
        low[axis] = max(start[axis] - far, 0)
        shape[axis] = min(start[axis] + far + 1, labels.shape[axis]) - low[axis]
    best = np.full((shape[0] + 2, shape[1] + 2, shape[2] + 2), CLOSED)
    _open_voxels(labels, low, best, frame)
    ny, nx = best.shape[1], best.shape[2]
    offsets = (steps[:, 0] * ny + steps[:, 1]) * nx + steps[:, 2]
    first = ((start[0] - low[0] + 1) * ny + start[1] - low[1] + 1) * nx + start[2] - low[2] + 1
    count = _spread_out(best.reshape(-1), first, offsets, lengths)
    return _reached(labels, low, best, (labels[start[0], start[1], start[2]], count))


@njit(cache=True, nogil=True)
def _reached(labels: np.ndarray, low: np.ndarray, best: np.ndarray, found: tuple) -> tuple:
    wanted, count = found
    index, along = np.empty((count, 3), dtype=np.int64), np.empty(count)
    leaves = np.zeros(count, dtype=np.bool_)
    n = 0
    for z in range(1, best.shape[0] - 1):
        for y in range(1, best.shape[1] - 1):
            for x in range(1, best.shape[2] - 1):
                if not 0 <= best[z, y, x] < np.inf:
                    continue
                place = (z + low[0] - 1, y + low[1] - 1, x + low[2] - 1)
                index[n, 0], index[n, 1], index[n, 2], along[n] = place[0], place[1], place[2], best[z, y, x]
                for axis in range(3):
                    for side in (-1, 1):
                        step = (side * (axis == 0), side * (axis == 1), side * (axis == 2))
                        at = (place[0] + step[0], place[1] + step[1], place[2] + step[2])
                        beyond = best[z + step[0], y + step[1], x + step[2]] == CLOSED
                        ended = at[axis] < 0 or at[axis] >= labels.shape[axis]
                        leaves[n] |= ended or (beyond and labels[at] == wanted)
                n += 1
    return index, along, leaves


@njit(cache=True, nogil=True)
def ball_radii(segment: np.ndarray, index: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return the distance from voxels of a segment to the nearest voxel outside of it, nm, float64 (n,).

    The exact Euclidean distance transform, an axis after the other, each search ending where it cannot find less.

    Parameters
    ----------
    segment : numpy.ndarray
        bool (z, y, x), not all of it True. Beyond the array the segment is taken to go on.
    index : numpy.ndarray
        int64 (n, 3), voxels of it.
    spacing : numpy.ndarray
        float64 (3,), nm.
    """
    nz, ny, nx = segment.shape
    flat, found = np.empty((nz, ny, nx)), np.empty(len(index))
    # steps to the nearest voxel outside along z, from below, then from above
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                flat[z, y, x] = (flat[z - 1, y, x] + 1 if z else np.inf) if segment[z, y, x] else 0.0
    for z in range(nz - 2, -1, -1):
        for y in range(ny):
            for x in range(nx):
                flat[z, y, x] = min(flat[z, y, x], flat[z + 1, y, x] + 1)
    flat *= spacing[0]
    flat *= flat
    plane = np.zeros((nz, ny, nx))
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                if segment[z, y, x]:
                    plane[z, y, x] = _least(flat[z, :, x], y, spacing[1])
    for n in range(len(index)):
        found[n] = np.sqrt(_least(plane[index[n, 0], index[n, 1]], index[n, 2], spacing[2]))
    return found


@njit(cache=True, nogil=True, inline="always")
def _least(line: np.ndarray, at: int, spacing: float) -> float:
    """Return the least of squared distance along a line from ``at`` plus the squared distances that the line holds."""
    least, away = line[at], 1
    added = spacing * spacing
    while added < least and (at - away >= 0 or at + away < len(line)):
        if at - away >= 0:
            least = min(least, line[at - away] + added)
        if at + away < len(line):
            least = min(least, line[at + away] + added)
        away += 1
        added = (away * spacing) * (away * spacing)
    return least


@njit(cache=True, nogil=True)
def piece_sizes(index: np.ndarray) -> np.ndarray:
    """Return the numbers of voxels of the 26-connected pieces of voxels, int64 (n, 3), in order of their first one."""
    if len(index) == 0:
        return np.zeros(0, dtype=np.int64)
    low, shape = np.empty(3, dtype=np.int64), np.empty(3, dtype=np.int64)
    for axis in range(3):
        low[axis] = index[:, axis].min() - 1
        shape[axis] = index[:, axis].max() + 2 - low[axis]
    ny, nx = shape[1], shape[2]
    todo, stack = np.zeros(shape[0] * ny * nx, dtype=np.bool_), np.empty(len(index), dtype=np.int64)
    flat = ((index[:, 0] - low[0]) * ny + index[:, 1] - low[1]) * nx + index[:, 2] - low[2]
    todo[flat] = True
    sizes, pieces = np.zeros(len(index), dtype=np.int64), 0
    for seed in flat:
        if not todo[seed]:
            continue
        todo[seed], stack[0], waiting = False, seed, 1
        while waiting:
            waiting -= 1
            here = stack[waiting]
            sizes[pieces] += 1
            for z in range(-1, 2):
                for y in range(-1, 2):
                    for x in range(-1, 2):
                        there = here + (z * ny + y) * nx + x
                        if todo[there]:
                            todo[there], stack[waiting] = False, there
                            waiting += 1
        pieces += 1
    return sizes[:pieces]


@njit(cache=True, nogil=True)
def share_within(mask: np.ndarray, index: np.ndarray, along: np.ndarray, reach: float) -> float:
    """Return the share in ``mask``, bool (z, y, x), of the voxels at most ``reach`` along; some voxel is."""
    count = inside = 0
    for n in range(len(along)):
        if along[n] <= reach:
            count += 1
            inside += mask[index[n, 0], index[n, 1], index[n, 2]]
    return inside / count


@njit(cache=True, nogil=True)
def shell_counts(along: np.ndarray, width: float, count: int) -> np.ndarray:
    """Return how many lengths lie in each shell ``width`` wide, int64 (count,); those beyond the last are left out."""
    found = np.zeros(count, dtype=np.int64)
    for length in along:
        shell = np.int64(length / width)
        # the division may round up to the next whole number
        shell -= shell * width > length
        if shell < count:
            found[shell] += 1
    return found


@njit(cache=True, nogil=True)
def contact_faces(labels: np.ndarray, pair: tuple, frame: tuple) -> np.ndarray:
    """Return the faces between two segments, one voxel of background between them included.

    Parameters
    ----------
    labels : numpy.ndarray
        uint64 (z, y, x).
    pair : (uint64, uint64)
        pre, post.
    frame
        centre (voxels, float64 (3,)), reach in nm, spacing in nm (float64 (3,)).

    Returns
    -------
    numpy.ndarray
        int64 (3, 2): per axis, faces with pre below post, and with post below pre.
    """
    centre, reach, spacing = frame
    counts, shape = np.zeros((3, 2), dtype=np.int64), labels.shape
    low, high = np.empty(3, dtype=np.int64), np.empty(3, dtype=np.int64)
    for axis in range(3):
        low[axis] = max(0.0, np.floor(centre[axis] - reach / spacing[axis]))
        high[axis] = min(float(shape[axis]), np.ceil(centre[axis] + reach / spacing[axis]) + 1)
    for z in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            for x in range(low[2], high[2]):
                here = labels[z, y, x]
                if here != pair[0] and here != pair[1]:
                    continue
                dz, dy, dx = (z - centre[0]) * spacing[0], (y - centre[1]) * spacing[1], (x - centre[2]) * spacing[2]
                if dz * dz + dy * dy + dx * dx > reach * reach:
                    continue
                for axis in range(3):
                    at, there = (z, y, x)[axis], np.uint64(0)
                    for step in range(1, 3):
                        if at + step < shape[axis] and there == 0:
                            there = labels[z + step * (axis == 0), y + step * (axis == 1), x + step * (axis == 2)]
                    if here == pair[0] and there == pair[1]:
                        counts[axis, 0] += 1
                    elif here == pair[1] and there == pair[0]:
                        counts[axis, 1] += 1
    return counts
