"""Training a forest on painted synapses: which voxels it learns from, and how dark a candidate may be.

As in VESICLE-RF (Gray Roncal et al. 2015, doi:10.48550/arXiv.1403.3724): as many points on synapses as elsewhere, drawn
from the candidates that lie a margin inside of the volumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from bouton.errors import DataError
from bouton.geometry import NM, ZYX, Box
from bouton.learn.forest_info import NAMES, ForestArchitecture
from bouton.learn.runners_forest import candidate_places
from bouton.learn.sampling import TrainingVolume
from bouton.learn.targets import UNKNOWN
from bouton.learn.vesicle_features import Surroundings, dark_sums, features_at, voxels_of

MOST_TILE_VOXELS = 1 << 23


@dataclass(frozen=True)
class PointSettings:
    """Which voxels a forest learns from.

    Attributes
    ----------
    points : int
        Of each class at most.
    margin_nm : (z, y, x)
        Distance from the border of a volume below which none is taken.
    recall : float
        Share of the painted voxels that must be candidates.
    seed : int
    """

    points: int = 100_000
    margin_nm: NM = (60.0, 300.0, 300.0)
    recall: float = 0.98
    seed: int = 0


def fitted_surroundings(
    volumes: Sequence[TrainingVolume], head: str, given: Surroundings, recall: float
) -> Surroundings:
    """Return ``given`` with the least ``darkest`` that has ``recall`` of the painted voxels near a dark place.

    Raises
    ------
    DataError
        Nothing is painted.
    """
    windows = given.windows
    size = [2 * half + 1 for half in windows.grow]
    found = [np.zeros(0, np.int32)]
    for volume in volumes:
        image, shift = _padded(volume.image, given)
        inside = Box.of_shape(volume.image.shape).shift(shift).slices
        found.append(ndimage.minimum_filter(dark_sums(image, windows), size)[inside][_painted(volume, head)])
    sums = np.sort(np.concatenate(found))
    if not sums.size:
        raise DataError(
            f"no voxel is painted as {head}", expected="some that are", fix="check box_zyx, layers and known"
        )
    chosen = sums[min(sums.size - 1, int(recall * sums.size))]
    # half a step more, so that division and product meet the same voxels
    darkest = min(255.0, (int(chosen) + 0.5) / voxels_of(windows.dark))
    return replace(given, architecture=replace(given.architecture, darkest=round(darkest, 6)))


def training_rows(
    volumes: Sequence[TrainingVolume], head: str, given: Surroundings, settings: PointSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Return features, float32 (n, 10), and classes, int64 (n,): 1 where ``head`` is painted, else 0; as many of each.

    Raises
    ------
    DataError
        There are no candidates of one of the two.
    """
    random = np.random.default_rng(settings.seed)
    found = [_classified(volume, head, given, settings.margin_nm) for volume in volumes]
    owner = np.repeat(np.arange(len(found)), [len(classes) for _, classes in found])
    places = np.concatenate([np.zeros((0, 3), np.int64), *(places for places, _ in found)])
    classes = np.concatenate([np.zeros(0, np.int64), *(classes for _, classes in found)])
    counts = np.bincount(classes, minlength=2)
    n = min(settings.points, int(counts.min()))
    if n == 0:
        raise DataError(
            f"{counts[1]} candidates on {head}, {counts[0]} elsewhere, further than {settings.margin_nm} nm (z, y, x) "
            "from the border", expected="some of each", fix="larger volumes, or forest.margin_nm",
        )  # fmt: skip
    chosen = np.concatenate([np.sort(random.choice(np.flatnonzero(classes == c), n, replace=False)) for c in (0, 1)])
    features = np.empty((len(chosen), len(NAMES)), np.float32)
    for number, volume in enumerate(volumes):
        mine = owner[chosen] == number
        image, shift = _padded(volume.image, given)
        features[mine] = features_at(image, places[chosen[mine]] + np.array(shift, np.int64), given)
    return features, classes[chosen]


def _classified(volume: TrainingVolume, head: str, given: Surroundings, margin_nm: NM) -> tuple[np.ndarray, np.ndarray]:
    """Return the candidates of a volume of which it is known what they are, int64 (n, 3), and their classes."""
    image, shift = _padded(volume.image, given)
    places = candidate_places(image, given) - np.array(shift, np.int64)
    margin = np.ceil(np.array(margin_nm) / given.voxel_size_nm - 1e-9).astype(np.int64)
    kept = ((places >= margin) & (places < np.array(volume.image.shape) - margin)).all(1)
    places = places[kept]
    z, y, x = places[:, 0], places[:, 1], places[:, 2]
    known = volume.layers[head][z, y, x] != UNKNOWN if head in volume.layers else np.zeros(len(places), bool)
    return places[known], _painted(volume, head)[z, y, x][known].astype(np.int64)


def _painted(volume: TrainingVolume, head: str) -> np.ndarray:
    layer = volume.layers.get(head)
    return np.zeros(volume.image.shape, bool) if layer is None else (layer != 0) & (layer != UNKNOWN)


def _padded(image: np.ndarray, given: Surroundings) -> tuple[np.ndarray, ZYX]:
    """Return an image mirrored beyond its border by the halo, and the halo; as prediction does."""
    halo = given.windows.halo
    return np.pad(image, [(h, h) for h in halo], mode="reflect"), halo


def default_tile(architecture: ForestArchitecture, voxel_size_nm: NM) -> tuple[ZYX, ZYX]:
    """Return a tile, and the overlap that the windows need: square in the section, of about 8 million voxels."""
    z, y, x = Surroundings(architecture, voxel_size_nm).windows.halo
    depth = max(32, 4 * z)
    side = max(4 * max(y, x), int((MOST_TILE_VOXELS / depth) ** 0.5))
    return (depth, side, side), (2 * z, 2 * y, 2 * x)
