"""What goes wrong with single sections: lost, missing, out of place, out of focus.

Sections lie along z. A patch of one section has no such defects, one of two loses none: no neighbour would remain to
tell what was there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bouton.learn.augment_shape import Arrays, mirrored

# Of the misaligned steps, those at a section that is missing as well; of the missing sections, those only partly so.
MISSING_TOO = 0.2
PARTIAL = 0.4
MISALIGNMENTS = (0.2, 0.6, 1.0)


@dataclass(frozen=True)
class Stack:
    """Where the sections of a patch come from.

    Attributes
    ----------
    source : numpy.ndarray
        int (z,): the section taken; one beyond the patch is mirrored.
    shift : numpy.ndarray
        int (z, 2): voxel (y, x) takes (y, x) + shift, in image and truth.
    slip : numpy.ndarray
        int (z, 2): a further shift of the image alone.
    """

    source: np.ndarray
    shift: np.ndarray
    slip: np.ndarray

    @classmethod
    def straight(cls, sections: int) -> Stack:
        """Return the stack that changes nothing."""
        return cls(np.arange(sections), np.zeros((sections, 2), int), np.zeros((sections, 2), int))

    def is_straight(self) -> bool:
        """Return whether nothing is changed."""
        return not (self.shift.any() or self.slip.any()) and bool((self.source == np.arange(len(self.source))).all())

    def apply(self, arrays: Arrays) -> Arrays:
        """Return the arrays, image first, cut from their sections anew."""
        shape = arrays[0].shape
        truth = _gather(self.source, self.shift, shape)
        image = _gather(self.source, self.shift + self.slip, shape) if self.slip.any() else truth
        flat = [np.ascontiguousarray(array).reshape(-1) for array in arrays]
        return [flat[0][image], *(array[truth] for array in flat[1:])]


def _gather(source: np.ndarray, shift: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the flat index of every voxel's source, int (z, y, x)."""
    z = mirrored(source, shape[0])
    y = mirrored(np.arange(shape[1]) + shift[:, :1], shape[1])
    x = mirrored(np.arange(shape[2]) + shift[:, 1:], shape[2])
    return ((z[:, None] * shape[1] + y) * shape[2])[:, :, None] + x[:, None, :]


def lose_section(stack: Stack, rng: np.random.Generator) -> None:
    """Take one section out of the stack: those beside it become neighbours, in image and truth."""
    if len(stack.source) > 2:
        stack.source[int(rng.integers(1, len(stack.source))) :] += 1


def misalign(stack: Stack, most: tuple[int, int], slip: float, rng: np.random.Generator) -> list[int]:
    """Put a step into the stack, or let one section slip; return the sections that are missing as well.

    Parameters
    ----------
    stack : Stack
    most : (y, x)
        Largest shift in voxels; small, middling and large ones are equally frequent.
    slip : float
        Probability of a slip: one section's image is shifted, its truth is not. Else all sections from one on are.
    """
    sections = len(stack.source)
    if sections == 1:
        return []
    reach = np.rint(np.array(most) * MISALIGNMENTS[int(rng.integers(3))]).astype(int)
    by = rng.integers(-reach, reach + 1)
    if rng.random() < slip:
        stack.slip[int(rng.integers(sections))] += by
        return []
    at = int(rng.integers(1, sections))
    stack.shift[at:] += by
    return [at] if rng.random() < MISSING_TOO else []


def jitter(stack: Stack, sigma_voxels: float, rng: np.random.Generator) -> None:
    """Move every section by itself, image and truth."""
    if len(stack.source) > 1:
        stack.shift[:] += np.rint(rng.normal(0, sigma_voxels, stack.shift.shape)).astype(int)


def choose_sections(sections: int, most: int, rng: np.random.Generator) -> list[int]:
    """Return one or more sections, in a row or scattered: at most ``most`` and a quarter of the patch."""
    if sections == 1:
        return []
    count = int(rng.integers(1, max(1, min(most, sections // 4)) + 1))
    if rng.random() < 0.5:
        return [int(at) for at in rng.choice(sections, count, replace=False)]
    start = int(rng.integers(sections - count + 1))
    return list(range(start, start + count))


def lose_image(image: np.ndarray, sections: list[int], rng: np.random.Generator) -> None:
    """Make sections missing, in place: wholly or beyond a line; black, of one grey, or the section before."""
    before = image.copy()
    for at in sections:
        way = rng.random()
        fill = before[max(0, at - 1)] if way < 0.25 else np.float32(0 if way < 0.6 else rng.random())
        gone = _half_plane(image.shape[1:], rng) if rng.random() < PARTIAL else np.ones(image.shape[1:], bool)
        image[at] = np.where(gone, fill, image[at])


def _half_plane(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return a random side of a random line through a section, bool (y, x)."""
    angle = rng.uniform(0, 2 * np.pi)
    middle = rng.random(2) * shape
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((y - middle[0]) * np.sin(angle) + (x - middle[1]) * np.cos(angle) >= 0)


def defocus(image: np.ndarray, sections: list[int], sigma_voxels: float, rng: np.random.Generator) -> None:
    """Blur sections within their plane, in place, each by its own sigma from a quarter to the whole of that given."""
    for at in sections:
        image[at] = ndimage.gaussian_filter(image[at], rng.uniform(0.25, 1) * sigma_voxels, truncate=3)
