"""One box seen in several ways: turned, flipped, slightly changed. What a network says of them should be the same.

An affinity belongs to a pair of voxels. In a flipped image the channel of offset ``o`` tells of the pair ``p``,
``p - o`` of the image as it was: the same number stands in the same channel, ``o`` voxels away (:func:`aligned`).

Sources: test-time agreement as a measure of uncertainty, Wang et al. 2019 (doi:10.1016/j.neucom.2019.01.103).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bouton.geometry import NM, ZYX
from bouton.learn.edges import channel_of, pair_slices


@dataclass(frozen=True)
class View:
    """A way to look at a box: turned, then flipped, then its grey values changed.

    Attributes
    ----------
    name : str
    turn : (int, int) or None
        Plane of a quarter turn, as axes 0 z, 1 y, 2 x.
    flips : tuple of int
        Axes that are flipped.
    contrast : float
        Factor on the distance of grey values from the box's mean.
    brightness : float
        Added to grey values (0 to 255).
    noise : float
        Standard deviation of added Gaussian noise, grey values.
    """

    name: str
    turn: tuple[int, int] | None = None
    flips: tuple[int, ...] = ()
    contrast: float = 1.0
    brightness: float = 0.0
    noise: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether voxels change their places."""
        return self.turn is not None or bool(self.flips)


def views_of(box_zyx: ZYX, voxel_size_nm: NM) -> tuple[View, ...]:
    """Return the views of a box: two of its symmetries, other contrast and brightness, and noise.

    Axes of unequal length or voxel size do not change places.
    """
    square = _alike(1, 2, box_zyx, voxel_size_nm)
    return (
        View("flipped z", flips=(0,)),
        View("turned in the section", turn=(1, 2)) if square else View("flipped y and x", flips=(1, 2)),
        View("contrast less, brighter", contrast=0.85, brightness=6.0),
        View("noise", noise=6.0),
    )


def _alike(a: int, b: int, box_zyx: ZYX, voxel_size_nm: NM) -> bool:
    return box_zyx[a] == box_zyx[b] and abs(voxel_size_nm[a] / voxel_size_nm[b] - 1) < 0.05


def look(image: np.ndarray, view: View, rng: np.random.Generator) -> np.ndarray:
    """Return an image, uint8 (z, y, x), as a view shows it: uint8 of the same shape."""
    if view.turn is not None:
        image = np.rot90(image, 1, view.turn)
    image = np.flip(image, view.flips)
    if view.contrast != 1 or view.brightness or view.noise:
        grey = image.astype(np.float32)
        grey = (grey - grey.mean()) * np.float32(view.contrast) + grey.mean() + np.float32(view.brightness)
        if view.noise:
            grey += rng.standard_normal(image.shape, np.float32) * np.float32(view.noise)
        image = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(image)


def look_back(values: np.ndarray, view: View) -> np.ndarray:
    """Return values (c, z, y, x) of a view with every voxel back at its place in the image."""
    values = np.flip(values, tuple(axis + 1 for axis in view.flips))
    if view.turn is not None:
        values = np.rot90(values, -1, (view.turn[0] + 1, view.turn[1] + 1))
    return values


def offset_back(offset: ZYX, view: View) -> ZYX:
    """Return which way an offset of the view points in the image."""
    found = list(offset)
    for axis in view.flips:
        found[axis] = -found[axis]
    if view.turn is not None:
        a, b = view.turn
        found[a], found[b] = found[b], -found[a]
    z, y, x = found
    return z, y, x


def aligned(
    plain: np.ndarray, seen: np.ndarray, view: View, offsets: Sequence[ZYX] | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the parts of two predictions that tell of the same thing.

    Parameters
    ----------
    plain : numpy.ndarray
        (c, z, y, x), of the image.
    seen : numpy.ndarray
        (c, z, y, x), of the view.
    view : View
    offsets : sequence of (z, y, x) or None
        The channels' offsets; None where a channel tells of single voxels.

    Yields
    ------
    tuple of numpy.ndarray
        Two arrays (z, y, x) of one shape: plain and seen. Channels whose pairs no channel of ``plain`` holds are left
        out.
    """
    back = look_back(seen, view)
    if offsets is None:
        yield from zip(plain, back, strict=True)
        return
    for channel, offset in enumerate(offsets):
        found = channel_of(offset_back(offset, view), offsets)
        if found is not None:
            here, there = pair_slices(plain.shape[1:], found[1])
            yield plain[found[0]][there], back[channel][here]
