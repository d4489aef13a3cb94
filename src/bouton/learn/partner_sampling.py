"""Training patches of a partner network: one cleft in each, shown to the network as a mask beside the image.

After the attentional voxel association networks of Turner et al. 2019, doi:10.48550/arXiv.1904.09947.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from bouton.errors import DataError
from bouton.geometry import ZYX
from bouton.learn.augment import Augmentation, augment
from bouton.learn.sampling import CleftTruth, Patch, SamplingSettings, TrainingVolume

Change = Callable[[np.ndarray, list[np.ndarray]], tuple[np.ndarray, list[np.ndarray]]]
PRE, POST = range(2)
NEAR_ZYX = (11, 41, 41)
"""Only this near to the cleft (whole window, voxels) does the answer count: farther off nobody asks for it."""
CHANGED = 0.3
"""Share of masks that are grown, and share that are shrunk: predicted clefts are never quite the true ones."""


class PartnerSampler:
    """Callable: ``sampler(index)`` returns a :class:`~bouton.learn.sampling.Patch` around a cleft.

    Its image has two channels, image and mask (0 or 255); its truth, too: where the presynaptic and where the
    postsynaptic cell of that cleft lie. Every cleft with two known partners is as likely as any other, times its
    volume's weight.
    """

    def __init__(
        self, volumes: Sequence[TrainingVolume], settings: SamplingSettings, augmentation: Augmentation
    ) -> None:
        self.volumes, self.settings, self.augmentation = list(volumes), settings, augmentation
        self._clefts = known_clefts(self.volumes)
        weight = np.array([self.volumes[which].weight for which, *_ in self._clefts])
        self._share = weight / weight.sum()

    def __call__(self, index: int) -> Patch:
        rng = np.random.default_rng([self.settings.seed, index])
        which, cleft, centre = self._clefts[int(rng.choice(len(self._clefts), p=self._share))]
        volume = self.volumes[which]
        jitter = [int(rng.integers(-(p // 8), p // 8 + 1)) for p in self.settings.patch_zyx]
        aim = [c + j for c, j in zip(centre, jitter, strict=True)]
        place = patch_place(aim, self.settings.patch_zyx, volume.image.shape)

        def change(image: np.ndarray, truths: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
            image, (mask, *others) = augment(image, truths, self.augmentation, rng)
            return image, [_changed(mask, rng), *others]

        return cleft_patch(volume, cleft, place, change)


def cleft_patch(volume: TrainingVolume, cleft: int, place: tuple[slice, ...], change: Change | None = None) -> Patch:
    """Return the patch of one cleft at ``place``; ``change`` gets the image, 0 to 1, and mask, labels and known."""
    synapses = truth_of(volume)
    image = volume.image[place].astype(np.float32) / np.float32(255)
    truths = [synapses.clefts[place] == cleft, volume.labels[place], volume.known[place]]
    image, (mask, labels, known) = change(image, truths) if change else (image, truths)
    pair = synapses.partners[cleft]
    truth = np.stack([labels == pair[PRE], labels == pair[POST]]).astype(np.float32)
    shown = np.stack([image, mask.astype(np.float32)]) * np.float32(255)
    weight = known & ndimage.maximum_filter(mask, NEAR_ZYX)
    return Patch(shown, truth, np.broadcast_to(weight.astype(np.float32), truth.shape))


def truth_of(volume: TrainingVolume) -> CleftTruth:
    """Return the clefts of a volume that has some."""
    assert volume.synapses is not None
    return volume.synapses


def known_clefts(volumes: Sequence[TrainingVolume]) -> list[tuple[int, int, list[int]]]:
    """Return volume, number and middle voxel of each cleft with two known partners.

    Raises
    ------
    DataError
        There is none.
    """
    found = [(which, *each) for which, volume in enumerate(volumes) for each in cleft_centres(volume)]
    if not found:
        raise DataError("no cleft with two known partners", expected="volumes whose synapses are known")
    return found


def cleft_centres(volume: TrainingVolume) -> list[tuple[int, list[int]]]:
    """Return number and middle voxel of each cleft with two known partners; none where nobody looked."""
    synapses, found = volume.synapses, list[tuple[int, list[int]]]()
    if synapses is None:
        return found
    for cleft, box in enumerate(ndimage.find_objects(synapses.clefts.astype(np.int64)), start=1):
        if box is not None and synapses.partners[cleft].all():
            where = np.argwhere(synapses.clefts[box] == cleft)
            found.append((cleft, [s.start + int(m) for s, m in zip(box, where.sum(0) // len(where), strict=True)]))
    return found


def patch_place(centre: Sequence[int], patch: ZYX, shape: Sequence[int]) -> tuple[slice, ...]:
    """Return where a patch around ``centre`` lies in a volume of ``shape``: moved inside of it where it can be."""
    starts = [min(max(0, c - p // 2), max(0, n - p)) for c, p, n in zip(centre, patch, shape, strict=True)]
    return tuple(slice(s, min(s + p, n)) for s, p, n in zip(starts, patch, shape, strict=True))


def _changed(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    draw = rng.random()
    cross = ndimage.generate_binary_structure(2, 1)[None]
    if draw < CHANGED:
        return np.asarray(ndimage.binary_dilation(mask, cross))
    smaller = np.asarray(ndimage.binary_erosion(mask, cross))
    return smaller if draw < 2 * CHANGED and smaller.any() else mask
