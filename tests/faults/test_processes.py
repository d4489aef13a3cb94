"""Processes that die: workers, the coordinator, both; two coordinators at once."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bouton.engine import run_workflow
from bouton.engine.context import context_from_json
from bouton.engine.events import TaskRetried
from bouton.engine.execute import Worker
from bouton.engine.executors.processes import exit_cause, exit_text
from bouton.engine.executors.serial import Serial
from bouton.engine.leases import Done, Failure, Lease, Report, pack
from bouton.engine.ledger import Ledger
from bouton.engine.lock import run_lock
from bouton.errors import RunError
from bouton.volume.run_folder import open_run
from engine.flows import checksums, trouble_flow

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
    # Whoever is killed from outside may be innocent: it is tried more often than one that leaves.
    assert failure.attempts == (13 if how == "die" else 2)
    assert ("SIGKILL" if how == "die" else "status 0") in failure.error
    with Ledger(tmp_path / "toy" / open_run(tmp_path / "toy").steps["trouble"].folder / "ledger.sqlite") as ledger:
        assert [f.cause for f in ledger.failures()] == ["lost" if how == "die" else "exit"]


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
    with (
        run_lock(tmp_path / "toy"),
        pytest.raises(RunError, match=rf"process {os.getpid()} on {platform.node()} since .*\(bouton"),
    ):
        run_workflow(trouble_flow(), tmp_path, "serial")
    assert run_workflow(trouble_flow(), tmp_path, "serial").state == "done"


def test_a_committed_task_does_not_change(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """Every report comes twice, the second time with other bytes and after its lease has ended."""

    class Twice(Serial):
        def reports(self, timeout_s: float) -> list[Report]:
            found = super().reports(timeout_s)
            news = [r for r in found if r.batch is not None]
            late = [replace(r, batch=pack([Done(n) for n in r.batch.numbers])) for r in news]
            poison = [(Failure(int(r.batch.numbers[0]), "exception", "late"),) for r in news]
            lost = [replace(r, batch=None, failures=each) for r, each in zip(news, poison, strict=True)]
            return [*found, *late, *lost]

    summary = run_workflow(trouble_flow(), tmp_path, Twice())
    summary.raise_if_failed()
    assert checksums(summary.folder) == undisturbed


def test_a_zombie_cannot_change_a_committed_block(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """A lease is executed once more after its tasks are committed, by a worker that computes something else."""
    summary = run_workflow(trouble_flow(), tmp_path, "serial")
    run = open_run(summary.folder)
    context = context_from_json(run.folder, run.steps["trouble"].folder)
    zombie = replace(context, params={**context.params, "how": "flip", "at": (0, 0, 0)})
    reports: list[Report] = []
    Worker().work(Lease(99, zombie, "copy", 0, np.arange(3)), reports.append)
    failures = [failure for report in reports for failure in report.failures]
    assert [(failure.task, failure.cause) for failure in failures] == [(0, "conflict")]
    assert failures[0].files
    # Equal bytes are no conflict.
    assert sum(len(report.batch.numbers) for report in reports if report.batch) == 2
    assert checksums(summary.folder) == undisturbed


def test_what_an_uncommitted_attempt_left_gives_way(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    flow = trouble_flow(how="raise", at=(0, 0, 0))
    summary = run_workflow(flow, tmp_path, "serial", retries=0)
    root = summary.folder / open_run(summary.folder).steps["trouble"].folder
    (root / "copy/0/c/0/0").mkdir(parents=True, exist_ok=True)
    (root / "copy/0/c/0/0/0").write_bytes(b"of a stage that gives other bytes each time")
    (tmp_path / "marks").mkdir()
    events: list = []
    mended = trouble_flow(how="once-raise", at=(0, 0, 0), marks=str(tmp_path / "marks"))
    key = {step.name: step for step in flow.steps}
    steps = tuple(replace(step, key=key[step.name].key) for step in mended.steps)
    again = run_workflow(replace(mended, steps=steps), tmp_path, "serial", subscribers=[events.append])
    assert again.state == "done"
    assert [e.error for e in events if isinstance(e, TaskRetried)][-1].count("another content stands there")
    assert checksums(summary.folder) == undisturbed


def test_leftovers_of_killed_attempts_go(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    summary = run_workflow(trouble_flow(how="raise", at=(0, 0, 0)), tmp_path, "serial", retries=0)
    root = summary.folder / open_run(summary.folder).steps["trouble"].folder
    leftovers = [root / "copy/0/c/0/0/.0.partial", root / ".tmp-exports" / "x"]
    for path in leftovers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    run_workflow(trouble_flow(how="raise", at=(0, 0, 0)), tmp_path, "serial", retries=0)
    assert not any(path.exists() for path in leftovers)


def test_exit_causes_are_told_in_words() -> None:
    assert exit_text(-11) == "was killed by signal 11 (SIGSEGV)"
    assert exit_text(3) == "ended with status 3"
    causes = [exit_cause(status, False) for status in (-9, -15, -11, -6, 3)]
    assert causes == ["lost", "lost", "signal", "signal", "exit"]
    assert exit_cause(-9, True) == "memory"
