"""``bouton verify``: compare every file of a run with its checksum; recompute what is damaged."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from bouton.cli.choices import Json, RunName, RunsFolder, Workers, cores, find_run
from bouton.cli.progress import count, human
from bouton.cli.results import short
from bouton.engine import VerifyReport, repair_run, verify_run
from bouton.engine.verify import beyond_repair
from bouton.errors import DataError
from bouton.volume.run_folder import open_run

SHOWN = 50


def command(
    run: RunName,
    repair: Annotated[bool, typer.Option("--repair", help="Recompute exactly the damaged blocks.")] = False,
    workers: Workers = None,
    runs: RunsFolder = Path("runs"),
    as_json: Json = False,
) -> None:
    """Name every missing, truncated or changed file of a run; with --repair recompute exactly those blocks.

    A repaired block must have its original checksum; one of a step that is not finished is left to the next run. Ends
    with status 3 when damage is found and not repaired.

    \b
    bouton verify runs/demo
    bouton verify runs/demo --repair
    """
    folder = find_run(run, runs)
    console = Console(quiet=as_json)
    report = repair_run(folder, workers or cores()) if repair else _verify(folder, console)
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(report), default=str) + "\n")
    for damage in report.damages[:SHOWN]:
        console.print(f"[red]damaged[/red] {damage}", soft_wrap=True)
    if len(report.damages) > SHOWN:
        console.print(f"... and {len(report.damages) - SHOWN} more; --json names them all")
    if not report.damages:
        console.print(
            f"[green]whole[/green] {report.files} files, {human(report.size_bytes)}B: every checksum is right"
        )
    elif repair:
        if report.repaired:
            console.print(
                f"[green]repaired[/green] {count(report.repaired, 'task')}: every file has its original checksum again"
            )
        if report.forgotten:
            console.print(f"bouton run computes {count(report.forgotten, 'task')} of unfinished steps again")
    else:
        lost = next(filter(None, (beyond_repair(report.folder, damage) for damage in report.damages)), None)
        raise lost or DataError(
            f"{count(len(report.damages), 'file')} damaged, the first: {report.damages[0]}",
            where=short(folder),
            fix=f"bouton verify {short(folder)} --repair",
        )


def _verify(folder: Path, console: Console) -> VerifyReport:
    total = sum(step.size_bytes for step in open_run(folder).steps.values())
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("checksums", total=total or None)
        return verify_run(folder, lambda size_bytes: progress.advance(bar, size_bytes))
