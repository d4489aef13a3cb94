"""Training patches out of volumes held in memory: patch ``index`` is a function of the seed and ``index`` alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bouton.errors import DataError
from bouton.geometry import ZYX
from bouton.learn.augment import Augmentation, augment
from bouton.learn.targets import CLEFT, NEAREST, affinity_truth, interior, synapse_truth


@dataclass(frozen=True)
class TrainingVolume:
    """One labelled volume; all arrays (z, y, x) of one shape.

    Attributes
    ----------
    image : numpy.ndarray
        uint8.
    labels : numpy.ndarray
        Integer cell ids, 0 = no cell.
    known : numpy.ndarray
        bool: where the labels are to be believed.
    classes : numpy.ndarray, optional
        uint8 bits of :func:`bouton.learn.targets.synapse_classes`.
    """

    image: np.ndarray
    labels: np.ndarray
    known: np.ndarray
    classes: np.ndarray | None = None


@dataclass(frozen=True)
class SamplingSettings:
    """Which patches.

    Attributes
    ----------
    patch_zyx : (z, y, x)
    seed : int
    erode_zyx : (z, y, x)
        How far boundaries are widened (:func:`bouton.learn.targets.interior`).
    auxiliary_offsets : tuple of (z, y, x)
        Further affinities, learnt because they need context, dropped from the finished model.
    synapse_share : float
        Share of patches placed on a synapse, where a volume has any.
    """

    patch_zyx: ZYX
    seed: int
    erode_zyx: ZYX = (1, 1, 1)
    auxiliary_offsets: tuple[ZYX, ...] = ()
    synapse_share: float = 0.5


@dataclass(frozen=True)
class Patch:
    """``image`` float32 (1, z, y, x), 0 to 255; ``truth`` and ``weight`` float32 (c, z, y, x)."""

    image: np.ndarray
    truth: np.ndarray
    weight: np.ndarray


class PatchSampler:
    """Callable: ``sampler(index)`` returns a :class:`Patch`.

    Channels of the truth: 3 affinities; 4 of synapse evidence where the volumes have it; the auxiliary affinities.
    """

    def __init__(
        self, volumes: Sequence[TrainingVolume], settings: SamplingSettings, augmentation: Augmentation
    ) -> None:
        self.volumes, self.settings, self.augmentation = list(volumes), settings, augmentation
        for volume in self.volumes:
            if any(n < p for n, p in zip(volume.image.shape, settings.patch_zyx, strict=True)):
                raise DataError(
                    f"training volume of {volume.image.shape} voxels",
                    expected=f"at least one patch of {settings.patch_zyx} (z, y, x)",
                    fix="give a larger box or a smaller patch_zyx",
                )
        self._insides = [interior(volume.labels, settings.erode_zyx) for volume in self.volumes]
        self._clefts = [
            None if volume.classes is None else np.argwhere(volume.classes & CLEFT) for volume in self.volumes
        ]
        free = [np.prod([n - p + 1 for n, p in zip(v.image.shape, settings.patch_zyx, strict=True)]) for v in volumes]
        size = np.array([volume.image.size for volume in self.volumes], np.float64)
        # between the number of places and the number of voxels: a small volume still counts
        self._share = np.sqrt(size * np.asarray(free, np.float64))
        self._share /= self._share.sum()

    def __call__(self, index: int) -> Patch:
        rng = np.random.default_rng([self.settings.seed, index])
        which = int(rng.choice(len(self.volumes), p=self._share))
        volume = self.volumes[which]
        place = self._place(which, rng)
        image = volume.image[place].astype(np.float32) / np.float32(255)
        truths = [volume.labels[place], self._insides[which][place], volume.known[place]]
        if volume.classes is not None:
            truths.append(volume.classes[place])
        image, truths = augment(image, truths, self.augmentation, rng)
        return self._patch(image, truths)

    def _place(self, which: int, rng: np.random.Generator) -> tuple[slice, ...]:
        shape, patch, clefts = self.volumes[which].image.shape, self.settings.patch_zyx, self._clefts[which]
        last = [n - p for n, p in zip(shape, patch, strict=True)]
        start = [int(rng.integers(n + 1)) for n in last]
        if clefts is not None and len(clefts) and rng.random() < self.settings.synapse_share:
            centre = clefts[int(rng.integers(len(clefts)))]
            offset = [int(rng.integers(p // 4, p - p // 4)) for p in patch]
            start = [int(np.clip(c - o, 0, n)) for c, o, n in zip(centre, offset, last, strict=True)]
        return tuple(slice(s, s + p) for s, p in zip(start, patch, strict=True))

    def _patch(self, image: np.ndarray, truths: list[np.ndarray]) -> Patch:
        labels, inside, known = truths[:3]
        parts = [affinity_truth(labels, inside, known, NEAREST)]
        if len(truths) == 4:
            parts.append(synapse_truth(truths[3], known))
        if self.settings.auxiliary_offsets:
            parts.append(affinity_truth(labels, labels != 0, known, self.settings.auxiliary_offsets))
        truth, weight = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Patch(image[None] * np.float32(255), truth, weight)
