"""Asking a coordinator to end, and waiting for it: what ``pause`` and ``cancel`` share."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console

from bouton.cli.follow import expect_holder, wait_for_end
from bouton.cli.results import short
from bouton.engine.control import ask
from bouton.engine.step_states import run_state
from bouton.errors import RunError


def stop_run(folder: Path, wish: str, most_seconds: float, as_json: bool) -> None:
    """Ask the coordinator of a run to ``pause`` or ``cancel``, wait until it is gone, and say how far it came.

    Raises
    ------
    RunError
        Nobody works on the run, or the coordinator did not end in time.
    """
    found = expect_holder(folder)
    ask(folder, wish)
    console = Console(quiet=as_json)
    try:
        console.print(f"asked {found}", soft_wrap=True, highlight=False, markup=False)
        with console.status("blocks that are being computed end first" if wish == "pause" else "it ends"):
            gone = wait_for_end(folder, most_seconds)
    except KeyboardInterrupt:
        sys.stderr.write(f"bouton: it is asked and will {wish}; bouton status {short(folder)} says when it has\n")
        return
    if not gone:
        raise RunError(
            f"{found} did not end within {most_seconds:g} s", where=short(folder),
            fix=f"on {found.host or 'its machine'}: kill {found.pid or 'PID'}; finished blocks are kept",
        )  # fmt: skip
    _tell(console, folder, as_json)


def _tell(console: Console, folder: Path, as_json: bool) -> None:
    state = run_state(folder)
    done, tasks = sum(step.done for step in state.steps), sum(step.tasks for step in state.steps)
    if as_json:
        sys.stdout.write(json.dumps({"run": state.name, "state": state.state, "done": done, "tasks": tasks}) + "\n")
        return
    console.print(f"[green]{state.state}[/green], {done} of {tasks} tasks are done", highlight=False)
    if state.state != "done":
        console.print(f"bouton resume {short(folder)} goes on from here", soft_wrap=True, highlight=False)
