"""``bouton plan``: what a workflow will cost, before anything runs."""

from __future__ import annotations

import dataclasses
import datetime
import json
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
    Until,
    Workers,
    WorkflowFile,
    cores,
    make_choices,
    read_workflow,
)
from bouton.cli.datasets import Datasets, read_datasets
from bouton.cli.datasets_plan import datasets_values, show_datasets_plan
from bouton.cli.plan_table import ProbeBar, plan_table, quote_lines
from bouton.cli.prices import find_machine, read_prices
from bouton.engine import Plan, make_plan
from bouton.engine.money import Offer, Quote, quote
from bouton.engine.plan_file import plan_values, write_plan
from bouton.engine.probe import ProbeJob, probe_boxes, run_probe
from bouton.engine.samples import StepSamples
from bouton.errors import SpecError
from bouton.spec import Choices, Workflow

Probe = Annotated[bool, typer.Option("--probe", help="Run and measure a few real blocks of every step first.")]
MachineName = Annotated[str | None, typer.Option("--machine", metavar="NAME", help="Price it on this machine type.")]
Prices = Annotated[Path | None, typer.Option("--prices", metavar="FILE", help="Prices of your own, as YAML.")]
Spot = Annotated[bool, typer.Option("--spot", help="Spot machines, which may be taken away.")]
Preemptions = Annotated[
    float | None, typer.Option("--preemptions-per-hour", min=0, help="How often a spot machine is taken away.")
]
Restart = Annotated[float, typer.Option("--restart-seconds", min=0, help="Until the successor of a lost one works.")]
Speed = Annotated[
    float | None, typer.Option("--relative-speed", min=0.001, help="Of a worker there, where one here has 1.")
]


def command(
    workflow: WorkflowFile,
    overrides: Overrides = None,
    datasets: Datasets = None,
    until: Until = None,
    bounds_zyx: BoundsZYX = None,
    block_zyx: BlockZYX = None,
    workers: Workers = None,
    runs: RunsFolder = Path("runs"),
    probe: Probe = False,
    machine: MachineName = None,
    prices: Prices = None,
    spot: Spot = False,
    preemptions_per_hour: Preemptions = None,
    restart_seconds: Restart = 120.0,
    relative_speed: Speed = None,
    as_json: Json = False,
) -> None:
    """Show what every step will take: blocks, time, memory, bytes, files and, for a type of machine, money.

    With --probe, a few real blocks of every step run first, in a folder of their own, and the plan says what they
    measured; a second plan with the same parameters uses them again. Without it, times are known for steps that ran
    before, on any box. Of a file with datasets, every one is planned, and all of them together.

    \b
    bouton plan workflows/demo.yaml --workers 4
    bouton plan workflows/demo.yaml --probe
    bouton plan workflows/demo.yaml --probe --workers 2000 --prices my.yaml --machine my-machine
    bouton plan workflows/demo.yaml --probe --workers 2000 --machine t4-2019 --spot --preemptions-per-hour 0.05
    """
    choices = make_choices(overrides, bounds_zyx, block_zyx, until)
    several, count = read_datasets(workflow, choices, None, datasets), workers or cores()
    flows = several.flows if several else [read_workflow(workflow, choices)]
    offer = None
    if machine is not None:
        found = find_machine(machine, read_prices(prices))
        offer = Offer(found, count, spot, preemptions_per_hour or 0.0, restart_seconds, relative_speed or 1.0)
        _check_spot(offer, preemptions_per_hour)
    elif spot or prices or relative_speed or preemptions_per_hour:
        raise SpecError(
            "a price is asked for without a machine",
            expected="--machine NAME",
            fix="name one of the price file's machines",
        )
    plans = [_plan(flow, choices, runs, count, probe) for flow in flows]
    if as_json:
        values = [_values(plan, flow, offer, relative_speed) for plan, flow in zip(plans, flows, strict=True)]
        sys.stdout.write(json.dumps(datasets_values(several, values) if several else values[0]) + "\n")
        return
    for plan, flow in zip(plans, flows, strict=True):
        _show(plan, flow)
        for line in quote_lines(plan, offer, _quote(plan, offer), relative_speed is not None) if offer else ():
            Console().print(line, highlight=False)
    if several:
        quotes = [_quote(plan, offer) if offer else None for plan in plans]
        show_datasets_plan(Console(), several, plans, quotes)


def _plan(flow: Workflow, choices: Choices, runs: Path, workers: int, probe: bool) -> Plan:
    measured = _probe(flow, choices, runs, workers) if probe else None
    plan = make_plan(flow, runs, workers, measured)
    if probe:
        write_plan(plan, runs / flow.name)
    return plan


def _values(plan: Plan, flow: Workflow, offer: Offer | None, relative_speed: float | None) -> dict[str, Any]:
    quoted = _quote(plan, offer) if offer is not None else None
    extra = {"skipped": dict(flow.skipped), "money": _money_values(offer, quoted, relative_speed)}
    return plan_values(plan) | extra


def _check_spot(offer: Offer, preemptions_per_hour: float | None) -> None:
    if offer.spot and preemptions_per_hour is None:
        raise SpecError(
            "--spot without --preemptions-per-hour", expected="how often a machine is taken away",
            fix="--preemptions-per-hour 0.05, or what your provider publishes",
        )  # fmt: skip
    if preemptions_per_hour and not offer.spot:
        raise SpecError("--preemptions-per-hour without --spot", fix="add --spot, or leave it out")
    offer.price_per_hour  # noqa: B018 - a missing spot price is told before anything is measured


def _probe(flow: Workflow, choices: Choices, runs: Path, workers: int) -> dict[str, StepSamples]:
    def restricted(box: Any) -> Workflow:
        chosen = dataclasses.replace(choices, bounds=box, dataset=flow.dataset or None)
        return read_workflow(flow.file, chosen, flow.name)

    job = ProbeJob(flow, restricted, runs, workers)
    boxes = probe_boxes(flow, job.at_once)
    with ProbeBar(Console(stderr=True), boxes, len(flow.steps)) as bar:
        return run_probe(job, boxes, (bar,))


def _quote(plan: Plan, offer: Offer) -> Quote | None:
    """Return what the plan costs; None where a step is unknown."""
    known = [(step.forecast, step.left) for step in plan.steps if step.forecast is not None]
    if plan.unknown or not known:
        return None
    steps = [(found.seconds.times(left), found.lease_seconds) for found, left in known]
    return quote(offer, steps, max(found.worker_bytes.value for found, _ in known))


def _money_values(offer: Offer | None, quoted: Quote | None, relative_speed: float | None) -> dict[str, Any] | None:
    if offer is None:
        return None
    values = json.loads(json.dumps(dataclasses.asdict(offer), default=str))
    found = dataclasses.asdict(quoted) if quoted else None
    return {
        "offer": values,
        "quote": found,
        "speed_is_known": relative_speed is not None,
        "warning": offer.machine.warning(datetime.date.today()),
    }


def _show(plan: Plan, flow: Workflow) -> None:
    console = Console()
    if flow.dataset:
        console.rule(flow.dataset, style="dim")
    console.print(plan_table(plan))
    for name, reason in flow.skipped.items():
        console.print(f"[yellow]skipped[/yellow] {name}: {reason}")
    if plan.unknown:
        names = ", ".join(plan.unknown)
        console.print(f"[yellow]unknown[/yellow] time of {names}: bouton plan --probe measures it", soft_wrap=True)
    for warning in plan.warnings:
        console.print(f"[red]warning[/red] {warning}", soft_wrap=True)
