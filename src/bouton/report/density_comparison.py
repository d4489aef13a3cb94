"""Densities and ratios of several data sets, as a picture and as a page."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bouton.report.page import render
from bouton.report.pictures import png_address
from bouton.report.plots import BLUE, INK, SOFT

GREY = "#6a7080"
_LABELS = {
    "density": "synapses per µm³",
    "corrected density": "synapses per µm³,\ncorrected for precision and recall",
    "corrected density, excitatory": "excitatory synapses\nper µm³, corrected",
    "corrected density, inhibitory": "inhibitory synapses\nper µm³, corrected",
    "corrected E/I": "excitatory / inhibitory,\ncorrected",
    "E/I": "excitatory / inhibitory",
    "spine/shaft": "spine / shaft",
}

Rows = Sequence[Mapping[str, Any]]


def comparison_png(comparison: Mapping[str, Rows]) -> bytes:
    """Return a panel for each measure: values and 95 % intervals, a line for each data set.

    Parameters
    ----------
    comparison : mapping
        ``measurements``: rows of ``dataset, measure, value, low, high``; None: not available.
    """
    rows = comparison["measurements"]
    names = list(dict.fromkeys(row["dataset"] for row in rows))
    measures = [m for m in _LABELS if any(row["measure"] == m and row["value"] is not None for row in rows)]
    height = 1.3 + 0.38 * len(names)
    figure = Figure(figsize=(3.2 * max(len(measures), 1) + 1.2, height), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(1, max(len(measures), 1), sharey=True, squeeze=False)[0]
    for panel, measure in zip(axes, measures, strict=False):
        _panel(panel, [row for row in rows if row["measure"] == measure], names)
        panel.set_xlabel(_LABELS[measure], fontsize=9, color=INK)
    _dress(axes, names)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def comparison_page(comparison: Mapping[str, Rows]) -> str:
    """Return the picture and all numbers as HTML that needs nothing else; keys as :func:`comparison_png` takes them.

    ``differences`` are rows of ``measure, above, below, value, low, high, p, q``.
    """
    picture = png_address(comparison_png(comparison))
    content = {"picture": picture, "number": _number, "interval": _interval}
    return render(content | dict(comparison), "density_comparison.html.jinja")


def _panel(axes: Axes, rows: Rows, names: Sequence[str]) -> None:
    for row in rows:
        place, value = names.index(row["dataset"]), row["value"]
        if value is None:
            left = {"transform": axes.get_yaxis_transform(), "va": "center"}
            axes.text(0.02, place, "not available", fontsize=8, color=GREY, **left)
            continue
        if row["low"] is not None and row["high"] is not None:
            axes.plot([row["low"], row["high"]], [place, place], color=BLUE, linewidth=2, solid_capstyle="butt")
        axes.plot([value], [place], "o", color=BLUE, markersize=5)
    # From 0: a panel that shows only the values' own range makes any difference look large.
    axes.set_xlim(0, 1.04 * axes.get_xlim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _dress(axes: Sequence[Axes], names: Sequence[str]) -> None:
    for panel in axes:
        panel.set_yticks(range(len(names)), names, fontsize=9)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.tick_params(labelsize=8, colors=INK)
        panel.grid(axis="x", color=SOFT, linewidth=0.5)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            panel.spines[side].set_color(SOFT)


def _number(value: float | None) -> str:
    return f"{value:.4g}" if value is not None and math.isfinite(value) else "–"


def _interval(row: Mapping[str, Any]) -> str:
    known = row["low"] is not None and row["high"] is not None
    return f"{row['low']:.4g} – {row['high']:.4g}" if known else "–"
