"""``bouton pause``: let a run end after the blocks that are being computed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bouton.cli.choices import Json, RunName, RunsFolder
from bouton.cli.follow import find_working_run
from bouton.cli.stop import stop_run


def command(
    run: RunName,
    runs: RunsFolder = Path("runs"),
    wait_s: Annotated[float, typer.Option("--wait-s", min=0, help="How long to wait for its end.")] = float("inf"),
    as_json: Json = False,
) -> None:
    """Pause a run: blocks that are being computed end and are kept, no other one begins, its workers go.

    Works from any machine that sees the run folder. Ctrl-C ends the waiting; the run pauses all the same.

    \b
    bouton pause demo
    bouton resume demo
    """
    stop_run(find_working_run(run, runs), "pause", wait_s, as_json)
