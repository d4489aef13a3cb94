"""Waiting for a coordinator: its events as they come, until it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bouton.cli.choices import find_run
from bouton.cli.datasets import find_group
from bouton.cli.results import short
from bouton.engine.control import Holder, holder
from bouton.engine.event_file import NAME, last_start, read_events
from bouton.errors import RunError

LOOK_SECONDS = 0.25


def find_working_run(run: str, runs: Path) -> Path:
    """Return a run's folder; of a workflow with several datasets, that of the one that is being worked on.

    Raises
    ------
    SpecError
        There is no such run.
    RunError
        Nobody works on any of the datasets.
    """
    group = find_group(run, runs)
    if group is None:
        return find_run(run, runs)
    for member in group.members:
        found = holder(group.run_folder(member))
        if found and found.alive is not False:
            return group.run_folder(member)
    raise RunError(
        f"no process works on any dataset of {group.name}", where=short(group.folder),
        fix=f"bouton run {short(Path(group.workflow_file))} goes on",
    )  # fmt: skip


def expect_holder(folder: Path) -> Holder:
    """Return who works on a run.

    Raises
    ------
    RunError
        Nobody does.
    """
    found = holder(folder)
    if found is None or found.alive is False:
        last = f"the last one was {found}" if found and found.pid else "it is not known who did last"
        raise RunError(
            f"no process works on the run ({last})", where=short(folder),
            fix=f"bouton status {short(folder)} says how far it came, bouton resume {short(folder)} goes on",
        )  # fmt: skip
    return found


def events_to_the_end(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of the latest run, those that are written already first, until its coordinator ends."""
    path = folder / NAME
    offset = last_start(path)
    while True:
        # before reading: what it wrote last is then read as well
        found = holder(folder)
        events, offset = read_events(path, offset)
        yield from events
        ended = any(values["event"] == "RunFinished" for values in events)
        if ended or found is None or found.alive is False:
            return
        time.sleep(0 if events else LOOK_SECONDS)


def wait_for_end(folder: Path, seconds: float) -> bool:
    """Wait until the coordinator of a run is gone, at most so long; return whether it is.

    Of one on another machine whose locks are not seen here, its last event counts.
    """
    until = time.monotonic() + seconds
    start = last_start(folder / NAME)
    while time.monotonic() < until:
        found = holder(folder)
        if found is None or found.alive is False:
            return True
        if found.alive is None and any(v["event"] == "RunFinished" for v in read_events(folder / NAME, start)[0]):
            return True
        time.sleep(LOOK_SECONDS)
    return False
