"""Simulated tissues have the truth that they say; power counts rejections."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.density.finding import Finding
from bouton.density.point_pattern import nearest_um
from bouton.density.power import block_findings, counted, power, rejections
from bouton.density.simulate import KINDS, MASKS, POINT_KINDS, Tissue, point_tissue, tissue
from bouton.errors import SpecError

LARGE = Tissue(shape=(12, 20, 20), strength=0.3)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_tissue_has_the_given_mean_density_and_is_reproducible(kind, mask):
    blocks, again, other = (tissue(kind, mask, seed, LARGE) for seed in (3, 3, 4))
    assert blocks.rate == pytest.approx(1, abs=0.04)
    assert np.array_equal(blocks.counts, again.counts) and not np.array_equal(blocks.counts[:99], other.counts[:99])
    assert (blocks.exposure_um3 >= 0.25 * 125).all() and (blocks.exposure_um3 <= 125).all()
    assert np.array_equal(blocks.centre_um, (blocks.index + 0.5) * 5)


def test_masks_take_what_they_should():
    share = {mask: tissue("uniform", mask, 1, LARGE).exposure_um3.sum() / (125 * 4800) for mask in MASKS}
    assert share["none"] == 1 and share["random"] == pytest.approx(0.625, abs=0.01)
    assert 0.7 < share["vessels"] < 0.9
    vessels = tissue("uniform", "vessels", 1, LARGE)
    assert len(vessels) < 4700 and ((vessels.exposure_um3 > 40) & (vessels.exposure_um3 < 120)).sum() > 50


@pytest.mark.parametrize("kind", ["overdispersed", "clusters"])
def test_the_density_varies_by_the_given_coefficient(kind):
    blocks = tissue(kind, "none", 2, LARGE)
    beyond = (blocks.counts.var() - blocks.counts.mean()) / blocks.counts.mean() ** 2
    assert np.sqrt(beyond) == pytest.approx(0.3, abs=0.03)


def test_uniform_counts_are_poisson():
    blocks = tissue("uniform", "none", 2, LARGE)
    assert blocks.counts.var() / blocks.counts.mean() == pytest.approx(1, abs=0.08)


def test_gradient_and_layers_run_along_the_axis_only():
    for axis in range(3):
        blocks = tissue("gradient", "none", 1, Tissue(shape=(12, 12, 12), strength=0.5, axis=axis))
        for other in range(3):
            low, high = (blocks.counts[blocks.index[:, other] == place].mean() / 125 for place in (0, 11))
            expected = (1 - 0.5 * 11 / 12, 1 + 0.5 * 11 / 12) if other == axis else (1, 1)
            assert (low, high) == pytest.approx(expected, abs=0.04)
    blocks = tissue("layers", "none", 1, Tissue(shape=(4, 12, 4), strength=0.5))
    profile = [blocks.counts[blocks.index[:, 1] == place].mean() / 125 for place in range(12)]
    assert profile == pytest.approx([1.5, 1.5, 0.5, 0.5] * 3, abs=0.12)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", POINT_KINDS)
def test_points_lie_in_their_window_at_the_given_density(kind, mask):
    points, window = point_tissue(kind, mask, 5, Tissue(shape=(5, 5, 5), density_um3=0.2, strength=0.5))
    assert window.holds(points).all() and window.exposed.shape == (20, 20, 20)
    # members of clusters that fall outside the window or into the mask are lost
    least = {"none": 0.6, "random": 0.3, "vessels": 0.5}[mask] if kind == "clusters" else 0.9
    assert least * 0.2 < len(points) / window.volume_um3 < 1.1 * 0.2
    if kind == "hard core":
        assert nearest_um(points).min() >= 0.5


def test_unknown_kinds_and_masks_are_refused():
    with pytest.raises(SpecError, match="no kind of tissue 'stripes'"):
        tissue("stripes", "none", 1)
    with pytest.raises(SpecError, match="no mask of tissue 'holes'"):
        tissue("uniform", "holes", 1)
    with pytest.raises(SpecError, match="no kind of tissue 'gradient'"):
        point_tissue("gradient", "none", 1)


def test_rejections_are_counted():
    p = [{"a": 0.05, "b": 0.2}, {"a": 0.001, "b": float("nan")}, {"a": 0.3, "b": 0.04}, {"a": 0.06, "b": 1.0}]
    first, second = counted(p, ("uniform", "none", 0.0))
    assert (first.test, first.rejected, first.tissues, first.share) == ("a", 2, 4, 0.5)
    assert (second.rejected, second.tissues) == (1, 4)
    assert first.low < 0.5 < first.high
    assert counted([], ("uniform", "none", 0.0)) == []


def test_a_test_gets_each_tissue_and_its_seed():
    seen = []

    def always(blocks, seed):
        seen.append((seed, int(blocks.counts.sum())))
        return [Finding("always", "", "", p=0.0), Finding("never", "", "", p=1.0)]

    always_row, never_row = rejections(always, "uniform", "none", range(3))
    assert (always_row.share, never_row.share) == (1, 0)
    assert seen == [(seed, int(tissue("uniform", "none", seed).counts.sum())) for seed in range(3)]


def test_power_rises_with_strength():
    """Each pattern is found by the tests made for it, the more often the stronger it is."""
    meant = {
        "gradient": ("axis y", "depth", "moran"),
        "layers": ("axis y", "moran"),
        "clusters": ("moran", "variogram"),
    }
    for kind, tests in meant.items():
        rows = list(power(block_findings, kind, (0.02, 0.2), range(8), settings=Tissue(shape=(5, 12, 6))))
        share = {(row.test, row.strength): row.share for row in rows}
        for test in tests:
            assert share[test, 0.2] >= 0.85 and share[test, 0.02] <= 0.5, (kind, test)
        assert all(row.kind == kind and row.tissues == 8 for row in rows)
