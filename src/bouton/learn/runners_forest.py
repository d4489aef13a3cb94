"""Runs a forest on a tile: candidates, their features, their probability; elsewhere 0."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from bouton.errors import DataError
from bouton.geometry import Box
from bouton.learn.card import WEIGHTS
from bouton.learn.forest import Forest, forest_of, predict_forest
from bouton.learn.forest_info import ForestArchitecture
from bouton.learn.info import ModelInfo
from bouton.learn.package import read_package, weights_of
from bouton.learn.runners import to_bytes
from bouton.learn.vesicle_features import Surroundings, candidates, features_at

POSITIVE = 1


class ForestRunner:
    """A forest behind the interface of :class:`bouton.learn.runners.Runner`.

    Parameters
    ----------
    info : ModelInfo
        Its architecture is a forest's.
    forest : Forest
        Of the classes 0 and 1; 1 is the head.
    """

    def __init__(self, info: ModelInfo, forest: Forest) -> None:
        self.info, self.forest = info, forest
        self.given = surroundings_of(info)

    def run(self, values: np.ndarray) -> np.ndarray:
        """Return probabilities, float32 (1, z, y, x), of an image of uint8 values, float32 (1, 1, z, y, x)."""
        return self._probabilities(values[0, 0].astype(np.uint8))

    def run_all(self, tiles: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield probabilities times 255, uint8 (1, z, y, x), of each image, uint8 (z, y, x)."""
        for tile in tiles:
            yield to_bytes(self._probabilities(tile))

    def _probabilities(self, image: np.ndarray) -> np.ndarray:
        places = candidate_places(image, self.given)
        out = np.zeros((1, *image.shape), np.float32)
        z, y, x = places[:, 0], places[:, 1], places[:, 2]
        out[0, z, y, x] = predict_forest(self.forest, features_at(image, places, self.given))[:, POSITIVE]
        return out


def surroundings_of(info: ModelInfo) -> Surroundings:
    """Return what the features of a model's forest are taken of.

    Raises
    ------
    DataError
        The model is no forest.
    """
    if not isinstance(info.architecture, ForestArchitecture):
        raise DataError("a model that is no forest", expected="a forest")
    return Surroundings(info.architecture, info.voxel_size_nm)


def candidate_places(image: np.ndarray, given: Surroundings) -> np.ndarray:
    """Return the candidates that are no nearer to the border than the halo, int64 (n, 3)."""
    inside = Box.of_shape(image.shape).grow([-h for h in given.windows.halo])
    if inside.is_empty:
        return np.zeros((0, 3), np.int64)
    found = candidates(image, given)[inside.slices]
    return np.argwhere(found).astype(np.int64) + np.array(inside.start, np.int64)


def open_forest(path: str | Path) -> ForestRunner:
    """Return what runs the forest in folder ``path``.

    Raises
    ------
    DataError
        It is missing, damaged or no forest.
    """
    card, data = read_package(path)
    surroundings_of(card.prediction)
    return ForestRunner(card.prediction, forest_of(weights_of(card, data, Path(path) / WEIGHTS)))
