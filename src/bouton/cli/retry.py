"""``bouton retry``: try blocks again that failed on every try."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bouton.cli.choices import Json, RunName, RunsFolder, Workers, find_run
from bouton.cli.detach import refuse_held
from bouton.cli.logs import LEDGER, BlockName, StepName, expect_step
from bouton.cli.progress import count
from bouton.cli.results import short
from bouton.cli.resume import Detach, start_again, unchanged_options
from bouton.engine.control import choose_again, forget_choice
from bouton.engine.ledger import Ledger
from bouton.errors import SpecError
from bouton.volume.run_folder import Run, open_run


@dataclass(frozen=True)
class Poison:
    """One quarantined task."""

    step: str
    part: str
    task: str
    box_zyx: str
    attempts: int
    cause: str
    error: str


def command(
    run: RunName,
    step: StepName = None,
    block: BlockName = None,
    runs: RunsFolder = Path("runs"),
    quarantined: Annotated[
        bool, typer.Option("--quarantined", help="Try them again; without this, only show which.")
    ] = False,
    workers: Workers = None,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Show the blocks that failed on every try; with --quarantined try them again, and go on with the run.

    With a step, or a block of it, only these are tried again: the others stay in quarantine, and what reads them waits.

    \b
    bouton retry demo
    bouton retry demo --quarantined
    bouton retry demo fragments 4-0-2 --quarantined
    """
    folder = find_run(run, runs)
    opened = open_run(folder)
    found = _poisons(opened, step, block)
    if not found:
        place = f"step {step}" + (f", {block}" if block else "") if step else "this run"
        raise SpecError(
            f"nothing in {place} is in quarantine", where=short(folder),
            fix=f"bouton status {short(folder)} says what is; bouton resume {short(folder)} goes on",
        )  # fmt: skip
    if not quarantined:
        _show(opened, found, as_json)
        return
    refuse_held(folder)
    more = [f"--workers={workers}"] if workers else []
    arguments = [*unchanged_options(folder).arguments, *more]
    if step:
        choose_again(folder, [(each.step, each.part, each.task) for each in found])
    try:
        start_again(folder, arguments, detach, as_json)
    finally:
        # where the run could not begin, the next one must not be told of it
        forget_choice(folder)


def _poisons(run: Run, step: str | None, block: str | None) -> list[Poison]:
    steps = [expect_step(run, step)] if step else list(run.steps.values())
    found = []
    for each in steps:
        path = run.folder / each.folder / LEDGER
        if path.is_file():
            with Ledger(path, readonly=True) as ledger:
                found += [
                    Poison(each.name, f.part, f.task, f.box_zyx, f.attempts, f.cause, f.error)
                    for f in ledger.failures()
                    if block in (None, f.task)
                ]
    return found


def _show(run: Run, found: list[Poison], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"run": str(run.folder), "quarantined": [vars(each) for each in found]}) + "\n")
        return
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for each in found:
        box = f", box {each.box_zyx} (z,y,x)" if each.box_zyx else ""
        console.print(
            f"{each.step}, {each.part} {each.task}{box}: {each.cause}, {count(each.attempts, 'attempt')}: {each.error}"
        )
    console.print("nothing was started; --quarantined tries them again")
