"""How far two annotators agree on synapses: neither is the truth, so every measure is symmetric.

Cohen's kappa: Cohen 1960, doi:10.1177/001316446002000104.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.evaluate.detection import Detection, Proportion, wilson
from bouton.evaluate.matching import Matches
from bouton.evaluate.synapses import UNKNOWN, MatchRule, SynapseSet, score_synapses


@dataclass(frozen=True)
class Agreement:
    """Agreement of two tables of synapses over one box.

    Attributes
    ----------
    levels : dict of str to Detection
        As :class:`bouton.evaluate.synapses.SynapseScores`: ``tp`` both have it, ``fn`` only the first, ``fp`` only the
        second. The F1 is symmetric.
    matches : Matches
        Pairs of rows that are one synapse.
    same_type : Proportion
        Of the matched whose types both know.
    kappa : float
        Of these types beyond chance; NaN where there is but one type.
    distance_nm : float
        Median distance of matched centres; NaN without any.
    """

    levels: dict[str, Detection]
    matches: Matches
    same_type: Proportion
    kappa: float
    distance_nm: float


def agreement(first: SynapseSet, second: SynapseSet, rule: MatchRule) -> Agreement:
    """Compare two annotations of the same box.

    Cells must be named alike in both, or be 0; the rule of neutral synapses near the faces of the box holds.
    """
    scores = score_synapses(first, second, rule)
    one, other = first.type[scores.matches.truth], second.type[scores.matches.predicted]
    known = (one != UNKNOWN) & (other != UNKNOWN)
    distance = scores.matches.distance_nm
    return Agreement(
        levels=scores.levels,
        matches=scores.matches,
        same_type=wilson(int((one == other)[known].sum()), int(known.sum())),
        kappa=cohen_kappa(one[known], other[known]),
        distance_nm=float(np.median(distance)) if len(distance) else float("nan"),
    )


def cohen_kappa(first: np.ndarray, second: np.ndarray) -> float:
    """Return the agreement of two lists of categories beyond what chance gives; NaN where chance gives all or nothing.

    Parameters
    ----------
    first, second : numpy.ndarray
        str (n,).
    """
    if not len(first):
        return float("nan")
    names = np.unique(np.concatenate([first, second]).astype(str))
    shares = [np.array([(values.astype(str) == name).mean() for name in names]) for values in (first, second)]
    chance = float((shares[0] * shares[1]).sum())
    return float("nan") if chance == 1 else (float((first == second).mean()) - chance) / (1 - chance)
