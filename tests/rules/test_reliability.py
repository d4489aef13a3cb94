"""Every test that docs/reliability.md names exists, and every promise and list of faults names some."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PROMISES = ["P1", "P2", "P3", "P4", "P5", "P6", "P9", "P10", "P11", "P12"]


def functions_of(path: Path) -> set[str]:
    """Return the names of the test functions of a file."""
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("file", sorted({file for file, _ in REFERENCE.findall(PAGE)}))
def test_named_tests_exist(file: str) -> None:
    assert (ROOT / file).is_file(), f"docs/reliability.md names {file}"
    named = {name for path, name in REFERENCE.findall(PAGE) if path == file}
    assert not named - functions_of(ROOT / file)


def test_every_row_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| fault", "| |"))]
    assert len(rows) > 30
    for row in rows:
        assert REFERENCE.search(row), row


def test_every_promise_has_a_row() -> None:
    assert [line.split("|")[1].strip() for line in PAGE.splitlines() if re.match(r"\| P\d", line)] == PROMISES


def test_every_test_of_faults_is_on_the_page() -> None:
    """Tests of processes, storage and time that nobody can find from the promise are half as good."""
    for name in ("test_system_calls", "test_chunks", "test_time", "test_perils", "test_configuration", "test_queue"):
        tests = {test for test in functions_of(ROOT / "tests" / "faults" / f"{name}.py") if test.startswith("test_")}
        helpers = {"test_the_checksum_is_the_published_one", "test_the_clock_turns_up_in_what_is_shown"}
        missing = {test for test in tests - helpers if f"{name}.py::{test}`" not in PAGE}
        assert not missing, f"docs/reliability.md does not name {sorted(missing)} of {name}.py"
