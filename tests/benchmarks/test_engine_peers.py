"""The work that other engines get: counts by hand, dependencies by brute force, limits that end a peer."""

from __future__ import annotations

import importlib.util
import sys
from collections import deque
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("engine_peers", BENCHMARKS / "engine_peers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["engine_peers"] = module
    spec.loader.exec_module(module)
    return module


def test_count_by_hand(peers: ModuleType) -> None:
    assert peers.levels(5) == [3, 2, 1]
    assert peers.count(5) == 125 + 125 + 27 + 8 + 1
    assert peers.side_for(286) == 5
    assert peers.side_for(285) == 4


@pytest.mark.parametrize("side", [2, 3, 5])
def test_needs_are_neighbours_and_children(peers: ModuleType, side: int) -> None:
    tasks = dict(peers.needs_of(side))
    assert len(tasks) == peers.count(side)
    for (front, *place), needs in tasks.items():
        expected = set()
        for other in tasks:
            if front == 1 and other[0] == 0 and all(abs(a - b) <= 1 for a, b in zip(place, other[1:], strict=True)):
                expected.add(other)
            if front > 1 and other[0] == front - 1 and [a // 2 for a in other[1:]] == place:
                expected.add(other)
        assert set(needs) == expected
        assert len(needs) == len(expected)


@pytest.mark.parametrize("side", [2, 3, 5])
def test_counters_make_every_task_ready_once_and_not_before_its_needs(peers: ModuleType, side: int) -> None:
    tasks, counters = dict(peers.needs_of(side)), peers.Counters(side)
    ready, done = deque((0, place) for place in peers.places(side)), set()
    while ready:
        front, place = ready.pop()
        assert (front, *place) not in done
        assert set(tasks[(front, *place)]) <= done
        done.add((front, *place))
        ready.extend(counters.finish(front, place))
    assert done == set(tasks)


def test_a_peer_that_takes_too_long_or_too_much_is_ended(peers: ModuleType) -> None:
    late = peers.climb_once("pool", 10_000, sys.executable, 0.0, 1 << 40)
    assert late.stopped.startswith("not done after 0 s")
    large = peers.climb_once("pool", 10_000, sys.executable, 60.0, 1)
    assert large.stopped.startswith("more than 0 GB")


def test_a_peer_runs_and_is_told(peers: ModuleType) -> None:
    (row,) = peers.rows(300, ("pool",), limit_s=60.0)
    assert row[0] == "pool"
    assert "us/block" in row[2]
    assert "at 286 blocks" in row[2]
