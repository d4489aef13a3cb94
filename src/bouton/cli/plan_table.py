"""How ``bouton plan`` shows a plan: the table of steps, the bar of a probe, and the lines about money."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bouton.cli.choices import cores
from bouton.cli.progress import clock, human
from bouton.engine import Plan
from bouton.engine.estimate import Estimate
from bouton.engine.events import Event, StepFinished, StepStarted
from bouton.engine.money import Offer, Quote
from bouton.engine.plan import StepPlan
from bouton.engine.probe import ProbeBox


class ProbeBar:
    """A subscriber that shows how far a probe is. Use it as a context manager."""

    def __init__(self, console: Console, boxes: Sequence[ProbeBox], steps: int) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn())
        self.progress = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
        self.bar = self.progress.add_task("probe", total=len(boxes) * steps)

    def __enter__(self) -> ProbeBar:
        self.progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.progress.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, StepStarted):
            self.progress.update(self.bar, description=f"probe of {event.step}")
        elif isinstance(event, StepFinished):
            self.progress.advance(self.bar)


def plan_table(plan: Plan) -> Table:
    """Return the steps with tasks, memory, bytes, files and time."""
    table = Table(title=f"plan for {_workers(plan)}", caption=_note(plan))
    table.add_column("step", overflow="fold")
    for name in ("tasks left", "peak memory", "on disk", "files", "time left", "90 %"):
        table.add_column(name, justify="right")
    for step in plan.steps:
        table.add_row(*_row(step))
    table.add_section()
    known = any(step.forecast for step in plan.steps)
    times = (clock(plan.seconds_left.value), span(plan.seconds_left)) if known else ("unknown", "")
    table.add_row("all", str(sum(step.tasks - step.done for step in plan.steps)), "", "", "", *times)
    table.add_row("free", "", f"{human(plan.memory_bytes)}B", f"{human(plan.free_bytes)}B", "", "", "")
    return table


def _row(step: StepPlan) -> tuple[str, ...]:
    numbers = (step.step, str(step.tasks - step.done), f"{human(step.peak_bytes)}B")
    found = step.forecast
    if found is None or step.seconds_left is None:
        return (*numbers, f"<= {human(step.output_bytes)}B" if step.output_bytes else "?", "?", "unknown", "")
    disk = f"{human(found.size_bytes.value)}B"
    return (*numbers, disk, f"{found.files.value:.0f}", clock(step.seconds_left.value), span(step.seconds_left))


def span(seconds: Estimate) -> str:
    """Return the interval of a time in one unit: ``32-85 s``, ``1.5-3.6 min``."""
    unit, name = (1, "s") if seconds.high < 120 else (60, "min") if seconds.high < 7200 else (3600, "h")
    return f"{seconds.low / unit:.3g}-{seconds.high / unit:.3g} {name}"


def _workers(plan: Plan) -> str:
    return f"{plan.workers} worker{'s' if plan.workers > 1 else ''}"


def _note(plan: Plan) -> str:
    sources = {step.forecast.source for step in plan.steps if step.forecast}
    measured = {"probe": "measured on a probe", "earlier runs": "from earlier runs on any box"}
    words = [f"time, bytes and files {', '.join(measured[source] for source in sorted(sources))}"] if sources else []
    if plan.unknown:
        other = "where nothing was measured: " if sources else ""
        words.append(f"{other}memory as stages declare it for usual densities, volumes uncompressed, without tables")
    if plan.workers > cores() and sources:
        words.append(f"this machine has {cores()} cores: a core of its own, like one here, is assumed for every worker")
    content = [step.step for step in plan.steps if step.by_content and step.forecast]
    if content:
        words.append(f"cost depends on what is in the voxels: {', '.join(content)}")
    gpu = [step for step in plan.steps if step.gpu and step.forecast]
    for step in gpu:
        hours = step.forecast.gpu_worker_seconds.value / 3600 if step.forecast else 0.0
        words.append(f"a GPU helps {step.step}: {hours:.3g} worker-hours as measured here")
    return "; ".join(words)


def quote_lines(plan: Plan, offer: Offer, quoted: Quote | None, speed_is_known: bool) -> Iterator[str]:
    """Yield the lines about money: price, its date and source, what is assumed, and the cost."""
    machine = offer.machine
    kind = "spot" if offer.spot else "on demand"
    unit = f"{machine.currency} {offer.price_per_hour:g} an hour {kind}, {machine.date}"
    yield f"{machine.name}: {unit} ({machine.source})"
    old = machine.warning(datetime.date.today())
    if old:
        yield f"[red]warning[/red] {old}: prices change, give today's with --prices FILE"
    if quoted is None:
        names = ", ".join(plan.unknown) or "every step"
        yield f"[yellow]unknown[/yellow] cost, for the time of {names} is: --probe measures it"
        return
    if speed_is_known:
        yield f"a worker there counts as {offer.relative_speed:g} of one here (--relative-speed)"
    else:
        yield "if a worker there is as fast as here; --relative-speed states another speed"
    if offer.spot:
        lost = f"{offer.preemptions_per_hour:g} losses an hour and machine, {offer.restart_seconds:g} s to start again"
        yield f"spot: {lost}: {100 * (quoted.repeats - 1):.2g} % more time"
    machines = f"{quoted.machines} machine" + ("s" if quoted.machines > 1 else "")
    machines += f" of {quoted.workers_each} workers" if quoted.workers_each > 1 else ""
    hours, cost = quoted.hours, quoted.cost
    yield f"{machines}, {clock(hours.value * 3600)} ({span(hours.times(3600))}), kept until the last step ends:"
    yield f"[bold]{machine.currency} {cost.value:,.2f}[/bold] ({cost.low:,.2f} - {cost.high:,.2f})"
