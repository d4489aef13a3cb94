"""Processes that die: workers, the coordinator, both; two coordinators at once."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bouton.engine import run_workflow
from bouton.engine.ledger import Ledger
from bouton.errors import RunError
from bouton.volume.run_folder import open_run
from engine.flows import checksums, renamed, trouble_flow

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from engine.flows import trouble_flow
from bouton.engine import run_workflow
run_workflow(trouble_flow(seconds=float(sys.argv[3])), Path(sys.argv[2]), "processes", 2).raise_if_failed()
"""
TESTS = Path(__file__).parents[1]


def start(runs: Path, seconds: float = 0.02) -> subprocess.Popen:
    """Start a coordinator with two workers in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(TESTS), str(runs), str(seconds)])


def children(pid: int) -> list[int]:
    """Return the worker processes of a coordinator."""
    try:
        return [int(v) for v in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """Return whether a process runs (a dead one that nobody waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until_working(process: subprocess.Popen, log: Path, size: int) -> None:
    """Wait until a coordinator says its first word: killing an interpreter that still imports proves nothing."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.stat().st_size > size:
            return
        time.sleep(0.01)


def kill_and_resume(runs: Path, instants: list[float], victims: np.random.Generator) -> int:
    """Kill coordinator or worker at each instant (s) after it began to work, then go on; return the number of kills."""
    kills = 0
    for instant in instants:
        log = runs / "toy" / "events.jsonl"
        size = log.stat().st_size if log.exists() else 0
        process = start(runs)
        wait_until_working(process, log, size)
        time.sleep(instant)
        workers = children(process.pid)
        kill_worker = bool(workers) and victims.random() < 0.4
        target = workers[int(victims.integers(len(workers)))] if kill_worker else process.pid
        try:
            os.kill(target, signal.SIGKILL)
            kills += 1
        except ProcessLookupError:
            pass
        process.wait(60)
        deadline = time.monotonic() + 10
        while any(is_alive(pid) for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(is_alive(pid) for pid in workers), "a worker outlived its coordinator"
    process = start(runs, 0.0)
    assert process.wait(60) == 0
    return kills


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return checksums(run_workflow(trouble_flow(), tmp_path_factory.mktemp("runs"), "serial").folder)


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers through /proc")


@needs_proc
@pytest.mark.parametrize("seed", [1])
def test_sigkill_at_random_instants(tmp_path: Path, undisturbed: dict[str, str], seed: int) -> None:
    random = np.random.default_rng(seed)
    kills = kill_and_resume(tmp_path, list(random.uniform(0.0, 1.2, 5)), random)
    assert kills >= 3
    assert checksums(tmp_path / "toy") == undisturbed


@needs_proc
@pytest.mark.slow
def test_sigkill_at_twenty_random_instants(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    random = np.random.default_rng(2)
    for trial in range(5):
        kill_and_resume(tmp_path / str(trial), list(random.uniform(0.0, 1.2, 4)), random)
        assert checksums(tmp_path / str(trial) / "toy") == undisturbed


@pytest.mark.parametrize("how", ["die", "leave"])
def test_a_worker_that_dies_costs_its_own_task_alone(tmp_path: Path, how: str) -> None:
    summary = run_workflow(trouble_flow(how=how, at=(4, 0, 6)), tmp_path, "processes", 2, retries=1)
    (failure,) = summary.failures
    assert failure.task == "1-0-1"
    assert failure.attempts == 2
    assert ("SIGKILL" if how == "die" else "status 0") in failure.error
    with Ledger(tmp_path / "toy" / open_run(tmp_path / "toy").steps["trouble"].folder / "ledger.sqlite") as ledger:
        assert [f.cause for f in ledger.failures() if f.state == "failed"] == ["died"]


def test_a_worker_that_dies_once_changes_nothing(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    (tmp_path / "marks").mkdir()
    workflow = trouble_flow(how="once-die", at=(4, 0, 6), marks=str(tmp_path / "marks"))
    summary = run_workflow(workflow, tmp_path, "processes", 2)
    assert summary.state == "done"
    assert checksums(summary.folder) == undisturbed


def test_a_mended_cause_lets_the_run_finish(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    (tmp_path / "marks").mkdir()
    workflow = trouble_flow(how="once-raise", at=(4, 0, 6), marks=str(tmp_path / "marks"))
    assert run_workflow(workflow, tmp_path, "serial", retries=0).state == "failed"
    summary = run_workflow(workflow, tmp_path, "serial", retries=0)
    assert summary.state == "done"
    assert summary.steps["trouble"].computed == 4
    assert checksums(summary.folder) == undisturbed


def test_a_second_coordinator_is_refused_and_names_the_first(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    with open(tmp_path / "toy" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4242")
        lock.flush()
        with pytest.raises(RunError, match="process 4242"):
            run_workflow(trouble_flow(), tmp_path, "serial")
        assert run_workflow(renamed(trouble_flow(), "other"), tmp_path, "serial").state == "done"


def test_a_committed_task_does_not_change(tmp_path: Path) -> None:
    from bouton.engine.tasks import OutputFile, TaskId, TaskResult

    task = TaskId("copy", "0-0-0", (0, 0, 0))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.commit([TaskResult(task, (OutputFile("a", 1, "first"),))])
        ledger.commit([TaskResult(task, (OutputFile("a", 1, "late"),))])
        ledger.commit([TaskResult(task, cause="exception", error="late")])
        assert [row.file.checksum for row in ledger.outputs()] == ["first"]
        assert ledger.failures() == []


def test_leftovers_of_killed_attempts_go(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    summary = run_workflow(trouble_flow(how="raise", at=(0, 0, 0)), tmp_path, "serial", retries=0)
    root = summary.folder / open_run(summary.folder).steps["trouble"].folder
    leftovers = [root / "copy/0/c/0/0/.0.partial", root / "copy/0/c/0/0/0.__lock", root / ".tmp-exports" / "x"]
    for path in leftovers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    run_workflow(trouble_flow(how="raise", at=(0, 0, 0)), tmp_path, "serial", retries=0)
    assert not any(path.exists() for path in leftovers)


def test_exit_causes_are_told_in_words() -> None:
    from bouton.engine.executors.processes import exit_text

    assert re.search("signal 9 .*out of memory", exit_text(-9))
    assert "SIGSEGV" in exit_text(-11)
    assert exit_text(3) == "ended with status 3"
