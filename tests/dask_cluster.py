"""A Dask scheduler and workers on loopback, each a process of its own that a test can stop, continue and kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
from distributed import Client

from bouton.cluster import Cluster

START_S = 60.0


class Loopback:
    """A scheduler and its workers.

    Parameters
    ----------
    folder : Path
        Where they write their logs.
    ttl_s : float
        After this time without a heartbeat a worker counts as lost.
    """

    def __init__(self, folder: Path, ttl_s: float = 60.0) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.ttl_s = folder, ttl_s
        self.scheduler: subprocess.Popen | None = None
        self.workers: list[subprocess.Popen] = []

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def cluster(self) -> Cluster:
        return Cluster(kind="address", address=self.address)

    def start_scheduler(self) -> None:
        self.scheduler = self._start("dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port))

    def start_worker(self, *options: str, **environment: str) -> subprocess.Popen:
        words = (self.address, "--nthreads", "1", "--no-nanny", "--preload", "bouton.engine.executors.dask_worker")
        self.workers.append(self._start("dask_worker", *words, "--memory-limit", "0", *options, **environment))
        return self.workers[-1]

    def wait(self, workers: int) -> None:
        """Wait until so many workers have connected."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                with Client(self.address, timeout=START_S, set_as_default=False) as client:
                    client.wait_for_workers(workers, timeout=START_S)
                    return
            except OSError:
                assert time.monotonic() < deadline, "no scheduler"

    def close(self) -> None:
        for process in [*self.workers, *([self.scheduler] if self.scheduler else [])]:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    def _start(self, program: str, *words: str, **environment: str) -> subprocess.Popen:
        settings = {
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
            "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{self.ttl_s}s",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        log = open(self.folder / f"{program}-{len(self.workers)}.log", "ab")  # noqa: SIM115
        command = [sys.executable, "-m", f"distributed.cli.{program}", "--no-dashboard", *words]
        with log:
            return subprocess.Popen(command, env={**os.environ, **settings, **environment}, stdout=log, stderr=log)


def children(process: subprocess.Popen) -> list[int]:
    """Return the process ids of the children of a process."""
    return [child.pid for child in psutil.Process(process.pid).children()]
