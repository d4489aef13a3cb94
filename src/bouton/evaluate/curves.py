"""Precision and recall over the score of the predicted synapses, and the operating point.

Every count of a curve is that of :func:`bouton.evaluate.synapses.score_synapses` on the predictions of at least that
score: the matching is kept optimal as predictions join (:mod:`bouton.evaluate.prefix_matching`). Average precision is
sum_k (R_k - R_(k-1)) P_k over the distinct scores from high to low, without interpolation (Manning, Raghavan &
Schuetze 2008, nlp.stanford.edu/IR-book, section 8.4). A score chosen on one set of synapses is to be reported on
another: its best F1 is too good where it was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from bouton.errors import DataError
from bouton.evaluate.detection import Detection
from bouton.evaluate.matching import candidates
from bouton.evaluate.prefix_matching import Changes, count_prefixes, match_prefixes
from bouton.evaluate.synapses import MatchRule, SynapseSet, allowed_pairs, take_synapses

CURVE_COLUMNS = {
    "level": "str",
    "score": "float64",
    "tp": "int64",
    "fp": "int64",
    "fn": "int64",
    "precision": "float64",
    "recall": "float64",
    "f1": "float64",
}
MOST_POINTS = 1000


@dataclass(frozen=True)
class Curve:
    """Counts over the score, the highest score first.

    Attributes
    ----------
    score : numpy.ndarray
        float64 (k,), falling: the distinct scores. Row i counts the predictions of at least ``score[i]``.
    tp, fp : numpy.ndarray
        int64 (k,).
    true : int
        True synapses that count.
    """

    score: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    true: int

    @property
    def fn(self) -> np.ndarray:
        """Missed, int64 (k,)."""
        return self.true - self.tp

    @property
    def precision(self) -> np.ndarray:
        """TP / (TP + FP), float64 (k,); NaN where all predictions are neutral."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> np.ndarray:
        """TP / (TP + FN), float64 (k,); NaN without a true synapse."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> np.ndarray:
        """2 TP / (2 TP + FP + FN), float64 (k,)."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def average_precision(self) -> float:
        """Area under the steps of precision over recall, in [0, 1]; NaN without a true synapse, 0 without any found."""
        if not self.true:
            return float("nan")
        return float(np.sum(np.diff(self.recall, prepend=0.0) * np.nan_to_num(self.precision)))

    def at(self, score: float) -> Detection:
        """Return the counts of the predictions of at least ``score``."""
        row = int(np.searchsorted(-self.score, -score, side="right")) - 1
        if row < 0:
            return Detection(0, 0, self.true)
        return Detection(int(self.tp[row]), int(self.fp[row]), int(self.fn[row]))

    def best(self) -> OperatingPoint:
        """Return the point of the best F1; of equal ones the one of the higher score.

        Raises
        ------
        DataError
            No F1 is known: there is no true and no predicted synapse that counts.
        """
        f1 = self.f1
        if not np.isfinite(f1).any():
            raise DataError(
                "no synapse to choose a score by",
                expected="true and predicted synapses within the evaluated box",
                fix="give more of them, or a smaller margin",
            )
        row = int(np.nanargmax(f1))
        score = float(self.score[row])
        return OperatingPoint(score, self.at(score))


@dataclass(frozen=True)
class OperatingPoint:
    """A score threshold and what the predictions of at least that score amount to."""

    score: float
    found: Detection


def score_curves(
    truth: SynapseSet,
    predicted: SynapseSet,
    score: np.ndarray,
    rule: MatchRule,
    levels: Sequence[str] = ("location", "partners"),
) -> dict[str, Curve]:
    """Return a curve for each level of :data:`bouton.evaluate.synapses.LEVELS`.

    Parameters
    ----------
    score : numpy.ndarray
        float (n,) of the predicted synapses; the higher the surer.

    Raises
    ------
    DataError
        A score is no finite number.
    """
    score = np.asarray(score, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(score))
    if bad.size:
        raise DataError(f"row {bad[0]} has score {score[bad[0]]}", expected="finite scores", fix="drop that row")
    order = np.argsort(-score, kind="stable")
    ranked = take_synapses(predicted, order)
    near = _changes(truth, ranked, rule, "location")
    neutral = rule.neutral(truth.centre_nm), rule.neutral(ranked.centre_nm)
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))
    curves = {}
    for level in levels:
        changes = near if level == "location" else _changes(truth, ranked, rule, level)
        tp, fp = count_prefixes(_fields(near), _fields(changes), *neutral)
        curves[level] = Curve(score[order][last], tp[last], fp[last], int((~neutral[0]).sum()))
    return curves


def curve_table(curves: dict[str, Curve], most_points: int = MOST_POINTS) -> dict[str, np.ndarray]:
    """Return the curves as one table, at most ``most_points`` rows each, first, last and best ones among them."""
    parts = [_rows(level, curve, most_points) for level, curve in curves.items()]
    kinds = {name: object if kind == "str" else kind for name, kind in CURVE_COLUMNS.items()}
    return {
        name: np.concatenate([np.zeros(0, kind), *[part[name] for part in parts]]).astype(kind)
        for name, kind in kinds.items()
    }


def _rows(level: str, curve: Curve, most: int) -> dict[str, np.ndarray]:
    n = len(curve.score)
    keep = np.unique(np.linspace(0, n - 1, min(n, most - 1)).astype(np.int64)) if n else np.zeros(0, dtype=np.int64)
    if n and np.isfinite(curve.f1).any():
        keep = np.union1d(keep, [int(np.nanargmax(curve.f1))])
    columns = {name: getattr(curve, name)[keep] for name in CURVE_COLUMNS if name != "level"}
    return {"level": np.full(keep.size, level, dtype=object), **columns}


def _changes(truth: SynapseSet, ranked: SynapseSet, rule: MatchRule, level: str) -> Changes:
    allowed = allowed_pairs(truth, ranked, level)
    pairs, distance = candidates(truth.centre_nm, ranked.centre_nm, rule.max_distance_nm, allowed)
    return match_prefixes(pairs, distance, len(truth), len(ranked))


def _fields(changes: Changes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return astuple(changes)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
