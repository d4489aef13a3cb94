"""The Dask executor under what clusters do to it: machines that die, stop, come back, or leave; schedulers that go."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from bouton.cluster import Cluster
from bouton.engine import RunSummary, run_workflow
from bouton.engine.context import make_context
from bouton.engine.events import Event, TaskFailed, TasksDone
from bouton.engine.executors.dask import Dask, _Open
from bouton.engine.executors.dask_worker import Slot
from bouton.engine.leases import Done, Failure, Lease, Report, pack
from bouton.errors import RunError
from dask_cluster import Loopback, children
from engine.flows import checksums, trouble_flow

SLOW = {"seconds": 0.15}


def test_the_suspect_of_a_lost_worker_is_the_task_after_all_that_it_told(tmp_path: Path) -> None:
    """Failed tasks count, too: else the blame falls on one of them, and who loses workers is never found out."""
    flow = trouble_flow()
    lease = Lease(1, make_context(flow, flow.steps[0], tmp_path), "draw", 0, np.arange(5, 10))
    dask = Dask(Cluster(kind="local"))
    dask._open[1] = entry = _Open(lease, cast(Any, None), needs_gpu=False, worker="tcp://gone")
    dask._take(entry, Report(1, pack([Done(5), Done(6)]), (Failure(7, "exception", "poison"),)))
    assert [failure.task for failure in dask._lost(1, "it died").failures] == [8]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return checksums(run_workflow(trouble_flow(), tmp_path_factory.mktemp("runs"), "serial").folder)


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    cluster = Loopback(tmp_path_factory.mktemp("dask"), ttl_s=2.0)
    try:
        cluster.start_scheduler()
        for _ in range(2):
            cluster.start_worker()
        cluster.wait(2)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def two(loopback: Loopback) -> Loopback:
    """The cluster with two workers that are well, whatever the test before did to them."""
    alive = [worker for worker in loopback.workers if worker.poll() is None]
    for _ in range(2 - len(alive)):
        alive.append(loopback.start_worker())
    loopback.workers = alive
    loopback.wait(2)
    return loopback


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_slot_whose_thread_ended_says_so(tmp_path: Path) -> None:
    flow = trouble_flow()
    lease = Lease(1, make_context(flow, flow.steps[0], tmp_path), "draw", 0, np.arange(2))
    slot = Slot(0, lambda: None)

    def must_stop() -> bool:
        sys.exit()

    slot.run(lease, lambda message: None, must_stop)
    with pytest.raises(RunError, match="has ended"):
        slot.run(lease, lambda message: None, lambda: False)


def test_a_pause_does_not_wait_for_workers_that_have_not_come(tmp_path: Path) -> None:
    """Jobs may stand in the queue of a cluster for hours."""
    cluster = Loopback(tmp_path)
    flow = trouble_flow()
    dask = Dask(cluster.cluster)
    try:
        cluster.start_scheduler()
        dask.submit(Lease(3, make_context(flow, flow.steps[0], tmp_path), "draw", 0, np.arange(5)))
        assert dask.reports(0.5) == []
        dask.drain()
        assert dask.reports(0.5) == [Report(3, ended=True)]
    finally:
        dask.close()
        cluster.close()


def _run(
    loopback: Loopback, folder: Path, when: Callable[[int], None] = lambda done: None, **params: float
) -> tuple[RunSummary, list[Event]]:
    """Run the troubled workflow; call ``when`` with the number of blocks of its slow step that are done."""
    events: list[Event] = []
    done = 0

    def hear(event: Event) -> None:
        nonlocal done
        events.append(event)
        if isinstance(event, TasksDone) and (event.step, event.part) == ("trouble", "copy"):
            done += event.tasks
            when(done)

    executor = Dask(loopback.cluster, folder / "logs", reattach_s=60.0)
    return run_workflow(trouble_flow(**{**SLOW, **params}), folder / "runs", executor, subscribers=[hear]), events


class Once:
    """Does something the first time that enough blocks are done."""

    def __init__(self, blocks: int, action: Callable[[], object]) -> None:
        self.blocks, self.action, self.done = blocks, action, False

    def __call__(self, blocks: int) -> None:
        if blocks >= self.blocks and not self.done:
            self.done = True
            self.action()


def test_a_local_cluster_of_our_own(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    executor = Dask(Cluster(kind="local", max_workers=2), tmp_path / "logs")
    summary = run_workflow(trouble_flow(), tmp_path / "runs", executor, workers=2)
    summary.raise_if_failed()
    assert _outputs(summary) == undisturbed


def test_a_killed_worker(tmp_path: Path, two: Loopback, undisturbed: dict[str, str]) -> None:
    def kill() -> None:
        two.workers[0].kill()
        two.start_worker()

    once = Once(2, kill)
    summary, events = _run(two, tmp_path, once)
    assert once.done
    assert summary.state == "done"
    assert not [event for event in events if isinstance(event, TaskFailed)]
    assert _outputs(summary) == undisturbed
    # Its children ended with it.
    assert two.workers[0].wait() == -signal.SIGKILL


def test_a_killed_child_is_tried_again(tmp_path: Path, two: Loopback, undisturbed: dict[str, str]) -> None:
    once = Once(2, lambda: os.kill(children(two.workers[0])[0], signal.SIGKILL))
    summary, _ = _run(two, tmp_path, once)
    assert once.done
    assert summary.state == "done"
    assert _outputs(summary) == undisturbed


def test_a_block_that_ends_its_process_is_quarantined_with_the_cause(tmp_path: Path, two: Loopback) -> None:
    summary, _ = _run(two, tmp_path, how="leave", at=(4, 5, 6), seconds=0.0)
    assert summary.state == "failed"
    (failure,) = summary.failures
    assert (failure.step, failure.task) == ("trouble", "1-1-1")
    assert "its worker process ended with status 0" in failure.error
    # The Dask workers themselves live on.
    assert [worker.poll() for worker in two.workers] == [None, None]


def test_a_stopped_worker_comes_back_as_a_zombie(tmp_path: Path, two: Loopback, undisturbed: dict[str, str]) -> None:
    zombie, woken = two.workers[0], threading.Event()
    stopped: list[int] = []

    def stop() -> None:
        stopped.extend([zombie.pid, *children(zombie)])
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        threading.Timer(6.0, wake).start()

    def wake() -> None:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        woken.set()

    once = Once(2, stop)
    summary, _ = _run(two, tmp_path, once)
    assert once.done
    assert summary.state == "done"
    before = _outputs(summary)
    woken.wait()
    time.sleep(0.5)
    # What it finishes late changes no byte that is committed.
    assert _outputs(summary) == before == undisturbed
    zombie.kill()


def test_a_worker_that_is_told_to_end_leaves_after_its_block(tmp_path: Path, two: Loopback) -> None:
    leaving = two.workers[0]

    def tell() -> None:
        two.start_worker()
        leaving.send_signal(signal.SIGTERM)

    once = Once(2, tell)
    summary, events = _run(two, tmp_path, once)
    assert summary.state == "done"
    assert leaving.wait(timeout=120) == 0
    # Nothing was lost on the way: no try failed.
    assert {type(event).__name__ for event in events}.isdisjoint({"WorkerLost", "TaskRetried", "TaskFailed"})


def test_a_worker_leaves_before_its_walltime_ends(loopback: Loopback) -> None:
    worker = loopback.start_worker(BOUTON_WALLTIME_S="8")
    started = time.monotonic()
    assert worker.wait(timeout=120) == 0
    # A quarter of it is kept back; the process needs a while to start.
    assert time.monotonic() - started < 8 + 6


def test_a_scheduler_that_dies_and_comes_back(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    cluster = Loopback(tmp_path)
    try:
        cluster.start_scheduler()
        cluster.start_worker()
        cluster.wait(1)

        def kill() -> None:
            assert cluster.scheduler is not None
            cluster.scheduler.kill()
            cluster.scheduler.wait()
            cluster.start_scheduler()
            cluster.start_worker()

        once = Once(2, kill)
        summary, _ = _run(cluster, tmp_path, once)
        assert once.done
        assert summary.state == "done"
        assert _outputs(summary) == undisturbed
    finally:
        cluster.close()


def test_no_scheduler(tmp_path: Path) -> None:
    executor = Dask(Cluster(kind="address", address="tcp://127.0.0.1:9"), tmp_path, reattach_s=1.0)
    with pytest.raises(RunError, match="no Dask scheduler answers") as caught:
        run_workflow(trouble_flow(), tmp_path, executor)
    assert "\n" not in str(caught.value)


def test_a_gpu_is_asked_for_where_there_is_one(loopback: Loopback) -> None:
    """Room for GPU leases is counted apart as soon as a worker declares a GPU."""
    executor = Dask(loopback.cluster)
    try:
        assert executor.room(gpu=True) == executor.room(gpu=False) > 0
        worker = loopback.start_worker("--resources", "GPU=1")
        loopback.wait(3)
        deadline = time.monotonic() + 10
        while executor.room(gpu=True) != 1 and time.monotonic() < deadline:
            executor.reports(0.5)
        assert executor.room(gpu=True) == 1
        assert executor.room(gpu=False) > 1
        worker.kill()
    finally:
        executor.close()


def _outputs(summary: RunSummary) -> dict[str, str]:
    """Return the checksums; the step that is slow has another key than the one that is not, but the same bytes."""
    return checksums(summary.folder)
