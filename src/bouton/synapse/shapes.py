"""The shape of a segment around a place: how thick it is, how much of it lies how far along it, where it goes on.

Distances along the segment are shortest paths over its voxels (Dijkstra 1959, doi:10.1007/BF01386390); thickness is
the largest ball that fits, by the exact Euclidean distance transform (Maurer 2003, doi:10.1109/TPAMI.2003.1177156).
A spine's head is a small volume behind a narrow neck; a shaft is as wide before as behind and leaves on both sides.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage

from bouton.geometry import NM

SHELL_NM = 60.0
NEAR_NM = 250.0
BODY_NM = 450.0
NECK_FROM_NM, NECK_TO_NM = 180.0, 660.0
FULL = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Reached:
    """The voxels of a segment that a walk from one of its voxels reaches.

    Attributes
    ----------
    index : int64 (n, 3)
        z, y, x, in order of the walk's length and then of the place.
    along_nm : float64 (n,)
        Length of the shortest walk.
    leaves : bool (n,)
        Whether the segment goes on beyond the reach there, or the array ends.
    spacing_nm : (z, y, x)
    """

    index: np.ndarray
    along_nm: np.ndarray
    leaves: np.ndarray
    spacing_nm: NM

    @property
    def voxel_um3(self) -> float:
        """Volume of a voxel in um^3."""
        z, y, x = self.spacing_nm
        return z * y * x * 1e-9

    def volume_um3(self, reach_nm: float) -> float:
        """Return the volume, um^3, at most ``reach_nm`` away along the segment."""
        return float(np.count_nonzero(self.along_nm <= reach_nm)) * self.voxel_um3

    def share(self, mask: np.ndarray, reach_nm: float) -> float:
        """Return the share of voxels in ``mask``, bool (z, y, x), at most ``reach_nm`` away along the segment."""
        near = self.index[self.along_nm <= reach_nm]
        return float(mask[near[:, 0], near[:, 1], near[:, 2]].mean())


def walk(labels: np.ndarray, start: np.ndarray, reach_nm: float, spacing_nm: NM) -> Reached:
    """Walk from a voxel through its segment, at most ``reach_nm`` away from it as the crow flies.

    Parameters
    ----------
    labels : numpy.ndarray
        uint64 (z, y, x).
    start : numpy.ndarray
        int64 (3,), a voxel of the segment.
    reach_nm : float
    spacing_nm : (z, y, x)
        From voxel to voxel.
    """
    steps, lengths = _steps(spacing_nm)
    frame = (np.asarray(start, dtype=np.int64), float(reach_nm), np.asarray(spacing_nm, dtype=np.float64))
    index, along, leaves = _walk(labels, steps, lengths, frame)
    return Reached(index, along, leaves, spacing_nm)


def _steps(spacing_nm: NM) -> tuple[np.ndarray, np.ndarray]:
    steps = np.argwhere(FULL).astype(np.int64) - 1
    lengths = np.sqrt(((steps * np.asarray(spacing_nm)) ** 2).sum(axis=1))
    return steps[lengths > 0], lengths[lengths > 0]


@njit(cache=True, nogil=True)
def _walk(labels: np.ndarray, steps: np.ndarray, lengths: np.ndarray, frame: tuple) -> tuple:
    start, reach, spacing = frame
    nz, ny, nx = labels.shape
    wanted = labels[start[0], start[1], start[2]]
    best = np.full(labels.shape, np.inf)
    best[start[0], start[1], start[2]] = 0.0
    queue = [(0.0, (start[0] * ny + start[1]) * nx + start[2])]
    found, along, leaves = [(start[0], start[1], start[2])], [0.0], [False]
    found.pop()
    along.pop()
    leaves.pop()
    while len(queue) > 0:
        length, flat = heapq.heappop(queue)
        z, y, x = flat // (ny * nx), (flat // nx) % ny, flat % nx
        if length > best[z, y, x]:
            continue
        out = False
        for n in range(len(steps)):
            zz, yy, xx = z + steps[n, 0], y + steps[n, 1], x + steps[n, 2]
            beside = abs(steps[n, 0]) + abs(steps[n, 1]) + abs(steps[n, 2]) == 1
            if zz < 0 or yy < 0 or xx < 0 or zz >= nz or yy >= ny or xx >= nx:
                out = out or beside
                continue
            if labels[zz, yy, xx] != wanted:
                continue
            dz, dy, dx = (zz - start[0]) * spacing[0], (yy - start[1]) * spacing[1], (xx - start[2]) * spacing[2]
            if dz * dz + dy * dy + dx * dx > reach * reach:
                out = out or beside
                continue
            further = length + lengths[n]
            if further < best[zz, yy, xx]:
                best[zz, yy, xx] = further
                heapq.heappush(queue, (further, (zz * ny + yy) * nx + xx))
        found.append((z, y, x))
        along.append(length)
        leaves.append(out)
    return np.array(found), np.array(along), np.array(leaves)


def radius_nm(segment: np.ndarray, spacing_nm: NM) -> np.ndarray:
    """Return each voxel's distance to the nearest voxel outside of the segment, nm, float64 (z, y, x).

    ``segment`` is bool (z, y, x). Beyond the array the segment is taken to go on.
    """
    if segment.all():
        return np.full(segment.shape, np.linalg.norm(np.multiply(segment.shape, spacing_nm)))
    return ndimage.distance_transform_edt(segment, sampling=spacing_nm)


def exits(reached: Reached, shape: tuple[int, ...]) -> int:
    """Return in how many separate places the segment leaves what was walked (26-connected)."""
    return int(ndimage.label(_mask(reached.index[reached.leaves], shape), structure=FULL)[1])


def sections_um2(reached: Reached, reach_nm: float) -> np.ndarray:
    """Return the cross-section of the segment every ``SHELL_NM`` along it up to ``reach_nm``, in um^2.

    It is a shell's volume by its width; 0 where the segment has ended.
    """
    shell = (reached.along_nm // SHELL_NM).astype(np.int64)
    count = int(reach_nm // SHELL_NM)
    return np.bincount(shell, minlength=count)[:count] * (reached.voxel_um3 / (SHELL_NM * 1e-3))


def ways_um2(reached: Reached, at_nm: float, shape: tuple[int, ...]) -> list[float]:
    """Return the cross-sections of the separate ways on, ``at_nm`` along the segment, in um^2, the widest first.

    A spine's head has one, through its neck; a shaft has two.
    """
    chosen = (reached.along_nm >= at_nm) & (reached.along_nm < at_nm + SHELL_NM)
    labels, count = ndimage.label(_mask(reached.index[chosen], shape), structure=FULL)
    sizes = np.sort(np.bincount(labels.ravel(), minlength=count + 1)[1:])
    return [float(size) * reached.voxel_um3 / (SHELL_NM * 1e-3) for size in reversed(sizes.tolist())]


def _mask(index: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[index[:, 0], index[:, 1], index[:, 2]] = True
    return mask


def neck_um2(sections: np.ndarray) -> tuple[float, float]:
    """Return the narrowest cross-section from ``NECK_FROM_NM`` to ``NECK_TO_NM``, and the widest behind it, um^2."""
    first, last = int(NECK_FROM_NM // SHELL_NM), int(NECK_TO_NM // SHELL_NM)
    at = first + int(np.argmin(sections[first:last]))
    return float(sections[at]), float(sections[at + 1 :].max(initial=0.0))


def spread(reached: Reached) -> tuple[float, float]:
    """Return how much shorter the second axis is than the first, and the third than the second, 0 to 1, near by."""
    places = reached.index[reached.along_nm <= BODY_NM] * np.asarray(reached.spacing_nm)
    if len(places) < 4:
        return 1.0, 1.0
    lengths = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(places, rowvar=False)), 1.0))
    return float(lengths[1] / lengths[2]), float(lengths[0] / lengths[1])


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
    counts = np.zeros((3, 2), dtype=np.int64)
    shape = labels.shape
    for z in range(shape[0]):
        for y in range(shape[1]):
            for x in range(shape[2]):
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


def contact(labels: np.ndarray, pair: tuple[int, int], frame: tuple[np.ndarray, float, NM]) -> tuple[float, float]:
    """Return the contact's area in um^2, as seen along its mean normal, and how flat it is, 0 to 1 (a plane).

    For the parameters see :func:`contact_faces`. Without contact both are 0.
    """
    centre, reach_nm, spacing_nm = frame
    spacing = np.asarray(spacing_nm, dtype=np.float64)
    place = (np.asarray(centre, dtype=np.float64), float(reach_nm), spacing)
    faces = contact_faces(labels, (np.uint64(pair[0]), np.uint64(pair[1])), place)
    areas = spacing.prod() / spacing * 1e-6
    signed = np.linalg.norm((faces[:, 0] - faces[:, 1]) * areas)
    total = np.linalg.norm(faces.sum(axis=1) * areas)
    return float(signed), float(signed / total) if total else 0.0
