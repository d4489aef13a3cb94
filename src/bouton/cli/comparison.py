"""How the comparison of datasets is printed: datasets, scores and times side by side."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bouton.cli.results import short
from bouton.report.compare import PAGE, Comparison
from bouton.report.numbers import Scores
from bouton.volume.run_group import RunGroup

STYLES = {"done": "green", "failed": "red", "running": "cyan", "paused": "yellow", "cancelled": "yellow"}


def show_comparison(console: Console, compared: Comparison, group: RunGroup) -> None:
    """Print the datasets, their scores and times side by side, and where the page is."""
    console.print(dataset_table(compared))
    for step, scores in compared.scores.items():
        console.print(_side_by_side(_worth_showing(scores), f"scores of {step}", "metric"))
    if compared.seconds.rows:
        console.print(_side_by_side(compared.seconds, "time of steps", "step"))
    for problem in compared.problems:
        console.print(f"[yellow]unreadable[/yellow] {escape(problem)}", soft_wrap=True)
    console.print(f"{'comparison':22} {short(group.folder / PAGE)}", soft_wrap=True, highlight=False)


def dataset_table(compared: Comparison) -> Table:
    """Return a row for each dataset: state, voxels, time, size, counts."""
    table = Table(title=f"datasets of {compared.name}")
    for name in ("dataset", "state"):
        table.add_column(name, overflow="fold")
    counted = compared.counted
    for name in ("voxels", "time", "on disk", *counted):
        table.add_column(name, justify="right", overflow="fold")
    for row in compared.datasets:
        state = f"[{STYLES.get(row.state, 'dim')}]{row.state}[/]"
        table.add_row(row.name, state, row.voxels, row.seconds, row.size, *(row.counts[label] for label in counted))
    return table


def _side_by_side(scores: Scores, title: str, first: str) -> Table:
    """Return a table with a column for each dataset; the page has the 95 % limits, too."""
    table = Table(title=title)
    table.add_column(first, no_wrap=True)
    for name in scores.columns:
        table.add_column(name, justify="right", overflow="fold")
    judged = any(row.better for row in scores.rows)
    for name in ("better",) if judged else ():
        table.add_column(name)
    for row in scores.rows:
        texts = [_short(cell.text) for cell in row.cells]
        shown = [f"[bold]{text}[/bold]" if cell.best else text for text, cell in zip(texts, row.cells, strict=True)]
        metric = f"{row.metric} ({row.unit})" if row.unit else row.metric
        table.add_row(metric, *shown, *((row.better,) if judged else ()))
    return table


def _short(text: str) -> str:
    """Return a cell without the limits behind it."""
    number, _, more = text.partition(" (")
    return number if more.endswith(")") else text


def _worth_showing(scores: Scores) -> Scores:
    """Return the scores by which datasets are better or worse; counts behind them are left to the page."""
    kept = [row for row in scores.rows if row.better and any(cell.text[:1].isdigit() for cell in row.cells)]
    return Scores(scores.columns, kept or scores.rows)
