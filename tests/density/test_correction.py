"""Corrected numbers: figures by hand, coverage of simulated detectors, refusals."""

import numpy as np
import pytest
from scipy import stats

from bouton.density.correction import ClassSamples, LabelledShare, corrected, corrected_classes, labelled_share
from bouton.errors import SpecError


def test_by_hand():
    found = corrected(11_668_787, LabelledShare(89, 100), LabelledShare(80, 100))
    assert found.value == pytest.approx(11_668_787 * 0.89 / 0.80)
    relative = 0.11 / 0.89 / 100 + 0.2 / 0.8 / 100 + 1 / 11_668_787
    assert found.delta_high - found.value == pytest.approx(1.96 * found.value * relative**0.5, rel=1e-3)
    assert found.low == pytest.approx(found.delta_low, rel=0.03) and found.high == pytest.approx(
        found.delta_high, rel=0.05
    )


@pytest.mark.parametrize(("hits", "sample"), [(0, 20), (45, 50), (7, 7)])
def test_shares_are_drawn_from_jeffreys_distribution(hits, sample):
    drawn = LabelledShare(hits, sample).draws(np.random.default_rng(1), 200_000)
    law = stats.beta(hits + 0.5, sample - hits + 0.5)
    assert np.quantile(drawn, (0.025, 0.5, 0.975)) == pytest.approx(law.ppf((0.025, 0.5, 0.975)), rel=0.02, abs=2e-4)


def coverage(rng, precision, recall, sample, runs=200, rate=5000):
    """Return the share of simulated detectors whose interval holds the expected number of synapses."""
    covered = 0
    for _ in range(runs):
        detected = rng.binomial(rng.poisson(rate), recall) + rng.poisson(rate * recall * (1 - precision) / precision)
        labelled = (LabelledShare(rng.binomial(sample, share), sample) for share in (precision, recall))
        found = corrected(detected, *labelled)
        covered += found.low <= rate <= found.high
    return covered / runs


@pytest.mark.parametrize("sample", [50, 100, 200])
@pytest.mark.parametrize(("precision", "recall"), [(0.9, 0.85), (0.7, 0.6)])
def test_interval_covers_the_truth(precision, recall, sample):
    rng = np.random.default_rng([sample, int(100 * recall)])
    assert 0.93 - 0.03 <= coverage(rng, precision, recall, sample) <= 0.97 + 0.02


@pytest.mark.parametrize(
    "sample", [50, pytest.param(100, marks=pytest.mark.slow), pytest.param(200, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("precision", "recall"), [(0.9, 0.85), (0.7, 0.6), (0.8, 0.95)])
def test_interval_covers_93_to_97_percent(precision, recall, sample):
    """No simulation: the sum over all samples that can be drawn, by their probability. Slow: thousands of them."""
    true, held, total = 10**6, 0.0, 0.0
    number = np.arange(sample + 1)
    chance = np.outer(stats.binom.pmf(number, sample, precision), stats.binom.pmf(number, sample, recall))
    for right, found in np.argwhere(chance > 1e-6):
        interval = corrected(
            round(true * recall / precision), LabelledShare(right, sample), LabelledShare(found, sample)
        )  # fmt: skip
        held += chance[right, found] * (interval.low <= true <= interval.high)
        total += chance[right, found]
    assert total > 0.998
    assert 0.93 <= held / total <= 0.97


def test_two_classes_by_hand():
    # 800 true E, 200 true I; recall 0.8 and 0.5; 10 % of E called I, 20 % of I called E; false: 100 and 50
    confusion = np.array([[90, 20], [10, 80]])
    called = np.array([[0.9, 0.2], [0.1, 0.8]]) @ np.array([800 * 0.8, 200 * 0.5])
    detected = np.round(called + np.array([100, 50])).astype(int)
    wrong = [LabelledShare(1000 * n / d, 1000) for n, d in zip([100, 50], detected, strict=True)]
    samples = ClassSamples([LabelledShare(80, 100), LabelledShare(50, 100)], wrong, confusion)
    found = corrected_classes(detected, samples)
    assert found[:, 0] == pytest.approx([800, 200], rel=0.01)
    assert (found[:, 1] < found[:, 0]).all() and (found[:, 0] < found[:, 2]).all()


def test_two_classes_cover_the_truth():
    rng, true, runs = np.random.default_rng(4), np.array([6000, 1500]), 60
    recall, wrong, mixing = np.array([0.85, 0.7]), np.array([0.1, 0.2]), np.array([[0.95, 0.1], [0.05, 0.9]])
    covered = np.zeros(2)
    for _ in range(runs):
        kept = rng.binomial(true, recall)
        called = sum(rng.multinomial(kept[j], mixing[:, j]) for j in range(2))
        detected = called + rng.poisson(mixing @ (true * recall) * wrong / (1 - wrong))
        samples = ClassSamples(
            [LabelledShare(rng.binomial(150, r), 150) for r in recall],
            [LabelledShare(rng.binomial(150, w), 150) for w in wrong],
            np.stack([rng.multinomial(150, mixing[:, j]) for j in range(2)], axis=1),
        )
        found = corrected_classes(detected, samples)
        covered += (found[:, 1] <= true) & (true <= found[:, 2])
    assert (covered >= 52).all()


@pytest.mark.parametrize(("name", "value", "sample"), [
    ("recall", 0.0, 100), ("precision", 1.01, 100), ("precision", -0.1, 100), ("recall", np.nan, 100),
    ("recall", 0.9, 0),
])  # fmt: skip
def test_shares_that_cannot_be_are_refused(name, value, sample):
    with pytest.raises(SpecError, match=name):
        labelled_share(name, value, sample)


def test_nothing_right_in_a_sample_is_refused():
    good, none = LabelledShare(9, 10), LabelledShare(0, 10)
    with pytest.raises(SpecError, match="recall = 0"):
        corrected(100, good, none)
    with pytest.raises(SpecError, match="precision = 0"):
        corrected(100, none, good)
    with pytest.raises(SpecError, match="-1 detected"):
        corrected(-1, good, good)
    with pytest.raises(SpecError, match="11 right of a sample of 10"):
        LabelledShare(11, 10)


def test_no_detections_are_no_synapses_give_or_take():
    found = corrected(0, LabelledShare(9, 10), LabelledShare(9, 10))
    assert found.value == 0 and 0 <= found.low < found.high < 20 and np.isnan(found.delta_low)


def classes(confusion, recall=(9, 9), wrong=(1, 1)):
    return ClassSamples([LabelledShare(r, 10) for r in recall], [LabelledShare(w, 10) for w in wrong], confusion)


@pytest.mark.parametrize(("arguments", "message"), [
    (([[1, 1], [1, 1]],), "does not tell"), (([[1, 0], [0, 0]],), "no labelled synapse"), (([[1, 0]],), "confusion"),
    (([[9, 1], [1, 9]], (0, 9)), "recall = 0"), (([[9, 1], [1, 9]], (9, 9), (10, 1)), "precision = 0"),
])  # fmt: skip
def test_classes_that_cannot_be_told_apart_are_refused(arguments, message):
    with pytest.raises(SpecError, match=message):
        classes(np.array(arguments[0]), *arguments[1:])


def test_detections_of_another_number_of_classes_are_refused():
    samples = classes(np.array([[9, 1], [1, 9]]))
    for detected in ([5], [5, -1]):
        with pytest.raises(SpecError, match="detected"):
            corrected_classes(np.array(detected), samples)
