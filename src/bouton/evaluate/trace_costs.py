"""What each cause costs, and what to do first.

A cause's cost is the F1 that would be gained if its errors alone were mended and all others stayed. A missed synapse
mended is a hit more; a wrong one is a hit more and a false one less; a false one is gone. Where the truth is doubtful
the truth is mended instead: a false synapse becomes a hit, a missed one is no synapse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.evaluate.detection import Detection
from bouton.evaluate.trace import CAUSES, REMEDIES

MISSED, FALSE, WRONG = "missed", "false", "wrong"
COST_COLUMNS = {
    "cause": "str",
    "errors": "int64",
    "missed": "int64",
    "false": "int64",
    "wrong": "int64",
    "f1_if_mended": "float64",
    "f1_gain": "float64",
    "remedy": "str",
}


@dataclass(frozen=True)
class Sweep:
    """The threshold of one parameter at which F1 is greatest on the synapses that it was looked for on.

    Attributes
    ----------
    parameter : str
    now, best : float
    f1_now, f1_best : float
    """

    parameter: str
    now: float
    best: float
    f1_now: float
    f1_best: float

    @property
    def gain(self) -> float:
        """F1 gained, at least 0."""
        return max(0.0, self.f1_best - self.f1_now)


def f1(tp: float, fp: float, fn: float) -> float:
    """Return 2 TP / (2 TP + FP + FN); 1 where nothing is there and nothing was found."""
    total = 2 * tp + fp + fn
    return 2 * tp / total if total else 1.0


def cause_costs(kinds: np.ndarray, causes: np.ndarray, counts: Detection) -> dict[str, np.ndarray]:
    """Return one row a cause that occurs, the greatest gain first.

    Parameters
    ----------
    kinds, causes : numpy.ndarray
        str (n,): ``missed``, ``false`` or ``wrong``; keys of :data:`bouton.evaluate.trace.CAUSES`.
    counts : Detection
        Right, false and missed synapses as they are; a wrong one is in both of the latter.

    Returns
    -------
    dict
        Columns :data:`COST_COLUMNS`.
    """
    now = f1(counts.tp, counts.fp, counts.fn)
    rows: list[tuple] = []
    for cause in CAUSES:
        of = [int(((kinds == kind) & (causes == cause)).sum()) for kind in (MISSED, FALSE, WRONG)]
        if sum(of):
            then = now if cause == "outside" else f1(*_mended(cause, of, counts))
            rows.append((cause, sum(of), *of, then, then - now, REMEDIES[cause]))
    rows.sort(key=lambda row: (-row[6], row[0]))
    columns = list(zip(*rows, strict=True)) or [()] * len(COST_COLUMNS)
    pairs = zip(COST_COLUMNS.items(), columns, strict=True)
    return {name: np.array(column, object if kind == "str" else kind) for (name, kind), column in pairs}


def _mended(cause: str, of: list[int], counts: Detection) -> tuple[int, int, int]:
    missed, false, wrong = of
    if cause == "truth_doubtful":
        return counts.tp + false + wrong, counts.fp - false - wrong, counts.fn - missed - wrong
    return counts.tp + missed + wrong, counts.fp - false - wrong, counts.fn - missed - wrong


def best_threshold(
    values: np.ndarray, hits: np.ndarray, falses: np.ndarray, total: int, parameter: tuple[str, float]
) -> Sweep:
    """Return the threshold on ``values`` (kept where at least it) with the greatest F1.

    Parameters
    ----------
    values : numpy.ndarray
        float64 (n,).
    hits, falses : numpy.ndarray
        float64 (n,): true and false synapses that each row brings where it is kept.
    total : int
        True synapses in all.
    parameter : (str, float)
        Its name and value now.

    Notes
    -----
    Of equally good thresholds the nearest to that of now; it lies half-way between two values.
    """
    name, now = parameter
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    # a threshold cannot part equal values
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, np.int64)
    tp, fp = np.cumsum(hits[order])[ends], np.cumsum(falses[order])[ends]
    scores = np.array([f1(a, b, total - a) for a, b in zip(tp, fp, strict=True)])
    kept = values >= now
    score_now = f1(float(hits[kept].sum()), float(falses[kept].sum()), total - float(hits[kept].sum()))
    if not len(scores) or scores.max() <= score_now + 1e-12:
        return Sweep(name, now, now, score_now, score_now)
    below = np.append(ranked[1:], 0.0)[ends]
    middles = (ranked[ends] + below) / 2
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    at = best[np.argmin(np.abs(middles[best] - now))]
    return Sweep(name, now, float(middles[at]), score_now, float(scores[at]))


def recommend(costs: dict[str, np.ndarray], sweeps: list[Sweep]) -> list[dict[str, object]]:
    """Return what to do, the greatest gain first: ``action``, ``f1_gain``, ``causes``, ``advice``.

    Actions ``retrain``, ``threshold``, ``segmentation`` and ``truth`` gain what their causes cost, reckoned one by one;
    that is what a perfect remedy would bring, a bound. A threshold gains what its sweep shows.
    """
    found: list[dict[str, object]] = []
    for action, advice in _ADVICE.items():
        rows = [i for i, remedy in enumerate(costs["remedy"]) if remedy == action]
        gain = float(sum(costs["f1_gain"][rows]))
        if gain > 0:
            names = [str(costs["cause"][i]) for i in rows]
            found.append({"action": action, "f1_gain": gain, "causes": names, "advice": advice})
    for sweep in sweeps:
        if sweep.gain > 0:
            found.append({"action": sweep.parameter, "f1_gain": sweep.gain, "causes": [], "advice": _sweep_text(sweep)})
    # a sweep is measured, the sum of a remedy's causes a bound: where equal, what is measured comes first
    return sorted(found, key=lambda row: (-float(str(row["f1_gain"])), bool(row["causes"]), str(row["action"])))


_ADVICE = {
    "retrain": "Retrain the network on places like these: no threshold mends them.",
    "threshold": "Loosen or tighten the rules of the clefts step; the thresholds below say how far it pays.",
    "segmentation": "Mend the segmentation first: the synapses are found, but not the neurons that they join.",
    "truth": "Look at the truth first: it may be wrong here.",
}


def _sweep_text(sweep: Sweep) -> str:
    return (
        f"{sweep.parameter} from {sweep.now:g} to {sweep.best:.4g}: F1 {sweep.f1_now:.3f} to {sweep.f1_best:.3f} on "
        "these synapses. It was chosen on them; check it on others before you believe it."
    )
