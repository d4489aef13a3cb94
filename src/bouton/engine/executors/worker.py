"""The program of one worker process: ``python -m bouton.engine.executors.worker SOCKET SHARED PARENT``.

It receives a step's context, then leases, and answers with reports. It dies with its coordinator.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from queue import SimpleQueue

from bouton.engine.context import StepContext
from bouton.engine.execute import Worker, limit_threads
from bouton.engine.executors.processes import CELL, PLACE
from bouton.engine.leases import Lease, numbers_of

PR_SET_PDEATHSIG = 1


def main(worker: Worker, descriptor: int, shared: int, parent: int) -> None:
    """Serve leases until the coordinator closes the socket."""
    die_with(parent)
    # Ctrl-C goes to the whole terminal group, a batch system's SIGTERM to all processes of a job: whoever started this
    # one hears it too, and decides when it ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    limit_threads()
    with Connection(descriptor) as connection, mmap.mmap(shared, CELL.size) as cell:
        leases: SimpleQueue[Lease | None] = SimpleQueue()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(None)
            threading.Thread(target=_receive, args=(connection, leases), daemon=True).start()
            while (lease := leases.get()) is not None:
                _work(worker, lease, connection, cell)


def _receive(connection: Connection, leases: SimpleQueue[Lease | None]) -> None:
    """Take leases whatever the worker does: who sends one must never wait for whom it has to listen to."""
    context: StepContext | None = None
    try:
        while True:
            message = connection.recv()
            if isinstance(message, StepContext):
                context = message
                continue
            assert context is not None
            number, part, level, runs = message
            leases.put(Lease(number, context, part, level, numbers_of(runs)))
    except (EOFError, OSError):
        pass
    finally:
        # Whatever went wrong: who hears nothing more must not look alive.
        leases.put(None)


def _work(worker: Worker, lease: Lease, connection: Connection, cell: mmap.mmap) -> None:
    def at(task: int) -> None:
        PLACE.pack_into(cell, 0, lease.number, task)

    worker.work(lease, connection.send, lambda: bool(CELL.unpack_from(cell, 0)[2]), at)


def die_with(parent: int) -> None:
    """Arrange that this process is killed when process ``parent`` ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main(Worker(), *(int(argument) for argument in sys.argv[1:4]))
