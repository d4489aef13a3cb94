"""All tests together: one family, every finding, no crash and no number where there is none."""

import numpy as np
import pytest

from bouton.density.correction import LabelledShare
from bouton.density.type_samples import TypeCounts, TypeSample, TypeSamples
from bouton.density.uniformity import (
    WARNING,
    DetectorSamples,
    Options,
    analyse,
    corrected_density,
    density,
    depth_um,
)
from density.tissue import patchy, tissue

TESTS = [
    "density", "dispersion", "density variation", "axis z", "axis y", "axis x", "depth", "moran", "variogram",
    "nearest neighbour", "ripley", "detector noise", "corrected density", "corrected density, excitatory",
    "corrected density, inhibitory", "excitatory share, corrected", "outlier blocks", "published histogram chi-square",
]  # fmt: skip
DETECTOR = DetectorSamples(LabelledShare(180, 200), LabelledShare(170, 200))
TYPES = TypeSamples(TypeSample(170, 5, 25, 200, 20), TypeSample(6, 80, 14, 100, 15))
OPTIONS = Options(permutations=99, depth_axis="y", detector=DETECTOR, types=TYPES)
CORRECTED = ("corrected density, excitatory", "corrected density, inhibitory", "excitatory share, corrected")


def points_of(blocks, rng):
    """Return points at random in whole blocks, as many as counted."""
    rows = np.repeat(np.arange(len(blocks)), blocks.counts)
    return blocks.centre_um[rows] + rng.uniform(-2.5, 2.5, (len(rows), 3))


def by_test(found):
    return {each.test: (each, q) for each, q in zip(found.findings, found.q, strict=True)}


def test_every_test_answers_for_uniform_tissue():
    rng = np.random.default_rng(0)
    blocks = tissue(rng, (8, 9, 10), 0.2)
    total = int(blocks.counts.sum())
    found = analyse(blocks, points_of(blocks, rng), OPTIONS, TypeCounts(total - total // 5, total // 5, total))
    assert [each.test for each in found.findings] == TESTS
    for each, q in by_test(found).values():
        assert np.isfinite(each.value) and each.n > 0 and each.question and each.effect, each
        known = each.test not in (
            "density",
            "density variation",
            "corrected density",
            *CORRECTED,
            "outlier blocks",
            TESTS[-1],
        )
        assert np.isfinite(q) == known
        assert not (each.p < 1e-4) or each.test == TESTS[-1], each
    names = [curve.name for curve in found.curves]
    assert names[:5] == ["axis z", "axis y", "axis x", "depth", "histogram"]
    assert {"variogram", "ripley"} <= set(names) and len(found.outliers.row) == len(blocks)


def test_a_gradient_is_told_by_its_axis_and_depth():
    rng = np.random.default_rng(1)
    blocks = tissue(rng, (6, 12, 6), 1.0, masked=0.4, trend=lambda at: 1 + at[:, 1] / 60)
    found = by_test(analyse(blocks, None, OPTIONS))
    assert "ripley" not in found
    for test in ("dispersion", "axis y", "depth", "moran", "variogram"):
        assert found[test][1] <= 0.05, test
    assert found["axis z"][1] > 0.001 and found["axis x"][1] > 0.001


def test_axes_are_said_to_err_only_where_near_blocks_are_alike():
    rng, same = np.random.default_rng(5), tissue(np.random.default_rng(3), (8, 9, 10), 1.0)
    for blocks, alike in ((patchy(rng, (8, 9, 10), 1.4, reach=1.5), True), (same, False)):
        found = {each.test: each for each in analyse(blocks, None, Options(permutations=99, depth_axis="y")).findings}
        assert (found["moran"].p <= 0.05) == alike
        warned = {test for test, each in found.items() if WARNING in each.note}
        assert warned == ({"axis z", "axis y", "axis x", "depth"} if alike else set())


def test_the_published_p_makes_no_other_smaller():
    blocks = tissue(np.random.default_rng(2), (12, 12, 12), 1.0)
    found = analyse(blocks, None, Options(permutations=99))
    p = np.array([each.p for each in found.findings])
    assert p[-1] < 1e-9 and np.isnan(found.q[-1])
    known = np.isfinite(found.q)
    assert (found.q[known] >= p[known]).all() and found.q[known].max() == pytest.approx(p[known].max())


def test_the_same_seed_gives_the_same_answers():
    blocks = tissue(np.random.default_rng(3), (4, 5, 6), 0.3)
    a, b = (analyse(blocks, None, OPTIONS) for _ in range(2))
    assert a.findings == b.findings or str(a.findings) == str(b.findings)


def test_corrected_density_is_detected_times_precision_over_recall():
    blocks = tissue(np.random.default_rng(4), (6, 6, 6), 1.0)
    found = corrected_density(blocks, DETECTOR)
    assert found.value == pytest.approx(blocks.rate * 0.9 / 0.85) and found.low < found.value < found.high
    assert "not given" in corrected_density(blocks, None).note


def test_depth_starts_at_the_first_face():
    blocks = tissue(np.random.default_rng(4), (3, 1, 1), 1.0)
    depth, step = depth_um(blocks, "z")
    assert depth.tolist() == [2.5, 7.5, 12.5] and step == 5.0


@pytest.mark.parametrize(("shape", "density"), [
    ((0, 1, 1), 1.0), ((1, 1, 1), 1.0), ((2, 1, 1), 1.0), ((1, 1, 9), 1.0), ((3, 3, 3), 0.0), ((2, 2, 2), 0.001),
    ((1, 5, 5), 1.0),
])  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_hard_cases_never_crash_nor_warn(shape, density):
    rng = np.random.default_rng(6)
    blocks = tissue(rng, shape, density)
    found = analyse(blocks, points_of(blocks, rng), OPTIONS)
    for each, q in by_test(found).values():
        assert np.isfinite(each.value) or each.note, each
        assert np.isnan(each.p) or 0 <= each.p <= 1
        assert np.isnan(q) or 0 <= q <= 1
        assert not np.isinf([each.value, each.low]).any(), each
    if not blocks.counts.sum():
        assert all(np.isnan(each.value) for each in found.findings if each.test != "density")


def test_density_has_an_interval_that_allows_for_alike_neighbours():
    smooth, same = (
        patchy(np.random.default_rng(5), (8, 9, 10), 1.4, reach=1.5),
        tissue(np.random.default_rng(3), (8, 9, 10), 1.4),
    )
    wide, narrow = density(smooth), density(same)
    for found, blocks in ((wide, smooth), (narrow, same)):
        assert found.value == pytest.approx(blocks.rate) and found.low < found.value < found.high
        assert np.isnan(found.p) and found.n == len(blocks)
    poisson = 2 * 1.96 * same.rate / same.counts.sum() ** 0.5
    assert narrow.high - narrow.low == pytest.approx(poisson, rel=0.2)
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)


def test_density_of_no_synapse_and_of_no_block():
    none = density(tissue(np.random.default_rng(0), (3, 3, 3), 0.0))
    volume = 27 * 125
    assert none.value == none.low == 0 and none.high == pytest.approx(3.689 / volume, rel=1e-3)
    empty = density(tissue(None, (0, 1, 1), 1.0))
    assert np.isnan(empty.value) and empty.note == "not available: no block left"
