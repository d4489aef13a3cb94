"""``bouton attach``: the progress of a run that another process works on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from bouton.cli.choices import RunName, RunsFolder
from bouton.cli.detach import LOG
from bouton.cli.follow import events_to_the_end, expect_holder, find_working_run
from bouton.cli.progress import ProgressBars
from bouton.cli.results import STOPPED, leave_if_stopped, short, step_table
from bouton.engine.event_file import event_of
from bouton.errors import RunError
from bouton.volume.run_folder import open_run


def command(run: RunName, runs: RunsFolder = Path("runs")) -> None:
    """Show the progress of a run that another process works on, as bouton run shows it. Ctrl-C ends the showing alone.

    Ends with the run, and its exit status: 0 if it is done, 4 if blocks failed or its process died, 75 if it was paused
    or cancelled (bouton resume goes on).

    \b
    bouton run workflows/demo.yaml --detach
    bouton attach demo
    """
    folder = find_working_run(run, runs)
    console = Console()
    found = expect_holder(folder)
    try:
        console.print(f"{found}; Ctrl-C leaves it alone", soft_wrap=True, highlight=False, markup=False)
        last = _show(console, folder)
    except KeyboardInterrupt:
        sys.stderr.write(f"bouton: detached; the run goes on, bouton attach {short(folder)} comes back to it\n")
        raise typer.Exit(0) from None
    _conclude(console, folder, last)


def _show(console: Console, folder: Path) -> dict[str, Any]:
    """Show all events; return the last one."""
    values: dict[str, Any] = {}
    with ProgressBars(console) as bars:
        for values in events_to_the_end(folder):
            event = event_of(values)
            if event is not None:
                bars.show(event, float(values.get("time", 0)))
    return values


def _conclude(console: Console, folder: Path, last: dict[str, Any]) -> None:
    console.print(step_table(open_run(folder)))
    if last.get("event") != "RunFinished":
        raise RunError(
            "the process that worked on the run ended without a word", where=short(folder),
            fix=f"{short(folder / LOG)} may say why; bouton resume {short(folder)} goes on: finished blocks are kept",
        )  # fmt: skip
    state = str(last.get("state"))
    if state in STOPPED:
        console.print(
            f"[yellow]{state}[/yellow], bouton resume {short(folder)} goes on", soft_wrap=True, highlight=False
        )
    leave_if_stopped(state)
    if state != "done":
        raise RunError(
            f"the run ended as {state}", where=short(folder),
            fix=f"bouton status {short(folder)} says why; bouton resume {short(folder)} goes on",
        )  # fmt: skip
    console.print(f"[green]done[/green], to look at it: bouton view {short(folder)}", soft_wrap=True, highlight=False)
