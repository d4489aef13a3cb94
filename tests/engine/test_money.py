"""Money: expected repeats against a simulation, prices by hand, machines that do not hold the workers."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from bouton.engine.estimate import Estimate, ratio_interval
from bouton.engine.money import Machine, Offer, hours_for, quote, rent, repeat_factor
from bouton.errors import SpecError


def machine(**values) -> Machine:
    given = {"gpus": 0, "price_per_hour": 2.0, "spot_price_per_hour": 0.5, "currency": "EUR", "cores": 4}
    given |= {"date": datetime.date(2026, 1, 1), "source": "a list", "memory_bytes": 16 << 30}
    return Machine("m", **(given | values))


def simulated(lease: float, rate: float, restart: float, repeats: int) -> float:
    """Return the mean time of a lease whose machine is taken away at random."""
    random = np.random.default_rng(5)
    total = 0.0
    for _ in range(repeats):
        while (until := random.exponential(1 / rate)) < lease:
            total += until + restart
        total += lease
    return total / repeats


@pytest.mark.parametrize(("lease", "rate", "restart"), [(0.5, 0.2, 0.05), (2.0, 0.5, 0.1), (0.01, 1.0, 0.03)])
def test_expected_repeats_are_those_of_a_simulation(lease: float, rate: float, restart: float) -> None:
    assert repeat_factor(lease, rate, restart) == pytest.approx(
        simulated(lease, rate, restart, 100_000) / lease, rel=0.02
    )


def test_a_loss_costs_half_a_short_lease_and_a_start() -> None:
    lease, rate, restart = 0.1, 0.05, 0.02
    assert repeat_factor(lease, rate, restart) == pytest.approx(1 + rate * (lease / 2 + restart), rel=1e-5)
    assert repeat_factor(lease, 0.0, restart) == 1
    assert repeat_factor(0.0, rate, restart) == 1


def test_rent_and_hours_by_hand() -> None:
    assert rent(10, 3, 0.5) == 15
    assert hours_for(3600e6, 1e6, 2) == pytest.approx(0.5)


def test_a_quote_counts_machines_from_start_to_end() -> None:
    steps = [(Estimate(3600.0, 1800.0, 7200.0), 60.0), (Estimate(1800.0, 1800.0, 1800.0), 60.0)]
    found = quote(Offer(machine(), 10), steps, 1e9)
    assert (found.machines, found.workers_each, found.repeats) == (3, 4, 1)
    assert (found.hours, found.cost) == (Estimate(1.5, 1.0, 2.5), Estimate(9.0, 6.0, 15.0))
    fast = quote(Offer(machine(), 10, relative_speed=3.0), steps, 1e9)
    assert fast.cost.value == pytest.approx(3.0)
    spot = quote(Offer(machine(), 10, spot=True, preemptions_per_hour=6.0, restart_seconds=60.0), steps, 1e9)
    assert spot.repeats == pytest.approx(1 + 0.1 * (0.5 + 1), rel=0.05)
    assert spot.cost.value == pytest.approx(9 / 4 * spot.repeats)


def test_memory_decides_how_many_workers_a_machine_holds() -> None:
    assert machine().workers(7 << 30) == 2
    assert machine(memory_bytes=None).workers(1e15) == 4
    assert machine(gpus=1).workers(1e9) == 1
    with pytest.raises(SpecError, match=r"16384 MiB of memory; expected at least .* for one worker"):
        machine().workers(16 << 30)


def test_a_missing_spot_price_is_told() -> None:
    with pytest.raises(SpecError, match="no spot price"):
        _ = Offer(machine(spot_price_per_hour=None), 1, spot=True).price_per_hour


def test_old_prices_are_told() -> None:
    assert machine().warning(datetime.date(2026, 6, 30)) == ""
    assert "days old" in machine().warning(datetime.date(2026, 7, 1))


def test_intervals_hold_what_they_promise() -> None:
    """90 % intervals of a ratio over places hold the truth in most of 200 draws; one place alone is told to be less."""
    random, hits = np.random.default_rng(2), 0
    for _ in range(200):
        place = np.repeat(np.arange(6), 4)
        level = random.normal(1.0, 0.3, 6).clip(0.2)[place]
        amounts, works = level * random.uniform(0.8, 1.2, 24), np.ones(24)
        low, high = ratio_interval(amounts.tolist(), works.tolist(), place.tolist())
        hits += low * amounts.mean() <= 1.0 <= high * amounts.mean()
    assert 0.75 <= hits / 200 <= 0.97
    assert ratio_interval([1.0, 1.0], [1.0, 1.0], [0, 0]) == (0.75, 1.25)
    assert ratio_interval([1.0, 1.0], [1.0, 1.0], [0, 1]) == (0.9, 1.1)
