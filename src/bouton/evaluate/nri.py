"""Neural reconstruction integrity: which ends of synapses a reconstruction joins in one neuron, as it should.

Reilly et al. 2018, doi:10.3389/fninf.2018.00074. Every matched synapse has two ends, each of which lies in a true
neuron i and a detected neuron j: n_ij. A missed synapse's ends are deletions (j = none), a false one's insertions
(i = none).

    TP = sum_ij C(n_ij, 2)               pairs of ends of one true neuron that one detected neuron holds
    FN = sum_i C(n_i., 2) - TP           pairs of one true neuron that are not together, deletions included
    FP = sum_j C(n_.j, 2) - TP           pairs together in one detected neuron that should not be, insertions included
    NRI = 2 TP / (2 TP + FP + FN)

A known script counts x (x - 1) for the pairs within n_ij and half of that across, which doubles TP and makes the score
too good; it also exchanges the names of FN and FP.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.evaluate.contingency import count_pairs
from bouton.evaluate.matching import Matches

REACH_NM = 300.0


@dataclass(frozen=True)
class Integrity:
    """Pairs of synapse ends: together rightly, together wrongly, apart wrongly."""

    tp: int
    fp: int
    fn: int

    @property
    def nri(self) -> float:
        """2 TP / (2 TP + FP + FN), in [0, 1]; NaN where no neuron has two ends."""
        whole = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / whole if whole else float("nan")


def integrity(
    truth: tuple[np.ndarray, np.ndarray], detected: tuple[np.ndarray, np.ndarray], matches: Matches
) -> Integrity:
    """Return the pairs of ends.

    Parameters
    ----------
    truth, detected : (pre, post)
        uint64 (n,) and (m,): true neurons of the true synapses, and the *detected* neurons of the detected ones. An end
        without a neuron (0) is an end that is not there: of a truth it makes its match an insertion, of a detection a
        deletion.
    matches : Matches
        One to one, at most 300 nm apart (:data:`REACH_NM`).
    """
    ends = [_ends(t, d, matches) for t, d in zip(truth, detected, strict=True)]
    true, found = (np.concatenate(side) for side in zip(*ends, strict=True))
    joint = (true != 0) & (found != 0)
    # An insertion is a pair (none, j), a deletion (i, none): they count in the sums of j and i only.
    tp = _pairs(count_pairs(true[joint], found[joint]).count)
    whole_true = _pairs(np.unique(true[true != 0], return_counts=True)[1])
    whole_found = _pairs(np.unique(found[found != 0], return_counts=True)[1])
    return Integrity(tp=tp, fp=whole_found - tp, fn=whole_true - tp)


def _ends(truth: np.ndarray, detected: np.ndarray, matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """Return the true and the detected neuron of every end on one side, 0 where there is none."""
    missed, false = np.ones(len(truth), dtype=bool), np.ones(len(detected), dtype=bool)
    missed[matches.truth], false[matches.predicted] = False, False
    true = np.concatenate([truth[matches.truth], truth[missed], np.zeros(int(false.sum()), dtype=np.uint64)])
    found = np.concatenate([detected[matches.predicted], np.zeros(int(missed.sum()), np.uint64), detected[false]])
    return true.astype(np.uint64), found.astype(np.uint64)


def _pairs(counts: np.ndarray) -> int:
    """Return sum C(n, 2), exactly."""
    return sum(n * (n - 1) // 2 for n in counts.tolist())
