"""Which blocks are chosen, that their order tells nothing, and that answers with a known truth are scored right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.genmod import families

from bouton.density.blind_score import Answers, Tasks, reference_rate, score
from bouton.density.blinding import CONTROL, HIGH, LOW, Wanted, choose, surprise, task_names
from bouton.density.blocks import DensityBlocks
from bouton.density.counts import extra_variance
from bouton.errors import SpecError


def blocks(counts: np.ndarray, volume: np.ndarray) -> DensityBlocks:
    index = np.stack([np.zeros(len(counts), int), np.zeros(len(counts), int), np.arange(len(counts))], axis=1)
    return DensityBlocks(counts, volume, index, index * 5.0, (5.0, 5.0, 5.0))


def runs(groups: np.ndarray) -> int:
    """Return how many stretches of equal groups follow one another."""
    return 1 + int((groups[1:] != groups[:-1]).sum())


def answers(counts: list[float], usable: list[str], matched: list[float] | None = None) -> Answers:
    nothing = [math.nan] * len(counts)
    return Answers(np.array(counts), np.array(usable, object), np.array(matched or nothing))


def named(findings: list, test: str):
    return next(finding for finding in findings if finding.test == test)


class TestSurprise:
    def test_signs_and_order_follow_the_exposed_volume(self) -> None:
        # 1 per um3: the same 40 synapses are many in 20 um3 and few in 100 um3
        found = surprise(blocks(np.array([40, 40, 60, 60]), np.array([20.0, 100.0, 40.0, 40.0])))
        assert found[0] > 0 > found[1]

    @pytest.mark.parametrize("spread", [0.0, 0.3])
    def test_surprise_is_the_deviance_residual_of_statsmodels(self, spread: float) -> None:
        random = np.random.default_rng(6)
        volume = random.uniform(0.5, 30, 300)
        some = blocks(random.poisson(volume * random.gamma(1 / 0.3, 0.3, 300) ** bool(spread)), volume)
        alpha = extra_variance(some.counts, some.expected, 1)
        assert (alpha > 0.1) == bool(spread) and 0 in some.counts
        law = families.NegativeBinomial(alpha=alpha) if alpha else families.Poisson()
        assert surprise(some) == pytest.approx(law.resid_dev(some.counts, some.expected), rel=1e-6, abs=1e-6)

    def test_poisson_counts_have_standard_normal_surprise(self) -> None:
        random = np.random.default_rng(1)
        volume = random.uniform(60, 125, 20_000)
        found = surprise(blocks(random.poisson(1.4 * volume), volume))
        assert found.std() == pytest.approx(1, abs=0.03) and found.mean() == pytest.approx(0, abs=0.03)

    def test_over_dispersed_counts_are_measured_by_their_own_spread(self) -> None:
        random = np.random.default_rng(2)
        volume = random.uniform(60, 125, 20_000)
        counts = random.poisson(random.gamma(20, 1.4 / 20, len(volume)) * volume)
        assert surprise(blocks(counts, volume)).std() == pytest.approx(1, abs=0.05)

    def test_no_synapses_at_all(self) -> None:
        assert (surprise(blocks(np.zeros(5, int), np.full(5, 9.0))) == 0).all()


class TestChoice:
    def test_the_extremes_and_no_block_twice(self) -> None:
        score = np.random.default_rng(3).permutation(50).astype(float)
        found = choose(score, Wanted(5, 7, 10), seed=4)
        assert sorted(score[found.rows[found.groups == LOW]]) == [0, 1, 2, 3, 4]
        assert sorted(score[found.rows[found.groups == HIGH]]) == [43, 44, 45, 46, 47, 48, 49]
        assert len(set(found.rows.tolist())) == 22 and (found.groups == CONTROL).sum() == 10

    def test_the_same_seed_gives_the_same_tasks_and_another_does_not(self) -> None:
        score = np.arange(100.0)
        one, two, other = (choose(score, Wanted(10, 10), seed) for seed in (1, 1, 2))
        assert (one.rows == two.rows).all() and (one.groups == two.groups).all()
        assert (one.rows != other.rows).any()

    def test_order_tells_nothing_of_the_group(self) -> None:
        """Over seeds there are as many stretches of equal groups as chance makes (Wald & Wolfowitz)."""
        a, b = 20, 20
        found = np.array([runs(choose(np.arange(200.0), Wanted(a, b), seed).groups) for seed in range(400)])
        mean, n = 1 + 2 * a * b / (a + b), a + b
        variance = 2 * a * b * (2 * a * b - n) / (n**2 * (n - 1))
        assert found.mean() == pytest.approx(mean, abs=4 * math.sqrt(variance / 400))
        assert found.var() == pytest.approx(variance, rel=0.25)

    def test_no_place_in_the_order_prefers_a_group(self) -> None:
        low = np.array([choose(np.arange(60.0), Wanted(10, 10), seed).groups == LOW for seed in range(600)])
        found = stats.chisquare(low.sum(axis=0))
        assert found.pvalue > 1e-3

    def test_equal_scores_are_not_taken_in_the_order_of_the_grid(self) -> None:
        rows = choose(np.zeros(1000), Wanted(10, 0), seed=5).rows
        assert rows.max() > 100

    def test_more_than_there_are(self) -> None:
        with pytest.raises(SpecError, match="30 blocks wanted of 20"):
            choose(np.arange(20.0), Wanted(10, 10, 10), seed=1)
        with pytest.raises(SpecError, match="no blocks to look at"):
            Wanted(0, 0, 0)
        with pytest.raises(SpecError, match="-1 blocks"):
            Wanted(-1, 5)

    def test_names_are_numbers_of_one_width(self) -> None:
        assert task_names(2) == ["001", "002"]
        assert task_names(1200)[0] == "0001"


class TestScore:
    def tasks(self, groups: list[str], detected: list[int], rate: float = 1.0) -> Tasks:
        return Tasks(np.array(groups, object), np.array(detected), np.full(len(groups), 100.0), rate)

    def test_hand_counted(self) -> None:
        tasks = self.tasks(["low"] * 4 + ["high"] * 3 + ["control"] * 6, [50] * 4 + [150] * 3 + [90] * 6)
        given = answers(
            [60, 95, 120, math.nan, 160, 130, 99, 100, 100, 100, 100, 100, 100],
            ["yes", "yes", "yes", "no", "yes", "yes", "unsure"] + ["yes"] * 6,
        )
        found = score(tasks, given)
        assert reference_rate(tasks, given) == (1.0, "the person's count of controls")
        unusable = named(found, "unusable, low")
        assert (unusable.value, unusable.n) == (0.25, 4)
        # Wilson's interval of 1 in 4
        assert (unusable.low, unusable.high) == (pytest.approx(0.0456, abs=1e-4), pytest.approx(0.6994, abs=1e-4))
        assert named(found, "unusable, high").note == "1 more are unsure"
        assert named(found, "confirmed, low").value == pytest.approx(2 / 3)
        # 60 is far below 100 for Poisson counts, 95 is not
        assert named(found, "clearly confirmed, low").value == pytest.approx(1 / 3)
        assert named(found, "clearly confirmed, high").value == 1
        assert named(found, "density, low").value == pytest.approx(275 / 300)
        assert named(found, "high over low").value == pytest.approx(1.45 / (275 / 300))
        assert named(found, "detector over person, control").value == pytest.approx(0.9)
        assert "only controls tell" in named(found, "detector over person, low").note
        assert not any(f.test.startswith("recall") for f in found)

    def test_without_controls_the_detector_gives_the_reference(self) -> None:
        tasks = self.tasks(["low", "high"], [50, 150], rate=0.8)
        assert reference_rate(tasks, answers([100, 300], ["yes", "yes"]))[0] == pytest.approx(1.6)

    def test_precision_and_recall_of_matched_counts(self) -> None:
        tasks = self.tasks(["control"] * 3, [100, 90, 110])
        found = score(tasks, answers([80, 120, 100], ["yes"] * 3, [72, 81, 87]))
        assert named(found, "precision, control").value == pytest.approx(240 / 300)
        assert named(found, "recall, control").value == pytest.approx(240 / 300)
        assert named(found, "recall, control").low < 0.8 < named(found, "recall, control").high <= 1

    def test_nothing_counted_gives_no_numbers(self) -> None:
        tasks = self.tasks(["low", "high"], [50, 150])
        found = score(tasks, answers([math.nan, math.nan], ["no", "no"]))
        assert named(found, "unusable, low").value == 1
        for test in ("confirmed, low", "density, low", "high over low", "detector over person, high"):
            finding = named(found, test)
            assert math.isnan(finding.value) and finding.note, test

    def test_one_block_a_group_and_zero_counts(self) -> None:
        tasks = self.tasks(["low", "high"], [0, 0])
        found = score(tasks, answers([0, 0], ["yes", "yes"]))
        assert named(found, "density, low").value == 0 and named(found, "density, low").high > 0
        assert math.isnan(named(found, "high over low").value)
        assert math.isnan(named(found, "detector over person, low").value)

    @pytest.mark.parametrize("seed", [11])
    def test_intervals_cover_the_truth_of_simulated_people(self, seed: int) -> None:
        """200 checks of a tissue that varies, a detector with recall 0.8 and 10 % false ones, and a careful person."""
        random = np.random.default_rng(seed)
        hits = {"ratio": 0, "density": 0, "recall": 0, "precision": 0, "unusable": 0}
        repeats = 200
        for _ in range(repeats):
            n, volume = 60, random.uniform(100, 125, 60)
            true = random.poisson(random.gamma(12, 1.5 / 12, n) * volume)
            found = random.binomial(true, 0.8)
            detected = found + random.poisson(1.5 * 0.8 / 9 * volume)
            usable = np.where(random.random(n) < 0.1, "no", "yes").astype(object)
            tasks = Tasks(np.repeat(np.array([CONTROL], object), n), detected, volume, 1.3)
            told = score(tasks, Answers(np.where(usable == "yes", true, np.nan), usable, found.astype(float)))
            truth = {
                "ratio": ("detector over person, control", 0.8 / 0.9), "density": ("density, control", 1.5),
                "recall": ("recall, control", 0.8), "precision": ("precision, control", 0.9),
                "unusable": ("unusable, control", 0.1),
            }  # fmt: skip
            for name, (test, value) in truth.items():
                finding = named(told, test)
                hits[name] += finding.low <= value <= finding.high
        shares = {name: count / repeats for name, count in hits.items()}
        assert all(0.91 <= value <= 0.995 for value in shares.values()), shares

    def test_true_outliers_are_confirmed_and_chance_is_not(self) -> None:
        random = np.random.default_rng(12)
        groups = np.repeat(np.array([LOW, HIGH, CONTROL], object), 100)
        volume = np.full(300, 120.0)
        rates = {"biology": np.repeat([0.8, 2.2, 1.5], 100), "chance": np.full(300, 1.5)}
        shares = {}
        for name, rate in rates.items():
            true = random.poisson(rate * volume)
            tasks = Tasks(groups, random.binomial(true, 0.8), volume, 1.2)
            told = score(tasks, Answers(true.astype(float), np.full(300, "yes", object), np.full(300, np.nan)))
            shares[name] = [named(told, f"clearly confirmed, {group}").value for group in (LOW, HIGH)]
            p = named(told, "high over low").p
            assert p < 1e-10 if name == "biology" else p > 1e-3
        assert min(shares["biology"]) > 0.95 and max(shares["chance"]) < 0.09

    def test_extreme_blocks_of_uniform_tissue_are_confirmed_too(self) -> None:
        """What the page warns of: a person who confirms a block says nothing about whether the tissue is uniform."""
        random = np.random.default_rng(13)
        true = random.poisson(np.full(5000, 150.0))
        volume = np.full(5000, 100.0)
        sample = choose(surprise(blocks(true, volume)), Wanted(50, 50, 50), seed=1)
        tasks = Tasks(sample.groups, true[sample.rows], volume[sample.rows], 1.5)
        told = score(tasks, Answers(true[sample.rows] * 1.0, np.full(150, "yes", object), np.full(150, np.nan)))
        assert named(told, "clearly confirmed, low").value == named(told, "confirmed, high").value == 1
        assert "uniform tissue" in named(told, "high over low").note

    def test_blocks_side_by_side_tell_less(self) -> None:
        random = np.random.default_rng(14)
        index = np.stack(np.meshgrid(np.arange(4), np.arange(5), np.arange(6), indexing="ij"), axis=-1).reshape(-1, 3)
        counts = random.poisson(np.where(index[:, 2] < 3, 100, 160)).astype(float)
        near, far = (
            Tasks(np.full(120, CONTROL, object), counts.astype(int), np.full(120, 100.0), 1.3, place)
            for place in (index, None)
        )
        given = Answers(counts, np.full(120, "yes", object), np.full(120, np.nan))
        width = [named(score(tasks, given), "density, control") for tasks in (near, far)]
        assert width[0].high / width[0].low > width[1].high / width[1].low
