"""Affinities for the segmentation benchmark: made from real shapes, read from real files, or of a phantom.

``pinky40`` makes them from ``pinky40_seg512``, an automated segmentation of 512^3 voxels of 40 x 32 x 32 nm, from that
corner of it that is neuropil (the opposite one is a soma). With d the distance to the nearest voxel of another label in
nm, L = (min(d, 80) - 24) / 10 + n1 + n2, where n1 and n2 are noise of unit variance, smoothed by Gaussians of
(0.7, 1.5, 1.5) and (2, 6, 6) voxels. The affinity of two neighbours is sigmoid(min(L of both) + 2) where their labels
agree, - 2 where they differ, rounded to uint8. Larger volumes are mirrored at the upper faces, the noise is not.
"""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import itertools
import os
from pathlib import Path

import numpy as np
from scipy import ndimage

VOXEL_SIZE_NM = (40, 32, 32)
FARTHEST_NM = 80
SLAB = 64


def data_folder() -> Path:
    """Return the folder of the real data: BOUTON_DATA, else shared/data beside the project."""
    return Path(os.environ.get("BOUTON_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pinky40_labels(side: int) -> np.ndarray:
    """Return uint32 (side, side, side): the segmentation, mirrored beyond 512 voxels."""
    if importlib.util.find_spec("crackle") is None:
        raise SystemExit("pinky40_seg512 is stored by crackle: pip install crackle-codec, or choose another --input")
    packed = (data_folder() / "pinky40_seg512" / "connectomics.npy.ckl.gz").read_bytes()
    # the file's axes are x, y, z
    labels = np.moveaxis(importlib.import_module("crackle").decompress(gzip.decompress(packed)), (0, 1, 2), (2, 1, 0))
    labels = np.ascontiguousarray(labels[-side:, -side:, -side:])
    for axis in range(3):
        while labels.shape[axis] < side:
            part = np.flip(labels, axis).take(range(min(labels.shape[axis], side - labels.shape[axis])), axis)
            labels = np.concatenate([labels, part], axis)
    return labels


def pinky40(side: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 (3, side, side, side) affinities and uint32 labels."""
    labels = pinky40_labels(side)
    logits = (distance_to_another_label_nm(labels) - 24) / 10
    rng = np.random.default_rng(seed)
    for sigma in ((0.7, 1.5, 1.5), (2.0, 6.0, 6.0)):
        _add_noise(logits, rng, sigma)
    return _affinities(labels, logits), labels


def distance_to_another_label_nm(labels: np.ndarray) -> np.ndarray:
    """Return float32: the distance of voxel centres, at most FARTHEST_NM."""
    distance = np.full(labels.shape, FARTHEST_NM, np.float32)
    reach = [range(-(FARTHEST_NM // size), FARTHEST_NM // size + 1) for size in VOXEL_SIZE_NM]
    for offset in itertools.product(*reach):
        length = float(np.linalg.norm(np.multiply(offset, VOXEL_SIZE_NM)))
        # the other half of the offsets is the same pairs of voxels
        if offset > (0, 0, 0) and length < FARTHEST_NM:
            here = tuple(slice(max(0, -o), n - max(0, o)) for o, n in zip(offset, labels.shape, strict=True))
            there = tuple(slice(max(0, o), n - max(0, -o)) for o, n in zip(offset, labels.shape, strict=True))
            for z in range(0, labels.shape[0], SLAB):
                _nearer(labels, distance, (here, there, slice(z, z + SLAB)), np.float32(length))
    return distance


def _nearer(labels: np.ndarray, distance: np.ndarray, where: tuple, length: np.float32) -> None:
    here, there, slab = where
    differs = labels[here][slab] != labels[there][slab]
    for side in (here, there):
        part = distance[side][slab]
        np.minimum(part, length, out=part, where=differs)


def _add_noise(logits: np.ndarray, rng: np.random.Generator, sigma: tuple[float, float, float]) -> None:
    noise = rng.standard_normal(logits.shape, dtype=np.float32)
    ndimage.gaussian_filter(noise, sigma, output=noise)
    noise /= noise.std(dtype=np.float64)
    logits += noise


def _affinities(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    affinities = np.zeros((3, *labels.shape), np.uint8)
    for c, z in itertools.product(range(3), range(0, labels.shape[0], SLAB)):
        # one plane more below, where the volume has one
        start = max(0, z - 1) if c == 0 else z
        names, values = labels[start : z + SLAB], logits[start : z + SLAB]
        upper = tuple(slice(1, None) if axis == c else slice(None) for axis in range(3))
        lower = tuple(slice(None, -1) if axis == c else slice(None) for axis in range(3))
        logit = np.minimum(values[upper], values[lower]) + np.where(names[upper] == names[lower], 2, -2)
        target = affinities[c, z + (c == 0 and start == z) : z + SLAB]
        target[upper if c else ()] = np.rint(255 / (1 + np.exp(-logit)))
    return affinities


def piriform() -> tuple[np.ndarray, None]:
    """Return the affinities that a network predicted in piriform cortex: uint8 (3, 5, 200, 200), 3 z, y, x steps."""
    h5py = importlib.import_module("h5py")
    with h5py.File(data_folder() / "piriform_affinity" / "piriform.aff.h5") as file:
        stored = file["main"][...]
    # the file's channels are x, y, z
    return np.rint(np.clip(np.take(stored, [2, 1, 0], axis=0), 0, 1) * 255).astype(np.uint8), None
