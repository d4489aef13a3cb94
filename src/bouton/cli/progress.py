"""The terminal's progress bars, and the same progress as JSON lines."""

from __future__ import annotations

import json
import sys
import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from bouton.engine.events import (
    Event,
    PartStarted,
    StepFinished,
    StepReused,
    StepSkipped,
    TaskFailed,
    TaskLost,
    TaskRetried,
    TasksBlocked,
    TasksDone,
    WorkerLost,
    to_json,
)


def print_json(event: Event) -> None:
    """Print an event as one line of JSON on stdout."""
    sys.stdout.write(json.dumps(to_json(event)) + "\n")
    sys.stdout.flush()


class _Speed(ProgressColumn):
    """Blocks, voxels a second and the time that is left."""

    def render(self, task: Task) -> Text:
        """Return the text of one bar."""
        shape = task.fields["unit"]
        total = "?" if task.total is None else f"{task.total:.0f}"
        text = f"{task.completed:.0f}/{total} {shape}"
        seconds = (task.finished_time if task.finished else task.elapsed) or 0.0
        new_tasks = task.completed - task.fields["before"]
        if task.fields["voxels"] and seconds > 0:
            text += f"  {human(task.fields['voxels'] / seconds)}voxels/s"
        if new_tasks and task.total is not None and not task.finished:
            text += f"  ETA {clock((task.total - task.completed) * seconds / new_tasks)}"
        return Text(text, style="cyan")


class ProgressBars:
    """A subscriber that shows a bar for every part of every step. Use it as a context manager."""

    def __init__(self, console: Console) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), _Speed(), TimeElapsedColumn())
        self.console = console
        self.progress = Progress(*columns, console=console, get_time=self._now)
        self._at: float | None = None
        self._bars: dict[tuple[str, str], int] = {}
        self._told: set[tuple[str, str]] = set()

    def __enter__(self) -> ProgressBars:
        self.progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.progress.stop()

    def __call__(self, event: Event) -> None:
        """Show one event, of now."""
        self.show(event, time.time())

    def show(self, event: Event, at: float) -> None:
        """Show one event of the time ``at``, seconds since 1970: an earlier one, when an event log is read."""
        self._at = at
        self._take(event)
        self._at = None

    def _now(self) -> float:
        return time.time() if self._at is None else self._at

    def _take(self, event: Event) -> None:
        if isinstance(event, PartStarted):
            unit = {"block": "blocks", "object": "ranges", "chain": "slabs", "merge": "nodes"}.get(event.shape, "task")
            fields = {"unit": unit, "before": event.done, "voxels": 0}
            name = f"{event.step} [dim]{event.part}[/dim]"
            total, done = max(event.tasks, 1), event.done
            self._bars[event.step, event.part] = self.progress.add_task(name, total=total, completed=done, **fields)
        elif isinstance(event, TasksDone) and (event.step, event.part) in self._bars:
            bar = self._bars[event.step, event.part]
            voxels = self.progress.tasks[self.progress.task_ids.index(bar)].fields["voxels"] + event.voxels
            self.progress.update(bar, advance=event.tasks, voxels=voxels)
        else:
            self._say(event)

    def _say(self, event: Event) -> None:
        if isinstance(event, StepReused):
            self.console.print(f"[green]kept[/green] {event.step}: {count(event.tasks, 'task')} of an earlier run")
        elif isinstance(event, StepSkipped):
            self.console.print(f"[yellow]skipped[/yellow] {event.step}: {escape(event.reason)}")
        elif isinstance(event, TaskLost):
            path = escape(event.path)
            self.console.print(f"[yellow]lost[/yellow] {event.step} {event.task}: {path} is {event.found}")
        elif isinstance(event, WorkerLost):
            where = f"process {event.pid} on {event.host}" if event.pid else "a worker"
            self.console.print(f"[yellow]lost[/yellow] {escape(where)}: {escape(event.error)}")
        elif isinstance(event, TaskRetried):
            self.console.print(f"[yellow]again[/yellow] {event.step} {event.task}: {escape(event.error)}")
        elif isinstance(event, TaskFailed):
            box = f" (box {event.box_zyx}, z,y,x)" if event.box_zyx else ""
            self.console.print(f"[red]failed[/red] {event.step} {event.task}{box}: {escape(event.error)}")
        elif isinstance(event, TasksBlocked) and (event.step, event.part) not in self._told:
            self._told.add((event.step, event.part))
            self.console.print(f"[yellow]blocked[/yellow] {event.step}: {escape(event.reason)}")
        elif isinstance(event, StepFinished) and event.state == "done":
            copied = f", {event.reused} of them copied from a run over another box" if event.reused else ""
            self.console.print(
                f"[green]done[/green] {event.step}: {count(event.tasks, 'task')}{copied}, {clock(event.seconds)}"
            )


def human(number: float) -> str:
    """Return a number with three digits and a prefix: ``12.3 M``."""
    for prefix in ("", "k", "M", "G"):
        if abs(number) < 1000:
            return f"{number:.3g} {prefix}"
        number /= 1000
    return f"{number:.3g} T"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 file``, ``3 files``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def clock(seconds: float) -> str:
    """Return a duration as people say it: ``42.1 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
