"""The 2019 price table, cell by cell, to its printed digits."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from bouton.cli.prices import read_prices

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "petascale.py"


@pytest.fixture(scope="module")
def petascale() -> ModuleType:
    spec = importlib.util.spec_from_file_location("petascale", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["petascale"] = module
    spec.loader.exec_module(module)
    return module


def checks(petascale: ModuleType) -> dict:
    prices = read_prices()
    return {row.machine: petascale.check(row, prices[row.machine]) for row in petascale.ROWS}


@pytest.mark.parametrize(
    ("machine", "hours", "days"), [("k80-2019", 61.42, 2.56), ("p100-2019", 43.28, 1.80), ("t4-2019", 23.28, 0.97)]
)
def test_hours_and_days(petascale: ModuleType, machine: str, hours: float, days: float) -> None:
    found = checks(petascale)[machine]
    assert round(found.hours, 2) == hours
    assert found.days_hold
    assert round(found.days, 2) == days == found.row.days


@pytest.mark.parametrize(("machine", "cost"), [("p100-2019", 41_546.29), ("t4-2019", 15_830.57)])
def test_costs_hold_within_the_printed_digits(petascale: ModuleType, machine: str, cost: float) -> None:
    found = checks(petascale)[machine]
    assert found.row.cost == cost
    assert found.cost_holds
    assert found.cost == pytest.approx(cost, rel=1e-5)
    # the interval is no wider than the digits: seven voxels a second more or less, and the volume's last one
    assert (found.cost_high - found.cost_low) / found.cost < 1e-4


def test_the_k80s_cost_needs_another_price(petascale: ModuleType) -> None:
    found = checks(petascale)["k80-2019"]
    assert not found.cost_holds
    assert found.cost == pytest.approx(23_341.3, abs=0.1)
    assert round(found.price_needed, 3) == 0.185


@pytest.mark.parametrize(
    ("machine", "price", "volume"),
    [("k80-2019", 0.185, 219.698), ("p100-2019", 0.48, 219.701), ("t4-2019", 0.34, 219.700)],
)
def test_all_rows_imply_one_volume(petascale: ModuleType, machine: str, price: float, volume: float) -> None:
    row = checks(petascale)[machine].row
    assert round(petascale.implied_voxels(row, price) / 1e12, 3) == volume


def test_what_does_not_hold_is_said(petascale: ModuleType) -> None:
    found = list(checks(petascale).values())
    text = "\n".join(petascale.complaints(found, read_prices()))
    for said in ("$0.185", "3.63 (or 3.73", "3.54, 3.50", "1.5625 PB", "1.388 PiB", "cpu 2 cores", "Pinky"):
        assert said in text
