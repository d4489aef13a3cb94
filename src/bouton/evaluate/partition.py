"""Variation of information and adapted Rand error of a segmentation against the truth.

Variation of information: Meila 2007, doi:10.1016/j.jmva.2006.11.013; adapted Rand error with the singleton rule:
Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142. Voxels whose truth is 0 are left out. With n_ij the voxels
of true object i in segment j, N their sum and p = n / N:

* split = H(segment | truth) = -sum p_ij log2(p_ij / p_i.), merge = H(truth | segment) = -sum p_ij log2(p_ij / p_.j),
  in bits; segment 0 is a label like any other.
* precision = S_ab / S_b, recall = S_ab / S_a, error = 1 - 2 P R / (P + R), with S_a = sum n_i.^2,
  S_b = sum_{j != 0} n_.j^2 + n_.0, S_ab = sum_{j != 0} n_ij^2 + n_.0: each voxel of segment 0 is a segment of its own.

Merging lowers the precision, splitting lowers the recall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.evaluate.contingency import Contingency


@dataclass(frozen=True)
class VariationOfInformation:
    """Split and merge entropies in bits, and their normalised forms in [0, 1].

    Attributes
    ----------
    split, merge : float
        Bits; 0 is perfect.
    normalised_split, normalised_merge : float
        Divided by the joint entropy H(truth, segment).
    """

    split: float
    merge: float
    normalised_split: float
    normalised_merge: float

    @property
    def total(self) -> float:
        """Split + merge, bits."""
        return self.split + self.merge


@dataclass(frozen=True)
class AdaptedRand:
    """Adapted Rand error with its precision and recall, all in [0, 1]."""

    error: float
    precision: float
    recall: float


def variation_of_information(table: Contingency) -> VariationOfInformation:
    """Return the variation of information; NaN throughout where the table counts no voxel."""
    n = float(table.voxels)
    if n == 0:
        return VariationOfInformation(*[float("nan")] * 4)
    joint = _entropy(table.count, n)
    # Rounding alone could make a perfect score minus 1e-16.
    split = max(0.0, joint - _entropy(table.truth_sums(), n))
    merge = max(0.0, joint - _entropy(table.segment_sums()[1], n))
    scale = joint if joint > 0 else 1.0
    return VariationOfInformation(split, merge, split / scale, merge / scale)


def adapted_rand(table: Contingency) -> AdaptedRand:
    """Return the adapted Rand error; NaN throughout where the table counts no voxel."""
    if table.voxels == 0:
        return AdaptedRand(*[float("nan")] * 3)
    ids, sums = table.segment_sums()
    background = float(sums[ids == 0].sum())
    both = _squares(table.count[table.segment != 0]) + background
    precision = both / (_squares(sums[ids != 0]) + background)
    recall = both / _squares(table.truth_sums())
    return AdaptedRand(1.0 - 2.0 * precision * recall / (precision + recall), precision, recall)


def _entropy(counts: np.ndarray, n: float) -> float:
    p = counts.astype(np.float64) / n
    return float(-(p * np.log2(p)).sum())


def _squares(counts: np.ndarray) -> float:
    # float64: the square of 4e9 voxels no longer fits int64.
    return float(np.square(counts.astype(np.float64)).sum())
