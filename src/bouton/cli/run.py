"""``bouton run``: run what is left of a workflow, write the report, show the results."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bouton.cli.choices import (
    BlockZYX,
    BoundsZYX,
    Json,
    Overrides,
    RunsFolder,
    StoreOption,
    Until,
    Workers,
    WorkflowFile,
    make_choices,
    read_workflow,
    store_override,
)
from bouton.cli.cluster_option import ClusterOption, ExecutorOption, choose_executor
from bouton.cli.datasets import Datasets, DatasetsRun, options_of_dataset, read_datasets
from bouton.cli.detach import start_detached
from bouton.cli.progress import ProgressBars, print_json
from bouton.cli.repeat import Data, TrustStages, data_overrides, finish, open_repetition, parse_data, show_before
from bouton.cli.results import leave_if_stopped, show_results
from bouton.cli.run_options import RunOptions, keep_options
from bouton.engine import RunSummary, run_workflow
from bouton.engine.bundle.repeat import RepeatOptions
from bouton.engine.executors import Executor, make_executor
from bouton.engine.executors.shared import Shared
from bouton.spec import Workflow


def command(
    context: typer.Context,
    workflow: WorkflowFile,
    overrides: Overrides = None,
    datasets: Datasets = None,
    until: Until = None,
    bounds_zyx: BoundsZYX = None,
    block_zyx: BlockZYX = None,
    workers: Workers = None,
    executor: ExecutorOption = None,
    cluster: ClusterOption = None,
    runs: RunsFolder = Path("runs"),
    name: Annotated[str | None, typer.Option("--name", help="Name of the run; default: the workflow's.")] = None,
    store: StoreOption = None,
    retries: Annotated[int, typer.Option("--retries", min=0, help="New tries of a block that fails.")] = 2,
    detach: Annotated[bool, typer.Option("--detach", help="Go on without this terminal; see bouton attach.")] = False,
    data: Data = None,
    trust_stages: TrustStages = False,
    as_json: Json = False,
) -> None:
    """Run a workflow: compute what is not done yet, write the report.

    Results lie in runs/<name>. Whatever was finished before is kept; a changed parameter computes its step and what
    depends on it; the same command after a crash goes on where it was. A file with datasets runs over each of them and
    ends with their comparison; results lie in runs/<name>-<dataset>.

    Exit status: 0 done, 2 the workflow or an option is wrong, 3 data are, 4 blocks failed, 75 paused or cancelled (the
    same command goes on), 130 interrupted.

    \b
    bouton run workflows/demo.yaml
    bouton run workflows/demo.yaml --bounds-zyx 0:48,0:192,0:192 --until segmentation
    bouton run workflows/demo.yaml --set steps.fragments.params.low=0.05 --workers 4
    bouton run workflows/demo.yaml --detach
    bouton run workflows/demo.yaml --cluster slurm --workers 64
    bouton run workflows/demo.yaml --store s3://bucket/bouton
    bouton run workflows/datasets.yaml --dataset cortex
    bouton run paper.crate.zip --data image=/data/em.zarr      (what bouton export-run wrote: repeat it, and compare)
    """
    changed = {"--set": overrides, "--until": until, "--bounds-zyx": bounds_zyx, "--block-zyx": block_zyx}
    changed |= {"--dataset": datasets, "--store": store}
    repetition = open_repetition(workflow, runs, name, RepeatOptions(parse_data(data), trust_stages), changed)
    several = None
    if repetition is not None:
        flow = repetition.workflow
        show_before(repetition, Console(quiet=as_json))
    else:
        choices = make_choices(
            [*(overrides or ()), *store_override(store), *data_overrides(data)], bounds_zyx, block_zyx, until
        )
        several = read_datasets(workflow, choices, name, datasets)
        flow = several.flows[0] if several else read_workflow(workflow, choices, name)
    kept = RunOptions.of(context)
    if detach:
        start_detached(runs / flow.name, kept.arguments)
        return
    # An end of the batch system's time must leave no worker behind, like Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)

    def options(flow: Workflow) -> dict[str, Any]:
        return {**choose_executor(flow, executor, cluster, workers, runs), "retries": retries}

    if several:
        shared = Shared(lambda: _made(options(flow)))
        warm = {"executor": shared, "retries": retries}
        try:
            DatasetsRun(several, runs, as_json).run(
                lambda flow: _run(flow, runs, warm, options_of_dataset(kept, flow.dataset), as_json)
            )
        finally:
            shared.end()
        return
    summary = _run(flow, runs, options(flow), kept, as_json)
    if not as_json:
        show_results(Console(), summary.folder, summary.folder / "report" / "index.html")
    if repetition is not None:
        finish(repetition, summary, Console(), as_json)
    summary.raise_if_failed()
    leave_if_stopped(summary.state)


def _made(options: dict[str, Any]) -> Executor:
    """Return the executor of a run's options, made if only its name is there."""
    found = options["executor"]
    return make_executor(found, options["workers"]) if isinstance(found, str) else found


def _run(flow: Workflow, runs: Path, options: dict[str, Any], kept: RunOptions, as_json: bool) -> RunSummary:
    """Run one workflow and write its report."""
    keep = keep_options(kept, runs / flow.name)
    if as_json:
        summary = run_workflow(flow, runs, subscribers=[keep, print_json], **options)
    else:
        with ProgressBars(Console()) as bars:
            summary = run_workflow(flow, runs, subscribers=[keep, bars], **options)
    report = _write_report(summary.folder)
    if as_json:
        sys.stdout.write(json.dumps({"event": "Report", "path": str(report)}) + "\n")
    return summary


def _write_report(folder: Path) -> Path:
    from bouton.cli.report import report_with_curves

    return report_with_curves(folder)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
