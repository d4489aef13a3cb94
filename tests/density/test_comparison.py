"""Densities and ratios with intervals that hold in tissue that varies, and comparison of data sets."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bouton.density.comparison import DataSet, Detector, compare, measure
from bouton.density.correction import LabelledShare, corrected_classes
from bouton.density.rates import _shells, contrast, count_ratio, rate, rate_contrast, scaled, share
from bouton.density.type_samples import TypeSample, TypeSamples
from bouton.errors import DataError, SpecError
from bouton.volume.density_columns import DENSITY_COLUMNS

SIDE = 125.0


def table(shape: tuple[int, int, int], mean: float, seed: int, patch: float = 0.0) -> dict[str, np.ndarray]:
    """Return a table of densities: Poisson counts over a field of sd ``patch`` in which neighbours are alike."""
    random = np.random.default_rng(seed)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3)
    share_masked = np.where(random.random(len(index)) < 0.3, random.uniform(0, 0.9, len(index)), 0.0)
    volume = SIDE * (1 - share_masked)
    noise = random.normal(size=shape)
    for axis in range(3):
        noise = (noise + np.roll(noise, 1, axis)) / math.sqrt(2)
    field = np.exp(patch * noise.reshape(-1) - patch**2 / 2)
    counts = random.poisson(mean * field * volume)
    excitatory = random.binomial(counts, 0.75)
    spine = random.binomial(counts, 0.6)
    found = {name: np.zeros(len(index), kind) for name, kind in DENSITY_COLUMNS.items() if kind != "str"}
    found["reason"] = np.full(len(index), "", object)
    for axis, name in enumerate("zyx"):
        found[f"block_{name}"] = index[:, axis]
        found[f"{name}_start"], found[f"{name}_stop"] = index[:, axis] * 50, index[:, axis] * 50 + 50
        found[f"{name}_nm"] = (index[:, axis] + 0.5) * 5000
    found |= {"voxels": np.full(len(index), 125_000), "exposed_voxels": (volume * 1000).astype(np.int64)}
    found |= {"masked_voxels": 125_000 - found["exposed_voxels"], "masked_share": share_masked, "exposed_um3": volume}
    found |= {"synapses": counts, "all_synapses": counts, "density_um3": counts / volume}
    found |= {"excitatory": excitatory, "inhibitory": counts - excitatory, "spine": spine, "shaft": counts - spine}
    return found


def of(measurements, dataset: str, name: str):
    return next(m.ratio for m in measurements if (m.dataset, m.measure) == (dataset, name))


class TestRates:
    def test_density_is_weighted_by_exposed_volume(self) -> None:
        found = rate(np.array([10, 30]), np.array([10.0, 90.0]))
        assert found.value == pytest.approx(0.4) and found.low < 0.4 < found.high

    def test_no_synapse_is_an_exact_interval_from_zero(self) -> None:
        found = rate(np.zeros(4, int), np.full(4, 25.0))
        assert (found.value, found.low) == (0, 0) and found.high == pytest.approx(3.689 / 100, abs=1e-4)

    def test_one_block_is_exact_poisson_and_says_so(self) -> None:
        found = rate(np.array([10]), np.array([1.0]))
        assert (found.low, found.high) == (pytest.approx(4.795, abs=1e-3), pytest.approx(18.390, abs=1e-3))
        assert "exact" in found.note

    def test_equal_counts_are_not_taken_for_certain(self) -> None:
        found = rate(np.full(3, 9), np.full(3, 10.0))
        assert found.log_error == pytest.approx(1 / math.sqrt(27))

    def test_no_synapse_scaled_is_as_uncertain_as_its_factor(self) -> None:
        none = rate(np.zeros(4, int), np.full(4, 25.0))
        found = scaled(none, 2.0, 0.3)
        assert (found.value, found.low) == (0, 0) and found.high == pytest.approx(
            2 * none.high * math.exp(1.96 * 0.3), rel=1e-4
        )

    def test_no_volume(self) -> None:
        assert math.isnan(rate(np.zeros(0, int), np.zeros(0)).value)

    def test_ratio_of_kinds_at_the_edges(self) -> None:
        assert math.isnan(count_ratio(np.zeros(3), np.zeros(3)).value)
        none = count_ratio(np.zeros(3), np.array([1, 2, 3]))
        assert none.value == 0 and none.low == 0 and 0 < none.high < 1
        only = count_ratio(np.array([1, 2, 3]), np.zeros(3))
        assert math.isinf(only.value) and only.low > 1

    def test_neighbours_that_are_alike_widen_the_interval(self) -> None:
        """Brute force: products of all pairs by distance, found by comparing every block with every other."""
        random = np.random.default_rng(3)
        index = np.stack(np.meshgrid(*map(np.arange, (3, 9, 10)), indexing="ij"), axis=-1).reshape(-1, 3)
        kept = random.random(len(index)) < 0.9
        index, values = index[kept], random.normal(size=int(kept.sum()))
        away = np.ceil(np.sqrt(((index[:, None] - index[None]) ** 2).sum(axis=2)))
        expected = [np.outer(values, values)[away == distance].sum() for distance in range(9)]
        assert _shells(values, index)[:9] == pytest.approx(expected)
        halves = np.where(index[:, 2] < 5, 80, 120)
        volume = np.full(len(index), 100.0)
        apart, together = (rate(halves, volume, place) for place in (None, index))
        assert together.log_error > 2 * apart.log_error and together.freedom < apart.freedom

    def test_difference_of_equals_and_of_unequals(self) -> None:
        random = np.random.default_rng(1)
        a, b = (rate(random.poisson(100, 60), np.full(60, 100.0)) for _ in range(2))
        c = rate(random.poisson(120, 60), np.full(60, 100.0))
        assert contrast(a, b)[1] > 0.01
        ratio, p = contrast(c, a)
        assert p < 1e-6 and ratio.low < 1.2 < ratio.high

    def test_no_synapse_against_some_is_the_exact_conditional_test(self) -> None:
        """12 synapses all fall into three quarters of the volume by chance with 0.75 to the power of 12."""
        none, some = rate(np.zeros(1, int), np.array([5.0])), rate(np.array([12]), np.array([15.0]))
        for pair, synapses in (((none, some), (0, 12)), ((some, none), (12, 0))):
            ratio, p = rate_contrast(*pair, synapses)
            assert math.isnan(ratio.value) and "without synapses" in ratio.note
            # no more likely than that: 7 or more of the 12
            other = sum(math.comb(12, k) * 0.25**k * 0.75 ** (12 - k) for k in range(7, 13))
            assert p == pytest.approx(0.75**12 + other)

    def test_no_synapse_anywhere_and_no_volume(self) -> None:
        none = rate(np.zeros(3, int), np.full(3, 5.0))
        ratio, p = rate_contrast(none, none, (0, 0))
        assert math.isnan(p) and "in either" in ratio.note
        ratio, p = rate_contrast(none, rate(np.zeros(0, int), np.zeros(0)), (0, 0))
        assert math.isnan(p) and ratio.note == "no volume"

    def test_no_synapse_against_over_dispersed_counts(self) -> None:
        """Synapses that come in twelves: 0 of 48 against 48 says no more than 0 of 4 against 4."""
        clumps = np.zeros(60, int)
        clumps[[3, 20, 41, 55]] = 12
        some, none = rate(clumps, np.full(60, 1.0)), rate(np.zeros(60, int), np.full(60, 1.0))
        assert rate_contrast(some, none, (48, 0))[1] >= 0.1
        spread = rate(np.r_[np.ones(48, int), np.zeros(12, int)], np.full(60, 1.0))
        assert rate_contrast(spread, none, (48, 0))[1] < 1e-10

    def test_a_ratio_of_kinds_that_is_zero_is_not_compared(self) -> None:
        a, b = count_ratio(np.zeros(3), np.array([1, 2, 3])), count_ratio(np.array([4, 5, 6]), np.array([1, 2, 3]))
        ratio, p = contrast(b, a)
        assert math.isnan(p) and ratio.note == "one of the two is 0: no ratio of them"

    def test_share_of_none(self) -> None:
        assert math.isnan(share(0, 0).value)


class TestCoverage:
    """Known truth: the 95 % intervals hold in uniform tissue and in tissue with patches."""

    @pytest.mark.parametrize("patch", [0.0, 0.15])
    def test_ratio_of_two_data_sets(self, patch: float) -> None:
        repeats, hits, wrong = 150, 0, 0
        for seed in range(repeats):
            pair = [DataSet("a", table((6, 12, 12), 1.5, 2 * seed, patch)),
                    DataSet("b", table((6, 12, 12), 1.0, 2 * seed + 1, patch))]  # fmt: skip
            found = {d.measure: d for d in compare(pair).differences}
            hits += found["density"].ratio.low <= 1.5 <= found["density"].ratio.high
            wrong += found["E/I"].p < 0.05
        assert 0.9 <= hits / repeats <= 0.995
        assert wrong / repeats <= 0.1

    @pytest.mark.slow
    @pytest.mark.parametrize("patch", [0.0, 0.15])
    def test_ratio_of_two_data_sets_many_times(self, patch: float) -> None:
        repeats, hits, wrong = 1500, 0, 0
        for seed in range(repeats):
            pair = [DataSet("a", table((6, 12, 12), 1.5, 2 * seed, patch)),
                    DataSet("b", table((6, 12, 12), 1.0, 2 * seed + 1, patch))]  # fmt: skip
            found = {d.measure: d for d in compare(pair).differences}
            hits += found["density"].ratio.low <= 1.5 <= found["density"].ratio.high
            wrong += found["E/I"].p < 0.05
        assert 0.935 <= hits / repeats <= 0.98
        assert 0.025 <= wrong / repeats <= 0.07

    def test_poisson_intervals_would_not_hold(self) -> None:
        """What neighbours are looked at for: independent Poisson counts would miss the truth often."""
        hits, repeats = 0, 100
        for seed in range(repeats):
            counts = table((6, 12, 12), 1.5, seed, 0.15)
            total, volume = counts["synapses"].sum(), counts["exposed_um3"].sum()
            hits += abs(math.log(total / volume / 1.5)) < 1.96 / math.sqrt(total)
        assert hits / repeats < 0.7

    @pytest.mark.parametrize("sample", [50, 200])
    def test_corrected_density(self, sample: int) -> None:
        random, repeats, hits = np.random.default_rng(5), 400, 0
        for _ in range(repeats):
            counts = random.poisson(1.5 * 0.8 / 0.9 * SIDE, 50)
            shares = [LabelledShare(float(random.binomial(sample, value)), sample) for value in (0.9, 0.8)]
            whole = {"synapses": counts, "exposed_um3": np.full(50, SIDE)}
            data = table((1, 5, 10), 1.0, 1) | whole | {"masked_share": np.zeros(50)}
            ratio = of(measure(DataSet("a", data, Detector(*shares)), 0.75), "a", "corrected density")
            hits += ratio.low <= 1.5 <= ratio.high
        assert 0.92 <= hits / repeats <= 0.98


def typed(random, excitatory, inhibitory, sample=400):
    """Return columns of a detector that misses, invents and mixes up types, and what a labelled sample says of it."""
    chances = ((0.80, 0.06, 0.14), (0.10, 0.60, 0.30))
    wrong = (0.1, 0.2)
    columns, samples = np.zeros((2, len(excitatory)), np.int64), []
    for true, chance in zip((excitatory, inhibitory), chances, strict=True):
        columns += random.multinomial(true, chance)[:, :2].T
    for kind, chance in enumerate(chances):
        invented = columns[kind].sum() * wrong[kind] / (1 - wrong[kind]) / len(excitatory)
        columns[kind] += random.poisson(invented, len(excitatory))
        e, i, missed = (int(n) for n in random.multinomial(sample, chance))
        samples.append(TypeSample(e, i, missed, sample, int(random.binomial(sample, wrong[kind]))))
    return columns, TypeSamples(*samples)


def typed_data(name, seed, inhibitory_share, patch=0.0):
    """Return a data set of 1.5 true synapses per um3, and its labelled samples."""
    data, random = table((4, 8, 8), 1.5, seed, patch), np.random.default_rng((seed, 5))
    inhibitory = random.binomial(data["synapses"], inhibitory_share)
    columns, samples = typed(random, data["synapses"] - inhibitory, inhibitory)
    parts = {"synapses": columns.sum(axis=0), "excitatory": columns[0], "inhibitory": columns[1]}
    return DataSet(name, data | parts, types=samples)


class TestTypes:
    @pytest.mark.parametrize("patch", [0.0, pytest.param(0.15, marks=pytest.mark.slow)])
    def test_known_truth(self, patch: float) -> None:
        """E/I of 4 and 9 in 60 pairs: the corrected ratio of the two holds 4/9, the detected one does not."""
        truth = {"corrected density, excitatory": 0.8 / 0.9, "corrected density, inhibitory": 2.0,
                 "corrected E/I": 4 / 9, "E/I": 4 / 9}  # fmt: skip
        held, told, runs = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0), 60
        for seed in range(runs):
            pair = [typed_data("a", 2 * seed, 0.2, patch), typed_data("b", 2 * seed + 1, 0.1, patch)]
            for row in compare(pair).differences:
                if row.measure in truth and math.isfinite(row.ratio.value):
                    told[row.measure] += 1
                    held[row.measure] += row.ratio.low <= truth[row.measure] <= row.ratio.high
        assert held.pop("E/I") < 20
        # where few are inhibitory a labelled sample may not tell them from mistaken ones: no number then
        assert min(told.values()) > 0.9 * runs
        assert all(count >= 0.85 * told[name] for name, count in held.items()), (held, told)

    def test_the_same_numbers_as_of_one_data_set(self) -> None:
        data = typed_data("a", 1, 0.2)
        found = measure(data, 0.75)
        kept = data.table["masked_share"] <= 0.75
        counts = [int(data.table[name][kept].sum()) for name in ("excitatory", "inhibitory")]
        true = corrected_classes(np.array(counts), data.types.classes)
        volume = data.table["exposed_um3"][kept].sum()
        for row, name in enumerate(("excitatory", "inhibitory")):
            ratio = of(found, "a", f"corrected density, {name}")
            assert ratio.value == pytest.approx(true[row, 0] / volume)
            # patches are in the one, Poisson counts in the other; labelled samples, which matter most, in both
            assert ratio.low == pytest.approx(true[row, 1] / volume, rel=0.1)
            assert ratio.high == pytest.approx(true[row, 2] / volume, rel=0.15)
        assert of(found, "a", "corrected E/I").value == pytest.approx(true[0, 0] / true[1, 0])

    def test_not_available_says_why(self) -> None:
        data = typed_data("a", 1, 0.2)
        unknown = DataSet("u", data.table | {"synapses": data.table["synapses"] * 2}, types=data.types)
        for row in measure(unknown, 0.75):
            if row.measure.startswith("corrected"):
                assert math.isnan(row.ratio.value) and "type of 50.0 % of the synapses is not known" in row.ratio.note
        few = np.zeros_like(data.table["inhibitory"])
        less = DataSet("l", data.table | {"inhibitory": few, "synapses": data.table["excitatory"]}, types=data.types)
        assert "taken for it" in of(measure(less, 0.75), "l", "corrected E/I").note
        none = DataSet("n", data.table | dict.fromkeys(("synapses", "excitatory", "inhibitory"), few),
                       types=data.types)  # fmt: skip
        assert of(measure(none, 0.75), "n", "corrected E/I").note
        scant = TypeSamples(TypeSample(6, 4, 0, 9, 1), TypeSample(4, 6, 0, 9, 1))
        told = of(measure(DataSet("s", data.table, types=scant), 0.75), "s", "corrected E/I")
        assert math.isnan(told.value) and "not available" in told.note

    def test_one_block(self) -> None:
        one = {name: column[:1] for name, column in typed_data("a", 1, 0.2).table.items()}
        found = measure(DataSet("a", one, types=typed_data("a", 1, 0.2).types), 1.0)
        ratio = of(found, "a", "corrected density, excitatory")
        assert ratio.low < ratio.value < ratio.high and "one block" in ratio.note


class TestComparison:
    def test_numbers_are_those_of_the_table(self) -> None:
        one, two = table((2, 3, 4), 1.5, 1), table((2, 3, 4), 1.0, 2)
        found = compare([DataSet("one", one), DataSet("two", two)], 0.5)
        kept = one["masked_share"] <= 0.5
        assert of(found.measurements, "one", "density").value == pytest.approx(
            one["synapses"][kept].sum() / one["exposed_um3"][kept].sum()
        )
        assert of(found.measurements, "one", "E/I").value == pytest.approx(
            one["excitatory"][kept].sum() / one["inhibitory"][kept].sum()
        )
        assert of(found.measurements, "one", "E/I").n == kept.sum()
        assert [(d.measure, d.above, d.below) for d in found.differences] == [
            ("density", "one", "two"), ("E/I", "one", "two"), ("spine/shaft", "one", "two")
        ]  # fmt: skip
        assert all(d.q >= d.p for d in found.differences)

    def test_unknown_types_are_not_available_and_say_why(self) -> None:
        one, two = table((2, 3, 4), 1.5, 1), table((2, 3, 4), 1.0, 2)
        for name in ("excitatory", "inhibitory"):
            two[name] = np.zeros_like(two[name])
        found = compare([DataSet("one", one), DataSet("two", two)])
        ratio = of(found.measurements, "two", "E/I")
        assert math.isnan(ratio.value) and "no synapse is known to be excitatory" in ratio.note
        row = next(d for d in found.differences if d.measure == "E/I")
        assert math.isnan(row.p) and math.isnan(row.q) and "no synapse is known" in row.ratio.note

    def test_all_zero_and_all_masked(self) -> None:
        zero, masked, one = (table((2, 3, 4), 1.5, seed) for seed in (1, 2, 3))
        zero["synapses"] = np.zeros_like(zero["synapses"])
        masked["masked_share"][:], masked["exposed_um3"][:] = 1.0, 0.0
        found = compare([DataSet("zero", zero), DataSet("masked", masked), DataSet("one", one)])
        assert of(found.measurements, "zero", "density").value == 0
        assert math.isnan(of(found.measurements, "masked", "density").value)
        assert of(found.measurements, "masked", "density").note
        assert all(math.isnan(d.p) for d in found.differences if "masked" in (d.above, d.below))
        assert all(math.isnan(d.ratio.value) and d.ratio.note for d in found.differences if d.measure == "density")
        assert [d.p < 0.01 for d in found.differences if (d.measure, d.below) == ("density", "one")] == [True, False]

    def test_corrected_densities_are_compared_where_both_are_known(self) -> None:
        detector = Detector(LabelledShare(180, 200), LabelledShare(150, 200))
        data = [DataSet(name, table((4, 8, 8), 1.5, seed), detector) for seed, name in enumerate("ab")]
        data.append(DataSet("c", table((4, 8, 8), 1.5, 9)))
        found = compare(data)
        rows = [d for d in found.differences if d.measure == "corrected density"]
        assert [(d.above, d.below) for d in rows] == [("a", "b")]
        plain, better = (of(found.measurements, "a", name) for name in ("density", "corrected density"))
        assert better.value == pytest.approx(plain.value * 0.9 / 0.75)
        assert better.high / better.low > plain.high / plain.low

    def test_bad_input(self) -> None:
        one = table((2, 3, 4), 1.5, 1)
        with pytest.raises(SpecError, match="at least two"):
            compare([DataSet("one", one)])
        with pytest.raises(SpecError, match="each of its own name"):
            compare([DataSet("one", one), DataSet("one", one)])
        with pytest.raises(DataError, match="-1 synapses"):
            compare([DataSet("one", one), DataSet("two", one | {"synapses": one["synapses"] * 0 - 1})])
        with pytest.raises(SpecError, match="recall 0"):
            Detector(LabelledShare(9, 10), LabelledShare(0, 10))
