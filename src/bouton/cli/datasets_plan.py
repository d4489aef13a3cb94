"""What the datasets of one workflow file will cost together: they run one after another, with the same workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bouton.cli.datasets import Readings
from bouton.cli.plan_table import span
from bouton.cli.progress import clock, count, human
from bouton.engine import Plan
from bouton.engine.estimate import NOTHING
from bouton.engine.money import Quote


def datasets_values(readings: Readings, plans: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the plans as JSON types, by dataset, and the sums over all of them."""
    named = [{"dataset": flow.dataset, **plan} for flow, plan in zip(readings.flows, plans, strict=True)]
    errors = {reading.dataset: str(reading.error) for reading in readings.chosen if reading.error}
    ends = {end: sum(plan["seconds_left"][end] for plan in plans) for end in ("value", "low", "high")}
    return {"workflow": readings.name, "datasets": named, "errors": errors, "seconds_left": ends}


def show_datasets_plan(
    console: Console, readings: Readings, plans: Sequence[Plan], quotes: Sequence[Quote | None]
) -> None:
    """Print a row for each dataset, the sums, and the datasets that cannot be read.

    Parameters
    ----------
    quotes : sequence of Quote or None
        What each costs; None where a step is unknown, or no machine is given.
    """
    table = Table(title=f"plan for {count(len(plans), 'dataset')} of {readings.name}", caption="one after another")
    table.add_column("dataset", overflow="fold")
    priced = any(quotes)
    for name in ("tasks left", "peak memory", "on disk", "time left", "90 %", *(("cost",) if priced else ())):
        table.add_column(name, justify="right")
    for flow, plan, quoted in zip(readings.flows, plans, quotes, strict=True):
        cost = [] if not priced else ["?" if quoted is None else f"{quoted.cost.value:,.2f}"]
        table.add_row(flow.dataset, *_row([plan]), *cost)
    table.add_section()
    known = [quoted.cost.value for quoted in quotes if quoted is not None]
    total = [] if not priced else [f"{sum(known):,.2f}" if len(known) == len(quotes) else "?"]
    table.add_row("all", *_row(plans), *total)
    console.print(table)
    for reading in readings.chosen:
        if reading.error is not None:
            console.print(f"[red]cannot be read[/red] {reading.dataset}: {escape(str(reading.error))}", soft_wrap=True)


def _row(plans: Sequence[Plan]) -> tuple[str, ...]:
    steps = [step for plan in plans for step in plan.steps]
    left = sum(step.tasks - step.done for step in steps)
    known = any(step.forecast for step in steps)
    unknown = any(plan.unknown for plan in plans)
    seconds = sum((plan.seconds_left for plan in plans), NOTHING)
    time = f"{'>= ' if unknown else ''}{clock(seconds.value)}" if known else "unknown"
    peak, size = max(step.peak_bytes for step in steps), sum(plan.output_bytes for plan in plans)
    return f"{left:,}", f"{human(peak)}B", f"<= {human(size)}B", time, span(seconds) if known and not unknown else ""
