"""Runs tasks in worker processes of this machine.

``concurrent.futures`` fails every task in flight when one worker dies and cannot say which task killed it. Here each
worker reports task by task over its own socket, so that a death costs exactly the task that it happened in.
Workers are started afresh (``python -m``), never forked: forking breaks the threads of TensorStore and torch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait

from bouton.engine.context import StepContext
from bouton.engine.execute import THREAD_VARIABLES
from bouton.engine.tasks import TaskId, TaskResult
from bouton.errors import RunError

COMMIT_SECONDS = 0.5
WORKER_VARIABLE = "BOUTON_WORKER"


class _Child:
    """One worker process and the range of tasks that it has. ``number`` lets it choose among several GPUs."""

    def __init__(self, number: int) -> None:
        self.number = number
        ours, theirs = socket.socketpair()
        environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1"), WORKER_VARIABLE: str(number)}
        command = [sys.executable, "-m", "bouton.engine.executors.worker", str(theirs.fileno()), str(os.getpid())]
        with theirs:
            # A task that prints must not disturb what the coordinator prints: its stdout is our stderr.
            self.process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=environment, stdout=2, close_fds=True
            )
        self.connection = Connection(ours.detach())
        self.context: StepContext | None = None
        self.tasks: deque[TaskId] = deque()
        self.results: list[TaskResult] = []
        self.committed_at = time.monotonic()
        self.is_ready = False

    def give(self, context: StepContext, tasks: list[TaskId]) -> None:
        self.tasks, self.committed_at = deque(tasks), time.monotonic()
        # A worker that is dead already shows it when we wait for its answer.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if self.context != context:
                self.connection.send(context)
                self.context = context
            self.connection.send(tasks)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()


class Processes:
    """The executor ``processes``.

    Parameters
    ----------
    workers : int
        Number of worker processes. They start on first use and live until :meth:`close`.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._children: list[_Child] = []

    def run(self, context: StepContext, ranges: Iterable[list[TaskId]]) -> Iterator[list[TaskResult]]:
        """Execute the tasks; results come in lists as workers finish ranges, or every half second.

        Raises
        ------
        RunError
            A worker cannot start.
        """
        source, again = iter(ranges), deque[list[TaskId]]()
        while True:
            self._hand_out(context, source, again)
            busy = [child for child in self._children if child.tasks]
            if not busy:
                return
            for connection in wait([child.connection for child in busy]):
                child = next(c for c in busy if c.connection is connection)
                results = self._hear(child, again)
                if results:
                    yield results

    def close(self) -> None:
        """End all workers."""
        for child in self._children:
            child.end()
        self._children.clear()

    def _hand_out(self, context: StepContext, source: Iterator[list[TaskId]], again: deque[list[TaskId]]) -> None:
        idle = [child for child in self._children if not child.tasks]
        while idle or len(self._children) < self.workers:
            tasks = again.popleft() if again else next(source, [])
            if not tasks:
                return
            if not idle:
                taken = {child.number for child in self._children}
                self._children.append(_Child(min(set(range(self.workers)) - taken)))
                idle.append(self._children[-1])
            idle.pop().give(context, tasks)

    def _hear(self, child: _Child, again: deque[list[TaskId]]) -> list[TaskResult]:
        try:
            message = child.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._bury(child, again)
        if message is None:
            child.is_ready = True
            return []
        child.results.append(message)
        child.tasks.popleft()
        if child.tasks and time.monotonic() - child.committed_at < COMMIT_SECONDS:
            return []
        results, child.results, child.committed_at = child.results, [], time.monotonic()
        return results

    def _bury(self, child: _Child, again: deque[list[TaskId]]) -> list[TaskResult]:
        """Return the results of a dead worker, the last one of the task that it died in; keep its other tasks."""
        status = child.process.wait()
        child.connection.close()
        self._children.remove(child)
        if not child.is_ready:
            raise RunError(
                f"a worker process cannot start ({exit_text(status)})", fix="see its message on stderr above"
            )
        suspect = child.tasks.popleft()
        if child.tasks:
            again.append(list(child.tasks))
        return [*child.results, TaskResult(suspect, cause="died", error=f"its worker process {exit_text(status)}")]


def exit_text(status: int) -> str:
    """Return how a process ended, in words."""
    if status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name
    hint = ": out of memory, or killed by hand" if -status == signal.SIGKILL else ""
    return f"was killed by signal {-status} ({name}{hint})"
