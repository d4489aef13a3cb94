"""``bouton report``: one page about a run."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from bouton.cli.choices import RunName, RunsFolder, find_run
from bouton.cli.datasets import find_group
from bouton.errors import DataError
from bouton.volume import TableData
from bouton.volume.run_folder import Run, RunStep, open_run

if TYPE_CHECKING:
    from bouton.report import ThresholdCurve


def command(
    run: RunName,
    runs: RunsFolder = Path("runs"),
    open_: bool = typer.Option(False, "--open", help="Open the report in the browser."),
) -> None:
    """Write the report of a run: what ran, how long, pictures, scores, synapses, failures. One HTML file.

    Examples:

      bouton report runs/demo

      bouton report runs/demo --open

    Works at any time: on a run that goes on, that failed, or that is done. Links lead to places in the viewer:
    keep `bouton view runs/demo` open. Of a workflow with datasets, it writes the page that compares them.
    """
    from bouton.report.compare import PAGE, write_comparison

    group = find_group(run, runs)
    if group is not None:
        write_comparison(group)
    page = group.folder / PAGE if group is not None else report_with_curves(find_run(run, runs))
    typer.echo(f"Report: {page}")
    if open_:
        webbrowser.open(page.resolve().as_uri())


def report_with_curves(folder: Path) -> Path:
    """Write the report of a run, with what its merge histories tell of other thresholds; return its place."""
    from bouton.report import write_report

    return write_report(folder, *history_curves(open_run(folder)))


def history_curves(run: Run) -> tuple[list[ThresholdCurve], list[str]]:
    """Return a curve for each finished step with a merge history, and why some could not be read."""
    from bouton.server.cuts import HISTORY, SIZES, read_history

    curves, problems = [], []
    for step in run.steps.values():
        if step.state == "done" and {HISTORY, SIZES} <= set(step.outputs):
            try:
                curves.append(_curve(run, step, *read_history(run, step)))
            except DataError as error:
                problems.append(str(error))
    return curves, problems


def _curve(run: Run, step: RunStep, merges: TableData, sizes: TableData) -> ThresholdCurve:
    from bouton.report import ThresholdCurve
    from bouton.segment.history import dendrogram, threshold_curve
    from bouton.server.cuts import HISTORY

    floor = float(np.max(merges["floor"], initial=0.0))
    thresholds = [i / 100 for i in range(101) if i / 100 >= floor]
    users = [other for other in run.steps.values() if other.reads.get(HISTORY) == f"{step.name}.{HISTORY}"]
    used = sorted({float(other.params["threshold"]) for other in users if "threshold" in other.params})
    columns = threshold_curve(dendrogram(merges, sizes), sizes, thresholds)
    return ThresholdCurve(step.name, columns, len(sizes["id"]), int(sizes["voxels"].sum()), used)
