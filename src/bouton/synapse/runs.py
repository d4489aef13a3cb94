"""Connected components of sparse voxels, labelled by runs.

A run is a stretch of foreground voxels along x. Few voxels are cleft, so after one look at every byte all work is done
on runs, not on voxels: labels, sums over components and the picture painted of them. Runs lie in C order, the root of a
component is its first run, so its label is the global id of its first voxel, and equal for every way to compute it.

Run-based labelling: Wu, Otoo & Suzuki 2009, doi:10.1007/s10044-008-0109-y.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numba import njit

from bouton.geometry import NM, ZYX, Box, nm_to_voxels

PART_COLUMNS = {
    "component": "uint64",
    "root": "uint64",
    "voxels": "int64",
    "z": "int64",
    "y": "int64",
    "x": "int64",
    "peak": "int64",
    "first": "uint64",
    "low_z": "int64",
    "high_z": "int64",
}
"""What a component has in a box: its label and root there, voxels, sums of their coordinates, greatest value, first
voxel's global id, and its lowest and highest section."""
BORDER_COLUMNS = {"voxel": "uint64", "root": "uint64"}
"""A voxel that may touch one outside of the box, and the root of its component."""
_STRIPE = 64  # bytes looked at together: one cache line


class Runs(NamedTuple):
    """Labelled runs of a block.

    Attributes
    ----------
    zyx : numpy.ndarray
        int32 (n, 4): z, y, first x, and the x after the last, counted from the block's first voxel; in C order.
    starts : numpy.ndarray
        int64 (nz * ny + 1): the first run of each row of voxels.
    labels : numpy.ndarray
        uint64 (n,): global id of the first voxel of each run's component.
    """

    zyx: np.ndarray
    starts: np.ndarray
    labels: np.ndarray


def links(connectivity: int, gap_sections: int = 0, flat: bool = False) -> np.ndarray:
    """Return which rows before a row its runs are joined to.

    Parameters
    ----------
    connectivity : int
        6, 18 or 26 neighbours (4, 8 and 8 in a section).
    gap_sections : int
        Voxels above one another are joined across that many sections.
    flat : bool
        Whether only voxels of one section are joined.

    Returns
    -------
    numpy.ndarray
        int64 (n, 3): sections down, rows down (may be negative), and how far apart along x two voxels may lie.
    """
    steps = {6: 1, 18: 2, 26: 3}[connectivity]
    rows = [(0, 1)] if flat else [(0, 1), (1, 0), (1, 1), (1, -1)]
    found = [(dz, dy, int(steps > dz + abs(dy))) for dz, dy in rows if dz + abs(dy) <= steps]
    if not flat:
        found += [(k, 0, 0) for k in range(2, gap_sections + 2)]
    return np.array(found, np.int64)


def reach_of(joined: np.ndarray) -> ZYX:
    """Return how far apart along z, y and x two voxels joined by :func:`links` may lie."""
    return int(joined[:, 0].max()), 1, 1


def label_runs(values: np.ndarray, lowest: int, joined: np.ndarray, box: Box, shape: ZYX) -> Runs:
    """Label the components of the voxels that hold at least ``lowest``.

    Parameters
    ----------
    values : numpy.ndarray
        uint8 (z, y, x), the voxels of ``box``.
    lowest : int
        1 to 255.
    joined : numpy.ndarray
        From :func:`links`.
    box : Box
        Where the values lie in the data set.
    shape : (z, y, x)
        Shape of the whole data set.
    """
    zyx, starts = _find_runs(np.ascontiguousarray(values), np.uint8(lowest))
    roots = _join_runs(zyx, starts, values.shape[1], joined)
    return Runs(zyx, starts, voxel_numbers(zyx[roots, :3], box, shape))


def voxel_numbers(zyx: np.ndarray, box: Box, shape: ZYX) -> np.ndarray:
    """Return the global ids, uint64 (n,), of the voxels at ``zyx``, int (n, 3), counted from the box's first one."""
    z, y, x = (zyx[:, axis].astype(np.int64) + box.start[axis] for axis in range(3))
    return ((z * shape[1] + y) * shape[2] + x + 1).astype(np.uint64)


def sum_parts(runs: Runs, values: np.ndarray, lowest: int, box: Box, shape: ZYX) -> dict[str, np.ndarray]:
    """Return what each component of a block has there, as ``PART_COLUMNS``; each is its own root.

    Parameters
    ----------
    runs : Runs
        Their voxels may hold less than ``lowest`` (bridges): those do not count.
    values, lowest, box, shape
        As in :func:`label_runs`; of the core alone.
    """
    labels, place = np.unique(runs.labels, return_inverse=True)
    sums = _sum_runs(runs.zyx, place, len(labels), values, np.uint8(lowest))
    voxels, starts = sums[:, 0], box.start
    first = voxel_numbers(sums[:, 5:8], box, shape)
    first[voxels == 0] = np.iinfo(np.uint64).max
    columns = [labels, labels, voxels, *(sums[:, 1 + axis] + starts[axis] * voxels for axis in range(3)), sums[:, 4]]
    columns += [first, sums[:, 8] + starts[0], sums[:, 9] + starts[0]]
    return {name: np.ascontiguousarray(c) for name, c in zip(PART_COLUMNS, columns, strict=True)}


def border_voxels(runs: Runs, reach: ZYX, box: Box, bounds: Box, shape: ZYX) -> dict[str, np.ndarray]:
    """Return the voxels of runs that may be joined to some outside of ``box`` and inside ``bounds``: BORDER_COLUMNS."""
    inner = _beyond_reach(reach, box, bounds).within(box)
    zyx, run = _voxels_outside(runs.zyx, np.array([inner.start, inner.stop], np.int64))
    return {"voxel": voxel_numbers(zyx, box, shape), "root": runs.labels[run]}


def _beyond_reach(reach: ZYX, box: Box, bounds: Box) -> Box:
    """Return the voxels of ``box`` that nothing outside of it reaches."""
    low, high = list(box.start), list(box.stop)
    for axis in range(3):
        low[axis] += reach[axis] * (box.start[axis] > bounds.start[axis])
        high[axis] -= reach[axis] * (box.stop[axis] < bounds.stop[axis])
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def near_border(voxel: np.ndarray, reach: ZYX, box: Box, bounds: Box, shape: ZYX) -> np.ndarray:
    """Return which global voxel ids of a box something outside of it may reach; bool (n,)."""
    inner, inside = _beyond_reach(reach, box, bounds), np.ones(len(voxel), np.bool_)
    for axis, at in enumerate(places(voxel, shape)):
        inside &= (at >= inner.start[axis]) & (at < inner.stop[axis])
    return ~inside


def places(voxel: np.ndarray, shape: ZYX) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return z, y and x, int64 (n,) each, of global voxel ids."""
    row, x = np.divmod(voxel.astype(np.int64) - 1, shape[2])
    z, y = np.divmod(row, shape[1])
    return z, y, x


def paint(runs: Runs, labels: np.ndarray, values: np.ndarray, lowest: int) -> np.ndarray:
    """Return uint64 (z, y, x): each run's entry of ``labels`` where its voxels hold ``lowest`` at least; else 0.

    Parameters
    ----------
    runs : Runs
    labels : numpy.ndarray
        uint64 (n,).
    values : numpy.ndarray
        uint8 (z, y, x).
    """
    picture = np.zeros(values.shape, np.uint64)
    _paint(runs.zyx, labels, values, np.uint8(lowest), picture)
    return picture


def keep_values(runs: Runs, kept: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return uint8 (z, y, x): the values under the runs whose entry of ``kept``, bool (n,), is set; else 0."""
    picture = np.zeros(values.shape, np.uint8)
    _copy(runs.zyx, kept, values, picture)
    return picture


def bridge(values: np.ndarray, lowest: int, gap_nm: float, voxel_size_nm: NM) -> np.ndarray:
    """Return the voxels, uint8 0 or 1, at most half of ``gap_nm`` from one that holds at least ``lowest``.

    What lies at most a gap apart is connected so. Right only where half a gap of surroundings is given.

    Parameters
    ----------
    values : numpy.ndarray
        uint8 (z, y, x).
    """
    zyx, _ = _find_runs(np.ascontiguousarray(values), np.uint8(lowest))
    grown = np.zeros(values.shape, np.uint8)
    _grow(zyx, _ball(gap_nm / 2, voxel_size_nm), grown)
    return grown


def _ball(radius_nm: float, voxel_size_nm: NM) -> np.ndarray:
    """Return a ball's rows, int64 (n, 3): z, y and the greatest x, in voxels from its centre."""
    reach = nm_to_voxels(radius_nm, voxel_size_nm)
    # The tolerance keeps a distance that equals the radius on one side whatever its rounding.
    limit = (radius_nm * (1 + 1e-9)) ** 2
    rows = []
    for z, y in itertools.product(*(range(-r, r + 1) for r in reach[:2])):
        rest = limit - (z * voxel_size_nm[0]) ** 2 - (y * voxel_size_nm[1]) ** 2
        wide = [x for x in range(reach[2] + 1) if (x * voxel_size_nm[2]) ** 2 <= rest]
        rows += [(z, y, wide[-1])] if wide else []
    return np.array(rows, np.int64)


@njit(cache=True, nogil=True)
def _bright_stripes(values: np.ndarray, lowest: np.uint8) -> np.ndarray:
    """Return which stripes of each row hold ``lowest`` somewhere: bool (z, y, stripes)."""
    nz, ny, nx = values.shape
    bright = np.empty((nz, ny, (nx + _STRIPE - 1) // _STRIPE), np.bool_)
    for z in range(nz):
        for y in range(ny):
            row = values[z, y]
            for i in range(bright.shape[2]):
                # A loop that starts at 0 and only takes a maximum is compiled to many bytes at once.
                part, greatest = row[i * _STRIPE : (i + 1) * _STRIPE], np.uint8(0)
                for x in range(len(part)):
                    greatest = max(greatest, part[x])
                bright[z, y, i] = greatest >= lowest
    return bright


@njit(cache=True, nogil=True)
def _find_runs(values: np.ndarray, lowest: np.uint8) -> tuple[np.ndarray, np.ndarray]:
    nz, ny, _ = values.shape
    bright, starts = _bright_stripes(values, lowest), np.empty(nz * ny + 1, np.int64)
    # Room for as many as there can be: an array that grows inside of the loop would make it ten times slower.
    zyx, n = np.empty((bright.sum() * (_STRIPE // 2) + 1, 4), np.int32), 0
    for z in range(nz):
        for y in range(ny):
            starts[z * ny + y] = n
            n = _row_runs(values[z, y], lowest, bright[z, y], zyx, n)
            for i in range(starts[z * ny + y], n):
                zyx[i, 0], zyx[i, 1] = z, y
    starts[nz * ny] = n
    return zyx[:n].copy(), starts


@njit(cache=True, nogil=True)
def _row_runs(row: np.ndarray, lowest: np.uint8, bright: np.ndarray, zyx: np.ndarray, n: int) -> int:
    """Append the runs of a row; return how many there are now."""
    start = -1
    for i in range(len(bright)):
        if not bright[i] and start < 0:
            continue
        for x in range(i * _STRIPE, min((i + 1) * _STRIPE, len(row))):
            if (row[x] >= lowest) == (start >= 0):
                continue
            if start < 0:
                start = x
            else:
                zyx[n, 2], zyx[n, 3] = start, x
                n, start = n + 1, -1
    if start >= 0:
        zyx[n, 2], zyx[n, 3] = start, len(row)
        n += 1
    return n


@njit(cache=True, nogil=True)
def _with_room(rows: np.ndarray, n: int) -> np.ndarray:
    """Return the rows, or twice as many of which ``n`` are these, where they are full."""
    if n < len(rows):
        return rows
    more = np.empty((2 * n, rows.shape[1]), rows.dtype)
    more[:n] = rows
    return more


@njit(cache=True, nogil=True)
def _root(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _join_runs(zyx: np.ndarray, starts: np.ndarray, ny: int, joined: np.ndarray) -> np.ndarray:
    n = len(zyx)
    parent, i = np.arange(n), 0
    while i < n:
        z, y = zyx[i, 0], zyx[i, 1]
        end = starts[z * ny + y + 1]
        for k in range(len(joined)):
            lower_z, lower_y, wide = z - joined[k, 0], y - joined[k, 1], joined[k, 2]
            if lower_z < 0 or lower_y < 0 or lower_y >= ny:
                continue
            a, b = i, starts[lower_z * ny + lower_y]
            stop = starts[lower_z * ny + lower_y + 1]
            while a < end and b < stop:
                if zyx[a, 2] < zyx[b, 3] + wide and zyx[b, 2] < zyx[a, 3] + wide:
                    one, two = _root(parent, a), _root(parent, b)
                    # the first run becomes the root
                    parent[max(one, two)] = min(one, two)
                if zyx[a, 3] <= zyx[b, 3]:
                    a += 1
                else:
                    b += 1
        i = end
    for i in range(n):
        parent[i] = parent[parent[i]]
    return parent


@njit(cache=True, nogil=True)
def _sum_runs(zyx: np.ndarray, place: np.ndarray, n: int, values: np.ndarray, lowest: np.uint8) -> np.ndarray:
    """Columns: voxels, sums of z, y, x, peak, z, y, x of the first, lowest and highest z."""
    sums = np.zeros((n, 10), np.int64)
    sums[:, 4], sums[:, 8], sums[:, 9] = -1, np.iinfo(np.int32).max, -1
    for i in range(len(zyx)):
        z, y, row = np.int64(zyx[i, 0]), np.int64(zyx[i, 1]), place[i]
        for x in range(zyx[i, 2], zyx[i, 3]):
            value = values[z, y, x]
            if value < lowest:
                continue
            if sums[row, 0] == 0:
                sums[row, 5], sums[row, 6], sums[row, 7], sums[row, 8] = z, y, x, z
            sums[row, 0] += 1
            sums[row, 1] += z
            sums[row, 2] += y
            sums[row, 3] += x
            sums[row, 4] = max(sums[row, 4], np.int64(value))
            sums[row, 9] = z
    return sums


@njit(cache=True, nogil=True)
def _voxels_outside(zyx: np.ndarray, inner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels of runs outside of the box ``inner`` (start, stop), int64 (n, 3), and the run of each."""
    found, n = np.empty((256, 4), np.int64), 0
    for i in range(len(zyx)):
        z, y = zyx[i, 0], zyx[i, 1]
        skip = inner[0, 0] <= z < inner[1, 0] and inner[0, 1] <= y < inner[1, 1]
        if skip and inner[0, 2] <= zyx[i, 2] and zyx[i, 3] <= inner[1, 2]:
            continue
        for x in range(zyx[i, 2], zyx[i, 3]):
            if skip and inner[0, 2] <= x < inner[1, 2]:
                continue
            found = _with_room(found, n)
            found[n, 0], found[n, 1], found[n, 2], found[n, 3] = z, y, x, i
            n += 1
    return found[:n, :3].copy(), found[:n, 3].copy()


@njit(cache=True, nogil=True)
def _paint(zyx: np.ndarray, labels: np.ndarray, values: np.ndarray, lowest: np.uint8, picture: np.ndarray) -> None:
    for i in range(len(zyx)):
        z, y = zyx[i, 0], zyx[i, 1]
        if labels[i] != 0:
            for x in range(zyx[i, 2], zyx[i, 3]):
                if values[z, y, x] >= lowest:
                    picture[z, y, x] = labels[i]


@njit(cache=True, nogil=True)
def _copy(zyx: np.ndarray, kept: np.ndarray, values: np.ndarray, picture: np.ndarray) -> None:
    for i in range(len(zyx)):
        z, y = zyx[i, 0], zyx[i, 1]
        if kept[i]:
            for x in range(zyx[i, 2], zyx[i, 3]):
                picture[z, y, x] = values[z, y, x]


@njit(cache=True, nogil=True)
def _grow(zyx: np.ndarray, ball: np.ndarray, grown: np.ndarray) -> None:
    nz, ny, nx = grown.shape
    for i in range(len(zyx)):
        for k in range(len(ball)):
            z, y, wide = zyx[i, 0] + ball[k, 0], zyx[i, 1] + ball[k, 1], ball[k, 2]
            if 0 <= z < nz and 0 <= y < ny:
                grown[z, y, max(zyx[i, 2] - wide, 0) : min(zyx[i, 3] + wide, nx)] = 1
