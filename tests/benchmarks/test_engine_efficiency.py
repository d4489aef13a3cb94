"""Efficiency counts the seconds inside of blocks alone."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PATH = Path(__file__).parents[2] / "benchmarks" / "engine_efficiency.py"


def test_block_seconds_are_those_asked_for_and_losses_are_seen() -> None:
    spec = importlib.util.spec_from_file_location("engine_efficiency", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["engine_efficiency"] = module
    spec.loader.exec_module(module)
    found = module.measure(3, 0.05, 1, "serial")
    assert found.blocks == 3
    assert 3 * 0.05 <= found.cpu_seconds <= found.block_seconds + 0.01
    assert 0 < found.share < 1
    assert module.Efficiency(2, 10, 19.0, 19.0, 10.0).share == 0.95
