"""``bouton plan``: what a workflow will cost, before anything runs."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

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
from bouton.cli.progress import clock, human
from bouton.engine import Plan, make_plan


def command(
    workflow: WorkflowFile,
    overrides: Overrides = None,
    until: Until = None,
    bounds_zyx: BoundsZYX = None,
    block_zyx: BlockZYX = None,
    workers: Workers = None,
    runs: RunsFolder = Path("runs"),
    as_json: Json = False,
) -> None:
    """Show blocks, voxels, peak memory and bytes of every step; nothing runs.

    Hours are known for steps that ran before, on any box: run a small one first.

    \b
    bouton plan workflows/demo.yaml --workers 4
    bouton run  workflows/demo.yaml --bounds-zyx 0:48,0:192,0:192 && bouton plan workflows/demo.yaml
    """
    flow = read_workflow(workflow, make_choices(overrides, bounds_zyx, block_zyx, until))
    plan = make_plan(flow, runs, workers or cores())
    if as_json:
        values = {**dataclasses.asdict(plan), "warnings": plan.warnings, "skipped": dict(flow.skipped)}
        sys.stdout.write(json.dumps(values) + "\n")
        return
    console = Console()
    console.print(_table(plan, workers or cores()))
    for name, reason in flow.skipped.items():
        console.print(f"[yellow]skipped[/yellow] {name}: {reason}")
    for warning in plan.warnings:
        console.print(f"[red]warning[/red] {warning}")


def _table(plan: Plan, workers: int) -> Table:
    note = "memory of all workers at usual densities of fragments; on disk, tables come on top of the volumes"
    table = Table(title=f"plan for {workers} worker{'s' if workers > 1 else ''}", caption=note)
    table.add_column("step", overflow="fold")
    for name in ("tasks", "done", "voxels", "peak memory", "volumes at most", "time left"):
        table.add_column(name, justify="right")
    for step in plan.steps:
        left = max(0.0, 1 - step.done / step.tasks) if step.tasks else 1.0
        time = "unknown" if step.seconds is None else clock(step.seconds * left / workers)
        numbers = (str(step.tasks), str(step.done), human(step.voxels))
        table.add_row(step.step, *numbers, f"{human(step.peak_bytes)}B", f"{human(step.output_bytes)}B", time)
    table.add_section()
    table.add_row("free", "", "", "", f"{human(plan.memory_bytes)}B", f"{human(plan.free_bytes)}B", "")
    return table
