"""The page for people who count synapses in blocks: what to do, and a link to each block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bouton.report.page import render


@dataclass(frozen=True)
class TaskRow:
    """One block: its name, its box of voxels (z, y, x), its place in the viewer, why it was chosen if it is told."""

    name: str
    box: str
    url: str
    why: str


def tasks_page(run: str, sheet: str, tasks: Sequence[TaskRow]) -> str:
    """Return the page as HTML that needs nothing else; ``sheet`` names the sheet of answers that belongs to it."""
    told = any(task.why for task in tasks)
    return render({"run": run, "sheet": sheet, "tasks": tasks, "told": told}, "density_tasks.html.jinja")
