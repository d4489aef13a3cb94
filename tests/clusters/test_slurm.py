"""bouton over a real SLURM on loopback: one controller, two workers (``slurm.sh``)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bouton.cluster import Cluster
from bouton.engine import RunSummary, run_workflow
from bouton.engine.events import Event
from bouton.engine.executors.dask import Dask
from bouton.errors import RunError
from clusters.batch_system import batch_system, run_trouble, say
from engine.flows import checksums, trouble_flow

pytestmark = pytest.mark.cluster
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
JOBS: dict[str, Any] = {"kind": "slurm", "queue": "normal", "memory": "1GB", "max_workers": 2}


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with batch_system("slurm", PROGRAMS, tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return checksums(run_workflow(trouble_flow(), tmp_path_factory.mktemp("runs"), "serial").folder)


def _run(folder: Path, cluster: dict[str, Any], **options: Any) -> tuple[RunSummary, list[Event]]:
    return run_trouble(Cluster(**{**JOBS, **cluster}), folder, **options)


def _running() -> list[str]:
    return say("squeue", "-h", "-t", "R", "-o", "%i").split()


def test_same_bytes(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    summary, _ = _run(tmp_path, {"cores": 2, "max_workers": 4})
    summary.raise_if_failed()
    assert checksums(summary.folder) == undisturbed
    time.sleep(1)
    assert not _running(), "jobs end with the run"


def test_same_bytes_encrypted(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    summary, _ = _run(tmp_path, {"tls": True})
    assert checksums(summary.folder) == undisturbed
    assert "tls://" in "".join(path.read_text() for path in (tmp_path / "logs").glob("*.err"))


@pytest.mark.parametrize("how", [("scancel",), ("scancel", "--signal=KILL", "--full")], ids=["cancelled", "killed"])
def test_a_job_that_ends_early(tmp_path: Path, how: tuple[str, ...], undisturbed: dict[str, str]) -> None:
    """SIGTERM lets the worker finish its block and leave; SIGKILL does not. Either way another job comes."""
    ended: list[str] = []

    def end_one(done: int) -> None:
        if done >= 2 and not ended:
            ended.append(_running()[0])
            say(*how, ended[0])

    summary, events = _run(tmp_path, {}, when=end_one, seconds=1.0)
    assert ended
    assert summary.state == "done"
    assert checksums(summary.folder) == undisturbed
    if how == ("scancel",):
        assert {type(event).__name__ for event in events}.isdisjoint({"WorkerLost", "TaskRetried", "TaskFailed"})
    jobs = {path.stem.partition("-")[2] for path in (tmp_path / "logs").glob("bouton-*.err")}
    assert jobs - set(ended)


def test_walltime(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """Jobs of one minute and more than a minute of work: they drain, others take over, and nothing is lost."""
    summary, events = _run(tmp_path, {"queue": "short", "walltime": "0:01:00", "max_workers": 1}, seconds=6.0)
    assert summary.state == "done"
    assert checksums(summary.folder) == undisturbed
    assert {type(event).__name__ for event in events}.isdisjoint({"WorkerLost", "TaskRetried", "TaskFailed"})
    logs = [path.read_text() for path in (tmp_path / "logs").glob("bouton-*.err")]
    assert len(logs) >= 2
    assert any("bouton: drained" in log for log in logs)
    assert not any("TIME LIMIT" in log for log in logs)


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"queue": "nosuch"}, "invalid partition specified: nosuch"),
        ({"memory": "900GB"}, "Memory specification can not be satisfied"),
        ({"directives": ("--nosuch=1",)}, "unrecognized option"),
        ({"python": "/nosuch/python"}, "3 jobs ended before their worker started: .*No such file or directory"),
    ],
)
def test_a_refused_job_ends_the_run_in_slurms_own_words(tmp_path: Path, cluster: dict[str, Any], words: str) -> None:
    started = time.monotonic()
    with pytest.raises(RunError, match=words) as caught:
        _run(tmp_path, cluster)
    assert "\n" not in str(caught.value)
    # The last one waits for three jobs in a row.
    assert time.monotonic() - started < (60 if "python" in cluster else 15)


def test_gpu_jobs_beside_others(tmp_path: Path) -> None:
    executor = Dask(Cluster(**{**JOBS, "max_workers": 1, "gpu": {"max_workers": 1}}), tmp_path)
    try:
        deadline = time.monotonic() + 60
        while not (executor.room(gpu=True) and executor.room(gpu=False) == 4) and time.monotonic() < deadline:
            executor.reports(0.5)
        assert executor.room(gpu=True) == 1
        # Two workers, and a short lease ahead for each.
        assert executor.room(gpu=False) == 4
        assert sorted(say("squeue", "-h", "-o", "%b").split()) == ["N/A", "gres:gpu:1"]
    finally:
        executor.close()
