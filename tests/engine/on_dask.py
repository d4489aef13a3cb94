"""The executor ``dask`` on clusters that start when a test first needs them and end with its module."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from bouton.cluster import Cluster
from bouton.engine.executors.dask import Dask
from bouton.engine.leases import Lease, Report
from clusters.batch_system import batch_system
from dask_cluster import Loopback

Starter = Callable[[Path, contextlib.ExitStack], Cluster]


class OnDask:
    """An executor for run after run on one cluster: each run gets a :class:`Dask` of its own."""

    lease_seconds = 0.5

    def __init__(self, name: str, start: Starter) -> None:
        self.name, self.start = name, start
        self.cluster: Cluster | None = None
        self._dask: Dask | None = None
        self._stack = contextlib.ExitStack()
        self.folder = Path()

    def __repr__(self) -> str:
        return self.name

    @property
    def workers(self) -> int:
        return self._here.workers

    def room(self, gpu: bool) -> int:
        return self._here.room(gpu)

    def submit(self, lease: Lease) -> None:
        self._here.submit(lease)

    def reports(self, timeout_s: float) -> list[Report]:
        return self._here.reports(timeout_s)

    def drain(self) -> None:
        self._here.drain()

    def close(self) -> None:
        """End of a run; the cluster stays."""
        if self._dask is not None:
            self._dask.close()
            self._dask = None

    def end(self) -> None:
        """End the cluster."""
        self.close()
        self._stack.close()
        self.cluster = None

    @property
    def _here(self) -> Dask:
        if self.cluster is None:
            self.cluster = self.start(self.folder, self._stack)
        if self._dask is None:
            self._dask = Dask(self.cluster, self.folder / "logs")
        return self._dask


def start_loopback(folder: Path, stack: contextlib.ExitStack) -> Cluster:
    """Start a scheduler and two workers."""
    loopback = Loopback(folder)
    stack.callback(loopback.close)
    loopback.start_scheduler()
    for _ in range(2):
        loopback.start_worker()
    loopback.wait(2)
    return loopback.cluster


def start_slurm(folder: Path, stack: contextlib.ExitStack) -> Cluster:
    """Start a real SLURM."""
    stack.enter_context(batch_system("slurm", ("slurmctld", "slurmd", "munged", "sbatch"), folder))
    return Cluster(kind="slurm", queue="normal", memory="1GB", max_workers=2, cores=2)


def start_grid_engine(folder: Path, stack: contextlib.ExitStack) -> Cluster:
    """Start a real Grid Engine."""
    stack.enter_context(batch_system("sge", ("sge_qmaster", "sge_execd", "qsub", "qconf"), folder))
    directives = ("-V", "-pe smp 2")
    return Cluster(kind="sge", queue="normal", memory="1GB", max_workers=2, cores=2, directives=directives)
