"""One coordinator a run folder."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

from bouton.engine.control import holder, this_process
from bouton.errors import RunError

LOOKS = 3
LOOK_SECONDS = 0.05


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder. It ends with the process, however that ends.

    Raises
    ------
    RunError
        Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+") as handle:
        if not _taken(handle.fileno()):
            raise RunError(
                f"the run is being worked on by {holder(folder) or 'an unknown process'}",
                where=str(folder),
                fix="wait for it or end it (bouton cancel), then run the same command again; --name gives a second run "
                "its own folder",
            )
        handle.truncate(0)
        handle.write(this_process().decode())
        handle.flush()
        yield


def _taken(descriptor: int) -> bool:
    """Take a lock; False where another process has it. Who only asks for its holder has it for less than one look."""
    for _ in range(LOOKS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOOK_SECONDS)
        else:
            return True
    return False
