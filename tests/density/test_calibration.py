"""Every test of uniformity rejects 5 % of uniform tissues at the 5 % level, whatever the mask; the published one all.

500 tissues leave a standard deviation of 1 % to each share, so about one in eight shares of exact tests leaves 5 +/-
1.5 % by chance alone. So that band is for the share over the three masks (1,500 tissues); each mask's share must lie
where 999 of 1,000 such shares of an exact test do.
"""

from __future__ import annotations

import pytest
from scipy.stats import binom

from bouton.density.moran import morans_i
from bouton.density.power import PERMUTATIONS, Rejections, block_findings, point_rejections, rejections
from bouton.density.regression import axis_findings
from bouton.density.simulate import MASKS, Tissue
from bouton.density.variogram import variogram

PUBLISHED = "published histogram chi-square"
LEVEL = 0.05
POINTS = Tissue(shape=(3, 3, 4), density_um3=0.05, strength=0.6)


def check(rows: list[Rejections]) -> None:
    """Fail if a test rejects fewer or more tissues than an exact one does but once in 1,000 times."""
    low, high = binom.interval(0.999, rows[0].tissues, LEVEL)
    wrong = [f"{row.test}: {row.rejected} of {row.tissues}" for row in rows if not low <= row.rejected <= high]
    assert not wrong, f"{rows[0].kind}, mask {rows[0].mask}: {wrong}; an exact test: {low:.0f} to {high:.0f}"


def check_together(settings: list[list[Rejections]]) -> None:
    """Fail if a test rejects more or less than 5 +/- 1.5 % of the tissues of all masks."""
    for rows in settings:
        check(rows)
    for of_test in zip(*settings, strict=True):
        share = sum(row.rejected for row in of_test) / sum(row.tissues for row in of_test)
        assert abs(share - LEVEL) <= 0.015, f"{of_test[0].test} rejects {share:.1%}"


def split(rows: list[Rejections]) -> list[Rejections]:
    """Return all but the published test, which rejects every tissue."""
    published = [row for row in rows if row.test == PUBLISHED]
    assert [row.share for row in published] == [1.0]
    return [row for row in rows if row.test != PUBLISHED]


def spatial(blocks, seed):
    """Tests of spatial structure beyond independent blocks."""
    curve = variogram(blocks, PERMUTATIONS, seed)[0]
    return [*axis_findings(blocks), morans_i(blocks, PERMUTATIONS, seed), curve]


@pytest.mark.parametrize("mask", MASKS)
def test_uniform_tissue_is_rejected_in_5_percent(mask):
    rows = split(rejections(block_findings, "uniform", mask, range(30), Tissue(shape=(6, 8, 8))))
    assert len(rows) == 8
    check(rows)


@pytest.mark.parametrize("mask", MASKS)
def test_random_places_are_rejected_in_5_percent(mask):
    check(point_rejections("uniform", mask, range(30), POINTS))


@pytest.mark.slow
def test_uniform_tissues_are_rejected_in_5_percent():
    check_together([split(rejections(block_findings, "uniform", mask, range(500))) for mask in MASKS])


@pytest.mark.slow
def test_sparse_uniform_tissues_are_rejected_in_5_percent():
    """1 to 4 synapses a block."""
    sparse = Tissue(density_um3=0.03)
    check_together([split(rejections(block_findings, "uniform", mask, range(500), sparse)) for mask in MASKS])


@pytest.mark.slow
def test_independent_overdispersed_blocks_are_no_spatial_structure():
    check_together([rejections(spatial, "overdispersed", mask, range(500)) for mask in MASKS])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["uniform", "hard core"])
def test_random_places_of_many_tissues_are_rejected_in_5_percent(kind):
    check_together([point_rejections(kind, mask, range(500), POINTS) for mask in MASKS])
