"""Which synapses are right, wrong, missed or false, each once.

Matching goes level by level (:mod:`bouton.evaluate.synapses`), the strictest first: what agrees in partners and type
is right and leaves; the rest is matched by partners, then by the two neurons in either direction, then by place alone.
So the number of right ones is that of level ``type``, and a wrong one is compared with the nearest that it resembles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.evaluate.detection import Detection
from bouton.evaluate.matching import match_points
from bouton.evaluate.synapses import (
    UNKNOWN,
    MatchRule,
    SynapseSet,
    allowed_pairs,
    same_pair,
    same_partners,
    take_synapses,
)

_STRICTEST_FIRST = ("type", "partners", "pair", "location")


@dataclass(frozen=True)
class Sorted:
    """Rows of the true and the predicted synapses.

    Attributes
    ----------
    truth, predicted : numpy.ndarray
        int64 (k,): matched pairs, sorted by the truth.
    partners_right, reversed, type_right : numpy.ndarray
        bool (k,), of these pairs.
    missed, false : numpy.ndarray
        int64: rows without a partner.
    neutral_truth, neutral_predicted : numpy.ndarray
        bool, of all true and of all predicted synapses: not scored.
    """

    truth: np.ndarray
    predicted: np.ndarray
    partners_right: np.ndarray
    reversed: np.ndarray
    type_right: np.ndarray
    missed: np.ndarray
    false: np.ndarray
    neutral_truth: np.ndarray
    neutral_predicted: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Which of the pairs are right in all, bool (k,)."""
        return self.partners_right & self.type_right

    def counts(self) -> Detection:
        """Count what is right, predicted in vain and missed; a wrong pair is both of the latter."""
        scored = ~self.neutral_truth[self.truth]
        right = int((self.right & scored).sum())
        wrong = int((~self.right & scored).sum())
        return Detection(
            tp=right,
            fp=wrong + int((~self.neutral_predicted[self.false]).sum()),
            fn=wrong + int((~self.neutral_truth[self.missed]).sum()),
        )


def sort_synapses(truth: SynapseSet, predicted: SynapseSet, rule: MatchRule) -> Sorted:
    """Match predicted with true synapses, the strictest agreement first.

    Where no predicted type is known, types are not asked.
    """
    typed = bool(np.any(predicted.type != UNKNOWN))

    def type_right(t: np.ndarray, p: np.ndarray) -> np.ndarray:
        if not typed:
            return np.ones(len(t), bool)
        return np.asarray((truth.type[t] == UNKNOWN) | (truth.type[t] == predicted.type[p]), bool)

    free_t, free_p = np.ones(len(truth), bool), np.ones(len(predicted), bool)
    pairs = []
    for level in _STRICTEST_FIRST if typed else _STRICTEST_FIRST[1:]:
        pairs.append(_match(truth, predicted, rule, (free_t, free_p, level)))
        free_t[pairs[-1][:, 0]] = False
        free_p[pairs[-1][:, 1]] = False
    both = np.concatenate(pairs)
    order = np.argsort(both[:, 0], kind="stable")
    t, p = both[order, 0], both[order, 1]
    neutral_t, neutral_p = rule.neutral(truth.centre_nm), rule.neutral(predicted.centre_nm)
    neutral_p[p[neutral_t[t]]] = True
    partners = same_partners(truth, predicted, t, p)
    return Sorted(
        truth=t,
        predicted=p,
        partners_right=partners,
        reversed=same_pair(truth, predicted, t, p) & ~partners,
        type_right=type_right(t, p),
        missed=np.flatnonzero(free_t),
        false=np.flatnonzero(free_p),
        neutral_truth=neutral_t,
        neutral_predicted=neutral_p,
    )


def _match(truth: SynapseSet, predicted: SynapseSet, rule: MatchRule, still: tuple) -> np.ndarray:
    """Return matched rows int64 (k, 2) among those that are free and agree."""
    free_t, free_p, level = still
    t, p = np.flatnonzero(free_t), np.flatnonzero(free_p)
    true, left = take_synapses(truth, t), take_synapses(predicted, p)
    found = match_points(true.centre_nm, left.centre_nm, rule.max_distance_nm, allowed_pairs(true, left, level))
    return np.stack([t[found.truth], p[found.predicted]], axis=1)
