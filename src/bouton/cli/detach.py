"""A coordinator of its own: ``bouton run --detach`` and ``bouton resume --detach``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console

from bouton.cli.results import short
from bouton.engine.control import holder
from bouton.engine.event_file import NAME, events_named, size_of
from bouton.errors import RunError
from bouton.volume.files import disk_errors

LOG = "coordinator.log"
LOOK_SECONDS = 0.1
FIRST_RESULT_SECONDS = 10.0
"""How long to wait for a first finished block; it may take much longer, and waits for a cluster's queue may, too."""
RESULTS = ("TasksDone", "StepReused", "TaskRetried", "TaskFailed", "RunFinished")


@dataclass(frozen=True)
class Detached:
    """A coordinator that was started in a session of its own. ``before_bytes``: of its log and of the events."""

    folder: Path
    process: subprocess.Popen[bytes]
    before_bytes: tuple[int, int]

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.folder / LOG

    def said(self) -> str:
        """Return what it wrote since it was started."""
        return self.log.read_bytes()[self.before_bytes[0] :].decode(errors="replace").strip()

    def has(self, names: Sequence[str]) -> bool:
        """Return whether an event of one of these kinds was written since it was started."""
        return bool(events_named(self.folder / NAME, names, self.before_bytes[1]))


def start_detached(folder: Path, arguments: Sequence[str]) -> None:
    """Start ``bouton run`` with these arguments in a session of its own; return when it works.

    Parameters
    ----------
    folder : Path
        The run folder that it will write.
    arguments : sequence of str
        Words after ``bouton run``.

    Raises
    ------
    RunError
        Another process works on the run.
    typer.Exit
        It ended with an error, which is shown.
    """
    refuse_held(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        started = _start(folder, arguments)
    console = Console()
    console.print(f"process {started.process.pid}, output in {short(started.log)}", soft_wrap=True, highlight=False)
    _wait(started, ("RunStarted",), float("inf"))
    _wait(started, RESULTS, FIRST_RESULT_SECONDS)
    # an error or a short run: its process is about to end
    status = started.process.wait() if started.has(("RunFinished",)) else started.process.poll()
    if status:
        sys.stderr.write(f"{started.said() or f'the coordinator ended with status {status}'}\n")
        raise typer.Exit(status if status > 0 else 128 - status)
    if status == 0:
        console.print(f"[green]done[/green] already; bouton status {short(folder)}", soft_wrap=True, highlight=False)
        return
    state = "runs, first blocks are done" if started.has(RESULTS) else "runs, its first blocks are being computed"
    console.print(f"[green]{state}[/green]", soft_wrap=True)
    for verb, what in (("attach", "shows its progress"), ("pause", "lets running blocks end and stops it")):
        console.print(f"{f'bouton {verb} {short(folder)}':32} {what}", soft_wrap=True, highlight=False)


def refuse_held(folder: Path) -> None:
    """Raise a RunError if a coordinator works on the run."""
    found = holder(folder)
    if found and found.alive:
        raise RunError(
            f"the run is being worked on by {found}", where=short(folder),
            fix=f"bouton attach {short(folder)} shows its progress; --name gives a second run its own folder",
        )  # fmt: skip


def _start(folder: Path, arguments: Sequence[str]) -> Detached:
    before = size_of(folder / LOG), size_of(folder / NAME)
    command = [sys.executable, "-m", "bouton", "run", *arguments]
    environment = {"COLUMNS": "160", **os.environ}
    with open(folder / LOG, "ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    return Detached(folder, process, before)


def _wait(started: Detached, names: Sequence[str], most_seconds: float) -> None:
    until = time.monotonic() + most_seconds
    while started.process.poll() is None and not started.has(names) and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
