"""Outlier blocks and the family's correction."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bouton.density.counts import extra_variance
from bouton.density.family import benjamini_hochberg
from bouton.density.outliers import outlier_finding, outliers
from density.tissue import tissue


def test_q_by_hand_and_nan_does_not_count():
    # sorted: 0.01 * 4/1, 0.02 * 4/2, 0.03 * 4/3, 0.5 * 4/4, made monotone
    p = np.array([0.02, np.nan, 0.5, 0.01, 0.03])
    assert benjamini_hochberg(p) == pytest.approx([0.04, np.nan, 0.5, 0.04, 0.04], nan_ok=True)
    assert np.isnan(benjamini_hochberg(np.array([np.nan, np.nan]))).all()
    assert benjamini_hochberg(np.zeros(0)).size == 0


def test_p_is_twice_the_smaller_tail():
    blocks = tissue(np.random.default_rng(5), (5, 5, 5), 0.4, alpha=0.2, masked=0.5)
    found, alpha = outliers(blocks), extra_variance(blocks.counts, blocks.expected, 1)
    assert alpha > 0.05
    for place in (0, 1, 60, 124):
        n, mu = blocks.counts[found.row[place]], blocks.expected[found.row[place]]
        law = stats.nbinom.pmf(np.arange(2000), 1 / alpha, 1 / (1 + alpha * mu))
        assert found.p[place] == pytest.approx(min(1, 2 * min(law[: n + 1].sum(), law[n:].sum())), rel=1e-6)
    assert sorted(found.row) == list(range(125)) and (np.diff(found.p) >= 0).all()
    assert found.expected == pytest.approx(blocks.expected[found.row])


@pytest.mark.parametrize("alpha", [0.0, 0.05])
def test_no_block_stands_out_of_tissue_without_outliers(alpha):
    rng = np.random.default_rng(6)
    hits = sum((outliers(tissue(rng, (8, 8, 8), 1.4, alpha=alpha, masked=0.7)).q <= 0.05).any() for _ in range(60))
    assert hits <= 8


def test_a_block_with_as_many_as_expected_is_on_no_side():
    one = tissue(np.random.default_rng(1), (1, 1, 1), 1.0)
    assert outliers(one).side.tolist() == [""]
    three = replace(tissue(np.random.default_rng(1), (1, 1, 3), 1.0), counts=np.array([50, 40, 45]))
    found = outliers(replace(three, exposure_um3=np.full(3, 125.0)))
    assert dict(zip(found.row.tolist(), found.side.tolist(), strict=True)) == {0: "high", 1: "low", 2: ""}
    assert outlier_finding(found, 0.05).note.startswith("0 low, 0 high")


def test_planted_blocks_come_first_on_their_side():
    blocks = tissue(np.random.default_rng(7), (8, 8, 8), 1.4, alpha=0.01)
    counts = blocks.counts.copy()
    counts[[3, 400]] = 700, 0
    found = outliers(
        type(blocks)(counts, *(getattr(blocks, n) for n in ("exposure_um3", "index", "centre_um", "size_um")))
    )
    assert set(found.row[:2]) == {3, 400} and (found.q[:2] < 0.05).all()
    assert {int(r): s for r, s in zip(found.row[:2], found.side[:2], strict=True)} == {3: "high", 400: "low"}
    finding = outlier_finding(found, 0.05)
    assert finding.value >= 2 / 512 and finding.low <= finding.value <= finding.high and "low" in finding.note


@pytest.mark.parametrize(("shape", "density"), [((0, 1, 1), 1.0), ((1, 1, 1), 1.0), ((3, 3, 3), 0.0)])
def test_nothing_to_compare_with_is_nan(shape, density):
    blocks = tissue(np.random.default_rng(0), shape, density)
    found = outliers(blocks)
    assert np.isnan(found.p).all() and np.isnan(found.q).all() and len(found.row) == len(blocks)
    assert "not available" in outlier_finding(found, 0.05).note
