"""The interval of a corrected density holds the truth as often as it says, over simulated detectors."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.density.correction import Corrected, corrected, labelled_share

VOLUME_UM3 = 2000.0
DENSITY = 1.4
DETECTORS = [(0.9, 0.8, 200), (0.7, 0.6, 100), (0.95, 0.9, 50)]
"""Precision, recall, and how many detections and true synapses were labelled."""


def detector(rng: np.random.Generator, precision: float, recall: float, sample: int) -> Corrected:
    """Return the corrected number of one simulated detector on one piece of tissue."""
    true = rng.poisson(DENSITY * VOLUME_UM3)
    found = rng.binomial(true, recall)
    wrong = rng.poisson(DENSITY * VOLUME_UM3 * recall * (1 - precision) / precision)
    # A synapse labelled and found at least once: nobody corrects a detector that found nothing.
    hits = [max(1, rng.binomial(sample, share)) for share in (precision, recall)]
    shares = [labelled_share(n, hit / sample, sample) for n, hit in zip(("precision", "recall"), hits, strict=True)]
    return corrected(found + wrong, *shares)


def coverage(setting: tuple[float, float, int], runs: int, seed: int) -> tuple[float, float]:
    """Return how often the interval holds the true density, and the mean of corrected over true density."""
    rng = np.random.default_rng(seed)
    found = [detector(rng, *setting) for _ in range(runs)]
    held = [each.low <= DENSITY * VOLUME_UM3 <= each.high for each in found]
    return float(np.mean(held)), float(np.mean([each.value for each in found]) / (DENSITY * VOLUME_UM3))


def test_interval_of_900_simulated_detectors_holds_the_truth():
    # Counted over 200, a share of 95 % comes out anywhere from 92 to 98 %: 900 tell 93 from 95.
    found = [coverage(setting, 300, seed=7) for setting in DETECTORS]
    assert 0.93 <= np.mean([held for held, _ in found]) <= 0.97
    assert [ratio for _, ratio in found] == pytest.approx([1, 1, 1], abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("setting", DETECTORS)
def test_interval_of_4000_simulated_detectors_holds_the_truth(setting):
    held, _ = coverage(setting, 4000, seed=8)
    assert 0.93 <= held <= 0.97


def test_an_uncorrected_density_would_not():
    rng = np.random.default_rng(9)
    true = [rng.binomial(rng.poisson(DENSITY * VOLUME_UM3), 0.8) for _ in range(200)]
    held = [abs(count - DENSITY * VOLUME_UM3) <= 1.96 * np.sqrt(count) for count in true]
    assert np.mean(held) < 0.05
