"""The executor of processes: leases that are larger than a socket's buffer."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from bouton.engine.context import make_context
from bouton.engine.executors import processes
from bouton.engine.executors.processes import Processes, _Child
from bouton.engine.leases import Lease
from engine.flows import shapes_flow

NO_OPS = Path(__file__).parents[2] / "benchmarks" / "no_op_worker.py"


def test_large_leases_do_not_lock_worker_and_coordinator(tmp_path: Path) -> None:
    """Both write more than a socket holds before either reads."""
    flow = shapes_flow()
    context = make_context(flow, flow.steps[0], tmp_path)
    pool = Processes(1)
    pool.program = (str(NO_OPS),)
    # every other task: as many runs as tasks
    leases = [Lease(number, context, "source", 0, np.arange(0, 400_000, 2, dtype=np.int64)) for number in (1, 2)]
    done: list[int] = []

    def exchange() -> None:
        for lease in leases:
            pool.submit(lease)
        ended = 0
        while ended < len(leases):
            for report in pool.reports(0.5):
                done.append(len(report.batch.numbers) if report.batch else 0)
                ended += report.ended

    thread = threading.Thread(target=exchange, daemon=True)
    thread.start()
    thread.join(60)
    is_stuck = thread.is_alive()
    pool.close()
    assert not is_stuck
    assert sum(done) == 400_000


def test_a_worker_that_hears_nothing_more_ends() -> None:
    child = _Child(0, Processes.program)
    try:
        assert child.connection.recv() is None
        child.connection.send_bytes(b"no message")
        assert child.process.wait(30) == 0
    finally:
        child.end()


def test_a_worker_that_closes_its_socket_and_stays_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "stays.py"
    program.write_text("import os, sys, time\nos.close(int(sys.argv[1]))\ntime.sleep(60)\n")
    monkeypatch.setattr(processes, "LEAVE_SECONDS", 0.2)
    flow = shapes_flow()
    pool = Processes(1)
    pool.program = (str(program),)
    pool.submit(Lease(1, make_context(flow, flow.steps[0], tmp_path), "draw", 0, np.arange(3)))
    found: list = []
    thread = threading.Thread(target=lambda: found.extend(pool.reports(20)), daemon=True)
    thread.start()
    thread.join(25)
    pool.close()
    assert [(report.lease, report.ended) for report in found] == [(1, True)]


def test_nothing_waits_behind_a_long_lease_while_another_worker_has_a_short_one(tmp_path: Path) -> None:
    program = tmp_path / "sleeps.py"
    program.write_text("import time\ntime.sleep(60)\n")
    flow = shapes_flow()
    context = make_context(flow, flow.steps[0], tmp_path)
    pool = Processes(2)
    pool.program = (str(program),)
    try:
        for number, seconds in ((1, 100.0), (2, 0.1), (3, 0.1)):
            assert pool.room(False)
            pool.submit(Lease(number, context, "draw", 0, np.array([number]), seconds=seconds))
        assert [sorted(child.leases) for child in pool._children] == [[1], [2, 3]]
    finally:
        pool.close()
