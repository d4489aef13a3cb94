"""``bouton status``: how far a run came."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from rich.console import Console

from bouton.cli.choices import Json, RunName, RunsFolder, find_run
from bouton.cli.results import step_table
from bouton.engine.record import ledger_facts
from bouton.volume.run_folder import Run, open_run


def command(run: RunName, runs: RunsFolder = Path("runs"), as_json: Json = False) -> None:
    """Show every step of a run: state, blocks done, failures, time, memory, size. Works while it runs, too.

    \b
    bouton status runs/demo
    bouton status demo --json
    """
    found = with_ledgers(open_run(find_run(run, runs)))
    if as_json:
        steps = [dataclasses.asdict(step) for step in found.steps.values()]
        sys.stdout.write(json.dumps({"run": found.name, "state": found.info.get("state"), "steps": steps}) + "\n")
        return
    console = Console()
    console.print(step_table(found))
    for step in found.steps.values():
        for failure in step.failures:
            box = f", box {failure['box_zyx']} (z,y,x)" if failure["box_zyx"] else ""
            times = f"{failure['attempts']} attempts"
            place = f"{step.name}, {failure['part']} {failure['task']}{box}"
            console.print(f"[red]failed[/red] {place}, {times}: {failure['error']}", soft_wrap=True)


def with_ledgers(run: Run) -> Run:
    """Return the run with the numbers of its ledgers, which are newer than ``run.json`` while a step runs."""
    steps = {}
    for name, step in run.steps.items():
        if step.state == "pending" and (run.folder / step.folder / "ledger.sqlite").is_file():
            step = dataclasses.replace(step, **ledger_facts(run.folder / step.folder))
        steps[name] = step
    return dataclasses.replace(run, steps=steps)
