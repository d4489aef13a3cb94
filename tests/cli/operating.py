"""A small workflow over toy stages, run by the verbs as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bouton.cli.main import main
from bouton.engine.control import holder

TOYS = Path(__file__).parents[1] / "engine" / "toys"
WORKFLOW = f"""\
name: toy
grid: {{shape_zyx: [12, 10, 9], voxel_size_nm: [30, 10, 10]}}
block_zyx: [4, 5, 6]
steps:
  tissue: {{stage: {TOYS}/source.py}}
  trouble: {{stage: {TOYS}/trouble.py, reads: {{image: tissue}}}}
  smooth: {{stage: {TOYS}/smooth.py, reads: {{image: trouble.copy}}}}
"""
SLOW = ("--set", "steps.trouble.params.seconds=0.5", "--workers", "1")
POISON = ("--set", "steps.trouble.params.how=raise", "--set", "steps.trouble.params.at=[4,0,0]")
PATIENCE_SECONDS = 60.0


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with toy.yaml, the present one."""
    (tmp_path / "toy.yaml").write_text(WORKFLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def bouton(*arguments: object) -> int:
    """Call a verb and return its exit status."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def run(*arguments: object) -> int:
    """Run the toy workflow in this process."""
    return bouton("run", "toy.yaml", "--executor", "serial", "--retries", "0", *arguments)


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start a verb as a process of its own."""
    command = [sys.executable, "-m", "bouton", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def status(capsys: pytest.CaptureFixture[str], name: str = "toy") -> dict[str, Any]:
    """Return what ``bouton status --json`` says."""
    capsys.readouterr()
    assert bouton("status", name, "--json") == 0
    return json.loads(capsys.readouterr().out)


def states(capsys: pytest.CaptureFixture[str], name: str = "toy") -> dict[str, str]:
    """Return the state of each step."""
    return {step["name"]: step["state"] for step in status(capsys, name)["steps"]}


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so; fail if it never is."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def pid_of(folder: Path) -> int:
    """Return the process that works on a run."""
    found = holder(folder)
    assert found is not None
    assert found.alive
    return found.pid or int((folder / "lock").read_text())


def is_over(folder: Path) -> bool:
    """Return whether nobody works on a run."""
    found = holder(folder)
    return found is not None and found.alive is False


def sizes(folder: Path) -> dict[str, int]:
    """Return the size of every file under a folder, but SQLite's notes of open ledgers."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm"))]
    return {str(path.relative_to(folder)): os.lstat(path).st_size for path in paths}
