"""Corrected densities of types: figures by hand, known truth of simulated detectors, refusals, notes."""

from dataclasses import replace

import numpy as np
import pytest

from bouton.density.type_correction import SHARE, type_findings
from bouton.density.type_samples import TypeCounts, TypeSample, TypeSamples
from bouton.errors import SpecError
from density.tissue import tissue

BLOCKS = tissue(np.random.default_rng(0), (4, 4, 4), 1.0)
VOLUME = float(BLOCKS.exposure_um3.sum())
E = TypeSample(called_excitatory=144, called_inhibitory=16, missed=40, detections=200, no_synapse=20)
I = TypeSample(called_excitatory=10, called_inhibitory=40, missed=50, detections=100, no_synapse=20)  # noqa: E741
SAMPLES = TypeSamples(E, I)


def values(findings):
    return {each.test: (each.value, each.low, each.high) for each in findings}


def test_by_hand():
    # 8,000 true excitatory, 2,000 inhibitory. Found 6,400 and 1,000. Called excitatory 5,760 + 200, inhibitory 640 +
    # 800. Of what is called so, 1 of 10 and 1 of 5 are no synapse: 5,960 / 0.9 and 1,440 / 0.8 detections.
    counts = TypeCounts(6622, 1800, 8422)
    found = values(type_findings(BLOCKS, counts, SAMPLES))
    assert found["corrected density, excitatory"][0] * VOLUME == pytest.approx(8000, rel=1e-3)
    assert found["corrected density, inhibitory"][0] * VOLUME == pytest.approx(2000, rel=1e-3)
    assert found[SHARE][0] == pytest.approx(0.8, rel=1e-3)
    assert all(0 < low < value < high for value, low, high in found.values())
    # what was detected says 78.6 %, and nothing of how sure it is
    assert found[SHARE][1] < 0.786 < found[SHARE][2]


def detector(rng, sample):
    """Return the findings of a simulated detector that leaves some types open, on 8,000 and 2,000 true synapses."""
    chances = {"e": (0.78, 0.05, 0.07, 0.10), "i": (0.08, 0.62, 0.10, 0.20)}  # called e, called i, no type, missed
    wrong = np.array([0.1, 0.2])
    true = [rng.multinomial(n, chances[name]) for name, n in zip("ei", (8000, 2000), strict=True)]
    called = true[0][:2] + true[1][:2]
    mean = np.array([8000 * 0.78 + 2000 * 0.08, 8000 * 0.05 + 2000 * 0.62])
    called = called + rng.poisson(mean * wrong / (1 - wrong))
    unknown = true[0][2] + true[1][2] + rng.poisson(100)
    labelled = [
        TypeSample(*(int(n) for n in (*of[:2], of[3], sample, rng.binomial(sample, share), of[2])))
        for of, share in zip((rng.multinomial(sample, chances[name]) for name in "ei"), wrong, strict=True)
    ]
    counts = TypeCounts(int(called[0]), int(called[1]), int(called.sum() + unknown))
    return values(type_findings(BLOCKS, counts, TypeSamples(*labelled)))


@pytest.mark.parametrize("runs", [120, pytest.param(2000, marks=pytest.mark.slow)])
def test_intervals_hold_the_truth_where_some_types_are_open(runs):
    rng, truth = np.random.default_rng(3), np.array([8000 / VOLUME, 2000 / VOLUME, 0.8])
    held = np.zeros(3)
    for _ in range(runs):
        found = np.array(list(detector(rng, 150).values()))
        held += (found[:, 1] <= truth) & (truth <= found[:, 2])
    slack = 0.05 if runs < 1000 else 0.02
    assert (np.abs(held / runs - 0.95) <= slack).all(), held / runs


def test_synapses_without_a_type_are_told_unless_the_samples_count_them():
    for found in type_findings(BLOCKS, TypeCounts(700, 200, 1000), SAMPLES):
        assert np.isnan([found.value, found.low, found.high, found.p]).all()
        assert "type of 10.0 % of the synapses is not known" in found.note and "no_type" in found.note
    counted = TypeSamples(TypeSample(144, 16, 20, 200, 20, no_type=20), I)
    found = type_findings(BLOCKS, TypeCounts(700, 200, 1000), counted)
    assert np.isfinite(found[0].value) and "10.0 % of no type: taken as missed" in found[0].note


@pytest.mark.parametrize(("blocks", "counts", "samples", "why"), [
    (BLOCKS, TypeCounts(5, 5, 10), None, "no labelled samples"),
    (BLOCKS, TypeCounts(0, 0, 10), SAMPLES, "type of no synapse is known"),
    (BLOCKS, TypeCounts(9, 9, 10), SAMPLES, "more synapses have a type"),
    (tissue(None, (0, 1, 1), 1.0), TypeCounts(0, 0, 0), SAMPLES, "no block left"),
    (tissue(np.random.default_rng(0), (3, 3, 3), 0.0), TypeCounts(0, 0, 0), SAMPLES, "no synapse in any block"),
])  # fmt: skip
def test_where_nothing_can_be_said_it_says_why(blocks, counts, samples, why):
    for found in type_findings(blocks, counts, samples):
        assert np.isnan([found.value, found.low, found.high, found.p]).all() and why in found.note


def test_as_few_as_are_mixed_up_is_none_and_fewer_is_a_contradiction():
    found = type_findings(BLOCKS, TypeCounts(1000, 105, 1105), SAMPLES)
    assert found[1].value == 0 == found[1].low < found[1].high and "so 0" in found[1].note
    assert found[2].value == 1 and 0.8 < found[2].low < 1
    for each in type_findings(BLOCKS, TypeCounts(1000, 10, 1010), SAMPLES):
        assert np.isnan([each.value, each.low, each.high]).all()
        assert "fewer are called inhibitory than" in each.note


@pytest.mark.parametrize(("numbers", "told"), [
    ({"missed": -1}, "missed = -1"), ({"detections": 0}, "no_synapse = 20 of detections = 0"),
    ({"no_synapse": 200}, "no_synapse = 200"), ({"called_excitatory": 0, "called_inhibitory": 0}, "no labelled true"),
    ({"called_excitatory": 10, "called_inhibitory": 150}, "types are guessed"),
])  # fmt: skip
def test_samples_that_cannot_be_are_refused(numbers, told):
    with pytest.raises(SpecError, match=told):
        TypeSamples(replace(E, **numbers), I)
