"""bouton over a real Grid Engine on loopback: one master, one host of four slots (``sge.sh``)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bouton.cluster import Cluster
from bouton.engine import RunSummary, run_workflow
from bouton.engine.events import Event
from bouton.errors import RunError
from clusters.batch_system import batch_system, run_trouble, say
from engine.flows import checksums, trouble_flow

pytestmark = pytest.mark.cluster
PROGRAMS = ("sge_qmaster", "sge_execd", "qsub", "qconf")
# The jobs need the settings of this process: Grid Engine hands on none by itself.
JOBS: dict[str, Any] = {"kind": "sge", "queue": "normal", "memory": "1GB", "max_workers": 2, "directives": ("-V",)}


@pytest.fixture(scope="module", autouse=True)
def grid_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with batch_system("sge", PROGRAMS, tmp_path_factory.mktemp("sge")):
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return checksums(run_workflow(trouble_flow(), tmp_path_factory.mktemp("runs"), "serial").folder)


def _run(folder: Path, cluster: dict[str, Any], **options: Any) -> tuple[RunSummary, list[Event]]:
    return run_trouble(Cluster(**{**JOBS, **cluster}), folder, **options)


def _running() -> list[str]:
    return re.findall(r"^\s*(\d+)", say("qstat", "-s", "r"), re.MULTILINE)


def test_same_bytes(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    summary, _ = _run(tmp_path, {"cores": 2, "max_workers": 4, "directives": ("-V", "-pe smp 2")})
    summary.raise_if_failed()
    assert checksums(summary.folder) == undisturbed
    time.sleep(3)
    assert not _running(), "jobs end with the run"


def test_a_deleted_job(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """qdel kills at once; another job comes."""
    ended: list[str] = []

    def end_one(done: int) -> None:
        if done >= 2 and not ended:
            ended.append(_running()[0])
            say("qdel", ended[0])

    summary, _ = _run(tmp_path, {}, when=end_one, seconds=1.0)
    assert ended
    assert summary.state == "done"
    assert checksums(summary.folder) == undisturbed


def test_walltime(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """Grid Engine kills at the end of ``h_rt`` without a word before: the worker's own timer leaves in time."""
    summary, events = _run(tmp_path, {"walltime": "0:01:00", "max_workers": 1}, seconds=6.0)
    assert summary.state == "done"
    assert checksums(summary.folder) == undisturbed
    assert {type(event).__name__ for event in events}.isdisjoint({"WorkerLost", "TaskRetried", "TaskFailed"})
    assert any("bouton: drained" in path.read_text() for path in (tmp_path / "logs").glob("bouton.o*"))


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"queue": "nosuch"}, 'unknown queue "nosuch"'),
        ({"account": "nosuch"}, 'the requested project "nosuch" does not exist'),
        ({"directives": ("-pe nosuch 2",)}, 'parallel environment "nosuch" does not exist'),
    ],
)
def test_a_refused_job_ends_the_run_in_grid_engines_own_words(
    tmp_path: Path, cluster: dict[str, Any], words: str
) -> None:
    started = time.monotonic()
    with pytest.raises(RunError, match=words):
        _run(tmp_path, cluster)
    assert time.monotonic() - started < 15
