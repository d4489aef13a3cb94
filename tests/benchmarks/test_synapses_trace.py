"""A small version of the injection benchmark: one phantom, about 45 errors of known cause."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "synapses_trace.py"


@pytest.mark.slow
def test_injected_errors_are_given_the_right_cause(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("synapses_trace", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    sys.modules["synapses_trace"] = benchmark
    spec.loader.exec_module(benchmark)
    found = list(benchmark.confusion(30, (90, 300, 300), tmp_path, first=2033))
    named = [(one.cause, cause) for one, cause in found if one is not None and cause]
    assert len(named) >= 35
    assert len({wanted for wanted, _ in named}) >= 9
    assert sum(wanted == cause for wanted, cause in named) >= 0.95 * len(named)
    # what tracing tells of beyond the injected errors: hardly anything
    assert found[-1][1]["errors beyond those injected"] <= 2
