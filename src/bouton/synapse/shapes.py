"""The shape of a segment around a place: how thick it is, how much of it lies how far along it, where it goes on.

Distances along the segment are shortest paths over its voxels (Dijkstra 1959, doi:10.1007/BF01386390); thickness is
the largest ball that fits, by the exact Euclidean distance transform (Maurer 2003, doi:10.1109/TPAMI.2003.1177156).
A spine's head is a small volume behind a narrow neck; a shaft is as wide before as behind and leaves on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.geometry import NM
from bouton.synapse.shape_kernels import (
    ball_radii,
    contact_faces,
    piece_sizes,
    share_within,
    shell_counts,
    walk_voxels,
)

SHELL_NM = 60.0
NEAR_NM = 250.0
BODY_NM = 450.0
NECK_FROM_NM, NECK_TO_NM = 180.0, 660.0


@dataclass(frozen=True)
class Reached:
    """The voxels of a segment that a walk from one of its voxels reaches.

    Attributes
    ----------
    index : int64 (n, 3)
        z, y, x, in C order.
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
        return float(share_within(mask, self.index, self.along_nm, float(reach_nm)))


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
    index, along, leaves = walk_voxels(labels, steps, lengths, frame)
    return Reached(index, along, leaves, spacing_nm)


def _steps(spacing_nm: NM) -> tuple[np.ndarray, np.ndarray]:
    steps = np.argwhere(np.ones((3, 3, 3), dtype=bool)).astype(np.int64) - 1
    lengths = np.sqrt(((steps * np.asarray(spacing_nm)) ** 2).sum(axis=1))
    return steps[lengths > 0], lengths[lengths > 0]


def radii_nm(labels: np.ndarray, reached: Reached) -> np.ndarray:
    """Return the distance of every voxel reached to the nearest one outside of its segment, nm, float64 (n,).

    What lies more than a voxel beyond the voxels reached, or beyond the array, is taken to be of the segment.
    """
    low = np.maximum(reached.index.min(axis=0) - 1, 0)
    high = reached.index.max(axis=0) + 2
    part = labels[tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))]
    segment = part == labels[tuple(reached.index[0].tolist())]
    if segment.all():
        return np.full(len(reached.index), np.linalg.norm(np.multiply(segment.shape, reached.spacing_nm)))
    return ball_radii(segment, reached.index - low, np.asarray(reached.spacing_nm, dtype=np.float64))


def exits(reached: Reached) -> int:
    """Return in how many separate places the segment leaves what was walked (26-connected)."""
    return len(piece_sizes(reached.index[reached.leaves]))


def sections_um2(reached: Reached, reach_nm: float) -> np.ndarray:
    """Return the cross-section of the segment every ``SHELL_NM`` along it up to ``reach_nm``, in um^2.

    It is a shell's volume by its width; 0 where the segment has ended.
    """
    counts = shell_counts(reached.along_nm, SHELL_NM, int(reach_nm // SHELL_NM))
    return counts * (reached.voxel_um3 / (SHELL_NM * 1e-3))


def ways_um2(reached: Reached, at_nm: float) -> list[float]:
    """Return the cross-sections of the separate ways on, ``at_nm`` along the segment, in um^2, the widest first.

    A spine's head has one, through its neck; a shaft has two.
    """
    chosen = (reached.along_nm >= at_nm) & (reached.along_nm < at_nm + SHELL_NM)
    sizes = np.sort(piece_sizes(reached.index[chosen]))
    return [float(size) * reached.voxel_um3 / (SHELL_NM * 1e-3) for size in reversed(sizes.tolist())]


def neck_um2(sections: np.ndarray) -> tuple[float, float]:
    """Return the narrowest cross-section from ``NECK_FROM_NM`` to ``NECK_TO_NM``, and the widest behind it, um^2."""
    first, last = int(NECK_FROM_NM // SHELL_NM), int(NECK_TO_NM // SHELL_NM)
    at = first + int(np.argmin(sections[first:last]))
    return float(sections[at]), float(sections[at + 1 :].max(initial=0.0))


def spread(reached: Reached) -> tuple[float, float]:
    """Return how much shorter the second axis is than the first, and the third than the second, 0 to 1, near by."""
    near = np.flatnonzero(reached.along_nm <= BODY_NM)
    # sums round by their order: that of the walk
    near = near[np.argsort(reached.along_nm[near], kind="stable")]
    places = reached.index[near] * np.asarray(reached.spacing_nm)
    if len(places) < 4:
        return 1.0, 1.0
    lengths = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(places, rowvar=False)), 1.0))
    return float(lengths[1] / lengths[2]), float(lengths[0] / lengths[1])


def contact(labels: np.ndarray, pair: tuple[int, int], frame: tuple[np.ndarray, float, NM]) -> tuple[float, float]:
    """Return the contact's area in um^2, as seen along its mean normal, and how flat it is, 0 to 1 (a plane).

    For the parameters see :func:`bouton.synapse.shape_kernels.contact_faces`. Without contact both are 0.
    """
    centre, reach_nm, spacing_nm = frame
    spacing = np.asarray(spacing_nm, dtype=np.float64)
    place = (np.asarray(centre, dtype=np.float64), float(reach_nm), spacing)
    faces = contact_faces(labels, (np.uint64(pair[0]), np.uint64(pair[1])), place)
    areas = spacing.prod() / spacing * 1e-6
    signed = np.linalg.norm((faces[:, 0] - faces[:, 1]) * areas)
    total = np.linalg.norm(faces.sum(axis=1) * areas)
    return float(signed), float(signed / total) if total else 0.0
