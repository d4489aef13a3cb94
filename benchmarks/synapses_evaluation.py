"""Scores of synapses: what is measured for the benchmark of synapses.

``rows()`` returns (what, target, measured) for ``benchmarks/synapses.py``; run alone it prints them.
"""

from __future__ import annotations

import time

import numpy as np

from bouton.evaluate.corrected import corrected_counts
from bouton.evaluate.curves import score_curves
from bouton.evaluate.detection import Detection
from bouton.evaluate.synapses import MatchRule, SynapseSet, score_synapses

COUNT = 100_000


def _synapses(count: int, per_um3: float) -> tuple[SynapseSet, SynapseSet, MatchRule]:
    rng = np.random.default_rng(0)
    side = (count / per_um3) ** (1 / 3) * 1000
    centre = rng.random((count, 3)) * side
    pre, post = (rng.integers(1, 500, count).astype(np.uint64) for _ in range(2))
    truth = SynapseSet(centre, pre, post, np.full(count, "unknown", dtype=object))
    found = SynapseSet(centre + rng.normal(0, 100, (count, 3)), pre, post, truth.type)
    return truth, found, MatchRule(400.0, (0.0,) * 3, (side,) * 3, 100.0)


def curve_row() -> tuple[str, str, str]:
    """Return what the whole curve of two levels costs, beside one scoring of four levels at a single threshold."""
    truth, found, rule = _synapses(COUNT, 1.0)
    score = np.random.default_rng(1).random(COUNT)
    small = SynapseSet(truth.centre_nm[:9], truth.pre[:9], truth.post[:9], truth.type[:9])
    score_curves(small, small, score[:9], rule)
    start = time.process_time()
    score_curves(truth, found, score, rule)
    curve = time.process_time() - start
    score_synapses(truth, found, rule)
    once = time.process_time() - start - curve
    what = f"precision-recall curve over {COUNT:,} synapses (1 per um3), every point an optimal matching"
    return what, "one pass", f"{curve:.1f} CPU-s; one threshold, four levels, from scratch: {once:.1f} CPU-s"


def coverage_row(runs: int = 4000) -> tuple[str, str, str]:
    """Return how often the limits of corrected counts hold the true number, over 18 settings."""
    rng, shares = np.random.default_rng(2), []
    for true in (100, 1000):
        for there in (10, 60, 1000):
            for recall, precision in ((0.9, 0.9), (0.62, 0.69), (0.95, 0.6)):
                false = recall * (1 - precision) / precision
                tp, fp = rng.binomial(true, recall, runs), rng.poisson(true * false, runs)
                n = rng.binomial(there, recall, runs) + rng.poisson(there * false, runs)
                held = 0
                for i in range(runs):
                    limits = corrected_counts(n[i : i + 1], Detection(int(tp[i]), int(fp[i]), true - int(tp[i])))
                    held += bool(limits.low[0] <= there <= limits.high[0])
                shares.append(held / runs)
    what = "95 % intervals of corrected counts that hold the truth, 18 settings"
    return what, "92 to 97 %", f"{min(shares):.1%} to {max(shares):.1%}"


def rows() -> list[tuple[str, str, str]]:
    """Return (what, target, measured)."""
    return [curve_row(), coverage_row()]


if __name__ == "__main__":
    for row in rows():
        print(" | ".join(row))
