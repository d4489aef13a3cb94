"""``bouton status``: how far a run came."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bouton.cli.choices import Json, RunName, RunsFolder, find_run
from bouton.cli.datasets import find_group
from bouton.cli.group_status import show_group
from bouton.cli.progress import clock, count, human
from bouton.cli.recorded import recorded_workflow
from bouton.cli.results import short
from bouton.engine.step_states import RunState, StepState, run_state
from bouton.errors import BoutonError

STYLES = {"complete": "green", "running": "cyan", "quarantined": "red", "failed": "red"}
STYLES |= {"blocked": "yellow", "paused": "yellow", "stale": "magenta", "pending": "dim", "skipped": "dim"}
WORKING = ("running", "pausing", "cancelling", "unseen")
SHOWN = 20
WATCH_SECONDS = 1.0


def command(
    run: RunName,
    runs: RunsFolder = Path("runs"),
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every second until the run ends.")] = False,
    as_json: Json = False,
) -> None:
    """Show who works on a run and every step of it: state, blocks, failures, rate, time left, memory, size.

    States of a step: complete, running, quarantined (blocks failed on every try, the others are done), failed, blocked
    (it reads what failed), paused, stale (only results of other parameters are there, or the workflow changed since),
    pending, skipped.

    \b
    bouton status runs/demo
    bouton status demo --watch
    bouton status demo --json
    bouton status workflows/datasets.yaml      (every dataset of the file)
    """
    group = find_group(run, runs)
    if group is not None:
        show_group(group, watch, as_json)
        return
    folder = find_run(run, runs)
    found = _with_stale(folder, run_state(folder))
    if as_json:
        _print(found)
        while watch and found.state in WORKING:
            time.sleep(WATCH_SECONDS)
            found = run_state(folder)
            _print(found)
        return
    console = Console()
    if watch:
        with Live(_page(found), console=console, auto_refresh=False) as live:
            while found.state in WORKING:
                time.sleep(WATCH_SECONDS)
                found = run_state(folder)
                live.update(_page(found), refresh=True)
    else:
        console.print(_page(found))


def _with_stale(folder: Path, found: RunState) -> RunState:
    """Return the state of a run; steps that its workflow file would compute under another key now are stale."""
    if found.state in WORKING:
        return found
    try:
        now = {step.name: step.key for step in recorded_workflow(folder).steps}
    except BoutonError:
        # no file, no data, a bundle: the run stands for itself
        return found
    reason = "of another key than the workflow gives now: it, a model or a stage changed; bouton run computes it anew"
    steps = [
        dataclasses.replace(step, state="stale", reason=reason)
        if step.key and now.get(step.name, step.key) != step.key
        else step
        for step in found.steps
    ]
    return dataclasses.replace(found, steps=tuple(steps))


def _print(found: RunState) -> None:
    values = {
        "run": found.name,
        "folder": str(found.folder),
        "state": found.state,
        "reason": found.reason,
        "coordinator": dataclasses.asdict(found.coordinator) if found.coordinator else None,
        "steps": [dataclasses.asdict(step) for step in found.steps],
    }
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def _page(found: RunState) -> Group:
    lines: list[RenderableType] = [_table(found), Text(_coordinator(found))]
    for reason in dict.fromkeys(step.reason for step in found.steps if step.reason):
        names = ", ".join(step.name for step in found.steps if step.reason == reason)
        lines.append(Text(f"{names}: {reason}"))
    failures = [(step, failure) for step in found.steps for failure in step.failures]
    for step, failure in failures[:SHOWN]:
        box = f", box {failure['box_zyx']} (z,y,x)" if failure["box_zyx"] else ""
        tries = f"{failure['attempts']} attempts"
        place = f"{step.name}, {failure['part']} {failure['task']}{box}"
        lines.append(Text.assemble(("failed ", "red"), f"{place}, {tries}: {failure['error']}"))
    if failures:
        hidden = f"... and {len(failures) - SHOWN} more; " if len(failures) > SHOWN else ""
        name = short(found.folder)
        lines.append(Text(f"{hidden}bouton logs {name} STEP [BLOCK] shows why, bouton retry {name} tries them again"))
    return Group(*lines)


def _table(found: RunState) -> Table:
    table = Table(title=f"run {found.name}: {found.state}")
    for name in ("step", "state", "tasks", "rate", "left", "time", "memory", "size"):
        table.add_column(name, justify="left" if name in ("step", "state") else "right", overflow="fold")
    for step in found.steps:
        state = f"[{STYLES.get(step.state, 'white')}]{step.state}[/]"
        rate = f"{human(step.tasks_per_s)}/s" if step.tasks_per_s else ""
        left = "" if step.eta_s is None else clock(step.eta_s)
        numbers = (clock(step.seconds), f"{human(step.peak_bytes)}B", f"{human(step.size_bytes)}B")
        table.add_row(step.name, state, _tasks(step), rate, left, *(numbers if step.done or step.failed else ()))
    return table


def _tasks(step: StepState) -> str:
    if step.state == "skipped":
        return ""
    named = ((step.failed, "failed"), (step.blocked, "blocked"), (step.reused, "reused"))
    more = ", ".join(f"{number} {what}" for number, what in named if number)
    return f"{step.done}/{step.tasks}" + (f" ({more})" if more else "")


def _coordinator(found: RunState) -> str:
    name = short(found.folder)
    who = str(found.coordinator) if found.coordinator and found.coordinator.pid else "a process that is not known"
    left = sum(step.state not in ("complete", "skipped", "stale") for step in found.steps)
    if found.state == "crashed":
        return f"not running: {who} ended without a word; bouton resume {name} goes on: finished blocks are kept"
    if found.state == "unseen":
        return f"{who} works on it, unless it ended without a word: that machine's locks are not seen from here"
    if found.state in WORKING:
        return f"{found.state}: {who}"
    going_on = f"; {count(left, 'step')} left, bouton resume {name} goes on" if left else ""
    reason = f": {found.reason}" if found.reason else ""
    return f"not running; the last coordinator ended as {found.state}{reason}{going_on}"
