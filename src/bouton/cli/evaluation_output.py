"""How ``bouton evaluate`` shows scores: tables for a terminal, rows for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from rich.table import Table

from bouton.cli.synapse_scores import grouped
from bouton.evaluate import skeletons as skeleton_metrics
from bouton.evaluate.scores import explain
from bouton.evaluate.synapse_rows import EXPLAINED as SYNAPSES_EXPLAINED
from bouton.volume import TableData

WIDE = 120


def titled(name: str, table: TableData) -> dict[str, TableData]:
    """Return a table of scores in parts with a title each."""
    if name != "synapses":
        return {name: table}
    return {f"{name}, {title}": rows for title, rows in grouped(table).items()}


def json_rows(table: TableData) -> list[dict[str, object]]:
    """Return the rows as dictionaries that JSON can hold: null for what is no number."""
    rows = zip(*[values.tolist() for values in table.values()], strict=True)
    return [{name: _plain(value) for name, value in zip(table, row, strict=True)} for row in rows]


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _explained(metric: str) -> str:
    return explain(metric) or explain(metric, SYNAPSES_EXPLAINED) or skeleton_metrics.explain(metric)


def pretty_scores(name: str, table: Mapping[str, np.ndarray], width: int) -> Table:
    """Return the scores as a table for a terminal of ``width`` columns; a narrow one gets no explanations."""
    values = dict(zip(table["metric"], table["value"], strict=True))
    columns = ["metric", "value", "unit", "better", "over"]
    with_intervals, wide = any(metric.endswith("_low") for metric in values), width >= WIDE
    columns[2:2] = ["95 % interval"] if with_intervals else []
    caption = None if wide else f"what each says: {WIDE} columns or more"
    pretty = Table(title=f"Scores: {name}", caption=caption)
    for column in columns:
        pretty.add_column(column, no_wrap=True)
    if wide:
        pretty.add_column("what it says")
    for metric, value, unit, better, n in zip(*table.values(), strict=True):
        if metric.removesuffix("_low").removesuffix("_high") != metric:
            continue
        row = [
            metric,
            f"{value:.0f}" if better == "" and unit not in ("score", "ratio") else f"{value:.4f}",
            unit,
            better,
            f"{n:,}",
        ]
        low, high = values.get(f"{metric}_low"), values.get(f"{metric}_high")
        interval = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""
        row[2:2] = [interval] if with_intervals else []
        pretty.add_row(*row, *([_explained(metric)] if wide else []))
    return pretty
