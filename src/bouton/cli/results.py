"""What ``bouton run`` shows at its end: every step, the scores, and where to go from here."""

from __future__ import annotations

import math
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bouton.cli.progress import clock, human
from bouton.errors import BoutonError
from bouton.volume.run_folder import Run, open_run

STYLES = {"done": "green", "failed": "red", "blocked": "yellow", "pending": "dim"}


def show_results(console: Console, folder: Path, report: Path) -> None:
    """Print the steps, the score tables, and the paths of report and viewer."""
    run = open_run(folder)
    console.print(step_table(run))
    scores = score_table(run)
    if scores.row_count:
        console.print(scores)
    for step in run.steps.values():
        if step.state == "done":
            console.print(f"{step.name:22} {short(run.path(step.name))}", soft_wrap=True, highlight=False)
    console.print(f"{'report':22} {short(report)}", soft_wrap=True)
    console.print(f"{'to look at it':22} bouton view {short(run.folder)}", soft_wrap=True)


def step_table(run: Run) -> Table:
    """Return the steps with stage, state, tasks, time, memory and size."""
    table = Table(title=f"run {run.name}")
    for name in ("step", "stage", "state", "tasks", "time", "memory", "size"):
        table.add_column(name, justify="right" if name in ("tasks", "time", "memory", "size") else "left")
    for step in run.steps.values():
        state = f"[{STYLES.get(step.state, 'white')}]{step.state}[/]"
        tasks = f"{step.done}/{step.tasks}" + (f" ({step.failed} failed)" if step.failed else "")
        sizes = (f"{human(step.peak_bytes)}B", f"{human(step.size_bytes)}B")
        table.add_row(step.name, step.stage, state, tasks, clock(step.seconds), *sizes)
    return table


def score_table(run: Run) -> Table:
    """Return the rows of every step's table ``scores``."""
    table = Table(title="scores")
    for name in ("step", "metric", "value", "unit", "better", "n"):
        table.add_column(name, justify="right" if name in ("value", "n") else "left")
    for step in run.steps.values():
        if "scores" not in step.outputs or step.state != "done":
            continue
        try:
            scores = run.table(f"{step.name}.scores")
        except BoutonError:
            continue
        for metric, value, unit, better, n in zip(
            *(scores[column] for column in ("metric", "value", "unit", "better", "n")), strict=True
        ):
            shown = "-" if math.isnan(value) else f"{value:.4g}"
            table.add_row(step.name, str(metric), shown, str(unit), str(better), str(n))
    return table


def short(path: Path) -> str:
    """Return a path relative to here where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
