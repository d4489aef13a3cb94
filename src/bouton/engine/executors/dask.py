"""Runs leases on the workers of a Dask cluster: one of our own making, or any whose address is given.

A lease is one Dask task, so that the scheduler sees thousands of tasks where a run has millions of blocks. What a
lease finishes streams to the coordinator while it runs (:mod:`bouton.engine.executors.dask_worker`): a machine that
disappears costs what it had not told yet. Dask never repeats a lease by itself; a lease belongs to the first worker
that starts it, and whatever another one tells of it is dropped.

Dask's connections carry pickles: whoever can reach the scheduler can run code on every worker. Use a private network
or ``tls: true`` (docs/clusters.md).
"""

from __future__ import annotations

import contextlib
import logging
import queue
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distributed import Client, Future

from bouton.cluster import Cluster
from bouton.engine.executors.dask_clusters import SILENT, Machines, Wanted, dask_settings, make_machines
from bouton.engine.executors.processes import SHORT_SECONDS
from bouton.engine.executors.wire import unpack
from bouton.engine.leases import Failure, Lease, Report
from bouton.errors import RunError

LEASE_S, LOCAL_LEASE_S = 15.0, 2.0
TICK_S = 0.5
REATTACH_S = 300.0
CONNECT_S = 10.0
RESTARTS = 3
BROKEN = 5
SILENT_S = 10.0
_LOGGER = logging.getLogger("distributed")


@dataclass
class _Open:
    """A lease that is out. ``told`` counts its tasks that were reported; ``ended_at`` is when Dask called it done."""

    lease: Lease
    future: Future
    needs_gpu: bool
    worker: str = ""
    host: str = ""
    pid: int = 0
    told: int = 0
    ended_at: float = 0.0


class Dask:
    """The executor ``dask``.

    Parameters
    ----------
    cluster : Cluster
    logs : Path
        Folder for the logs of jobs, where ``cluster`` names none; the nodes must see it.
    reattach_s : float
        How long a scheduler that is gone is waited for, in seconds.
    settings : mapping, optional
        Settings of Dask over those that are made here, such as ``{"distributed.scheduler.worker-ttl": "10s"}``.

    """

    def __init__(
        self,
        cluster: Cluster,
        logs: Path = Path("cluster-logs"),
        reattach_s: float = REATTACH_S,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.cluster, self.reattach_s, self.settings = cluster, reattach_s, dict(settings or {})
        self.logs = Path(cluster.log_directory or logs).resolve()
        self.lease_seconds = LOCAL_LEASE_S if cluster.kind == "local" else LEASE_S
        self._open: dict[int, _Open] = {}
        self._found: list[Report] = []
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._ticked_at = self._slots = self._gpu_slots = 0.0
        self._broken = self._restarts = 0
        self._machines: Machines | None = None
        self._client: Client | None = None
        self._log_level = _LOGGER.level

    @property
    def workers(self) -> int:
        """Worker processes: those that there are, or those that were asked for."""
        if self.cluster.kind == "address":
            self._tick()
            return max(1, int(self._slots))
        return self.cluster.max_workers + (self.cluster.gpu.max_workers if self.cluster.gpu else 0)

    def room(self, gpu: bool) -> int:
        """Return how many leases could start now; with ``adaptive`` how many more workers there may be."""
        self._tick()
        out = len(self._open)
        if gpu and self._has_gpus():
            on_gpu = sum(entry.needs_gpu for entry in self._open.values())
            most = self.cluster.gpu.max_workers if self.cluster.gpu and self.cluster.adaptive else self._gpu_slots
            return max(0, int(most) - on_gpu)
        most = self.workers if self.cluster.adaptive else self._slots
        # Behind a short lease waits another one, so that nobody waits for the coordinator.
        ahead = 2 if all(entry.lease.seconds < SHORT_SECONDS for entry in self._open.values()) else 1
        return max(0, ahead * int(most) - out)

    def submit(self, lease: Lease) -> None:
        """Hand out a lease."""
        from bouton.engine.executors.dask_worker import run_lease

        needs_gpu = lease.gpu and self._has_gpus()
        future = self._connected.submit(
            run_lease,
            self._topic,
            lease,
            key=f"bouton-lease-{self._topic}-{lease.number}",
            resources={"GPU": 1} if needs_gpu else None,
            pure=False,
            retries=0,
        )
        self._open[lease.number] = _Open(lease, future, needs_gpu)
        future.add_done_callback(partial(self._heard, lease.number, self._topic))

    def reports(self, timeout_s: float) -> list[Report]:
        """Wait until a worker tells something, or the time is over; an empty list also when workers came.

        Raises
        ------
        RunError
            The cluster refuses jobs, workers cannot start, or the scheduler is gone for good.
        """
        deadline = time.monotonic() + timeout_s
        while not self._tick() and not self._found:
            wait = min(TICK_S, deadline - time.monotonic())
            try:
                self._handle(*self._inbox.get(timeout=max(0.0, wait)))
            except queue.Empty:
                if time.monotonic() >= deadline:
                    break
        with contextlib.suppress(queue.Empty):
            while True:
                self._handle(*self._inbox.get_nowait())
        found, self._found = self._found, []
        return found

    def drain(self) -> None:
        """Let running leases end after their present block; take back those that wait, maybe hours, for a worker."""
        from bouton.engine.executors.dask_worker import stop_leases

        if self._open:
            self._connected.run(stop_leases, self._topic, max(self._open), wait=False, on_error="ignore")
        for number in [number for number, entry in self._open.items() if not entry.worker]:
            self._found.append(self._lost(number, "it was not begun"))

    def close(self) -> None:
        """Leave the cluster; end the workers that were started here."""
        self._disconnect()
        if self._machines is not None:
            self._machines.close()
            self._machines = None
        _LOGGER.setLevel(self._log_level)

    @property
    def _connected(self) -> Client:
        """The client; the first use makes the cluster, so that a run that may not start asks for no jobs."""
        if self._client is None:
            self._connect()
        assert self._client is not None
        return self._client

    def _has_gpus(self) -> bool:
        return self.cluster.has_gpus or self._gpu_slots > 0

    def _connect(self) -> None:
        # What goes wrong is reported as ours; Dask would write tracebacks into the progress display.
        _LOGGER.setLevel(SILENT)
        with dask_settings(self.settings):
            if self._machines is None:
                self._machines = make_machines(self.cluster, self.logs)
            try:
                self._machines.tend(self._wanted())
                self._client = Client(
                    self._machines.target,
                    timeout=min(CONNECT_S, self.reattach_s),
                    set_as_default=False,
                    name="bouton",
                    direct_to_workers=False,
                )
            except OSError as error:
                raise _unreachable(self.cluster, error) from error
            except RunError:
                self.close()
                raise
        # Messages of a connection that was lost carry another topic.
        self._topic = f"bouton-{uuid.uuid4().hex[:12]}"
        self._client.subscribe_topic(self._topic, partial(self._told, self._topic))
        self._ticked_at = 0.0

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(OSError, TimeoutError):
                client.close(timeout=2)

    def _told(self, topic: str, event: tuple[float, dict[str, Any]]) -> None:
        self._inbox.put((topic, event[1]))

    def _heard(self, number: int, topic: str, future: Future) -> None:
        self._inbox.put((topic, {"lease": number, "future": future.status, "text": _failure_text(future)}))

    def _tick(self) -> bool:
        """Look after the cluster now and then; return whether workers came."""
        now = time.monotonic()
        if now - self._ticked_at < TICK_S:
            return False
        self._ticked_at = now
        if self._connected.status != "running":
            self._found += self._recover("the connection to the scheduler was lost")
            return True
        for number, entry in list(self._open.items()):
            # The last report comes before the end of its task; without one the worker went wrong.
            if entry.ended_at and now - entry.ended_at > SILENT_S:
                self._found.append(self._lost(number, "its worker never reported the end"))
        assert self._machines is not None
        self._machines.tend(self._wanted())
        before = self._slots + self._gpu_slots
        try:
            workers = self._machines.workers(self._connected)
        except OSError as error:
            self._found += self._recover(f"the scheduler does not answer: {error}")
            return True
        self._slots = float(sum(worker["nthreads"] for worker in workers.values()))
        self._gpu_slots = float(sum(worker.get("resources", {}).get("GPU", 0) for worker in workers.values()))
        return self._slots + self._gpu_slots > before

    def _wanted(self) -> Wanted:
        on_gpu = sum(entry.needs_gpu for entry in self._open.values())
        busy = frozenset(entry.worker for entry in self._open.values() if entry.worker)
        return Wanted(len(self._open) - on_gpu, on_gpu, busy)

    def _handle(self, topic: str, message: dict[str, Any]) -> None:
        entry = self._open.get(message["lease"])
        if topic != self._topic or entry is None:
            return
        if "future" in message:
            self._future_ended(entry, message)
        elif "started" in message and not entry.worker:
            entry.worker, entry.host, entry.pid = message["worker"], message["host"], message["pid"]
        elif message["worker"] != entry.worker:
            # The scheduler gave the lease to a second worker because the first is gone.
            self._found.append(self._lost(entry.lease.number, "its worker is gone"))
        elif "broken" in message:
            self._found.append(self._worker_broken(entry, message["broken"]))
        elif "report" in message:
            self._take(entry, unpack(message["report"]))

    def _take(self, entry: _Open, report: Report) -> None:
        if report.batch is not None:
            entry.told += len(report.batch.numbers)
            self._broken = self._restarts = 0
        entry.told += len(report.failures)
        if report.ended:
            self._forget(report.lease)
        self._found.append(report)

    def _future_ended(self, entry: _Open, message: dict[str, Any]) -> None:
        if message["future"] == "finished":
            entry.ended_at = time.monotonic()
        elif message["future"] == "cancelled":
            self._found += self._recover("the scheduler is gone")
        else:
            self._found.append(self._lost(entry.lease.number, message["text"]))

    def _worker_broken(self, entry: _Open, error: str) -> Report:
        self._broken += 1
        if self._broken >= BROKEN:
            raise RunError(
                f"workers cannot start: {error}", where=f"{entry.host} (Dask worker {entry.worker})",
                expected="nodes with the same Python packages as here", fix=f"see the logs in {self.logs}",
            )  # fmt: skip
        return self._lost(entry.lease.number, error)

    def _lost(self, number: int, why: str) -> Report:
        """Return the report of a lease whose worker is gone; its next task is the suspect, though hardly guilty."""
        entry = self._forget(number)
        if not entry.worker:
            return Report(number, ended=True)
        tasks = entry.lease.tasks
        suspect = int(tasks[min(entry.told, len(tasks) - 1)])
        failure = Failure(suspect, "lost", f"worker {entry.worker} was lost: {why}", host=entry.host, pid=entry.pid)
        return Report(number, failures=(failure,), ended=True)

    def _forget(self, number: int) -> _Open:
        entry = self._open.pop(number)
        if self._client is not None and self._client.status == "running":
            entry.future.release()
        return entry

    def _recover(self, why: str) -> list[Report]:
        """Give up all open leases; connect again, or make the cluster again if it was ours."""
        self._disconnect()
        lost = [self._lost(number, why) for number in list(self._open)]
        self._slots = self._gpu_slots = 0.0
        self._restarts += 1
        if self.cluster.kind != "address":
            if self._restarts > RESTARTS:
                raise RunError(
                    f"the Dask scheduler ended {self._restarts} times", where=self.cluster.kind,
                    expected="a cluster that stays", fix=f"see the logs in {self.logs}; finished blocks are kept",
                )  # fmt: skip
            assert self._machines is not None
            self._machines.close()
            self._machines = None
        self._connect_within(self.reattach_s)
        return lost

    def _connect_within(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._connect()
                return
            except RunError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(min(1.0, seconds / 10))


def _failure_text(future: Future) -> str:
    if future.status != "error":
        return ""
    with contextlib.suppress(OSError, TimeoutError):
        error = future.exception(timeout=1)
        # The long advice of Dask's KilledWorker is of no use here.
        return "it died" if type(error).__name__ == "KilledWorker" else f"{type(error).__name__}: {error}"
    return "no reason is known"


def _unreachable(cluster: Cluster, error: OSError) -> RunError:
    return RunError(
        f"no Dask scheduler answers: {' '.join(str(error).split())[:200]}", where=cluster.address or cluster.kind,
        expected="tcp://HOST:PORT of a running scheduler",
        fix="start it, then the same command; finished blocks are kept",
    )  # fmt: skip
