"""Runs leases in worker processes of this machine.

``concurrent.futures`` fails every task in flight when one worker dies and cannot say which task killed it. Here each
worker has its own socket, and a few bytes of shared memory in which it notes the task at hand, so that a death costs
exactly the task that it happened in. Workers are started afresh (``python -m``), never forked: forking breaks the
threads of TensorStore and torch.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

from bouton.engine.context import StepContext
from bouton.engine.execute import THREAD_VARIABLES
from bouton.engine.leases import Failure, Lease, Report, runs_of
from bouton.errors import RunError

WORKER_VARIABLE = "BOUTON_WORKER"
PLACE = struct.Struct("=qq")
CELL = struct.Struct("=qqb")
"""What a worker and the coordinator share: number of the lease, task at hand (-1: none), whether to stop."""
SHORT_SECONDS = 1.0
"""A worker with leases that are shorter gets the next one before it asks."""
STOPPED_SECONDS = 60.0
"""How long a worker may be stopped (SIGSTOP) before its lease is over and it is killed."""
LEAVE_SECONDS = 10.0
"""How long a worker that has closed its socket may take to end: a thread of a stage can keep it for ever."""
KILLED_STARTS = 12
"""How many workers in a row may be killed (SIGKILL) before they are ready."""


class _Child:
    """One worker process and its leases, the first one at hand. ``number`` lets it choose among several GPUs."""

    def __init__(self, number: int, program: Sequence[str]) -> None:
        self.number = number
        ours, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as shared:
            shared.truncate(CELL.size)
            self.cell = mmap.mmap(shared.fileno(), CELL.size)
            CELL.pack_into(self.cell, 0, 0, -1, 0)
            environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1"), WORKER_VARIABLE: str(number)}
            pipes = [theirs.fileno(), shared.fileno()]
            command = [sys.executable, *program, *map(str, pipes), str(os.getpid())]
            # A task that prints must not disturb what the coordinator prints: its stdout is our stderr.
            self.process = subprocess.Popen(command, pass_fds=pipes, env=environment, stdout=2, close_fds=True)
        self.connection = Connection(ours.detach())
        self.context: StepContext | None = None
        self.leases: dict[int, Lease] = {}
        self.oom_kills = oom_kills()
        self.stopped_seconds = 0.0
        self.is_ready = False

    @property
    def room(self) -> int:
        """How many leases it takes now: one, and one more behind a short one."""
        if not self.leases:
            return 1
        return int(len(self.leases) == 1 and all(lease.seconds < SHORT_SECONDS for lease in self.leases.values()))

    def give(self, lease: Lease) -> None:
        self.leases[lease.number] = lease
        # A worker that is dead already shows it when we wait for its answer.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if self.context != lease.context:
                self.connection.send(lease.context)
                self.context = lease.context
            self.connection.send((lease.number, lease.part, lease.level, runs_of(lease.tasks)))

    @property
    def is_stopped(self) -> bool:
        """Whether somebody stopped it (SIGSTOP); on Linux."""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "Tt"
        return False

    def status(self) -> int:
        """Return how it ended, once it has closed its socket."""
        try:
            return self.process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()
        self.cell.close()


class Processes:
    """The executor ``processes``.

    Parameters
    ----------
    workers : int
        Number of worker processes. They start on first use and live until :meth:`close`.
    stopped_seconds : float
        How long a worker may be stopped before it is given up.
    first : int
        Number of the first worker: they choose among several GPUs by it.
    """

    lease_seconds = 0.5
    program: Sequence[str] = ("-m", "bouton.engine.executors.worker")

    def __init__(self, workers: int, stopped_seconds: float = STOPPED_SECONDS, first: int = 0) -> None:
        self.workers, self.stopped_seconds, self.first = workers, stopped_seconds, first
        self._children: list[_Child] = []
        self._killed_starts = 0
        self._looked_at = time.monotonic()

    def room(self, gpu: bool) -> int:
        """Return how many leases it takes now."""
        return sum(child.room for child in self._children) + self.workers - len(self._children)

    def submit(self, lease: Lease) -> None:
        """Give a lease to the worker that has least, or to a new one."""
        if all(child.leases for child in self._children) and len(self._children) < self.workers:
            taken = {child.number for child in self._children}
            self._children.append(_Child(min(set(range(self.first, self.first + self.workers)) - taken), self.program))
        # Behind a long lease nothing waits as long as another worker has a short one.
        min(self._children, key=lambda child: (not child.room, len(child.leases))).give(lease)

    def reports(self, timeout_s: float) -> list[Report]:
        """Return what workers reported; wait for it at most ``timeout_s``.

        Raises
        ------
        RunError
            A worker cannot start.
        """
        busy = {child.connection: child for child in self._children if child.leases}
        found: list[Report] = []
        ready = wait(list(busy), timeout_s)
        while ready:
            for connection in ready:
                found += self._hear(busy[connection])  # type: ignore[index]
            busy = {connection: child for connection, child in busy.items() if child in self._children}
            ready = wait(list(busy), 0) if len(found) < 64 else []
        self._look_for_stopped()
        return found

    def drain(self) -> None:
        """Let the leases that are out end after the task at hand."""
        for child in self._children:
            child.cell[PLACE.size] = 1

    def close(self) -> None:
        """End all workers."""
        for child in self._children:
            child.end()
        self._children.clear()

    def _hear(self, child: _Child) -> list[Report]:
        try:
            message = child.connection.recv()
        except (EOFError, OSError):
            return self._bury(child)
        if message is None:
            child.is_ready = True
            return []
        if message.ended:
            child.leases.pop(message.lease, None)
        return [message]

    def _look_for_stopped(self) -> None:
        """Kill workers that are stopped for too long; what they had comes back when their socket closes.

        Only time in which this process ran itself counts: after a pause of the whole machine all workers get theirs.
        """
        passed = min(time.monotonic() - self._looked_at, 1.0)
        self._looked_at = time.monotonic()
        for child in self._children:
            if not child.leases:
                continue
            child.stopped_seconds = child.stopped_seconds + passed if child.is_stopped else 0.0
            if child.stopped_seconds > self.stopped_seconds:
                child.process.kill()

    def _bury(self, child: _Child) -> list[Report]:
        """Return the ends of a dead worker's leases; the first one with the failure of the task that it died in."""
        status = child.status()
        lease, task, _ = CELL.unpack_from(child.cell, 0)
        child.connection.close()
        child.cell.close()
        self._children.remove(child)
        self._killed_starts = 0 if child.is_ready else self._killed_starts + 1
        # whoever kills workers at random hits some that are still starting
        if not child.is_ready and (status != -signal.SIGKILL or self._killed_starts > KILLED_STARTS):
            raise RunError(
                f"a worker process cannot start ({exit_text(status)})", fix="see its message on stderr above"
            )
        cause = exit_cause(status, oom_kills() > child.oom_kills)
        text = f"its worker process {exit_text(status)}" + (": out of memory" if cause == "memory" else "")
        if child.stopped_seconds > self.stopped_seconds:
            text = f"its worker process was stopped for more than {self.stopped_seconds:g} s, and killed"
        failure = Failure(task, cause, text, host=platform.node(), pid=child.process.pid)
        return [
            Report(number, failures=(failure,) if number == lease and task >= 0 else (), ended=True)
            for number in child.leases
        ]


def exit_cause(status: int, out_of_memory: bool) -> str:
    """Return why a worker ended: ``exit``, ``signal`` (a crash), ``memory``, or ``lost`` (killed from outside)."""
    if status >= 0:
        return "exit"
    if -status in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        return "memory" if -status == signal.SIGKILL and out_of_memory else "lost"
    return "signal"


def oom_kills() -> int:
    """Return how many processes the kernel has killed for want of memory, as far as this one can see."""
    for path in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        with contextlib.suppress(OSError, ValueError):
            for line in Path(path).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def exit_text(status: int) -> str:
    """Return how a process ended, in words."""
    if status >= 0:
        return f"ended with status {status}"
    return f"was killed by signal {-status} ({signal.Signals(-status).name})"
