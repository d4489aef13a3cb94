"""What ``bouton run`` shows at its end: every step, the scores, and where to go from here."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bouton.cli.progress import clock, human
from bouton.errors import BoutonError
from bouton.volume.places import Place
from bouton.volume.run_folder import Run, open_run

STYLES = {"done": "green", "failed": "red", "blocked": "yellow", "pending": "dim"}
STOPPED = ("paused", "cancelled")
STOPPED_STATUS = os.EX_TEMPFAIL
"""Exit status of a command whose run was paused or cancelled (75, "try again"): the same command goes on."""


def leave_if_stopped(state: str) -> None:
    """End the command with the status of its own that a run has which was paused or cancelled."""
    if state in STOPPED:
        raise typer.Exit(STOPPED_STATUS)


def show_results(console: Console, folder: Path, report: Path) -> None:
    """Print the steps, the score tables, and the paths of report and viewer."""
    run = open_run(folder)
    console.print(step_table(run))
    for scores in score_tables(run):
        console.print(scores)
    for step in run.steps.values():
        if step.state == "done":
            console.print(f"{step.name:22} {short(run.path(step.name))}", soft_wrap=True, highlight=False)
    console.print(f"{'report':22} {short(report)}", soft_wrap=True)
    console.print(f"{'to look at it':22} bouton view {short(run.folder)}", soft_wrap=True)
    if run.info.get("state") in STOPPED:
        console.print(f"{run.info['state']:22} bouton resume {short(run.folder)} goes on from here", soft_wrap=True)


def step_table(run: Run) -> Table:
    """Return the steps with stage, state, tasks, time, memory and size."""
    table = Table(title=f"run {run.name}")
    for name in ("step", "stage", "state", "tasks", "time", "memory", "size"):
        right = name in ("tasks", "time", "memory", "size")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for step in run.steps.values():
        state = f"[{STYLES.get(step.state, 'white')}]{step.state}[/]"
        tasks = f"{step.done}/{step.tasks}" + (f" ({step.failed} failed)" if step.failed else "")
        sizes = (f"{human(step.peak_bytes)}B", f"{human(step.size_bytes)}B")
        table.add_row(step.name, step.stage, state, tasks, clock(step.seconds), *sizes)
    return table


def score_tables(run: Run) -> list[Table]:
    """Return the tables ``scores`` of all steps, one column a step; steps with the same metrics share a table."""
    groups: dict[tuple[str, ...], dict[str, dict[str, np.ndarray]]] = {}
    for step in run.steps.values():
        if "scores" not in step.outputs or step.state != "done":
            continue
        try:
            scores = run.table(f"{step.name}.scores")
        except BoutonError:
            # The table of steps names the damage already, and `bouton verify` says more.
            continue
        groups.setdefault(tuple(scores["metric"]), {})[step.name] = scores
    return [_compared(group) for group in groups.values()]


def _compared(group: Mapping[str, Mapping[str, np.ndarray]]) -> Table:
    """Return one table: a row a metric, a column a step; 95 % limits stand behind the value they belong to.

    Counts behind precision and recall are left to the table itself.
    """
    table = Table()
    table.add_column("metric", no_wrap=True)
    for name in group:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("unit")
    table.add_column("better")
    first = next(iter(group.values()))
    known = set(first["metric"])
    for row, metric in enumerate(first["metric"]):
        stem, _, kind = metric.rpartition("_")
        if (kind in ("low", "high") and stem in known) or (kind in ("tp", "fp", "fn") and f"{stem}_recall" in known):
            continue
        values = [_value(scores, metric, row) for scores in group.values()]
        table.add_row(metric, *values, first["unit"][row], first["better"][row])
    return table


def _value(scores: Mapping[str, np.ndarray], metric: str, row: int) -> str:
    if math.isnan(scores["value"][row]):
        return "-"
    text = f"{scores['value'][row]:.4g}"
    limits = [scores["value"][scores["metric"] == f"{metric}_{end}"] for end in ("low", "high")]
    if all(len(limit) for limit in limits):
        text += f" ({limits[0][0]:.2f}-{limits[1][0]:.2f})"
    return text


def short(path: Place) -> str:
    """Return a path relative to here where that is shorter."""
    if not isinstance(path, Path):
        return str(path)
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
