"""Precision and recall over the score of synapses, with the point that was taken."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bouton.report.numbers import number_text
from bouton.report.pictures import png_address
from bouton.report.plots import BLUE, GREEN, INK, RED, SOFT
from bouton.volume import TableData
from bouton.volume.run_folder import Run
from bouton.volume.run_layers import read_tables

_LEVELS = {"location": ("place right", BLUE), "partners": ("place and partners right", GREEN)}


@dataclass(frozen=True)
class CurveSet:
    """The curve of one evaluation of synapses: facts, label -> text, and its plots as a ``data:`` address."""

    step: str
    facts: Mapping[str, str]
    plot: str


@dataclass(frozen=True)
class CountSet:
    """Corrected counts of one connectome: rows of type, n, corrected number, 95 % interval, as text."""

    step: str
    rows: list[tuple[str, str, str, str]]


def curve_sets(run: Run) -> tuple[list[CurveSet], list[str]]:
    """Return what the evaluations of a run say over the score, and why some could not be read."""
    scores, _ = read_tables(run, "scores")
    values = {table.step: _values(rows) for table, rows in scores}
    found, problems = read_tables(run, "curve")
    sets = []
    for table, rows in found:
        facts = values.get(table.step, {})
        plot = curve_plot(rows, facts.get("min_score", 0.0))
        if plot:
            sets.append(CurveSet(table.step, _facts(facts), plot))
    return sets, problems


def count_sets(run: Run) -> tuple[list[CountSet], list[str]]:
    """Return the counts of the connectomes of a run that are corrected, and why some could not be read."""
    found, problems = read_tables(run, "totals")
    return [
        CountSet(table.step, _count_rows(rows)) for table, rows in found if np.isfinite(rows["n_corrected"]).any()
    ], problems


def _values(scores: TableData) -> dict[str, float]:
    return {str(name): float(value) for name, value in zip(scores["metric"], scores["value"], strict=True)}


def _facts(values: Mapping[str, float]) -> dict[str, str]:
    names = {
        "synapse_average_precision": "average precision",
        "synapse_partners_average_precision": "average precision, partners right",
        "min_score": "least score taken",
        "synapse_best_score": "least score of the best F1 here",
        "synapse_partners_best_score": "the same, partners right",
    }
    return {label: number_text(values[name]) for name, label in names.items() if name in values}


def _count_rows(totals: TableData) -> list[tuple[str, str, str, str]]:
    rows = []
    columns = [totals[name] for name in ("type", "n", "n_corrected", "n_corrected_low", "n_corrected_high")]
    for kind, n, value, low, high in zip(*columns, strict=True):
        known = np.isfinite(value)
        limits = f"{low:,.0f} to {high:,.0f}" if known else "–"
        rows.append((str(kind), f"{n:,}", f"{value:,.0f}" if known else "–", limits))
    return rows


def curve_picture(curve: Mapping[str, np.ndarray], min_score: float) -> bytes | None:
    """Return two plots as PNG: precision over recall, and precision, recall and F1 over the score.

    Parameters
    ----------
    curve : mapping
        Columns ``level``, ``score``, ``precision``, ``recall``, ``f1``, the highest score of a level first.
    min_score : float
        The least score that was taken: a ring and a line.

    Returns
    -------
    bytes or None
        None where there is nothing to draw.
    """
    if not np.isfinite(np.asarray(curve["f1"], dtype=np.float64)).any():
        return None
    figure = Figure(figsize=(10, 3.6), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    over_recall, over_score = figure.subplots(1, 2)
    for level, (label, colour) in _LEVELS.items():
        rows = {name: values[curve["level"] == level] for name, values in curve.items()}
        if len(rows["score"]):
            _recall(over_recall, rows, label, colour, min_score)
    name = "partners" if (curve["level"] == "partners").any() else "location"
    _score(over_score, {k: values[curve["level"] == name] for k, values in curve.items()}, min_score)
    over_score.set_title(f"By score: {_LEVELS[name][0]}", fontsize=10, color=INK, loc="left", fontweight="bold")
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def curve_plot(curve: Mapping[str, np.ndarray], min_score: float) -> str:
    """Return :func:`curve_picture` as a ``data:`` address; empty where there is nothing to draw."""
    picture = curve_picture(curve, min_score)
    return "" if picture is None else png_address(picture)


def _recall(axes: Axes, rows: Mapping[str, np.ndarray], label: str, colour: str, min_score: float) -> None:
    axes.plot(rows["recall"], rows["precision"], color=colour, linewidth=1.8, label=label)
    taken = np.flatnonzero(rows["score"] >= min_score)
    if taken.size:
        at = taken[-1]
        axes.plot(rows["recall"][at], rows["precision"][at], "o", markersize=9, markerfacecolor="none", color=RED)
    axes.set_title("Precision over recall", fontsize=10, color=INK, loc="left", fontweight="bold")
    _dress(axes, "recall", "precision")
    axes.set_xlim(0, 1.02)
    axes.legend(frameon=False, fontsize=8, loc="lower left")


def _score(axes: Axes, rows: Mapping[str, np.ndarray], min_score: float) -> None:
    for name, colour in (("precision", BLUE), ("recall", GREEN), ("f1", INK)):
        axes.plot(rows["score"], rows[name], color=colour, linewidth=1.8, label=name)
    axes.axvline(min_score, color=RED, linewidth=1.2, linestyle="--", label="taken from here on")
    _dress(axes, "least score", "")
    axes.set_xlim(-0.02, 1.02)
    axes.legend(frameon=False, fontsize=8, loc="lower left")


def _dress(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.set_ylim(0, 1.02)
    axes.grid(color=SOFT, linewidth=0.5)
    axes.tick_params(labelsize=8, colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
