"""What each cause costs, and what to do first.

A cause's cost is the F1 that would be gained if its errors alone were mended and all others stayed. A missed synapse
mended is a hit more; a wrong one is a hit more and a false one less; a false one is gone. Where the truth is doubtful
the truth is mended instead: a false synapse becomes a hit, a missed one is no synapse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bouton.evaluate.detection import Detection
from bouton.evaluate.trace import CAUSES, REMEDIES

NOISE_FLOOR = 0.3
"""A threshold of the evidence below this one is no remedy: there noise begins."""
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


@dataclass(frozen=True)
class Lowering:
    """What a lower threshold of the evidence would find of n missed synapses; the false ones besides are not known.

    Attributes
    ----------
    now, best : float
        Of parameter ``low``; at ``best`` nine tenths of those are found that lie above the floor.
    found, of, unseen, beyond : int
        Found at ``best``, missed in all, those of them without a voxel above ``now``, and missed even at the floor.
    f1_now, f1_best : float
        The latter without new false ones: a bound.
    f1_beyond : float
        If those beyond the floor alone were found.
    """

    now: float
    best: float
    found: int
    of: int
    unseen: int
    beyond: int
    f1_now: float
    f1_best: float
    f1_beyond: float


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
    Of equally good thresholds the nearest to that of now: the least value that is kept, rounded down
    (:func:`keeping`), so that it keeps what it is said to keep.
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
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    at = best[np.argmin(np.abs(ranked[ends][best] - now))]
    return Sweep(name, now, keeping(float(ranked[ends][at]), float(below[at])), score_now, float(scores[at]))


def lower_threshold(enough: np.ndarray, unseen: np.ndarray, now: float, counts: Detection) -> Lowering:
    """Return how low a threshold must go.

    Parameters
    ----------
    enough : numpy.ndarray
        float64 (n,): of each missed synapse the threshold at which it would be found; NaN where unknown.
    unseen : numpy.ndarray
        bool (n,): nothing else would find it; the others need only be large enough.
    now : float
    counts : Detection
    """
    reached = np.sort(enough[enough >= NOISE_FLOOR])
    beyond = int((unseen & ~(enough >= NOISE_FLOOR)).sum())
    best = keeping(float(reached[len(reached) - math.ceil(0.9 * len(reached))])) if len(reached) else now
    found = int((reached >= best).sum())
    at = [f1(counts.tp + more, counts.fp, counts.fn - more) for more in (0, found, beyond)]
    return Lowering(now, best, found, len(enough), int(unseen.sum()), beyond, *at)


def keeping(value: float, above: float = -math.inf) -> float:
    """Return ``value`` rounded down, never to ``above`` or less: a threshold there keeps it, and nothing smaller.

    To three digits behind the point, from 1000 on to whole numbers; to more where that does not part the two.
    """
    for digits in range(0 if value >= 1000 else 3, 16):
        # a value that has these digits exactly must not lose its last one to the error of a product
        rounded = math.floor(value * 10**digits + 1e-6) / 10**digits
        if above < rounded <= value:
            return rounded
    return value


def in_digits(value: float) -> str:
    """Return a threshold in words that read back as the same number, without an exponent where that is short."""
    return f"{value:.0f}" if 1000 <= value < 1e15 and value == math.floor(value) else f"{value:.15g}"


def recommend(costs: dict[str, np.ndarray], sweeps: list[Sweep], lower: Lowering | None = None) -> list[dict[str, Any]]:
    """Return what to do, the greatest gain first: ``action``, ``f1_gain``, ``causes``, ``advice``.

    Actions ``retrain``, ``threshold``, ``segmentation`` and ``truth`` gain what their causes cost, reckoned one by one;
    that is what a perfect remedy would bring, a bound. A threshold gains what its sweep shows. With ``lower`` training
    is the remedy of those unseen synapses alone that no threshold above :data:`NOISE_FLOOR` finds.
    """
    found: list[dict[str, Any]] = []
    for action in _ADVICE:
        rows = [i for i, remedy in enumerate(costs["remedy"]) if remedy == action]
        gains = {str(costs["cause"][i]): float(costs["f1_gain"][i]) for i in rows}
        if lower is not None and "not_visible" in gains:
            gains["not_visible"] = lower.f1_beyond - lower.f1_now
        names = [name for name, gain in gains.items() if gain > 0]
        gain = sum(gains.values())
        if gain > 0:
            advice = _ADVICE[action] + _more(action, names, sweeps, lower)
            found.append({"action": action, "f1_gain": gain, "causes": names, "advice": advice})
    for sweep in sweeps:
        if sweep.gain > 0:
            found.append({"action": sweep.parameter, "f1_gain": sweep.gain, "causes": [], "advice": _sweep_text(sweep)})
    if lower is not None and lower.found and lower.best < lower.now:
        found.append(
            {"action": "low", "f1_gain": lower.f1_best - lower.f1_now, "causes": [], "advice": _lower_text(lower)}
        )
    # a sweep is measured, all else a bound: where equal, what is measured comes first
    return sorted(found, key=lambda row: (-row["f1_gain"], bool(row["causes"]), row["action"] == "low", row["action"]))


_ADVICE = {
    "retrain": "Retrain the network on places like these: no threshold mends them.",
    "threshold": "Loosen or tighten the rules of the clefts step.",
    "segmentation": "Mend the segmentation first: the synapses are found, but not the neurons that they join.",
    "truth": "Look at the truth first: it may be wrong here.",
}


_BY_HAND = {
    "merged_away": "raise low, or lower gap_nm of step clefts or merge_nm of step synapses",
    "found_twice": "raise gap_nm of step clefts or merge_nm of step synapses, or lower low",
}


def _more(action: str, causes: list[str], sweeps: list[Sweep], lower: Lowering | None) -> str:
    """Return what is to be said of these errors besides the action's advice."""
    if action == "retrain" and lower is not None and lower.beyond:
        return f" {lower.beyond} of the unseen would not be found at {NOISE_FLOOR:g} either, where noise begins."
    if action != "threshold":
        return ""
    tried = [sweep for sweep in sweeps if sweep.parameter in ("high", "min_volume_nm3")]
    best = max(tried, key=lambda sweep: sweep.gain, default=None)
    hands = "".join(f" For {name}: {_BY_HAND[name]}, and run again." for name in causes if name in _BY_HAND)
    if best is None:
        return f" Without a table of candidates no value could be tried.{hands}"
    names = " or ".join(sweep.parameter for sweep in tried)
    if not best.gain:
        return f" No other value of {names} pays on these synapses.{hands}"
    return f" Of {names}, {best.parameter} = {in_digits(best.best)} pays most: F1 +{best.gain:.3f}.{hands}"


def _lower_text(lower: Lowering) -> str:
    high = ", and high to at most that" if lower.unseen else ""
    return (
        f"low from {in_digits(lower.now)} to {in_digits(lower.best)}{high}: change this threshold before you train; "
        f"about {lower.found} of {lower.of} unseen or too small ones would be found. Which false ones come with them "
        "is not known until it is run."
    )


def _sweep_text(sweep: Sweep) -> str:
    return (
        f"{sweep.parameter} from {in_digits(sweep.now)} to {in_digits(sweep.best)}: F1 {sweep.f1_now:.3f} to "
        f"{sweep.f1_best:.3f} on these synapses. It was chosen on them; check it on others before you believe it."
    )
