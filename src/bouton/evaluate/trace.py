"""One cause for every missed, false and wrong synapse, from evidence gathered along the pipeline.

The questions are asked in the order in which a detector works, as people do by hand (scalable minds, "How to debug a
synapse classifier with webKnossos"): is the truth to be believed? was it predicted? did it survive as an object? is it
an object of its own? do the two neurons meet there in the segmentation? were they chosen? in the right direction? is
the type right? The first "no" is the cause. Everything here is arrays of evidence in, names of causes out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CAUSES = {
    "not_visible": "The detector sees too little there: no voxel reaches the lower threshold.",
    "removed": "It was seen, but a rule of the clefts step removed it.",
    "merged_away": "Its cleft runs together with another one, or its synapse was taken for a copy of another one.",
    "found_twice": "One true synapse was found as two.",
    "no_contact_merge": "The segmentation has run two neurons together there: the partners cannot be told apart.",
    "no_contact_split": "The segmentation has cut a partner there: the segment beside the cleft is not the neuron's.",
    "partner_swapped": "Both partners are there as segments, but another segment was chosen.",
    "polarity_reversed": "The right two neurons, in the wrong direction.",
    "wrong_post": "One presynaptic site with several true postsynaptic neurons; this one was not chosen.",
    "type_wrong": "Place and partners are right, the type is not.",
    "truth_doubtful": "The truth itself is in doubt: all steps agree where it is silent, or annotators disagree.",
    "false_detection": "Evidence above the thresholds where no synapse is.",
    "outside": "Outside of what is scored, or too near to its faces.",
}
REMEDIES = {
    "not_visible": "retrain",
    "removed": "threshold",
    "merged_away": "threshold",
    "found_twice": "threshold",
    "no_contact_merge": "segmentation",
    "no_contact_split": "segmentation",
    "partner_swapped": "retrain",
    "polarity_reversed": "retrain",
    "wrong_post": "retrain",
    "type_wrong": "retrain",
    "truth_doubtful": "truth",
    "false_detection": "retrain",
    "outside": "none",
}
"""What mends a cause: ``retrain``, ``threshold``, ``segmentation``, ``truth`` or ``none``."""

UNKNOWN_LOW = 0.5


@dataclass(frozen=True)
class TruthEvidence:
    """What is known of n true synapses that were missed, or found with something wrong.

    Attributes
    ----------
    outside : numpy.ndarray
        bool (n,): not scored.
    doubted : numpy.ndarray
        bool (n,): a second annotator has no synapse there, or the true partners are not two known neurons.
    found : numpy.ndarray
        bool (n,): a predicted synapse is matched with it by place.
    partners_right, reversed, type_right : numpy.ndarray
        bool (n,), of that predicted synapse; False where there is none.
    same_neurons : numpy.ndarray
        bool (n,): its partners lie in the true two neurons, whatever segments they are.
    peak : numpy.ndarray
        float64 (n,): the greatest cleft probability at the place, 0 to 1; NaN where no evidence could be asked.
    low : float
        Probability from which voxels form clefts; NaN where unknown, then :data:`UNKNOWN_LOW` is taken for it.
    cleft : numpy.ndarray
        uint64 (n,): the cleft at the place; 0 = none.
    removed_by : numpy.ndarray
        str (n,): the rule that removed the candidate at the place; empty without one.
    shared : numpy.ndarray
        bool (n,): the cleft is another true synapse's, too, at another site.
    dropped : numpy.ndarray
        bool (n,): the cleft's synapse was merged into another one.
    same_site : numpy.ndarray
        bool (n,): another true synapse has the same presynaptic neuron at the same site.
    segments_known : bool
        Whether ``beside`` and ``main`` could be asked.
    beside, main, chosen : numpy.ndarray
        uint64 (n, 2), pre and post: the segment of the true neuron beside the cleft, its largest segment around, and
        the segment that was chosen; 0 = none.
    """

    outside: np.ndarray
    doubted: np.ndarray
    found: np.ndarray
    partners_right: np.ndarray
    reversed: np.ndarray
    type_right: np.ndarray
    same_neurons: np.ndarray
    peak: np.ndarray
    low: float
    cleft: np.ndarray
    removed_by: np.ndarray
    shared: np.ndarray
    dropped: np.ndarray
    same_site: np.ndarray
    segments_known: bool
    beside: np.ndarray
    main: np.ndarray
    chosen: np.ndarray


@dataclass(frozen=True)
class FalseEvidence:
    """What is known of n predicted synapses without a true one.

    Attributes
    ----------
    outside : numpy.ndarray
        bool (n,): not scored.
    seconded : numpy.ndarray
        bool (n,): a second annotator has a synapse there.
    follows : numpy.ndarray
        str (n,): the cause of the true synapse whose cleft this is; empty where it is none's.
    twice : numpy.ndarray
        bool (n,): a true synapse near by, between the same neurons, was found already.
    sure : numpy.ndarray
        bool (n,): scores, size and evidence as of right synapses (:func:`as_sure_as`).
    neurons : numpy.ndarray
        uint64 (n, 2): true neurons at its pre and post positions; 0 = none.
    """

    outside: np.ndarray
    seconded: np.ndarray
    follows: np.ndarray
    twice: np.ndarray
    sure: np.ndarray
    neurons: np.ndarray


def truth_causes(evidence: TruthEvidence) -> np.ndarray:
    """Return the cause of each missed or wrong true synapse: str (n,), of :data:`CAUSES`; empty where all is right.

    A removed candidate counts only where no cleft is left; where evidence reaches ``low`` and neither cleft nor
    candidate is known, a rule must have removed it as well.
    """
    e = evidence
    seen = e.peak >= (e.low if np.isfinite(e.low) else UNKNOWN_LOW)
    nowhere = e.cleft == 0
    merged, split = segment_errors(e)
    return _first(
        len(e.cleft),
        [
            (e.outside, "outside"),
            (e.found & e.partners_right & e.type_right, ""),
            (e.doubted, "truth_doubtful"),
            (e.found & e.partners_right, "type_wrong"),
            (e.found & e.reversed, "polarity_reversed"),
            (nowhere & ((e.removed_by != "") | seen), "removed"),
            (nowhere, "not_visible"),
            (e.shared | e.dropped, "merged_away"),
            (merged, "no_contact_merge"),
            (split | (e.same_neurons & ~e.partners_right), "no_contact_split"),
            (e.same_site, "wrong_post"),
            (np.ones(len(e.cleft), bool), "partner_swapped"),
        ],
    )


def segment_errors(evidence: TruthEvidence) -> tuple[np.ndarray, np.ndarray]:
    """Return where the segmentation has merged two neurons, and where it has cut one: bool (n,) each, never both.

    Merged: one segment is both partners'; or the right segments were chosen, but hold another neuron where they were
    pinned. Cut: a partner has no segment beside the cleft, or not its largest one around.
    """
    e = evidence
    if not e.segments_known:
        return np.zeros(len(e.cleft), bool), np.zeros(len(e.cleft), bool)
    one = (e.beside[:, 0] == e.beside[:, 1]) & (e.beside[:, 0] != 0)
    cut = ((e.beside != e.main) | (e.beside == 0)).any(axis=1)
    as_chosen = (e.beside == e.chosen).all(axis=1) & e.found & ~e.partners_right & ~e.reversed
    return one | (as_chosen & ~cut), cut & ~one


def false_causes(evidence: FalseEvidence) -> np.ndarray:
    """Return the cause of each false synapse: str (n,), keys of :data:`CAUSES`."""
    e = evidence
    two = (e.neurons[:, 0] != e.neurons[:, 1]) & (e.neurons != 0).all(axis=1)
    causes = _first(
        len(e.outside),
        [
            (e.outside, "outside"),
            (e.seconded, "truth_doubtful"),
            (e.follows != "", "follows"),
            (e.twice, "found_twice"),
            (e.sure & two, "truth_doubtful"),
            (np.ones(len(e.outside), bool), "false_detection"),
        ],
    )
    return np.where(causes == "follows", e.follows, causes).astype(object)


def as_sure_as(right: np.ndarray, asked: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return which rows of ``asked`` (n, k) reach in every column that share (k,) of the median of ``right`` (m, k).

    Without right ones nobody is sure. NaN in either is not asked.
    """
    if not len(right):
        return np.zeros(len(asked), bool)
    limits = shares * np.median(right, axis=0)
    return np.asarray(~(asked < limits).any(axis=1))


def _first(n: int, answers: list[tuple[np.ndarray, str]]) -> np.ndarray:
    """Return, for each row, the name of the first condition that holds."""
    names = np.full(n, "", dtype=object)
    for condition, name in reversed(answers):
        names[condition] = name
    return names
