"""The scores of the CREMI challenge for synaptic clefts and synaptic partners (cremi.org/metrics).

Clefts. ADGT is the mean distance of the predicted cleft voxels to the nearest true one, ADF that of the true ones to
the nearest predicted one; false positives and negatives are those farther than 200 nm. Three things are called *the*
CREMI score of clefts, so each has a name of its own here: the mean of ADGT and ADF (the leader board), 1 - F1 of these
voxels (the metrics page), and the sum of all distances beyond 200 nm (Synaptor).

Partners. A predicted and a true pair of pre and post sites may match if both ends lie in the same true neurons, each at
most 400 nm away; the cost is the mean of both distances, being alone costs 800. The assignment of least cost counts.
It is not always the one of most pairs: of five links of cost 400, 0, 400, 0, 400 in a chain it takes the two of cost 0.
Solving groups that share no candidate one by one gives the same as the challenge's full square matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from bouton.errors import DataError
from bouton.evaluate.detection import Detection
from bouton.evaluate.matching import Matches, assign, near_pairs
from bouton.geometry import NM

BACKGROUND = np.uint64(0xFFFFFFFFFFFFFFFF)
INVALID = np.uint64(0xFFFFFFFFFFFFFFFE)
FAR_NM = 200.0
REACH_NM = 400.0


@dataclass(frozen=True)
class CleftScores:
    """Distances between predicted and true cleft voxels; NaN over no voxel, infinite where the other side has none.

    Attributes
    ----------
    predicted_voxels, true_voxels : int
        Cleft voxels; invalid ones do not count.
    adgt_nm, adf_nm : float
        Mean distance of predicted voxels to the truth, and of true ones to the prediction.
    false_positives, false_negatives : int
        Voxels farther than 200 nm.
    far_sum_nm : float
        Sum of the distances of these.
    """

    predicted_voxels: int
    true_voxels: int
    adgt_nm: float
    adf_nm: float
    false_positives: int
    false_negatives: int
    far_sum_nm: float

    @property
    def mean_nm(self) -> float:
        """(ADGT + ADF) / 2: the leader board's CREMI score."""
        return (self.adgt_nm + self.adf_nm) / 2

    @property
    def one_minus_f1(self) -> float:
        """1 - F1 of predicted voxels within 200 nm (true positives) and of false positives and negatives."""
        near = self.predicted_voxels - self.false_positives
        return 1.0 - Detection(near, self.false_positives, self.false_negatives).f1.value


@dataclass(frozen=True)
class PartnerSites:
    """Pairs of pre and post sites.

    Attributes
    ----------
    pre_nm, post_nm : numpy.ndarray
        float64 (n, 3), z, y, x.
    pre, post : numpy.ndarray
        uint64 (n,), the true neurons there.
    """

    pre_nm: np.ndarray
    post_nm: np.ndarray
    pre: np.ndarray
    post: np.ndarray


def cleft_masks(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which voxels are clefts and which are invalid, bool like ``labels``.

    CREMI's files hold 2^64 - 1 as background, 2^64 - 2 as invalid, and 0 may be a cleft; so it is where 2^64 - 1
    occurs, which is no id of ours. Otherwise 0 is background.
    """
    if labels.dtype != np.uint64:
        return labels != 0, np.zeros(labels.shape, dtype=bool)
    background, invalid = labels == BACKGROUND, labels == INVALID
    return ~(background | invalid) if background.any() else (labels != 0) & ~invalid, invalid


def cleft_ids(labels: np.ndarray) -> np.ndarray:
    """Return the ids of :func:`cleft_masks` with 0 as the only background, uint64; the challenge's ids rise by 1."""
    cleft, _ = cleft_masks(labels)
    theirs = labels.dtype == np.uint64 and bool((labels == BACKGROUND).any())
    return np.where(cleft, labels.astype(np.uint64) + np.uint64(theirs), np.uint64(0))


def score_clefts(truth: np.ndarray, predicted: np.ndarray, voxel_size_nm: NM) -> CleftScores:
    """Score cleft voxels by distance.

    Needs about 30 bytes a voxel: two distance transforms of the whole volume.

    Parameters
    ----------
    truth, predicted : numpy.ndarray
        Cleft ids (z, y, x) of one shape; which are clefts: :func:`cleft_masks`. Voxels that are invalid in the truth
        count as no cleft of either side.
    voxel_size_nm : (z, y, x)

    Raises
    ------
    DataError
        The shapes differ.
    """
    if truth.shape != predicted.shape:
        raise DataError(f"shapes {truth.shape} and {predicted.shape}", expected="one shape (z, y, x)")
    true, invalid = cleft_masks(truth)
    found, unknown = cleft_masks(predicted)
    found &= ~invalid & ~unknown
    to_truth = _distance(true, voxel_size_nm)[found]
    to_found = _distance(found, voxel_size_nm)[true]
    far = (to_truth[to_truth > FAR_NM], to_found[to_found > FAR_NM])
    return CleftScores(
        predicted_voxels=to_truth.size,
        true_voxels=to_found.size,
        adgt_nm=_mean(to_truth),
        adf_nm=_mean(to_found),
        false_positives=far[0].size,
        false_negatives=far[1].size,
        far_sum_nm=float(far[0].sum() + far[1].sum()),
    )


def match_partners(truth: PartnerSites, predicted: PartnerSites, reach_nm: float = REACH_NM) -> Matches:
    """Match by CREMI's rule; ``distance_nm`` of the matches is their cost, the mean of both distances."""
    pairs = near_pairs(truth.pre_nm, predicted.pre_nm, reach_nm)
    t, p = pairs[:, 0], pairs[:, 1]
    same = (truth.pre[t] == predicted.pre[p]) & (truth.post[t] == predicted.post[p])
    pairs = pairs[same]
    pre, post = (_apart(truth, predicted, pairs, side) for side in ("pre_nm", "post_nm"))
    near = (pre <= reach_nm) & (post <= reach_nm)
    pairs, cost = pairs[near], 0.5 * (pre + post)[near]
    chosen = assign(pairs, cost, unmatched=2 * reach_nm)
    return Matches(pairs[chosen, 0], pairs[chosen, 1], cost[chosen])


def score_partners(truth: PartnerSites, predicted: PartnerSites, reach_nm: float = REACH_NM) -> Detection:
    """Return CREMI's counts of partners; its F-score is ``.f1``."""
    tp = len(match_partners(truth, predicted, reach_nm).truth)
    return Detection(tp=tp, fp=len(predicted.pre) - tp, fn=len(truth.pre) - tp)


def _apart(truth: PartnerSites, predicted: PartnerSites, pairs: np.ndarray, side: str) -> np.ndarray:
    return np.linalg.norm(getattr(truth, side)[pairs[:, 0]] - getattr(predicted, side)[pairs[:, 1]], axis=1)


def _distance(mask: np.ndarray, voxel_size_nm: NM) -> np.ndarray:
    """Return the distance to the nearest voxel of a mask; infinite without one, where scipy would return nonsense."""
    if not mask.any():
        return np.full(mask.shape, np.inf)
    return distance_transform_edt(~mask, sampling=voxel_size_nm)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
