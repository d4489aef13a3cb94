"""Affinities for the segmentation benchmark: made from real or synthetic shapes, or read from files.

``pinky40`` makes them from ``pinky40_seg512``, an automated segmentation of 512^3 voxels of 40 x 32 x 32 nm, from that
corner of it that is neuropil (the opposite one is a soma); ``phantom`` from the true neurons of bouton's phantom. With
d the distance to the nearest voxel of another label in nm, L = (min(d, 80) - 24) / 10 + n1 + n2, where n1 and n2 are
noise of unit variance, smoothed by Gaussians of (0.7, 1.5, 1.5) and (2, 6, 6) voxels. The affinity of two neighbours is
sigmoid(min(L of both) + 2) where their labels agree, - 2 where they differ. Larger volumes than there are repeat them,
mirrored.
"""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from bouton.geometry import Box
from bouton.phantom import PhantomParams, generate
from bouton.volume import open_volume

FARTHEST_NM = 80
LARGEST = 512
SLAB = 64


@dataclass(frozen=True)
class Tissue:
    """True labels, and the logits that affinities are made of, at ``shape``; the arrays may be smaller (mirrored)."""

    labels: np.ndarray
    logits: np.ndarray
    shape: tuple[int, int, int]

    def affinities(self, dtype: type) -> np.ndarray:
        """Return (3, z, y, x): uint8, v / 255, or float32 before rounding."""
        result = np.zeros((3, *self.shape), dtype)
        for z in range(0, self.shape[0], SLAB):
            # one plane more below, where the volume has one
            start = max(0, z - 1)
            names, logits = (self._planes(array, start, z + SLAB) for array in (self.labels, self.logits))
            for c in range(3):
                own = slice(z - start, None)
                upper = tuple(slice(1, None) if axis == c else (own if axis == 0 else slice(None)) for axis in range(3))
                lower = tuple(
                    slice(None, -1) if axis == c else (own if axis == 0 else slice(None)) for axis in range(3)
                )
                logit = np.minimum(logits[upper], logits[lower]) + np.where(names[upper] == names[lower], 2, -2)
                target = result[c, z + (c == 0 and z == 0) : z + SLAB]
                target = target[tuple(slice(int(axis == c > 0), None) for axis in range(3))]
                share = 1 / (1 + np.exp(-logit))
                target[...] = np.rint(share * 255) if dtype == np.uint8 else share
        return result

    def truth(self) -> np.ndarray:
        """Return the labels at full shape."""
        return self._planes(self.labels, 0, self.shape[0])

    def _planes(self, array: np.ndarray, start: int, stop: int) -> np.ndarray:
        if array.shape == self.shape:
            return array[start:stop]
        z, y, x = (_mirrored(n, length) for n, length in zip(array.shape, self.shape, strict=True))
        return array[z[start:stop]][:, y][:, :, x]


def _mirrored(n: int, length: int) -> np.ndarray:
    """Return indices 0 .. n - 1, n - 1 .. 0, 0 .. of this length."""
    place = np.arange(length) % (2 * n)
    return np.minimum(place, 2 * n - 1 - place)


def pinky40(side: int, largest: int = LARGEST) -> Tissue:
    """Return a cube of ``side`` voxels made from pinky40_seg512, mirrored from ``largest`` voxels on."""
    if importlib.util.find_spec("crackle") is None:
        raise SystemExit("pinky40_seg512 is stored by crackle: pip install crackle-codec, or choose another --input")
    packed = (data_folder() / "pinky40_seg512" / "connectomics.npy.ckl.gz").read_bytes()
    # the file's axes are x, y, z
    labels = np.moveaxis(importlib.import_module("crackle").decompress(gzip.decompress(packed)), (0, 1, 2), (2, 1, 0))
    n = min(side, largest)
    return _tissue(np.ascontiguousarray(labels[-n:, -n:, -n:]), (40, 32, 32), (side,) * 3)


def phantom(side: int, largest: int = LARGEST) -> Tissue:
    """Return a cube of ``side`` voxels of a phantom of 40 x 32 x 32 nm, mirrored from ``largest`` voxels on."""
    size, n = (40, 32, 32), min(side, largest)
    labels = np.empty((n,) * 3, np.uint64)
    for z in range(0, n, 64):
        box = Box((z, 0, 0), (min(z + 64, n), n, n))
        labels[box.slices] = generate(box, PhantomParams(voxel_size_nm=size)).neuron_ids
    return _tissue(labels, size, (side,) * 3)


def from_file(path: str) -> np.ndarray:
    """Return the affinities of a volume: uint8 (3, z, y, x), v / 255."""
    volume = open_volume(path)
    values = volume.read(Box.of_shape(volume.shape[-3:]))
    return values if values.dtype == np.uint8 else np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def piriform() -> np.ndarray:
    """Return the affinities that a network predicted in piriform cortex: uint8 (3, 5, 200, 200)."""
    with importlib.import_module("h5py").File(data_folder() / "piriform_affinity" / "piriform.aff.h5") as file:
        stored = file["main"][...]
    # the file's channels are x, y, z
    return np.rint(np.clip(np.take(stored, [2, 1, 0], axis=0), 0, 1) * 255).astype(np.uint8)


def data_folder() -> Path:
    """Return the folder of the real data: BOUTON_DATA, else shared/data beside the project."""
    return Path(os.environ.get("BOUTON_DATA", Path(__file__).parents[2] / "shared" / "data"))


def _tissue(labels: np.ndarray, size_nm: tuple[int, int, int], shape: tuple[int, int, int]) -> Tissue:
    logits = (distance_to_another_label_nm(labels, size_nm) - 24) / 10
    rng = np.random.default_rng(0)
    for sigma in ((0.7, 1.5, 1.5), (2.0, 6.0, 6.0)):
        noise = rng.standard_normal(logits.shape, dtype=np.float32)
        ndimage.gaussian_filter(noise, sigma, output=noise)
        noise /= noise.std(dtype=np.float64)
        logits += noise
    return Tissue(labels, logits, shape)


def distance_to_another_label_nm(labels: np.ndarray, size_nm: tuple[int, int, int]) -> np.ndarray:
    """Return float32: the distance of voxel centres, at most FARTHEST_NM."""
    distance = np.full(labels.shape, FARTHEST_NM, np.float32)
    for offset in itertools.product(*(range(-(FARTHEST_NM // size), FARTHEST_NM // size + 1) for size in size_nm)):
        length = float(np.linalg.norm(np.multiply(offset, size_nm)))
        # the other half of the offsets is the same pairs of voxels
        if offset > (0, 0, 0) and length < FARTHEST_NM:
            here = tuple(slice(max(0, -o), n - max(0, o)) for o, n in zip(offset, labels.shape, strict=True))
            there = tuple(slice(max(0, o), n - max(0, -o)) for o, n in zip(offset, labels.shape, strict=True))
            for z in range(0, labels.shape[0], SLAB):
                differs = labels[here][z : z + SLAB] != labels[there][z : z + SLAB]
                for side in (here, there):
                    part = distance[side][z : z + SLAB]
                    np.minimum(part, np.float32(length), out=part, where=differs)
    return distance
