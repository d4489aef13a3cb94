"""A Dask scheduler and workers for ``chaos.py``: each a process of its own that is started again when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

WORKERS = 2
LOOK_SECONDS = 0.1


class Site:
    """A scheduler and two workers on loopback, tended as a service manager tends them.

    Attributes
    ----------
    address : str
        Of the scheduler; the same after it was started again.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address, self._log = f"tcp://127.0.0.1:{port}", folder / "dask.log"
        worker = (self.address, "--nthreads", "1", "--no-nanny", "--memory-limit", "0")
        worker += ("--preload", "bouton.engine.executors.dask_worker")
        self._commands = [
            ("dask_scheduler", "--host", "127.0.0.1", "--port", str(port)),
            *[("dask_worker", *worker)] * WORKERS,
        ]
        self._processes = [self._start(words) for words in self._commands]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tend)
        self._thread.start()

    @property
    def scheduler(self) -> int:
        """Process id of the scheduler."""
        return self._processes[0].pid

    @property
    def workers(self) -> list[int]:
        """Process ids of the Dask workers; each has a child that computes."""
        return [process.pid for process in self._processes[1:]]

    def close(self) -> None:
        """End all."""
        self._over.set()
        self._thread.join()
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def _tend(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            for at, words in enumerate(self._commands):
                if self._processes[at].poll() is not None:
                    self._processes[at] = self._start(words)

    def _start(self, words: tuple[str, ...]) -> subprocess.Popen:
        settings = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", f"distributed.cli.{words[0]}", "--no-dashboard", *words[1:]]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log)
