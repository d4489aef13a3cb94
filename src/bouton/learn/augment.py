"""Changes to training patches that leave the truth true: what electron microscopes and microtomes do to images.

Every function takes a ``numpy.random.Generator``; the same generator state gives the same patch. Images are float32
(z, y, x) with values about 0 to 1. The list follows Lee et al. 2017 (doi:10.48550/arXiv.1706.00120) and their deepem,
and Funke et al. 2019 (doi:10.1109/TPAMI.2018.2835450). Shapes are changed by :mod:`bouton.learn.augment_shape`, single
sections by :mod:`bouton.learn.augment_sections`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy import ndimage

from bouton.errors import SpecError
from bouton.learn.augment_sections import Stack, choose_sections, defocus, jitter, lose_image, lose_section, misalign
from bouton.learn.augment_shape import Arrays, elastic_field, plane_matrix, turn, warp

PROBABILITIES = ("warp", "lost", "misalign", "slip", "jitter", "blur", "grey", "box", "missing")
SYMMETRIES = ("yx", "zyx", "none")


@dataclass(frozen=True)
class Augmentation:
    """How strongly patches are changed. Probabilities are per patch; 0 switches a change off.

    Attributes
    ----------
    symmetry : str
        ``yx``: turns and flips within a section and flips along z; ``zyx``: all 48 of the cube (isotropic data);
        ``none``: neither.
    grey : float
        Probability that contrast, brightness and gamma change.
    contrast, brightness : float
        Largest relative change of contrast, largest shift of brightness (image range 1), for the whole patch.
    section : float
        The same per section, as a fraction of the above.
    gamma : float
        Largest change of gamma, in powers of 2.
    noise : float
        Largest standard deviation of added noise.
    blur : float
        Probability of blurring: the whole patch, or some sections that are out of focus.
    blur_voxels : float
        Largest sigma, in y and x (and z where ``symmetry`` is ``zyx``); out of focus twice that.
    missing : float
        Probability that sections are missing from the image, wholly or in part.
    most_sections : int
        Most sections that are missing or out of focus at once (at most a quarter of the patch).
    lost : float
        Probability that a section is lost from image and truth, so that its neighbours touch.
    misalign : float
        Probability of a slipped section (image only) or of a step in the stack (image and truth).
    slip : float
        Probability that a misalignment is a slip.
    shift_voxels : int
        Largest misalignment in y and x (at most 1/6 of the patch).
    jitter : float
        Probability that every section is moved by itself (image and truth).
    jitter_voxels : float
        Standard deviation of these moves in y and x.
    box : float
        Probability that boxes of the image are covered with noise or one grey.
    box_voxels : (int, int)
        Least and largest side of a box (along shorter axes in proportion, at most half a patch).
    box_density : float
        Largest share of the patch that is covered, where more than one box is.
    warp : float
        Probability of a smooth deformation, affine and elastic.
    warp_voxels : float
        Its elastic amplitude in voxels (per axis at most 1/16 of the patch).
    spacing_voxels : float
        Between its control points (along shorter axes in proportion).
    rotation_degrees : float
        Its largest rotation about z.
    scale, shear : float
        Its largest relative change of size and largest shear within a section.
    """

    symmetry: str = "yx"
    grey: float = 0.8
    contrast: float = 0.3
    brightness: float = 0.15
    section: float = 0.3
    gamma: float = 0.5
    noise: float = 0.06
    blur: float = 0.2
    blur_voxels: float = 1.2
    missing: float = 0.1
    most_sections: int = 7
    lost: float = 0.05
    misalign: float = 0.1
    slip: float = 0.3
    shift_voxels: int = 8
    jitter: float = 0.05
    jitter_voxels: float = 1.0
    box: float = 0.05
    box_voxels: tuple[int, int] = (5, 25)
    box_density: float = 0.1
    warp: float = 0.3
    warp_voxels: float = 2.5
    spacing_voxels: float = 40.0
    rotation_degrees: float = 45.0
    scale: float = 0.1
    shear: float = 0.05

    def __post_init__(self) -> None:
        if self.symmetry not in SYMMETRIES:
            raise SpecError(f"augmentation: symmetry {self.symmetry!r}", expected=f"one of {', '.join(SYMMETRIES)}")
        for field in fields(self):
            value = getattr(self, field.name)
            most = 1.0 if field.name in (*PROBABILITIES, "section", "box_density", "shear") else np.inf
            if field.name not in ("symmetry", "box_voxels") and not (0 <= value <= most and np.isfinite(value)):
                expected = "0 to 1" if most == 1 else "0 or more"
                raise SpecError(f"augmentation: {field.name} {value}", expected=expected)
        if not 1 <= self.box_voxels[0] <= self.box_voxels[1]:
            raise SpecError(f"augmentation: box_voxels {self.box_voxels}", expected="least and largest side, 1 or more")
        if self.spacing_voxels < 1 or self.most_sections < 1:
            raise SpecError("augmentation: spacing_voxels or most_sections below 1", expected="1 or more")


UNCHANGED = Augmentation(
    symmetry="none", grey=0, noise=0, blur=0, missing=0, lost=0, misalign=0, slip=0, jitter=0, box=0, warp=0
)


def augment(
    image: np.ndarray, truths: Arrays, settings: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, Arrays]:
    """Return the image and its truth arrays, all (z, y, x), changed; those given are left alone.

    Parameters
    ----------
    image : numpy.ndarray
        float32 (z, y, x), 0 to 1.
    truths : list of numpy.ndarray
        Integer or bool arrays of the same shape; they move with the image and are never interpolated.
    settings : Augmentation
    rng : numpy.random.Generator
    """
    arrays, missing = _move([image, *truths], settings, rng)
    image = np.array(arrays[0], np.float32, order="C")
    if rng.random() < settings.blur:
        image = blur(image, settings, rng)
    image = intensity(image, settings, rng)
    if rng.random() < settings.box:
        cover_boxes(image, settings, rng)
    if rng.random() < settings.missing:
        missing = missing + choose_sections(len(image), settings.most_sections, rng)
    lose_image(image, missing, rng)
    return image, [np.ascontiguousarray(array) for array in arrays[1:]]


def _move(arrays: Arrays, settings: Augmentation, rng: np.random.Generator) -> tuple[Arrays, list[int]]:
    """Return the arrays, moved in every way asked for, and the sections that went missing on the way."""
    shape = arrays[0].shape
    if rng.random() < settings.warp:
        matrix = plane_matrix(settings.rotation_degrees, settings.scale, settings.shear, rng)
        field = elastic_field(shape, settings.warp_voxels, settings.spacing_voxels, rng)
        arrays = warp(arrays, matrix, field)
    if settings.symmetry != "none":
        arrays = turn(arrays, settings.symmetry, rng)
    stack, missing = Stack.straight(shape[0]), []
    if rng.random() < settings.lost:
        lose_section(stack, rng)
    if rng.random() < settings.misalign:
        most = (min(settings.shift_voxels, shape[1] // 6), min(settings.shift_voxels, shape[2] // 6))
        missing = misalign(stack, most, settings.slip, rng)
    if rng.random() < settings.jitter:
        jitter(stack, settings.jitter_voxels, rng)
    return (arrays if stack.is_straight() else stack.apply(arrays)), missing


def blur(image: np.ndarray, settings: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Return the image blurred, or with some sections out of focus."""
    if rng.random() < 0.5:
        sigma = rng.uniform(0.25, 1) * settings.blur_voxels
        along_z = sigma if settings.symmetry == "zyx" else 0.0
        return np.asarray(ndimage.gaussian_filter(image, (along_z, sigma, sigma), truncate=3))
    defocus(image, choose_sections(len(image), settings.most_sections, rng), 2 * settings.blur_voxels, rng)
    return image


def intensity(image: np.ndarray, settings: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Return the image with contrast and brightness changed, of all and of each section, the gamma, and noise added."""
    changed = image
    if rng.random() < settings.grey:
        sections = (len(image), 1, 1)
        scale = 1 + settings.contrast * (rng.uniform(-1, 1) + settings.section * rng.uniform(-1, 1, sections))
        shift = settings.brightness * (rng.uniform(-1, 1) + settings.section * rng.uniform(-1, 1, sections))
        scale, shift = scale.astype(np.float32), shift.astype(np.float32)
        changed = np.clip((image - np.float32(0.5)) * scale + (shift + np.float32(0.5)), 0, 1)
        changed **= np.float32(2 ** rng.uniform(-settings.gamma, settings.gamma))
    if settings.noise:
        changed = changed + rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, settings.noise))
    return changed


def cover_boxes(image: np.ndarray, settings: Augmentation, rng: np.random.Generator) -> None:
    """Cover boxes of the image, in place, with noise or with one grey."""
    least, largest = settings.box_voxels
    shape = np.array(image.shape)
    wanted = rng.uniform(0, settings.box_density) * image.size
    covered, noisy = 0, rng.random() < 0.5
    # Boxes may overlap; the bound ends the search where they are tiny.
    for _ in range(200):
        side = rng.integers(least, largest + 1, 3) * shape / shape.max()
        size = np.clip(np.rint(side).astype(int), 1, np.maximum(1, shape // 2))
        if covered + size.prod() > max(wanted, size.prod()):
            break
        start = rng.integers(0, shape - size + 1)
        part = tuple(slice(a, a + n) for a, n in zip(start.tolist(), size.tolist(), strict=True))
        image[part] = rng.random(tuple(size), np.float32) if noisy else np.float32(rng.random())
        covered += int(size.prod())
