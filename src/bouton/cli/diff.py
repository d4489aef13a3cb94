"""``bouton diff``: which parameter, model or input made the results of two runs differ."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bouton.cli.choices import Json, RunsFolder, complete_runs, find_run
from bouton.cli.results import short
from bouton.engine.run_diff import Files, StepDiff, check_comparable, diff_runs
from bouton.errors import BoutonError
from bouton.volume.run_folder import Run, open_run

STYLES = {"same": "dim", "changed": "yellow"}


def command(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="A run.", autocompletion=complete_runs)],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="Another run.", autocompletion=complete_runs)],
    runs: RunsFolder = Path("runs"),
    as_json: Json = False,
) -> None:
    """Say why the results of two runs differ, step by step: which parameter, model, stage version or input changed.

    Files are compared by the checksums in the ledgers: a step can change and its bytes stay. Scores of both runs stand
    side by side.

    \b
    bouton run workflows/demo.yaml --name looser --set steps.segmentation.params.threshold=0.4
    bouton diff demo looser
    """
    a, b = (open_run(find_run(each, runs)) for each in (run_a, run_b))
    check_comparable(a, b)
    steps = diff_runs(a, b)
    scores = list(_scores(a, b))
    if as_json:
        versions = [a.info.get("bouton"), b.info.get("bouton")]
        found = [dataclasses.asdict(step) for step in steps]
        values = [dict(zip(("step", "metric", "a", "b"), row, strict=True)) for row in scores]
        folders = {"a": str(a.folder), "b": str(b.folder), "versions": versions}
        sys.stdout.write(json.dumps({**folders, "steps": found, "scores": values}) + "\n")
        return
    console = Console()
    _show(console, a, b, steps)
    if scores:
        console.print(_score_table(scores, a.folder.name, b.folder.name))


def _show(console: Console, a: Run, b: Run, steps: list[StepDiff]) -> None:
    console.print(f"A  {short(a.folder)}\nB  {short(b.folder)}", soft_wrap=True, highlight=False)
    versions = a.info.get("bouton"), b.info.get("bouton")
    if versions[0] != versions[1]:
        console.print(f"bouton {versions[0]} -> {versions[1]}", highlight=False)
    table = Table()
    for name in ("step", "", "what changed (A -> B)", "its results"):
        table.add_column(name, overflow="fold")
    for step in steps:
        state = {"a": "only in A", "b": "only in B"}.get(step.state, step.state)
        changes = "\n".join([*step.own, *step.inputs])
        results = "\n".join(f"{name}: {_words(files)}" for name, files in step.outputs.items())
        table.add_row(step.name, f"[{STYLES.get(step.state, 'red')}]{state}[/]", changes, results)
    console.print(table)


def _words(files: Files) -> str:
    if files == Files():
        return "nothing done"
    if files.are_equal:
        return "same bytes"
    counts = ((files.other, "differ"), (files.same, "same"), (files.only_a, "only in A"), (files.only_b, "only in B"))
    return "files: " + ", ".join(f"{number} {what}" for number, what in counts if number)


def _scores(a: Run, b: Run) -> Iterator[tuple[str, str, float | None, float | None]]:
    """Yield step, metric and its value in both runs, of every step with a table of scores."""
    for name in [*a.steps, *(name for name in b.steps if name not in a.steps)]:
        first, second = _scores_of(a, name), _scores_of(b, name)
        for metric in [*first, *(metric for metric in second if metric not in first)]:
            yield name, metric, first.get(metric), second.get(metric)


def _scores_of(run: Run, step: str) -> dict[str, float | None]:
    if step not in run.steps or "scores" not in run.steps[step].outputs or run.steps[step].state != "done":
        return {}
    try:
        table = run.table(f"{step}.scores")
        values = zip(table["metric"], table["value"], strict=True)
        return {str(metric): None if math.isnan(value) else float(value) for metric, value in values}
    except (BoutonError, KeyError):
        # bouton verify names the damage
        return {}


def _score_table(scores: list[tuple[str, str, float | None, float | None]], a: str, b: str) -> Table:
    table = Table()
    for name in ("step", "metric", a, b, "B - A"):
        table.add_column(name, justify="left" if name in ("step", "metric") else "right")
    for step, metric, first, second in scores:
        numbers = ["-" if value is None else f"{value:.4g}" for value in (first, second)]
        change = "" if first is None or second is None else "=" if first == second else f"{second - first:+.4g}"
        table.add_row(step, metric, *numbers, change)
    return table
