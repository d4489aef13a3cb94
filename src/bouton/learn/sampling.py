"""Training patches out of volumes held in memory: patch ``index`` is a function of the seed and ``index`` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bouton.errors import DataError
from bouton.geometry import ZYX
from bouton.learn.augment import Augmentation, augment
from bouton.learn.descriptors import shape_descriptors
from bouton.learn.edges import NEAREST
from bouton.learn.info import head_channels
from bouton.learn.targets import (
    CLEFT,
    UNKNOWN,
    affinity_truth,
    bits_truth,
    boundary_truth,
    interior,
    synapse_truth,
)

Truth = tuple[np.ndarray, np.ndarray]
FROM_LABELS = ("affinities", "long_affinities", "boundaries")


@dataclass(frozen=True)
class CleftTruth:
    """Single clefts and whom they join.

    Attributes
    ----------
    clefts : numpy.ndarray
        uint32 (z, y, x): 0 = none, else a row of ``partners``.
    partners : numpy.ndarray
        int64 (n + 1, 2): labels of the presynaptic and of the postsynaptic cell; row 0 stands for no cleft.
    """

    clefts: np.ndarray
    partners: np.ndarray


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
    layers : mapping of head -> numpy.ndarray
        What is annotated beside cells, uint8: bit c for channel c of the head, 255 where nobody looked. A head that
        a volume lacks is not trained on it.
    weight : float
        How often patches come from here, relative to what the volume's size says.
    synapses : CleftTruth, optional
        What a partner network learns from.
    """

    image: np.ndarray
    labels: np.ndarray
    known: np.ndarray
    layers: Mapping[str, np.ndarray] = field(default_factory=dict)
    weight: float = 1.0
    synapses: CleftTruth | None = None


@dataclass(frozen=True)
class SamplingSettings:
    """Which patches.

    Attributes
    ----------
    patch_zyx : (z, y, x)
    seed : int
    erode_zyx : (z, y, x)
        How far boundaries are widened (:func:`bouton.learn.targets.interior`).
    heads : tuple of str
        What the network says (:data:`bouton.learn.info.HEADS`), in the order of its channels.
    long_offsets : tuple of (z, y, x)
        Of the head ``long_affinities``.
    auxiliary_offsets : tuple of (z, y, x)
        Further affinities, learnt because they need context, dropped from the finished model.
    descriptor_sigma_voxels : (z, y, x), optional
        Window of local shape descriptors, learnt because they need shape, dropped from the finished model.
    synapse_share : float
        Share of patches placed on a synapse, where a volume has any.
    """

    patch_zyx: ZYX
    seed: int
    erode_zyx: ZYX = (1, 1, 1)
    heads: tuple[str, ...] = ("affinities",)
    long_offsets: tuple[ZYX, ...] = ()
    auxiliary_offsets: tuple[ZYX, ...] = ()
    descriptor_sigma_voxels: tuple[float, float, float] | None = None
    synapse_share: float = 0.5


@dataclass(frozen=True)
class Patch:
    """``image`` float32 (inputs, z, y, x), 0 to 255; ``truth`` and ``weight`` float32 (c, z, y, x).

    The last ``values`` channels of the truth are values to come near to, the others are probabilities.
    """

    image: np.ndarray
    truth: np.ndarray
    weight: np.ndarray
    values: int = 0


class PatchSampler:
    """Callable: ``sampler(index)`` returns a :class:`Patch`.

    Channels of the truth: those of the heads; the auxiliary affinities; the local shape descriptors.
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
        self._clefts = [_cleft_voxels(volume) for volume in self.volumes]
        free = [np.prod([n - p + 1 for n, p in zip(v.image.shape, settings.patch_zyx, strict=True)]) for v in volumes]
        size = np.array([volume.image.size for volume in self.volumes], np.float64)
        # between the number of places and the number of voxels: a small volume still counts
        self._share = np.sqrt(size * np.asarray(free, np.float64)) * [volume.weight for volume in self.volumes]
        self._share /= self._share.sum()

    def __call__(self, index: int) -> Patch:
        rng = np.random.default_rng([self.settings.seed, index])
        which = int(rng.choice(len(self.volumes), p=self._share))
        volume = self.volumes[which]
        place = self._place(which, rng)
        image = volume.image[place].astype(np.float32) / np.float32(255)
        truths = [volume.labels[place], self._insides[which][place], volume.known[place]]
        truths += [_layer(volume, head)[place] for head in self._annotated]
        image, truths = augment(image, truths, self.augmentation, rng)
        return self._patch(image, truths)

    @property
    def _annotated(self) -> list[str]:
        return [head for head in self.settings.heads if head not in FROM_LABELS]

    def _place(self, which: int, rng: np.random.Generator) -> tuple[slice, ...]:
        shape, patch, clefts = self.volumes[which].image.shape, self.settings.patch_zyx, self._clefts[which]
        last = [n - p for n, p in zip(shape, patch, strict=True)]
        start = [int(rng.integers(n + 1)) for n in last]
        if len(clefts) and rng.random() < self.settings.synapse_share:
            centre = clefts[int(rng.integers(len(clefts)))]
            offset = [int(rng.integers(p // 4, p - p // 4)) for p in patch]
            start = [int(np.clip(c - o, 0, n)) for c, o, n in zip(centre, offset, last, strict=True)]
        return tuple(slice(s, s + p) for s, p in zip(start, patch, strict=True))

    def _patch(self, image: np.ndarray, truths: list[np.ndarray]) -> Patch:
        labels, inside, known = truths[:3]
        annotated = dict(zip(self._annotated, truths[3:], strict=True))
        settings, sigma = self.settings, self.settings.descriptor_sigma_voxels
        parts = [_head_truth(head, annotated, (labels, inside, known), settings) for head in settings.heads]
        if settings.auxiliary_offsets:
            parts.append(affinity_truth(labels, labels != 0, known, settings.auxiliary_offsets))
        if sigma is not None:
            values, defined = shape_descriptors(labels, sigma)
            parts.append((values, defined * known))
        truth, weight = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Patch(image[None] * np.float32(255), truth, weight, 0 if sigma is None else len(values))


def head_truths(volume: TrainingVolume, settings: SamplingSettings) -> dict[str, Truth]:
    """Return truth and weight, float32 (c, z, y, x), of every head over a whole volume."""
    cells = (volume.labels, interior(volume.labels, settings.erode_zyx), volume.known)
    layers = {head: _layer(volume, head) for head in settings.heads}
    return {head: _head_truth(head, layers, cells, settings) for head in settings.heads}


def _head_truth(
    head: str, layers: Mapping[str, np.ndarray], cells: tuple[np.ndarray, ...], settings: SamplingSettings
) -> Truth:
    labels, inside, known = cells
    if head == "affinities":
        return affinity_truth(labels, inside, known, NEAREST)
    if head == "long_affinities":
        return affinity_truth(labels, labels != 0, known, settings.long_offsets)
    if head == "boundaries":
        return boundary_truth(inside, known)
    if head == "synapse_evidence":
        return synapse_truth(layers[head])
    return bits_truth(layers[head], head_channels(head, ()))


def _layer(volume: TrainingVolume, head: str) -> np.ndarray:
    found = volume.layers.get(head)
    return np.broadcast_to(np.uint8(UNKNOWN), volume.image.shape) if found is None else found


def _cleft_voxels(volume: TrainingVolume) -> np.ndarray:
    """Return the places (n, 3) of voxels known to be in a cleft."""
    found = [volume.layers[head] for head in ("synapse_evidence", "clefts") if head in volume.layers]
    return np.concatenate([np.zeros((0, 3), int), *(np.argwhere((f != UNKNOWN) & (f & CLEFT != 0)) for f in found)])
