"""``bouton run``: run what is left of a workflow, write the report, show the results."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from bouton.cli.choices import (
    BlockZYX,
    BoundsZYX,
    Json,
    Overrides,
    RunsFolder,
    Until,
    Workers,
    WorkflowFile,
    cores,
    make_choices,
    read_workflow,
)
from bouton.cli.detach import start_detached
from bouton.cli.progress import ProgressBars, print_json
from bouton.cli.results import show_results
from bouton.cli.run_options import RunOptions, keep_options
from bouton.engine import RunSummary, run_workflow
from bouton.spec import Workflow

Executors = Literal["serial", "processes"]


def command(
    context: typer.Context,
    workflow: WorkflowFile,
    overrides: Overrides = None,
    until: Until = None,
    bounds_zyx: BoundsZYX = None,
    block_zyx: BlockZYX = None,
    workers: Workers = None,
    executor: Annotated[Executors, typer.Option("--executor", help="What runs the blocks.")] = "processes",
    runs: RunsFolder = Path("runs"),
    name: Annotated[str | None, typer.Option("--name", help="Name of the run; default: the workflow's.")] = None,
    retries: Annotated[int, typer.Option("--retries", min=0, help="New tries of a block that fails.")] = 2,
    detach: Annotated[bool, typer.Option("--detach", help="Go on without this terminal; see bouton attach.")] = False,
    as_json: Json = False,
) -> None:
    """Run a workflow: compute what is not done yet, write the report.

    Results lie in runs/<name>. Whatever was finished before is kept; a changed parameter computes its step and what
    depends on it; the same command after a crash goes on where it was.

    \b
    bouton run workflows/demo.yaml
    bouton run workflows/demo.yaml --bounds-zyx 0:48,0:192,0:192 --until segmentation
    bouton run workflows/demo.yaml --set steps.fragments.params.low=0.05 --workers 4
    bouton run workflows/demo.yaml --detach
    """
    flow = read_workflow(workflow, make_choices(overrides, bounds_zyx, block_zyx, until), name)
    kept = RunOptions.of(context)
    if detach:
        start_detached(runs / flow.name, kept.arguments)
        return
    # An end of the batch system's time must leave no worker behind, like Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    options = {"executor": executor, "workers": workers or cores(), "retries": retries}
    if as_json:
        summary = run_workflow(flow, runs, subscribers=[keep_options(kept), print_json], **options)
        report = _write_report(summary.folder)
        sys.stdout.write(json.dumps({"event": "Report", "path": str(report)}) + "\n")
    else:
        summary = _run_with_bars(flow, runs, options, kept)
    summary.raise_if_failed()


def _run_with_bars(flow: Workflow, runs: Path, options: dict[str, Any], kept: RunOptions) -> RunSummary:
    console = Console()
    with ProgressBars(console) as bars:
        summary = run_workflow(flow, runs, subscribers=[keep_options(kept), bars], **options)
    report = _write_report(summary.folder)
    show_results(console, summary.folder, report)
    return summary


def _write_report(folder: Path) -> Path:
    from bouton.cli.report import report_with_curves

    return report_with_curves(folder)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
