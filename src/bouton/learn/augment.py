"""Changes to training patches that leave the truth true: what electron microscopes and microtomes do to images.

Every function takes a ``numpy.random.Generator``; the same generator state gives the same patch. Images are float32
(z, y, x) with values about 0 to 1. The list follows Lee et al. 2017 (doi:10.48550/arXiv.1706.00120).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

Arrays = list[np.ndarray]


@dataclass(frozen=True)
class Augmentation:
    """How strongly patches are changed. Probabilities are per patch.

    Attributes
    ----------
    symmetry : str
        ``yx``: turns and flips within a section and flips along z; ``zyx``: all 48 of the cube (isotropic data).
    contrast, brightness : float
        Largest relative change of contrast, largest shift of brightness (image range 1), for the whole patch.
    section : float
        The same per section, as a fraction of the above.
    gamma : float
        Largest change of gamma, in powers of 2.
    noise : float
        Largest standard deviation of added noise.
    blur : float
        Probability of blurring (whole patch or some sections), sigma up to 1.2 voxels.
    missing : float
        Probability that one or two sections are lost (blank or a copy of their neighbour).
    misalign : float
        Probability of a slipped section (image only) or of a step in the stack (image and truth).
    shift_voxels : int
        Largest such shift in y and x.
    warp : float
        Probability of a smooth deformation.
    warp_voxels : float
        Its amplitude in voxels (per axis at most 1/16 of the patch).
    """

    symmetry: str = "yx"
    contrast: float = 0.3
    brightness: float = 0.15
    section: float = 0.3
    gamma: float = 0.5
    noise: float = 0.06
    blur: float = 0.2
    missing: float = 0.1
    misalign: float = 0.1
    shift_voxels: int = 3
    warp: float = 0.3
    warp_voxels: float = 2.5


def augment(
    image: np.ndarray, truths: Arrays, settings: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, Arrays]:
    """Return the image and its truth arrays, all (z, y, x), changed.

    Parameters
    ----------
    image : numpy.ndarray
        float32 (z, y, x), 0 to 1.
    truths : list of numpy.ndarray
        Integer or bool arrays of the same shape; they move with the image and are never interpolated.
    settings : Augmentation
    rng : numpy.random.Generator
    """
    arrays = turn([image, *truths], settings.symmetry, rng)
    if rng.random() < settings.warp:
        arrays = warp(arrays, settings.warp_voxels, rng)
    if rng.random() < settings.misalign:
        arrays = misalign(arrays, settings.shift_voxels, rng)
    image = np.array(arrays[0], np.float32)
    if rng.random() < settings.blur:
        image = blur(image, rng)
    image = intensity(image, settings, rng)
    if rng.random() < settings.missing:
        image = lose_sections(image, rng)
    return image, [np.ascontiguousarray(array) for array in arrays[1:]]


def turn(arrays: Arrays, symmetry: str, rng: np.random.Generator) -> Arrays:
    """Turn and flip all arrays alike; patches keep their shape, so only axes of equal length change places."""
    planes = [(1, 2)] if symmetry == "yx" else [(1, 2), (0, 1), (0, 2)]
    shape = arrays[0].shape
    for a, b in planes:
        quarter = int(rng.integers(4)) if shape[a] == shape[b] else 2 * int(rng.integers(2))
        arrays = [np.rot90(array, quarter, (a, b)) for array in arrays]
    for axis in range(3):
        if rng.integers(2):
            arrays = [np.flip(array, axis) for array in arrays]
    return arrays


def warp(arrays: Arrays, amplitude_voxels: float, rng: np.random.Generator) -> Arrays:
    """Deform all arrays alike, smoothly; the first is interpolated linearly, the rest take the nearest voxel."""
    shape = arrays[0].shape
    coordinates = []
    for axis, size in enumerate(shape):
        coarse = rng.normal(size=(4, 4, 4)) * min(amplitude_voxels, size / 16)
        field = ndimage.zoom(coarse, [n / 4 for n in shape], order=1, grid_mode=True, mode="nearest")
        grid = np.arange(size, dtype=np.float64).reshape([-1 if a == axis else 1 for a in range(3)])
        coordinates.append(np.clip(grid + field, 0, size - 1))
    image = ndimage.map_coordinates(arrays[0], coordinates, order=1, mode="nearest")
    nearest = tuple(np.rint(c).astype(np.intp) for c in coordinates)
    return [image, *(array[nearest] for array in arrays[1:])]


def misalign(arrays: Arrays, shift_voxels: int, rng: np.random.Generator) -> Arrays:
    """Shift one section of the image alone, or all sections from one on in image and truth."""
    sections = arrays[0].shape[0]
    at = int(rng.integers(sections))
    by = [int(v) for v in rng.integers(-shift_voxels, shift_voxels + 1, 2)]
    changed = [array.copy() for array in arrays]
    if rng.random() < 0.5:
        changed[0][at] = np.roll(changed[0][at], by, axis=(0, 1))
        return changed
    for array in changed:
        array[at:] = np.roll(array[at:], by, axis=(1, 2))
    return changed


def blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur the whole image, or up to three sections in a row within their plane."""
    sigma = rng.uniform(0.3, 1.2)
    if rng.random() < 0.5:
        return ndimage.gaussian_filter(image, sigma)
    start = int(rng.integers(image.shape[0]))
    part = slice(start, start + int(rng.integers(1, 4)))
    image[part] = ndimage.gaussian_filter(image[part], (0, sigma, sigma))
    return image


def intensity(image: np.ndarray, settings: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Change contrast and brightness, of all and of each section, the gamma, and add noise."""
    sections = (image.shape[0], 1, 1)
    scale = 1 + settings.contrast * (rng.uniform(-1, 1) + settings.section * rng.uniform(-1, 1, sections))
    shift = settings.brightness * (rng.uniform(-1, 1) + settings.section * rng.uniform(-1, 1, sections))
    changed = np.clip((image - 0.5) * scale + 0.5 + shift, 0, 1).astype(np.float32)
    changed **= np.float32(2 ** rng.uniform(-settings.gamma, settings.gamma))
    changed += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, settings.noise))
    return changed


def lose_sections(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replace one or two sections by a blank or by the section before them."""
    at = int(rng.integers(image.shape[0]))
    part = slice(at, at + int(rng.integers(1, 3)))
    image[part] = rng.random() if rng.random() < 0.5 else image[max(0, at - 1)].copy()
    return image
