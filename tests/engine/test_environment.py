"""What a run computes with stands in its folder, whoever started it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bouton.engine import run_workflow
from bouton.engine.environment import environment, read_environments
from bouton.engine.lock import run_lock
from bouton.errors import RunError
from engine.flows import shapes_flow


def test_a_run_from_the_library_notes_what_it_computes_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = run_workflow(shapes_flow(), tmp_path, "serial").folder
    assert json.loads((folder / "environments.json").read_text()) == [environment()]
    run_workflow(shapes_flow(), tmp_path, "serial")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    # A run that is refused, because another process works on it, computes nothing.
    with run_lock(folder), pytest.raises(RunError, match="being worked on"):
        run_workflow(shapes_flow(), tmp_path, "serial")
    run_workflow(shapes_flow(), tmp_path, "serial")
    assert [found["settings"]["OMP_NUM_THREADS"] for found in read_environments(folder)] == ["1", "2"]
