"""What a person asks of a running coordinator, and who works on a run.

A wish is a small file in the run folder, ``control.json``, so that it reaches the coordinator wherever it runs: on this
machine, on another one that shares the folder, in the foreground or detached. Who works on a run is told by the lock
that it holds and by what it wrote into it, never by the age of a file.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from bouton.errors import RunError
from bouton.volume import write_bytes

CONTROL = "control.json"
CHOICE = "retry.json"
LOCK = "lock"
WISHES = ("pause", "cancel")


@dataclass(frozen=True)
class Holder:
    """Who works, or last worked, on a run.

    Attributes
    ----------
    host, pid, command : str, int, str
        Host and pid are empty and 0 where the lock says nothing of them.
    started : str
        When, for people; nothing is decided by it.
    alive : bool or None
        Whether it holds the lock now; None where this machine cannot see it: it ran on another one, and the file
        system need not show its locks here.
    """

    host: str
    pid: int
    command: str = ""
    started: str = ""
    alive: bool | None = None

    def __str__(self) -> str:
        place = f" on {self.host}" if self.host else ""
        since = f" since {self.started}" if self.started else ""
        what = f" ({self.command})" if self.command else ""
        return f"process {self.pid or 'unknown'}{place}{since}{what}"


def ask(folder: Path, wish: str) -> None:
    """Ask the coordinator of a run to ``pause`` (running blocks end first) or to ``cancel`` (they do not)."""
    if wish not in WISHES:
        raise RunError(f"nothing to ask: {wish!r}", where=str(folder), expected=" or ".join(WISHES))
    write_bytes(folder / CONTROL, json.dumps({"ask": wish}).encode())


def asked(folder: Path) -> str:
    """Return what was asked of the coordinator, ``pause`` or ``cancel``; empty if nothing was."""
    try:
        values = json.loads((folder / CONTROL).read_bytes())
        wish = values["ask"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return wish if wish in WISHES else ""


def forget(folder: Path) -> None:
    """Take back what was asked. A coordinator calls this when it starts."""
    (folder / CONTROL).unlink(missing_ok=True)


def choose_again(folder: Path, tasks: Iterable[tuple[str, str, str]]) -> None:
    """Say which quarantined tasks (step, part, name) the next coordinator tries again; the others stay as they are."""
    write_bytes(folder / CHOICE, json.dumps({"again": sorted(tasks)}).encode())


def take_choice(folder: Path) -> frozenset[tuple[str, str, str]] | None:
    """Return the tasks that are to be tried again, and forget them; None, for all of them, where nobody chose."""
    try:
        values = json.loads((folder / CHOICE).read_bytes())
        found = frozenset((str(step), str(part), str(name)) for step, part, name in values["again"])
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    forget_choice(folder)
    return found


def forget_choice(folder: Path) -> None:
    """Take back what :func:`choose_again` said."""
    (folder / CHOICE).unlink(missing_ok=True)


def this_process() -> bytes:
    """Return what a coordinator writes into the lock that it holds."""
    command = " ".join(["bouton", *sys.argv[1:]])
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    values = asdict(Holder(platform.node(), os.getpid(), command, started))
    del values["alive"]
    return json.dumps(values).encode()


def holder(folder: Path) -> Holder | None:
    """Return who works, or last worked, on a run; None if nobody ever did."""
    path = folder / LOCK
    try:
        with open(path, "rb") as handle:
            held = _is_held(handle.fileno())
            found = _parse(handle.read())
    except OSError:
        return None
    elsewhere = found.host not in ("", platform.node())
    return Holder(found.host, found.pid, found.command, found.started, True if held else None if elsewhere else False)


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _parse(content: bytes) -> Holder:
    try:
        values = json.loads(content)
        return Holder(str(values["host"]), int(values["pid"]), str(values["command"]), str(values["started"]))
    except (ValueError, KeyError, TypeError):
        # half of a line, of a coordinator that was killed while it wrote it
        return Holder("", 0)
