"""What a detector makes of uniform tissue, against thinning synapse by synapse."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.density.blocks import DensityBlocks
from bouton.density.noise import Detector, detected, detector_null, variance_over_mean
from bouton.density.simulate import Tissue, tissue
from bouton.errors import SpecError


def seen(seed: int, recall: np.ndarray, precision: np.ndarray, settings: Tissue) -> DensityBlocks:
    """Return a uniform tissue as a detector sees it: each synapse found or not, made-up ones added, layer by layer."""
    rng = np.random.default_rng(seed)
    true = tissue("uniform", "vessels", seed, settings)
    layer = true.index[:, 0]
    found = rng.binomial(true.counts, recall[layer])
    false = rng.poisson(settings.density_um3 * recall.mean() * (1 / precision[layer] - 1) * true.exposure_um3)
    return DensityBlocks(found + false, true.exposure_um3, true.index, true.centre_um, true.size_um)


def test_a_steady_detector_adds_no_variation():
    settings, steady = Tissue(), np.ones(8)
    found = [
        detector_null(seen(seed, 0.7 * steady, 0.8 * steady, settings), 0.7, 0.8, (0, 0), 99) for seed in range(40)
    ]
    assert np.mean([finding.value for finding in found]) == pytest.approx(1, abs=0.03)
    assert sum(finding.p <= 0.05 for finding in found) <= 7


def test_sections_of_different_quality_are_not_taken_for_biology():
    """Recall 0.8 +/- 0.08 between layers: rejected as a steady detector, not as what it is."""
    settings, steady, as_is = Tissue(shape=(20, 8, 8)), [], []
    for seed in range(30):
        recall = np.random.default_rng((seed, 9)).beta(19.2, 4.8, 20)
        blocks = seen(seed, recall, np.full(20, 0.9), settings)
        steady.append(detector_null(blocks, 0.8, 0.9, (0.0, 0.0), 99, seed).p)
        as_is.append(detector_null(blocks, 0.8, 0.9, (0.08, 0.0), 99, seed).p)
    assert sum(p <= 0.05 for p in steady) >= 27 and sum(p <= 0.05 for p in as_is) <= 6


def test_simulated_variation_is_that_of_the_formula():
    """Variance over mean of layers with rates of sd s: 1 + mu s^2 (less what the common total takes)."""
    blocks = tissue("uniform", "none", 1, Tissue(shape=(60, 5, 5)))
    rng = np.random.default_rng(0)
    ratio = np.mean([variance_over_mean(blocks, detected(blocks, Detector(0.8, 1.0, 0.1), rng)) for _ in range(300)])
    assert ratio == pytest.approx(1 + 125 * (0.1 / 0.8) ** 2, rel=0.05)
    rng = np.random.default_rng(0)
    ratio = np.mean([variance_over_mean(blocks, detected(blocks, Detector(1.0, 0.7, 0, 0.1), rng)) for _ in range(300)])
    assert ratio == pytest.approx(1 + 125 * 0.1**2, rel=0.05)


def test_all_detections_stay_and_follow_the_exposure():
    blocks = tissue("uniform", "random", 1)
    drawn = detected(blocks, Detector(0.8, 0.9, 0.1, 0.05), np.random.default_rng(0))
    assert drawn.sum() == blocks.counts.sum()
    assert np.corrcoef(drawn, blocks.exposure_um3)[0, 1] > 0.8


def test_clusters_are_more_than_the_detector_makes():
    finding = detector_null(tissue("clusters", "none", 1, Tissue(strength=0.3)), 0.9, 0.9, (0.02, 0.02), 199)
    assert finding.p == 0.005 and finding.low > 1 and "by the detector alone" in finding.note


def test_no_number_without_synapses():
    blocks = tissue("uniform", "none", 1, Tissue(density_um3=0.0))
    finding = detector_null(blocks, 0.9, 0.9)
    assert np.isnan([finding.value, finding.p]).all() and "no synapse" in finding.note
    one = detector_null(blocks.only(np.arange(len(blocks)) == 0), 0.9, 0.9)
    assert np.isnan(one.p) and "1 block, at least 2" in one.note


@pytest.mark.parametrize(
    ("rates", "match"),
    [
        ((0.0, 0.9), "recall of 0"),
        ((0.9, 1.2), "precision of 1.2"),
        ((0.9, float("nan")), "precision of nan"),
        ((0.9, 0.9, (0.4, 0.0)), "recall_sd of 0.4"),
        ((1.0, 0.9, (0.1, 0.0)), "recall_sd of 0.1"),
        ((0.9, 0.9, (0.0, -0.1)), "precision_sd of -0.1"),
    ],
)
def test_impossible_rates_are_refused(rates, match):
    with pytest.raises(SpecError, match=match):
        detector_null(tissue("uniform", "none", 1), *rates)
