"""How well a probability per voxel finds the voxels of a class: average precision and the best F1.

Average precision is sum_k (R_k - R_(k-1)) P_k over the thresholds from high to low, without interpolation, as in
information retrieval (Manning, Raghavan & Schuetze 2008, nlp.stanford.edu/IR-book, section 8.4) and scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.errors import DataError


@dataclass(frozen=True)
class VoxelScores:
    """Scores of one channel, NaN where no known voxel is of the class.

    Attributes
    ----------
    average_precision : float
        In [0, 1]; by chance, the share of voxels of the class.
    f1 : float
        At the best threshold.
    threshold : float
        That threshold, in [0, 1]: voxels of at least this are found.
    """

    average_precision: float
    f1: float
    threshold: float


def voxel_scores(values: np.ndarray, truth: np.ndarray, known: np.ndarray) -> VoxelScores:
    """Score a channel.

    Parameters
    ----------
    values : numpy.ndarray
        uint8: probability times 255.
    truth : numpy.ndarray
        bool, of the same shape.
    known : numpy.ndarray
        bool: voxels that count.

    Raises
    ------
    DataError
        The values are not uint8.
    """
    if values.dtype != np.uint8:
        raise DataError(f"probabilities of {values.dtype}", expected="uint8")
    yes = np.bincount(values[known & truth], minlength=256)
    no = np.bincount(values[known & ~truth], minlength=256)
    if not yes.sum():
        return VoxelScores(float("nan"), float("nan"), float("nan"))
    levels = np.arange(255, -1, -1)
    hits, alarms = np.cumsum(yes[levels]), np.cumsum(no[levels])
    found = np.maximum(hits + alarms, 1)
    precision, recall = hits / found, hits / hits[-1]
    average = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    f1 = 2 * hits / (found + hits[-1])
    best = int(np.argmax(f1))
    return VoxelScores(average, float(f1[best]), float(levels[best] / 255))
