"""One executor for several runs: workers stay, numbers go on, what a run leaves behind does not reach the next."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from bouton.engine import run_workflow
from bouton.engine.events import RunStarted
from bouton.engine.executors.processes import Processes
from bouton.engine.executors.serial import Serial
from bouton.engine.executors.shared import Shared
from bouton.engine.leases import Lease, Report
from engine.flows import checksums, renamed, shapes_flow


class Noted(Serial):
    """The serial executor, which notes the numbers of leases and that it was closed."""

    def __init__(self, made: list) -> None:
        super().__init__()
        made.append(self)
        self.numbers: list[int] = []
        self.closed = 0

    def submit(self, lease: Lease) -> None:
        self.numbers.append(lease.number)
        super().submit(lease)

    def close(self) -> None:
        self.closed += 1


def test_several_runs_have_one_executor(tmp_path: Path) -> None:
    made: list[Noted] = []
    shared = Shared(lambda: Noted(made))
    folders = [run_workflow(renamed(shapes_flow(), name), tmp_path, shared).folder for name in ("one", "two", "three")]
    assert len(made) == 1
    assert made[0].closed == 0
    assert made[0].numbers == list(range(1, len(made[0].numbers) + 1))
    alone = run_workflow(renamed(shapes_flow(), "alone"), tmp_path, "serial").folder
    assert all(checksums(folder) == checksums(alone) for folder in folders)
    shared.end()
    assert made[0].closed == 1


def test_worker_processes_stay(tmp_path: Path) -> None:
    shared = Shared(lambda: Processes(1))
    events: list = []
    pids = []
    for name in ("one", "two"):
        run_workflow(renamed(shapes_flow(), name), tmp_path, shared, subscribers=[events.append]).raise_if_failed()
        pids.append(child_pids())
    shared.end()
    assert len(pids[0]) == 1
    assert pids[0] == pids[1]
    assert not child_pids()
    assert {(e.executor, e.workers) for e in events if isinstance(e, RunStarted)} == {("processes", 1)}


def child_pids() -> set[str]:
    """Return the worker processes of this process."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
            command = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if fields[1] == str(os.getpid()) and fields[0] != "Z" and "executors.worker" in command:
            found.add(path.parent.name)
    return found


class Slow:
    """An executor that says of its leases what a test tells it to."""

    workers, lease_seconds = 2, 1.0

    def __init__(self) -> None:
        self.out: list[Lease] = []
        self.says: list[Report] = []
        self.closed = self.drained = 0

    def room(self, gpu: bool) -> int:
        return 2

    def submit(self, lease: Lease) -> None:
        self.out.append(lease)

    def reports(self, timeout_s: float) -> list[Report]:
        found, self.says = self.says, []
        return found

    def drain(self) -> None:
        self.drained += 1

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def lease() -> Lease:
    return Lease(1, None, "part", 0, np.arange(3))  # type: ignore[arg-type]


def test_late_reports_of_an_earlier_run_are_dropped(lease: Lease) -> None:
    made: list[Slow] = []

    def make() -> Slow:
        made.append(Slow())
        return made[-1]

    shared = Shared(make)
    shared.submit(lease)
    shared.submit(dataclasses.replace(lease, number=2))
    made[0].says = [Report(1, ended=True), Report(2)]
    assert shared.reports(0) == [Report(1, ended=True), Report(2)]
    # The run breaks off while its second lease is out: these workers may not serve another run.
    shared.close()
    assert made[0].closed == 1
    assert shared.room(False) == 2
    assert len(made) == 2
    shared.submit(lease)
    assert [each.number for each in made[1].out] == [3]
    made[1].says = [Report(2, ended=True), Report(3), Report(3, ended=True), Report(3)]
    assert shared.reports(0) == [Report(1), Report(1, ended=True)]
    shared.close()
    assert made[1].closed == 0


def test_drained_workers_do_not_serve_another_run(lease: Lease) -> None:
    made: list[Slow] = []

    def make() -> Slow:
        made.append(Slow())
        return made[-1]

    shared = Shared(make)
    shared.drain()
    shared.close()
    assert (made[0].drained, made[0].closed) == (1, 1)
    shared.room(True)
    assert len(made) == 2
