"""Plots of synapse tables, drawn without pyplot: no global state, safe in threads."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bouton.report.pictures import png_address

INK, SOFT, BLUE, GREEN, RED = "#1f2430", "#c9ccd4", "#3b6fd4", "#2f9e6b", "#d4483b"
_TYPE_COLOURS = {"excitatory": "#e0a516", "inhibitory": "#2fa8c9", "unknown": "#8d93a1"}


def synapse_plots(rows: dict[str, np.ndarray]) -> str:
    """Return a strip of four plots as a ``data:`` address: sizes, scores, out-degrees, in-degrees."""
    figure = Figure(figsize=(12, 2.9), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    sizes, scores, out, into = figure.subplots(1, 4)
    _sizes(sizes, rows)
    _scores(scores, rows)
    _degrees(out, rows["pre_id"], ("Out-degree", "synapses a segment makes", GREEN))
    _degrees(into, rows["post_id"], ("In-degree", "synapses a segment receives", RED))
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return png_address(buffer.getvalue())


def _sizes(axes: Axes, rows: dict[str, np.ndarray]) -> None:
    size = np.asarray(rows["size_voxels"], dtype=np.float64)
    types = np.asarray(rows["type"], dtype=str)
    kinds = [kind for kind in _TYPE_COLOURS if (types == kind).any()]
    top = float(np.percentile(size, 99.5)) if size.size else 1.0
    parts = [np.minimum(size[types == kind], top) for kind in kinds]
    if parts:
        edges = np.linspace(0, max(top, 1.0), 25).tolist()
        axes.hist(parts, bins=edges, stacked=True, color=[_TYPE_COLOURS[k] for k in kinds], label=kinds)
        axes.legend(frameon=False, fontsize=8)
    _dress(axes, ("Size of the cleft", "voxels", "synapses"))


def _scores(axes: Axes, rows: dict[str, np.ndarray]) -> None:
    axes.hist(np.asarray(rows["score"], dtype=np.float64), bins=np.linspace(0, 1, 26).tolist(), color=BLUE)
    _dress(axes, ("Score", "0 to 1", "synapses"))


def _degrees(axes: Axes, ids: np.ndarray, words: tuple[str, str, str]) -> None:
    title, label, colour = words
    degrees = np.unique(ids[ids != 0], return_counts=True)[1]
    if degrees.size:
        values, counts = np.unique(degrees, return_counts=True)
        axes.bar(values, counts, width=0.8, color=colour)
        axes.set_xlim(0, max(5, values.max() + 1))
        if values.max() > 40:
            axes.clear()
            edges = np.unique(np.round(np.geomspace(1, values.max() + 1, 20))).tolist()
            axes.hist(degrees, bins=edges, color=colour)
            axes.set_xscale("log")
    _dress(axes, (title, label, "segments"))


def _dress(axes: Axes, words: tuple[str, str, str]) -> None:
    axes.set_title(words[0], fontsize=10, color=INK, loc="left", fontweight="bold")
    axes.set_xlabel(words[1], fontsize=9, color=INK)
    axes.set_ylabel(words[2], fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if axes.get_xscale() == "linear" and words[2] == "segments":
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(SOFT)
