"""``bouton logs``: every try of a block that failed, and what coordinator and workers wrote."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from bouton.cli.choices import Json, RunName, RunsFolder, complete_blocks, complete_steps, find_run
from bouton.cli.detach import LOG
from bouton.cli.progress import count
from bouton.cli.results import short
from bouton.engine.ledger import LEDGER, Attempt, Ledger
from bouton.errors import SpecError
from bouton.volume.run_folder import Run, RunStep, open_run

CLUSTER_LOGS = "cluster"
TAIL_BYTES = 1 << 16
TAIL_LINES = 40

StepName = Annotated[
    str | None, typer.Argument(metavar="[STEP]", help="A step of the run.", autocompletion=complete_steps)
]
BlockName = Annotated[
    str | None,
    typer.Argument(metavar="[BLOCK]", help="A block, like 4-0-2 or level1-0-0-1.", autocompletion=complete_blocks),
]


def command(
    run: RunName,
    step: StepName = None,
    block: BlockName = None,
    runs: RunsFolder = Path("runs"),
    last: Annotated[int, typer.Option("--last", min=1, help="Show so many tries, the latest ones.")] = 10,
    as_json: Json = False,
) -> None:
    """Show every failed try of a step's blocks: cause, machine, error, traceback and what the worker printed.

    Without a step: how many tries failed in each, and the end of what a detached coordinator wrote.

    \b
    bouton logs demo
    bouton logs demo fragments
    bouton logs demo fragments 4-0-2
    """
    opened = open_run(find_run(run, runs))
    if step is None:
        _show_run(opened, as_json)
        return
    found = _attempts(opened, expect_step(opened, step), block or "")
    if as_json:
        sys.stdout.write(json.dumps({"run": str(opened.folder), "step": step, "tries": found}) + "\n")
        return
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for each in found[-last:]:
        _show(console, each)
    which = f"of {block} " if block else ""
    hidden = len(found) - last
    more = f"; the first {hidden} are hidden, --last {len(found)} shows all" if hidden > 0 else ""
    console.print(f"{step}: {count(len(found), 'failed try').replace('trys', 'tries')} {which}on record{more}")


def expect_step(run: Run, name: str) -> RunStep:
    """Return a step of a run.

    Raises
    ------
    SpecError
        There is none of this name; the message suggests one.
    """
    if name not in run.steps:
        run.path(name)
    return run.steps[name]


def _attempts(run: Run, step: RunStep, block: str) -> list[dict[str, object]]:
    """Return the failed tries of a step or of one of its blocks, oldest first, and how each block ended."""
    path = run.folder / step.folder / LEDGER
    if not path.is_file():
        raise SpecError(
            f"step {step.name} has not begun", where=short(run.folder), fix=f"bouton status {short(run.folder)}"
        )
    with Ledger(path, readonly=True) as ledger:
        if block and all(grid.number(block) is None for grid in ledger.grids()):
            known = next((grid.name(len(grid) - 1) for grid in ledger.grids() if len(grid)), "")
            raise SpecError(
                f"no block {block!r} in step {step.name}", where=short(run.folder),
                expected=f"a name up to {known}",
                fix=f"bouton logs {run.folder.name} {step.name} names those that failed",
            )  # fmt: skip
        quarantined = {(failure.part, failure.task) for failure in ledger.failures()}
        attempts = ledger.attempts(task=block)
        return [asdict(each) | {"outcome": _outcome(ledger, each, quarantined)} for each in attempts]


def _outcome(ledger: Ledger, attempt: Attempt, quarantined: set[tuple[str, str]]) -> str:
    if (attempt.part, attempt.task) in quarantined:
        return "quarantined"
    return "done later" if ledger.find(attempt.part, attempt.task) is not None else "not done yet"


def _show(console: Console, attempt: dict[str, object]) -> None:
    box = f", box {attempt['box_zyx']} (z,y,x)" if attempt["box_zyx"] else ""
    console.print(Text(f"{attempt['part']} {attempt['task']}{box}: {attempt['outcome']}", style="bold"))
    place = f"{attempt['cause']} on {attempt['host'] or 'a lost machine'}, process {attempt['pid'] or 'unknown'}"
    console.print(Text(f"  {place}: {attempt['error']}", style="red"))
    for title, text in (("traceback", attempt["traceback"]), ("printed", attempt["log"])):
        if text:
            console.print(Text(f"  {title}"))
            console.print(Text("\n".join(f"    {line}" for line in str(text).rstrip().splitlines())))


def _show_run(run: Run, as_json: bool) -> None:
    tries = {name: len(_attempts(run, step, "")) for name, step in run.steps.items() if _has_ledger(run, step)}
    path = run.folder / LOG
    tail = _tail(path) if path.is_file() else []
    others = sorted(str(each) for each in (run.folder / CLUSTER_LOGS).glob("*") if each.is_file())
    if as_json:
        values = {"run": str(run.folder), "failed_tries": tries, "coordinator": tail, "files": others}
        sys.stdout.write(json.dumps(values) + "\n")
        return
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if tail:
        console.print(Text(f"end of {short(path)}", style="bold"))
        console.print(Text("\n".join(tail)))
    for each in others:
        console.print(f"log of a cluster's job: {short(Path(each))}")
    for name, number in tries.items():
        if number:
            text = count(number, "failed try").replace("trys", "tries")
            console.print(f"{name}: {text}; bouton logs {short(run.folder)} {name}")
    if not any(tries.values()):
        console.print("no try of a block has failed")


def _has_ledger(run: Run, step: RunStep) -> bool:
    return (run.folder / step.folder / LEDGER).is_file()


def _tail(path: Path) -> Sequence[str]:
    with open(path, "rb") as handle:
        handle.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return handle.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
