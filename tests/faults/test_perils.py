"""Workers and coordinators that end, stop or cannot begin: what is quarantined and why, and what goes on as before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from bouton.engine import RunSummary, run_workflow
from bouton.engine.ledger import Ledger
from bouton.errors import RunError
from bouton.spec import Workflow, load_workflow
from bouton.volume.run_folder import open_run
from faults.test_processes import children, is_alive, needs_proc

STAGE = Path(__file__).parent / "perilous.py"
RUN = """
import sys
from pathlib import Path
from bouton.engine import run_workflow
from bouton.spec import load_workflow
run_workflow(load_workflow(Path(sys.argv[1])), Path(sys.argv[2]), "processes", 2).raise_if_failed()
"""


def flow(folder: Path, **params: object) -> Workflow:
    """Write and load a workflow of one perilous step of 12 blocks."""
    grid = {"shape_zyx": [12, 10, 12], "voxel_size_nm": [30, 10, 10]}
    steps = {"step": {"stage": str(STAGE), "params": params}}
    (folder / "flow.yaml").write_text(
        yaml.safe_dump({"name": "t", "grid": grid, "block_zyx": [4, 5, 6], "steps": steps})
    )
    return load_workflow(folder / "flow.yaml")


def notes(folder: Path) -> Path:
    """Make the folder in which the perilous block leaves its process ids."""
    (folder / "notes").mkdir(exist_ok=True)
    return folder / "notes"


def image(runs: Path) -> np.ndarray:
    return open_run(runs / "t").volume("step")[...]


def expected() -> np.ndarray:
    return (
        ((np.arange(12 * 10 * 12, dtype=np.uint64) + np.uint64(1)) % np.uint64(251))
        .astype(np.uint8)
        .reshape(12, 10, 12)
    )


def failure_of(summary: RunSummary) -> tuple[str, str]:
    """Return the cause in the ledger and the error of the only quarantined task."""
    (event,) = summary.failures
    assert event.task == "1-0-0"
    folder = summary.folder / open_run(summary.folder).steps["step"].folder
    with Ledger(folder / "ledger.sqlite", readonly=True) as ledger:
        (found,) = ledger.failures()
    return found.cause, found.error


@pytest.mark.parametrize(
    ("how", "cause", "said"),
    [
        ("segfault", "signal", "SIGSEGV"),
        ("abort", "signal", "SIGABRT"),
        ("leave", "exit", "status 0"),
        ("out of memory", "memory", "MemoryError"),
    ],
)
def test_a_poison_block_is_quarantined_with_its_cause(tmp_path: Path, how: str, cause: str, said: str) -> None:
    summary = run_workflow(flow(tmp_path, how=how), tmp_path / "runs", "processes", 2, retries=1)
    found, error = failure_of(summary)
    assert found == cause and said in error, (found, error)
    assert summary.steps["step"].counts["failed"] == 1
    assert summary.steps["step"].counts["done"] >= 11, "the other blocks are done"
    assert "\n" not in error


@pytest.mark.parametrize("how", ["segfault", "leave", "kill", "out of memory"])
def test_once_is_forgiven(tmp_path: Path, how: str) -> None:
    place = notes(tmp_path)
    summary = run_workflow(flow(tmp_path, how=how, notes=str(place)), tmp_path / "runs", "processes", 2)
    assert summary.state == "done" and len(list(place.iterdir())) == 2
    assert np.array_equal(image(tmp_path / "runs"), expected())


@needs_proc
def test_a_worker_that_is_stopped_and_goes_on_changes_nothing(tmp_path: Path) -> None:
    """A laptop that sleeps: everything stops, then goes on where it was."""
    place = notes(tmp_path)
    flow(tmp_path, how="stop", notes=str(place))
    process = coordinator(tmp_path)
    (note,) = wait_for(lambda: list(place.iterdir()))
    worker = int(note.name.split("-")[1])
    wait_for(lambda: Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    for pid in (process.pid, worker):
        os.kill(pid, signal.SIGCONT)
    assert process.wait(120) == 0
    assert np.array_equal(image(tmp_path / "runs"), expected())


def coordinator(folder: Path, **variables: str) -> subprocess.Popen:
    words = [sys.executable, "-c", RUN, str(folder / "flow.yaml"), str(folder / "runs")]
    return subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1", **variables}, stderr=subprocess.PIPE)


def wait_for(what):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen")


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_to_the_coordinator_loses_nothing_that_was_done(tmp_path: Path, number: int) -> None:
    workflow = flow(tmp_path, seconds=0.2)
    process = coordinator(tmp_path)
    log = tmp_path / "runs" / "t" / "events.jsonl"
    wait_for(lambda: log.exists() and "TasksDone" in log.read_text())
    workers = children(process.pid)
    process.send_signal(number)
    process.wait(60)
    wait_for(lambda: not any(is_alive(pid) for pid in workers))
    before = done(tmp_path)
    assert before
    summary = run_workflow(workflow, tmp_path / "runs", "serial")
    assert summary.state == "done"
    assert summary.steps["step"].computed <= 12 + 12 + 4 - before
    assert np.array_equal(image(tmp_path / "runs"), expected())


def done(folder: Path) -> int:
    (path,) = (folder / "runs" / "t").glob("step/*/ledger.sqlite")
    with Ledger(path, readonly=True) as ledger:
        return ledger.counts()["done"]


@needs_proc
def test_a_worker_that_cannot_start_is_no_fork_bomb(tmp_path: Path) -> None:
    """Every interpreter that would be a worker ends at once: a few tries, then one line."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if any('executors.worker' in word for word in sys.orig_argv):\n"
        f"    open({str(tmp_path / 'starts')!r}, 'a').write('x')\n"
        "    os._exit(3)\n"
    )
    flow(tmp_path)
    process = coordinator(tmp_path, PYTHONPATH=str(tmp_path / "hook"))
    said = process.communicate(timeout=120)[1].decode()
    assert process.returncode != 0
    assert "RunError: a worker process cannot start (ended with status 3)" in said or "cannot start" in said
    assert len((tmp_path / "starts").read_text()) <= 20
    assert run_workflow(load_workflow(tmp_path / "flow.yaml"), tmp_path / "runs", "serial").state == "done"


@needs_proc
def test_the_second_of_two_coordinators_is_refused_and_the_first_named(tmp_path: Path) -> None:
    workflow = flow(tmp_path, seconds=0.3)
    process = coordinator(tmp_path)
    log = tmp_path / "runs" / "t" / "events.jsonl"
    wait_for(lambda: log.exists() and "TasksDone" in log.read_text())
    with pytest.raises(RunError, match=str(process.pid)):
        run_workflow(workflow, tmp_path / "runs", "serial")
    assert process.wait(120) == 0
    assert np.array_equal(image(tmp_path / "runs"), expected())


@pytest.fixture
def cgroup():
    """A cgroup of 600 MiB in which the kernel kills who takes more."""
    for root in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        folder, limit = root / f"bouton-{os.getpid()}", "memory.limit_in_bytes"
        limit = limit if root.name == "memory" else "memory.max"
        try:
            folder.mkdir()
            (folder / limit).write_text(str(900 << 20))
        except OSError:
            if folder.exists():
                folder.rmdir()
            continue
        yield folder
        wait_for(lambda: not (folder / "cgroup.procs").read_text())  # noqa: B023
        folder.rmdir()
        return
    pytest.skip("needs the right to make a cgroup with a memory limit")


@needs_proc
def test_the_kernel_kills_a_block_that_takes_too_much(tmp_path: Path, cgroup: Path) -> None:
    """A real out-of-memory kill: the block is quarantined as one, the others are done."""
    flow(tmp_path, how="eat memory")
    code = f"open({str(cgroup / 'cgroup.procs')!r}, 'w').write('0')\n" + RUN.replace(".raise_if_failed()", "")
    words = [sys.executable, "-c", code, str(tmp_path / "flow.yaml"), str(tmp_path / "runs")]
    subprocess.run(words, timeout=180, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    folder = tmp_path / "runs" / "t" / open_run(tmp_path / "runs" / "t").steps["step"].folder
    with Ledger(folder / "ledger.sqlite", readonly=True) as ledger:
        (found,) = ledger.failures()
        assert ledger.counts()["done"] >= 11
    assert (found.task, found.attempts) == ("1-0-0", 3)
    assert found.cause in ("memory", "signal")
    assert "memory" in found.error
