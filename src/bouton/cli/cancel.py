"""``bouton cancel``: end a run at once."""

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
    wait_s: Annotated[float, typer.Option("--wait-s", min=0, help="How long to wait for its end.")] = 60.0,
    as_json: Json = False,
) -> None:
    """End a run at once: blocks that are being computed are lost, finished ones are kept.

    Works from any machine that sees the run folder. bouton pause lets blocks end first.

    \b
    bouton cancel demo
    bouton resume demo
    """
    stop_run(find_working_run(run, runs), "cancel", wait_s, as_json)
