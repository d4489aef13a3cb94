"""Crossings whose search for the membrane leaves the tissue that was laid out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bouton.geometry import Box
from bouton.phantom import PhantomParams, generate
from bouton.phantom.field import GRID_NM, make_field
from bouton.phantom.generate import MARGIN_NM
from bouton.phantom.synapses import (
    APART_NM,
    REACH_NM,
    STEP_NM,
    WANDER_NM,
    _all_candidates,
    _candidates,
    _sampled,
)

DENSE = PhantomParams(seed=2000, myelin=0.5, somata_per_mm3=1e6)
PLAIN = PhantomParams(seed=409199136)
# a box whose neighbourhood has a crossing with a flat gap, from which the first step leads out of the field
FLAT = Box((50, 1280, 181), (51, 1282, 183))
# a crossing whose search ends half a micrometre from its start, and both places
FAR_NAME = 844480756252548
FAR_START, FAR_END = np.array([-41521.7, 23665.0, -10586.2]), np.array([-41760.6, 24052.8, -10051.4])


def ends(box: Box, params: PhantomParams, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners, in nm, of a box grown by ``margin`` nm."""
    size = np.array(params.voxel_size_nm)
    return np.array(box.start) * size - margin, np.array(box.stop) * size + margin


def test_a_search_that_leaves_the_field_is_decided_by_a_wider_one() -> None:
    frame = (*ends(FLAT, DENSE, REACH_NM + APART_NM), 1.0)
    field = make_field(DENSE, *ends(FLAT, DENSE, MARGIN_NM))
    _, _, lost = _candidates(field, frame)
    assert len(lost) == 1
    wide = make_field(DENSE, *ends(FLAT, DENSE, MARGIN_NM + WANDER_NM))
    names, numbers, none = _candidates(wide, frame)
    assert none == []
    found, details = _all_candidates(field, DENSE, frame)
    np.testing.assert_array_equal(found, names)
    np.testing.assert_array_equal(details, numbers)
    generate(FLAT, DENSE)


def test_what_a_wider_field_finds_joins_the_others() -> None:
    low, high = np.minimum(FAR_START, FAR_END) - 1, np.maximum(FAR_START, FAR_END) + 1
    frame = (low, high, 1.0)
    wanted, numbers, none = _candidates(make_field(PLAIN, low - APART_NM, high + APART_NM), frame)
    assert none == []
    mine = wanted[:, 0] == FAR_NAME
    assert mine.sum() == 1
    np.testing.assert_allclose(numbers[mine][0, :3], FAR_END, atol=0.1)
    small = make_field(PLAIN, low, high - [0, 0, 200])
    names, _, lost = _candidates(small, frame)
    assert FAR_NAME not in names[:, 0]
    assert FAR_NAME in [name for name, _ in lost]
    found, details = _all_candidates(small, PLAIN, frame)
    order = [rows[:, 0].argsort() for rows in (found, wanted)]
    np.testing.assert_array_equal(found[order[0]], wanted[order[1]])
    np.testing.assert_array_equal(details[order[0]], numbers[order[1]])


@pytest.mark.parametrize("first", [(0, 0, 0), (-7, 3, -2)])
def test_a_place_counts_as_sampled_where_every_probe_has_its_eight_grid_points(first: tuple) -> None:
    grid = np.zeros((4, 5, 6, 3))
    random = np.random.default_rng(0)
    low = np.array(first) * GRID_NM
    seen = []
    for p in random.uniform(low - 80, low + np.array(grid.shape[:3]) * GRID_NM + 20, (3000, 3)):
        probes = [p + np.array(way) for way in itertools.product((-STEP_NM, 0, STEP_NM), repeat=3)]
        index = np.floor(np.array(probes) / GRID_NM).astype(int) - first
        fits = bool(np.all(index >= 0) and np.all(index + 1 < grid.shape[:3]))
        assert _sampled(np.array(first), grid, p) == fits
        seen.append(fits)
    assert 300 < sum(seen) < 2700
