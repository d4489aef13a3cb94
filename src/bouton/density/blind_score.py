"""What people counted in blocks whose group they did not know, against what a detector counted there.

Blocks were chosen for the detector's extreme counts, so that its chance errors are among the reasons for the choice: in
low blocks it found too few by luck alone, in high ones too many (regression to the mean; Galton 1886,
doi:10.2307/2841583). How well it counts is told by controls only. That the person confirms a block says that the block
has few or many synapses; of many blocks of perfectly uniform tissue some do. Whether there are more such blocks than
chance makes is what tests over all blocks ask, not these counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from bouton.density.blinding import CONTROL, GROUPS, HIGH, LOW
from bouton.density.finding import Finding
from bouton.density.rates import Ratio, contrast, paired_ratio, rate, share

YES, NO, UNSURE, UNANSWERED = "yes", "no", "unsure", ""
FEWEST_CONTROLS = 5
DIFFERENT = "p: Mann-Whitney; blocks of uniform tissue that were chosen for their counts differ, too"
_TAIL = 0.025
SELECTED = (
    "chosen for the detector's extreme counts: its chance errors are in here; only controls tell how well it counts"
)


@dataclass(frozen=True)
class Tasks:
    """What the key tells, in order of the tasks.

    Attributes
    ----------
    groups : object (n,) of str
        ``low``, ``high`` or ``control``.
    detected : int64 (n,)
        Synapses that the detector counted in the whole block.
    volume_um3 : float64 (n,)
        Volume of the block that is not masked.
    rate_um3 : float
        The detector's synapses per um3 of all blocks.
    index : int64 (n, 3), optional
        Places of the blocks in their grid, z, y, x: outliers often lie side by side, and then tell less.
    """

    groups: np.ndarray
    detected: np.ndarray
    volume_um3: np.ndarray
    rate_um3: float
    index: np.ndarray | None = None

    def places(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the places of some tasks, bool (n,)."""
        return None if self.index is None else self.index[rows]


@dataclass(frozen=True)
class Answers:
    """What people answered, in order of the tasks.

    Attributes
    ----------
    counts : float64 (n,)
        Synapses that the person counted; nan: no count.
    usable : object (n,) of str
        ``yes``, ``no``, ``unsure``, or nothing: not answered.
    matched : float64 (n,)
        Of the person's synapses, those that the detector had found; nan: not compared.
    """

    counts: np.ndarray
    usable: np.ndarray
    matched: np.ndarray

    @property
    def counted(self) -> np.ndarray:
        """Which tasks have a count in usable tissue, bool (n,)."""
        return (self.usable == YES) & ~np.isnan(self.counts)


def score(tasks: Tasks, answers: Answers) -> list[Finding]:
    """Return what the answers say, each with its interval.

    Parameters
    ----------
    tasks : Tasks
    answers : Answers

    Returns
    -------
    list of Finding
        ``test`` is a name and a group: ``confirmed, low``.
    """
    groups = [name for name in GROUPS if (tasks.groups == name).any()]
    densities = {name: _density(tasks, answers, name) for name in groups}
    found = [_unusable(tasks, answers, name) for name in groups]
    found += [finding for name in groups if name != CONTROL for finding in _confirmed(tasks, answers, name)]
    found += [_as_finding(f"density, {name}", "How dense does the person find these blocks?", "synapses per um3", ratio)
              for name, ratio in densities.items()]  # fmt: skip
    pairs = [(HIGH, LOW), (HIGH, CONTROL), (LOW, CONTROL)]
    found += [_difference(tasks, answers, densities, pair) for pair in pairs if set(pair) <= set(groups)]
    found += [_agreement(tasks, answers, name) for name in groups]
    if not np.isnan(answers.matched).all():
        found += [finding for name in groups for finding in _precision_recall(tasks, answers, name)]
    return found


def reference_rate(tasks: Tasks, answers: Answers) -> tuple[float, str]:
    """Return how many synapses per um3 the person counts in ordinary blocks, and where that is from.

    Returns
    -------
    float
        nan without counts.
    str
        ``controls``, or the detector's density of all blocks on the person's scale.
    """
    counted = answers.counted
    controls = counted & (tasks.groups == CONTROL)
    if controls.sum() >= FEWEST_CONTROLS:
        return float(
            answers.counts[controls].sum() / tasks.volume_um3[controls].sum()
        ), "the person's count of controls"
    detected = tasks.detected[counted].sum()
    if not detected:
        return math.nan, "no counts"
    ratio = float(answers.counts[counted].sum() / detected)
    return tasks.rate_um3 * ratio, "the detector's density of all blocks times person over detector in these tasks"


def _unusable(tasks: Tasks, answers: Answers, group: str) -> Finding:
    usable = answers.usable[(tasks.groups == group) & (answers.usable != UNANSWERED)]
    unsure = int((usable == UNSURE).sum())
    ratio = share(int((usable == NO).sum()), len(usable))
    note = f"{unsure} more are unsure" if unsure else ratio.note
    question = "How many are no usable tissue: the mask failed, not the biology?"
    return _as_finding(f"unusable, {group}", question, "share of the answered", replace(ratio, note=note))


def _confirmed(tasks: Tasks, answers: Answers, group: str) -> list[Finding]:
    """Return how many blocks are on their side of the ordinary, and how many clearly so."""
    rows = answers.counted & (tasks.groups == group)
    ordinary, source = reference_rate(tasks, answers)
    rows &= math.isfinite(ordinary)
    counts, expected = answers.counts[rows], ordinary * tasks.volume_um3[rows]
    if group == LOW:
        word, side, tail = "below", counts < expected, stats.poisson.cdf(counts, expected)
    else:
        word, side, tail = "above", counts > expected, stats.poisson.sf(counts - 1, expected)
    found = []
    for test, hits, what, chance in (
        ("confirmed", side, "the ordinary", "about half"),
        ("clearly confirmed", tail <= _TAIL, "97.5 % of Poisson counts", "at most 2.5 %"),
    ):
        note = f"ordinary: {source}; {chance} if the detector's count told nothing" if len(counts) else "no counts"
        ratio = replace(share(int(hits.sum()), len(counts)), note=note)
        question = f"Does the person, too, count {word} {what}?"
        found.append(_as_finding(f"{test}, {group}", question, "share of the counted", ratio))
    return found


def _density(tasks: Tasks, answers: Answers, group: str) -> Ratio:
    rows = answers.counted & (tasks.groups == group)
    return rate(answers.counts[rows], tasks.volume_um3[rows], tasks.places(rows))


def _difference(tasks: Tasks, answers: Answers, densities: Mapping[str, Ratio], pair: tuple[str, str]) -> Finding:
    """Return the ratio of two groups' densities, p by Mann and Whitney (doi:10.1214/aoms/1177730491)."""
    ratio, _ = contrast(densities[pair[0]], densities[pair[1]])
    rows = [answers.counted & (tasks.groups == name) for name in pair]
    each = [answers.counts[row] / tasks.volume_um3[row] for row in rows]
    p = float(stats.mannwhitneyu(*each).pvalue) if min(map(len, each)) else math.nan
    question = f"Do the {pair[0]} blocks differ from the {pair[1]} ones for the person, too?"
    finding = _as_finding(f"{pair[0]} over {pair[1]}", question, "ratio of the person's densities", ratio)
    note = ratio.note or DIFFERENT
    return replace(finding, p=p, note=note)


def _agreement(tasks: Tasks, answers: Answers, group: str) -> Finding:
    rows = answers.counted & (tasks.groups == group)
    ratio = paired_ratio(tasks.detected[rows], answers.counts[rows], tasks.places(rows))
    note = ratio.note or ("" if group == CONTROL else SELECTED)
    question = "How many synapses does the detector count for one of the person?"
    return _as_finding(f"detector over person, {group}", question, "ratio of counts", replace(ratio, note=note))


def _precision_recall(tasks: Tasks, answers: Answers, group: str) -> list[Finding]:
    rows = answers.counted & ~np.isnan(answers.matched) & (tasks.groups == group)
    note = "" if group == CONTROL else SELECTED
    found = []
    for name, of, question in (
        ("precision", tasks.detected[rows], "How many detected synapses did the person find?"),
        ("recall", answers.counts[rows], "How many of the person's synapses were detected?"),
    ):
        ratio = _part(answers.matched[rows], of, tasks.places(rows))
        found.append(_as_finding(f"{name}, {group}", question, "share", replace(ratio, note=ratio.note or note)))
    return found


def _part(hits: np.ndarray, of: np.ndarray, index: np.ndarray | None) -> Ratio:
    """Return a share over blocks: its interval is the wider one of independent synapses and of blocks."""
    single = share(int(hits.sum()), int(of.sum()))
    blocks = paired_ratio(hits, of, index)
    low = np.fmin(single.low, blocks.low)
    high = min(float(np.fmax(single.high, blocks.high)), 1.0) if not math.isnan(single.value) else math.nan
    return Ratio(single.value, float(low), high, n=len(hits), note=single.note)


def _as_finding(test: str, question: str, effect: str, ratio: Ratio) -> Finding:
    return Finding(test, question, effect, ratio.value, ratio.low, ratio.high, n=ratio.n, note=ratio.note)
