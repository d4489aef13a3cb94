"""Score predicted synapses against true ones.

A true and a predicted synapse match when their cleft centres are at most a distance apart; the matching is one to one.
Levels, each with its own matching (candidates must agree in what the level names):

``location``  the centres are near
``pair``      and the same two neurons meet, in either direction
``partners``  and the presynaptic neuron is presynaptic, the postsynaptic postsynaptic
``type``      and the type is right (true synapses of unknown type count as partners do)

Predicted neurons are the *true* neurons found at the predicted pre and post positions, so errors of the segmentation
elsewhere do not count here. The rule of neutral synapses: a true synapse nearer than a margin to a face of the
evaluated box, and an unmatched prediction there, count neither for nor against; nor does a prediction that is matched
with a neutral true synapse, because half of such a synapse may lie outside.
Matching within equal partners: CREMI (cremi.org/metrics); Buhmann et al. 2021, doi:10.1038/s41592-021-01183-7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np

from bouton.evaluate.detection import Detection, Proportion, wilson
from bouton.evaluate.matching import Matches, match_points

LEVELS = ("location", "pair", "partners", "type")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class SynapseSet:
    """Synapses as arrays.

    Attributes
    ----------
    centre_nm : numpy.ndarray
        float64 (n, 3), z, y, x of the cleft centres.
    pre, post : numpy.ndarray
        uint64 (n,), ids of *true* neurons; 0 is none.
    type : numpy.ndarray
        str (n,).
    """

    centre_nm: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    type: np.ndarray

    def __len__(self) -> int:
        return len(self.centre_nm)


def points_nm(table: Mapping[str, np.ndarray], prefix: str = "") -> np.ndarray:
    """Return positions, float64 (n, 3) z, y, x in nm, from the columns ``<prefix>z_nm`` ...; NaN: not given."""
    return np.stack([np.asarray(table[f"{prefix}{axis}_nm"], np.float64) for axis in "zyx"], axis=1)


def synapse_set(table: Mapping[str, np.ndarray], neurons: tuple[np.ndarray, np.ndarray] | None = None) -> SynapseSet:
    """Return a table of synapses as it is scored.

    Parameters
    ----------
    table : mapping
        ``z_nm``, ``y_nm``, ``x_nm``, and where they are there ``type``, else unknown, and ``pre_id``, ``post_id``.
    neurons : (pre, post), optional
        uint64 (n,), *true* neurons; default: those that the table names.
    """
    pre, post = neurons or (table["pre_id"], table["post_id"])
    return SynapseSet(points_nm(table), pre, post, table.get("type", np.full(len(pre), UNKNOWN, dtype=object)))


@dataclass(frozen=True)
class MatchRule:
    """How synapses are matched.

    Attributes
    ----------
    max_distance_nm : float
        Largest distance of matching cleft centres.
    start_nm, stop_nm : tuple of float
        The evaluated box, z, y, x.
    margin_nm : float
        Synapses nearer than this to a face of the box are neutral.
    """

    max_distance_nm: float
    start_nm: tuple[float, float, float]
    stop_nm: tuple[float, float, float]
    margin_nm: float

    def neutral(self, centre_nm: np.ndarray) -> np.ndarray:
        """Return which centres, (n, 3), lie in the margin or outside of the box."""
        low = np.asarray(self.start_nm) + self.margin_nm
        high = np.asarray(self.stop_nm) - self.margin_nm
        return np.any((centre_nm < low) | (centre_nm > high), axis=1)


@dataclass(frozen=True)
class SynapseScores:
    """Scores of a set of predicted synapses.

    Attributes
    ----------
    levels : dict of str to Detection
        One per entry of :data:`LEVELS`.
    matches : Matches
        Those of level ``location``, neutral ones included.
    partners_right : Proportion
        Share of the matches (``location``, not neutral) whose pre and post neurons are both right.
    polarity_right : Proportion
        Share of the matches in which the right two neurons meet whose direction is right.
    type_right : Proportion
        Share of the matches with a known true type whose type is right.
    """

    levels: dict[str, Detection]
    matches: Matches
    partners_right: Proportion
    polarity_right: Proportion
    type_right: Proportion


def score_synapses(truth: SynapseSet, predicted: SynapseSet, rule: MatchRule) -> SynapseScores:
    """Match predicted with true synapses and count."""
    matched = {level: _match(truth, predicted, rule, level) for level in LEVELS}
    near = matched["location"]
    neutral_truth, neutral_predicted = rule.neutral(truth.centre_nm), rule.neutral(predicted.centre_nm)
    counted = ~neutral_truth[near.truth]
    neutral_predicted[near.predicted[~counted]] = True
    levels = {level: _count(matches, neutral_truth, neutral_predicted) for level, matches in matched.items()}
    t, p = near.truth[counted], near.predicted[counted]
    right, met = same_partners(truth, predicted, t, p), same_pair(truth, predicted, t, p)
    known = truth.type[t] != UNKNOWN
    return SynapseScores(
        levels=levels,
        matches=near,
        partners_right=_share(right),
        polarity_right=_share(right[met]),
        type_right=_share((truth.type[t] == predicted.type[p])[known]),
    )


def counted_rows(truth: SynapseSet, predicted: SynapseSet, rule: MatchRule) -> tuple[np.ndarray, np.ndarray]:
    """Return which true and which predicted synapses count, bool (n,) and (m,): all but the neutral ones.

    A prediction in the margin that is matched with a true synapse that counts does count.
    """
    near = match_points(truth.centre_nm, predicted.centre_nm, rule.max_distance_nm)
    true, found = ~rule.neutral(truth.centre_nm), ~rule.neutral(predicted.centre_nm)
    found[near.predicted] = true[near.truth]
    return true, found


def same_partners(truth: SynapseSet, predicted: SynapseSet, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return, for the pairs of rows ``t`` and ``p``, whether pre and post neurons are both right; 0 is never right."""
    known = (predicted.pre[p] != 0) & (predicted.post[p] != 0)
    return known & (truth.pre[t] == predicted.pre[p]) & (truth.post[t] == predicted.post[p])


def same_pair(truth: SynapseSet, predicted: SynapseSet, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return, for the pairs of rows ``t`` and ``p``, whether the two neurons are right, in either direction."""
    swapped = (truth.pre[t] == predicted.post[p]) & (truth.post[t] == predicted.pre[p])
    known = (predicted.pre[p] != 0) & (predicted.post[p] != 0)
    return same_partners(truth, predicted, t, p) | (swapped & known)


def allowed_pairs(
    truth: SynapseSet, predicted: SynapseSet, level: str
) -> Callable[[np.ndarray, np.ndarray], np.ndarray] | None:
    """Return which (truth rows, predicted rows) may match at a level, for :func:`match_points`; None: all may."""
    if level == "location":
        return None
    rule = {"pair": same_pair, "partners": same_partners, "type": _same_type}[level]
    return lambda t, p: rule(truth, predicted, t, p)


def take_synapses(synapses: SynapseSet, rows: np.ndarray) -> SynapseSet:
    """Return some rows, by number or bool."""
    return SynapseSet(*(getattr(synapses, field.name)[rows] for field in fields(synapses)))


def _match(truth: SynapseSet, predicted: SynapseSet, rule: MatchRule, level: str) -> Matches:
    allowed = allowed_pairs(truth, predicted, level)
    return match_points(truth.centre_nm, predicted.centre_nm, rule.max_distance_nm, allowed)


def _same_type(truth: SynapseSet, predicted: SynapseSet, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    right = (truth.type[t] == UNKNOWN) | (truth.type[t] == predicted.type[p])
    return right & same_partners(truth, predicted, t, p)


def _count(matches: Matches, neutral_truth: np.ndarray, neutral_predicted: np.ndarray) -> Detection:
    alone = ~neutral_predicted
    alone[matches.predicted] = False
    tp = int((~neutral_truth[matches.truth]).sum())
    return Detection(tp=tp, fp=int(alone.sum()), fn=int((~neutral_truth).sum()) - tp)


def _share(right: np.ndarray) -> Proportion:
    return wilson(int(right.sum()), right.size)
