"""Scores of a segmentation against the truth that follow from the contingency table alone.

Voxels whose truth is 0 are left out. With n_ij the voxels of true object i in segment j, N their sum, p = n / N:

* *Variation of information* (Meila 2007, doi:10.1016/j.jmva.2006.11.013): split = H(segment | truth)
  = -sum p_ij log2(p_ij / p_i.), merge = H(truth | segment) = -sum p_ij log2(p_ij / p_.j), in bits. Segment 0 is a
  label like any other. Normalised: each over the joint entropy; and the information distance
  1 - I / max(H(truth), H(segment)) (Vinh, Epps & Bailey 2010, jmlr.org/papers/v11/vinh10a.html).
* *Adapted Rand error* (Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142): precision = S_ab / S_b, recall =
  S_ab / S_a, error = 1 - 2 P R / (P + R), S_a = sum n_i.^2. What a voxel of segment 0 is makes three variants:

  - :func:`adapted_rand`: a segment of its own, as SNEMI3D and ISBI 2012 score: S_b = sum_{j != 0} n_.j^2 + n_.0,
    S_ab = sum_{j != 0} n_ij^2 + n_.0;
  - :func:`adapted_rand_one_background`: all of them are one segment, the table as it is (elf, funlib.evaluate);
  - :func:`adapted_rand_cremi`: as the CREMI challenge's program computes it: S_b and S_ab in counts, but n_.0 divided
    by the voxels of the volume, so that unsegmented voxels cost recall and hardly any precision.

* *V-Rand* and *V-Info* (same paper), with each voxel of segment 0 a segment of its own: V_Rand = S_ab / (a S_b +
  (1 - a) S_a), which is 1 - adapted Rand error at a = 0.5; V_Info = I / ((1 - a) H(segment) + a H(truth)). ISBI 2012
  scores them section by section, after :func:`bouton.evaluate.borders.thin_borders` of the segmentation.
* *CREMI score* = sqrt(VOI sum * adapted Rand error), the latter as CREMI's program computes it.

Merging lowers the precision, splitting lowers the recall. scikit-image (0.26) names the two the other way round, counts
pairs without the diagonal and segment 0 as one segment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bouton.evaluate.contingency import Contingency

NAN = float("nan")


@dataclass(frozen=True)
class VariationOfInformation:
    """Split and merge entropies in bits, and normalised forms in [0, 1]; 0 is perfect.

    Attributes
    ----------
    split, merge : float
        Bits.
    normalised_split, normalised_merge : float
        Divided by the joint entropy H(truth, segment).
    distance : float
        1 - I(truth; segment) / max(H(truth), H(segment)).
    """

    split: float
    merge: float
    normalised_split: float
    normalised_merge: float
    distance: float

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
        return VariationOfInformation(*[NAN] * 5)
    joint, truth = _entropy(table.count, n), _entropy(table.truth_sums(), n)
    segment = _entropy(table.segment_sums()[1], n)
    # Rounding alone could make a perfect score minus 1e-16.
    split, merge = max(0.0, joint - truth), max(0.0, joint - segment)
    scale, larger = joint if joint > 0 else 1.0, max(truth, segment)
    # max(H) - I is the greater of the two conditional entropies.
    distance = max(split, merge) / larger if larger > 0 else 0.0
    return VariationOfInformation(split, merge, split / scale, merge / scale, distance)


def adapted_rand(table: Contingency) -> AdaptedRand:
    """Return the adapted Rand error, each voxel of segment 0 a segment of its own; NaN where no voxel counts."""
    background, ids, sums = _background(table)
    both = _squares(table.count[table.segment != 0]) + background
    return _rand(both, _squares(sums[ids != 0]) + background, table)


def adapted_rand_one_background(table: Contingency) -> AdaptedRand:
    """Return the adapted Rand error with segment 0 as one segment like any other; NaN where no voxel counts."""
    return _rand(_squares(table.count), _squares(table.segment_sums()[1]), table)


def adapted_rand_cremi(table: Contingency, volume_voxels: int | None = None) -> AdaptedRand:
    """Return the adapted Rand error as the CREMI challenge's program computes it; NaN where no voxel counts.

    Parameters
    ----------
    table : Contingency
    volume_voxels : int, optional
        All voxels of the volume, also those whose truth is 0, as that program counts them. Default: those of the
        table; the difference is below 1 in sums of squares of voxel counts.
    """
    background, ids, sums = _background(table)
    share = background / (volume_voxels or max(table.voxels, 1))
    both = _squares(table.count[table.segment != 0]) + share
    return _rand(both, _squares(sums[ids != 0]) + share, table)


def v_rand(table: Contingency, alpha: float = 0.5) -> float:
    """Return the foreground-restricted Rand score, in [0, 1], 1 is perfect; ``alpha`` weighs the segmentation's sum."""
    if table.voxels == 0:
        return NAN
    background, ids, sums = _background(table)
    both = _squares(table.count[table.segment != 0]) + background
    segments = _squares(sums[ids != 0]) + background
    return both / (alpha * segments + (1 - alpha) * _squares(table.truth_sums()))


def v_info(table: Contingency, alpha: float = 0.5) -> float:
    """Return the foreground-restricted information score, in [0, 1], 1 is perfect; ``alpha`` weighs the truth."""
    n = float(table.voxels)
    if n == 0:
        return NAN
    background, ids, sums = _background(table)
    # n voxels of 1 / n each: their entropy.
    alone = background / n * math.log2(n)
    truth = _entropy(table.truth_sums(), n)
    segment = _entropy(sums[ids != 0], n) + alone
    joint = _entropy(table.count[table.segment != 0], n) + alone
    scale = (1 - alpha) * segment + alpha * truth
    return max(0.0, truth + segment - joint) / scale if scale > 0 else 1.0


def cremi_score(table: Contingency, volume_voxels: int | None = None) -> float:
    """Return sqrt(VOI sum * adapted Rand error), 0 is perfect; ``volume_voxels`` as in :func:`adapted_rand_cremi`."""
    return math.sqrt(variation_of_information(table).total * max(0.0, adapted_rand_cremi(table, volume_voxels).error))


def _rand(both: float, segments: float, table: Contingency) -> AdaptedRand:
    if table.voxels == 0:
        return AdaptedRand(*[NAN] * 3)
    precision, recall = both / segments, both / _squares(table.truth_sums())
    return AdaptedRand(1.0 - 2.0 * precision * recall / (precision + recall), precision, recall)


def _background(table: Contingency) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the voxels of segment 0, and the ids and voxels of all segments."""
    ids, sums = table.segment_sums()
    return float(sums[ids == 0].sum()), ids, sums


def _entropy(counts: np.ndarray, n: float) -> float:
    p = counts.astype(np.float64) / n
    return float(-(p * np.log2(p)).sum())


def _squares(counts: np.ndarray) -> float:
    # float64: the square of 4e9 voxels no longer fits int64.
    return float(np.square(counts.astype(np.float64)).sum())
