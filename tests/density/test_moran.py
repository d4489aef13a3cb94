"""Moran's I against loops, hand-counted blocks, known truth and bad input."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.density.blocks import DensityBlocks
from bouton.density.moran import Places, morans_i, neighbours
from bouton.density.residuals import standardized_residuals
from bouton.density.simulate import Tissue, tissue


def made(counts: np.ndarray, exposure: float | np.ndarray = 1.0) -> DensityBlocks:
    index = np.argwhere(np.ones(counts.shape, bool)).astype(np.int64)
    volume = np.broadcast_to(np.asarray(exposure, float), counts.shape).ravel().copy()
    return DensityBlocks(counts.ravel().astype(np.int64), volume, index, index + 0.5, (1.0, 1.0, 1.0))


def test_pairs_share_a_face_and_both_blocks_are_there():
    blocks = tissue("uniform", "vessels", 3)
    found = {tuple(pair) for pair in neighbours(blocks.index)}
    expected = set()
    for first, low in enumerate(blocks.index):
        for second, high in enumerate(blocks.index):
            step = high - low
            if step.min() == 0 and step.sum() == 1:
                expected.add((first, second))
    assert found == expected and len(found) == len(neighbours(blocks.index))


def test_places_of_blocks_are_found_wherever_the_grid_begins():
    index = np.array([[-4, 7, 1], [2, 3, 1], [2, 4, 1]])
    asked = np.array([[2, 4, 1], [2, 3, 1], [2, 5, 1], [-4, 7, 1], [2, 3, 2], [-5, 3, 1]])
    assert Places(index).find(asked).tolist() == [2, 1, -1, 0, -1, -1]


def test_moran_equals_the_formula_over_all_pairs():
    blocks = tissue("clusters", "random", 5, Tissue(shape=(3, 4, 5)))
    residuals = standardized_residuals(blocks)
    weights = np.abs(blocks.index[:, None] - blocks.index[None]).sum(axis=2) == 1
    product = (weights * np.outer(residuals, residuals)).sum()
    expected = len(blocks) / weights.sum() * product / (residuals**2).sum()
    assert morans_i(blocks, 19).value == pytest.approx(expected, rel=1e-12)


def test_moran_of_a_chessboard_is_minus_one_and_of_halves_is_high():
    chess = (np.indices((4, 4, 4)).sum(axis=0) % 2) * 20 + 90
    assert morans_i(made(chess), 99).value == pytest.approx(-1)
    halves = np.where(np.arange(4)[:, None, None] < 2, 50, 150) * np.ones((4, 4, 4), int)
    # 144 pairs of 48 x 3, 16 of them between unlike halves: (128 - 16) / 144
    finding = morans_i(made(halves), 99)
    assert finding.value == pytest.approx((128 - 16) / 144) and finding.p == 0.01


def test_unequal_exposure_alone_makes_no_pattern():
    """A mask that takes more and more of the blocks along y: densities vary more there, residuals do not."""
    share = np.linspace(0.05, 1, 12)[None, :, None] * np.ones((8, 12, 10))
    p = []
    for seed in range(40):
        counts = np.random.default_rng(seed).poisson(60 * share)
        p.append(morans_i(made(counts, share), 99, seed).p)
    assert sum(value <= 0.05 for value in p) <= 7


def test_the_interval_covers_what_larger_samples_tell():
    """I of many tissues of one kind: their mean lies in 95 % of the intervals."""
    settings = Tissue(shape=(10, 12, 12), strength=0.1)
    found = [morans_i(tissue("clusters", "none", seed, settings), 9) for seed in range(60)]
    truth = np.mean([finding.value for finding in found])
    covered = sum(finding.low <= truth <= finding.high for finding in found)
    assert 48 <= covered <= 60


def test_the_same_seed_gives_the_same_p_and_another_one_another():
    blocks = tissue("uniform", "random", 2)
    assert morans_i(blocks, 99, 4) == morans_i(blocks, 99, 4)
    assert morans_i(blocks, 99, 4).p != morans_i(blocks, 99, 5).p


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (np.zeros((3, 4, 5)), "no synapse"),
        (np.full((3, 4, 5), 7), "same density"),
        (np.array([[[4]]]), "1 block, at least 10"),
        (np.zeros((0, 1, 1)), "0 blocks"),
    ],
)
def test_no_number_where_there_is_nothing_to_compare(counts, reason):
    finding = morans_i(made(counts), 19)
    assert np.isnan([finding.value, finding.low, finding.high, finding.p]).all()
    assert reason in finding.note


def test_no_number_without_neighbours():
    blocks = made(np.arange(60).reshape(3, 4, 5))
    alone = blocks.only(blocks.index.sum(axis=1) % 2 == 0)
    finding = morans_i(alone, 19)
    assert np.isnan(finding.p) and "no two blocks share a face" in finding.note


def test_one_row_of_blocks_is_enough():
    finding = morans_i(made(np.arange(1, 31).reshape(1, 1, 30) * 10), 199)
    assert finding.value > 0.8 and finding.p == 0.005
