"""Executors give leases to workers and bring back what these report.

A lease is executed by :meth:`bouton.engine.execute.Worker.work`, wherever the worker is. An executor says how many
leases it takes now, takes them, and returns reports as they come. A worker that is lost comes back as a report too: the
failure of the task that it died in, ``ended``; the other tasks of its lease go back to the coordinator.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bouton.cluster import Cluster
from bouton.engine.leases import Lease, Report
from bouton.errors import SpecError


class Executor(Protocol):
    """What the coordinator needs of an executor; its ``name``, else its class in lower case, is its name in events.

    Attributes
    ----------
    workers : int
        How many leases run at once.
    lease_seconds : float
        How long a lease should take.
    """

    workers: int
    lease_seconds: float

    def room(self, gpu: bool) -> int:
        """Return how many leases (of parts that a GPU helps, or of others) it takes now."""

    def submit(self, lease: Lease) -> None:
        """Take a lease."""

    def reports(self, timeout_s: float) -> list[Report]:
        """Return what came in; wait for it if nothing did, at most ``timeout_s``."""

    def drain(self) -> None:
        """Let the leases that are out end after the task at hand."""

    def close(self) -> None:
        """End the workers."""


NAMES = ("serial", "processes", "dask")


def make_executor(name: str, workers: int) -> Executor:
    """Return the executor called ``name``.

    Raises
    ------
    SpecError
        There is none of this name, or the number of workers is less than one.
    """
    from bouton.engine.cluster import dask_executor
    from bouton.engine.executors.processes import Processes
    from bouton.engine.executors.serial import Serial

    if workers < 1:
        raise SpecError(f"{workers} workers", expected="at least 1", fix="--workers 2")
    if name == "serial":
        return Serial()
    if name == "processes":
        return Processes(workers)
    if name == "dask":
        return dask_executor(Cluster(kind="local", max_workers=workers), Path("cluster-logs"))
    raise SpecError(f"no executor {name!r}", expected=" or ".join(NAMES), fix="--executor processes")


def executor_name(executor: Executor) -> str:
    """Return what events call an executor: its own ``name``, else its class in lower case."""
    return str(getattr(executor, "name", type(executor).__name__.lower()))
