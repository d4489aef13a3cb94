"""Missing sections and masks by hand, and against the definition written out."""

import numpy as np
import pytest

from bouton.segment.masks import NOWHERE, Bridge, reach, zero_outside


def sources(missing, start, stop):
    bridge = Bridge(frozenset(missing), start, stop)
    return [bridge.section(z) for z in range(start, stop)], [bridge.edge(z) for z in range(start, stop)]


def test_one_missing_section_takes_the_next():
    sections, edges = sources([3], 0, 7)
    assert sections == [0, 1, 2, 4, 4, 5, 6]
    assert edges == [0, 1, 2, 5, 5, 5, 6]


def test_a_run_takes_the_next_valid_one_above_it():
    sections, edges = sources([2, 3, 4], 0, 8)
    assert sections == [0, 1, 5, 5, 5, 5, 6, 7]
    assert edges == [0, 1, 6, 6, 6, 6, 6, 7]


def test_runs_parted_by_one_section():
    """Section 3 is valid, but both its edges along z are not: they wait for the first whole one, (5, 6)."""
    sections, edges = sources([2, 4], 0, 8)
    assert sections == [0, 1, 3, 3, 5, 5, 6, 7]
    assert edges == [0, 1, 6, 6, 6, 6, 6, 7]


def test_no_edge_above_takes_the_one_below():
    sections, edges = sources([3], 0, 5)
    assert sections == [0, 1, 2, 4, 4]
    assert edges == [0, 1, 2, 2, 2]


def test_no_edge_at_all():
    assert sources([1], 0, 3) == ([0, 2, 2], [0, NOWHERE, NOWHERE])


@pytest.mark.parametrize("missing", [[0, 1], [6, 7]])
def test_runs_at_the_ends_are_background(missing):
    sections, _ = sources(missing, 0, 8)
    assert [z for z in range(8) if sections[z] == NOWHERE] == missing
    assert all(sections[z] == z for z in range(8) if z not in missing)


def test_all_missing():
    assert sources([2, 3], 2, 4) == ([NOWHERE, NOWHERE], [NOWHERE, NOWHERE])


def test_the_bounds_decide_and_not_the_data_set():
    assert sources([3, 4], 4, 8)[0] == [NOWHERE, 5, 6, 7]
    assert sources([3, 4], 0, 5)[0] == [0, 1, 2, NOWHERE, NOWHERE]


@pytest.mark.parametrize(("missing", "expected"), [((), 0), ((5,), 2), ((5, 6, 7), 4), ((3, 9), 2), ((4, 6), 4)])
def test_reach_by_hand(missing, expected):
    assert reach(missing) == expected


def test_nothing_lies_farther_than_the_reach():
    rng = np.random.default_rng(0)
    for _ in range(200):
        stop = int(rng.integers(1, 14))
        missing = [int(z) for z in np.flatnonzero(rng.random(stop) < rng.choice([0.1, 0.4, 0.8]))]
        start = int(rng.integers(0, stop))
        bridge, far = Bridge(frozenset(missing), start, stop), reach(missing)
        for z in range(start, stop):
            for source in (bridge.section(z), bridge.edge(z)):
                assert source == NOWHERE or (start <= source < stop and abs(source - z) <= far)
            if bridge.edge(z) not in (NOWHERE, z):
                assert not {bridge.edge(z), bridge.edge(z) - 1} & set(missing)
                assert bridge.edge(z) > start, "the edge below the bounds does not exist"


def test_zero_outside_equals_the_definition():
    rng = np.random.default_rng(1)
    affinities = rng.integers(0, 256, (3, 3, 4, 5)).astype(np.uint8)
    inside = rng.random((4, 5, 6)) < 0.7
    expected = affinities.copy()
    for c in range(3):
        for place in np.ndindex(3, 4, 5):
            upper = tuple(i + 1 for i in place)
            lower = tuple(i - (axis == c) for axis, i in enumerate(upper))
            if not (inside[upper] and inside[lower]):
                expected[(c, *place)] = 0
    np.testing.assert_array_equal(zero_outside(affinities, inside), expected)
