"""What runs inside a Dask worker: it hands leases to worker processes of its own and forwards what they report.

The blocks do not run in the Dask worker itself but in children that :class:`Processes` starts and buries, as on a
single machine. A block that crashes, or is killed for its memory, costs a child, whose exit status is known; a
block that keeps Python's lock for minutes does not silence the worker's heartbeat. A Dask worker with N threads has
N children.

The module is a preload, too (``dask worker --preload bouton.engine.executors.dask_worker``): the worker then
finishes its present blocks and leaves on SIGTERM, and some time before ``BOUTON_WALLTIME_S`` seconds have passed
since it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from distributed import Worker, get_worker

from bouton.engine.executors.dask_clusters import WALLTIME_VARIABLE
from bouton.engine.executors.processes import Processes
from bouton.engine.executors.wire import pack
from bouton.engine.leases import Lease, Report
from bouton.errors import BoutonError, RunError

MARGIN_S = 60.0
"""What a worker keeps back of its walltime, at most a quarter of it: blocks that last longer are computed again."""
POLL_S = 0.25
IDLE_S = 60.0
HOST = "bouton_host"
Say = Callable[[dict[str, Any]], None]


def run_lease(topic: str, lease: Lease) -> None:
    """Execute a lease on this Dask worker; everything that is to be told goes out under ``topic``."""
    host_of(get_worker()).run(topic, lease)


def stop_leases(topic: str, last: int, dask_worker: Worker) -> None:
    """Let leases of ``topic`` up to number ``last`` end after their present block."""
    host_of(dask_worker).stop(topic, last)


def host_of(worker: Worker) -> Host:
    """Return the host of a Dask worker, made on first use."""
    with _MAKING:
        host = getattr(worker, HOST, None)
        if host is None:
            host = Host(worker)
            setattr(worker, HOST, host)
        return host


_MAKING = threading.Lock()


class Host:
    """The children of one Dask worker."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.draining = threading.Event()
        self.leaves = False
        self._idle: queue.LifoQueue[Slot] = queue.LifoQueue()
        self._slots = 0
        self._running = 0
        self._stopped: dict[str, int] = {}
        self._lock = threading.Lock()

    def run(self, topic: str, lease: Lease) -> None:
        """Execute a lease in a free child; return when its last report has gone out."""
        place = {"host": socket.gethostname(), "pid": os.getpid(), "worker": self.worker.address}

        def say(message: dict[str, Any]) -> None:
            self.worker.log_event(topic, {**place, "lease": lease.number, **message})

        if self._must_stop(topic, lease.number):
            say({"started": True})
            say({"report": pack(Report(lease.number, ended=True))})
            return
        with self._lock:
            self._running += 1
        try:
            slot = self._free_slot()
            say({"started": True})
            slot.run(lease, say, lambda: self._must_stop(topic, lease.number))
            self._idle.put(slot)
        finally:
            with self._lock:
                self._running -= 1

    def stop(self, topic: str, last: int) -> None:
        """Let leases up to ``last`` end early."""
        self._stopped[topic] = max(last, self._stopped.get(topic, -1))

    def is_idle(self) -> bool:
        """Whether no lease runs."""
        return self._running == 0

    def _give_up(self) -> None:
        # A node on which no child starts would eat lease after lease. Who cannot leave goes on trying.
        if self.leaves:
            self.draining.set()

    def _must_stop(self, topic: str, number: int) -> bool:
        return self.draining.is_set() or number <= self._stopped.get(topic, -1)

    def _free_slot(self) -> Slot:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            with self._lock:
                self._slots += 1
                return Slot(self._slots - 1, self._give_up)


class Slot:
    """One child and the thread that it is started from: on Linux a child dies with that thread."""

    def __init__(self, number: int, on_broken: Callable[[], None]) -> None:
        self.number, self.on_broken = number, on_broken
        self._work: queue.Queue[tuple[Lease, Say, Callable[[], bool], threading.Event]] = queue.Queue()
        self._thread = threading.Thread(target=self._serve, name=f"bouton-slot-{number}", daemon=True)
        self._thread.start()

    def run(self, lease: Lease, say: Say, must_stop: Callable[[], bool]) -> None:
        """Execute a lease and wait for its end.

        Raises
        ------
        RunError
            The thread is gone: an error that nobody foresaw ended it.
        """
        done = threading.Event()
        self._work.put((lease, say, must_stop, done))
        while not done.wait(POLL_S):
            if not self._thread.is_alive():
                raise RunError(f"thread {self._thread.name} has ended")

    def _serve(self) -> None:
        pool: Processes | None = None
        while True:
            try:
                lease, say, must_stop, done = self._work.get(timeout=IDLE_S)
            except queue.Empty:
                # A cluster outlives a run: its children would keep their memory.
                pool = _closed(pool)
                continue
            pool = pool or Processes(1, first=self.number)
            try:
                if not self._execute(pool, lease, say, must_stop):
                    pool = _closed(pool)
            except (BoutonError, OSError) as error:
                say({"broken": error.found if isinstance(error, BoutonError) else str(error)})
                pool = _closed(pool)
                self.on_broken()
            finally:
                done.set()

    def _execute(self, pool: Processes, lease: Lease, say: Say, must_stop: Callable[[], bool]) -> bool:
        """Return whether the child can have another lease."""
        pool.submit(lease)
        drained = False
        while True:
            if not drained and must_stop():
                pool.drain()
                drained = True
            for report in pool.reports(POLL_S):
                say({"report": pack(report)})
                if report.ended:
                    return not drained


def _closed(pool: Processes | None) -> None:
    if pool is not None:
        pool.close()


def dask_setup(worker: Worker) -> None:
    """Prepare a Dask worker (Dask calls it on ``--preload``): drain on SIGTERM and before the walltime ends."""
    started = time.monotonic()
    host = host_of(worker)
    host.leaves = True
    walltime = float(os.environ.get(WALLTIME_VARIABLE, "inf"))
    deadline = started + walltime - min(MARGIN_S, walltime / 4)
    worker.loop.add_callback(_leave_in_time, host, deadline)
    # Dask installs its own handler while it starts; ours comes after it and ends with calling it.
    worker.loop.add_callback(_drain_on_sigterm, host)


def _drain_on_sigterm(host: Host) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: Any) -> None:
        if host.draining.is_set() and callable(before):
            before(number, frame)
        host.draining.set()

    signal.signal(signal.SIGTERM, handle)


async def _leave_in_time(host: Host, deadline: float) -> None:
    """Wait for the deadline or SIGTERM; then let leases end, take no others, and leave the scheduler."""
    while not host.draining.is_set() and time.monotonic() < deadline:
        await asyncio.sleep(POLL_S)
    host.draining.set()
    worker = host.worker
    # Tasks that have not started go to other workers, and none comes any more.
    with contextlib.suppress(OSError):
        await worker.scheduler.retire_workers(
            workers=[worker.address], close_workers=False, remove=False, stimulus_id=f"bouton-drain-{worker.name}"
        )
    while not host.is_idle():
        await asyncio.sleep(POLL_S)
    # What was told last must be on its way before the connection closes.
    await asyncio.sleep(POLL_S)
    with contextlib.suppress(OSError):
        await worker.scheduler.retire_workers(
            workers=[worker.address], close_workers=False, remove=True, stimulus_id=f"bouton-leave-{worker.name}"
        )
    await worker.close(reason="bouton: drained")
