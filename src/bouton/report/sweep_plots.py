"""The picture of a sweep over thresholds: splits against merges, and every score with its confidence band."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

INK, QUIET, SOFT = "#1f2430", "#6b7280", "#d9dce3"
BLUE, GREEN, RED, ORANGE = "#3b6fd4", "#2f9e6b", "#d4483b", "#d98a1f"
NAMES = {
    "voi_sum": ("Variation of information", "bits", BLUE),
    "adapted_rand_error": ("Adapted Rand error", "", RED),
    "cremi_score": ("CREMI score", "", ORANGE),
    "erl_tolerance_0": ("Expected run length", "um", GREEN),
    "erl_tolerance_5": ("Expected run length", "um", GREEN),
}
Columns = Mapping[str, np.ndarray]


def sweep_plot(columns: Columns, choice: Mapping[str, Any], words: tuple[str, str]) -> bytes:
    """Return a PNG.

    Parameters
    ----------
    columns : mapping of str -> numpy.ndarray
        The sweep's table: ``threshold``, ``segments``, scores, and ``<metric>_low``, ``<metric>_high``.
    choice : mapping
        ``metric``, ``threshold``, ``low``, ``high``, ``value``: the recommendation.
    words : (str, str)
        Title; what the bands are.
    """
    runs = "erl_tolerance_0" in columns
    metrics = ["voi_sum", "adapted_rand_error", *(["erl"] if runs else [])]
    if choice["metric"] == "cremi_score":
        metrics.insert(0, "cremi_score")
    wide = (len(metrics) + 2) // 2
    figure = Figure(figsize=(4.9 * wide, 8.2), dpi=130, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    first, *others = figure.subplots(2, wide).ravel()
    _splits_and_merges(first, columns, choice)
    for axes, metric in zip(others, metrics, strict=False):
        if metric == "erl":
            _run_lengths(axes, columns, choice["metric"])
        else:
            _curve(axes, columns, metric, NAMES[metric][2])
            _dress(axes, NAMES[metric][0], "threshold", NAMES[metric][1] or "error")
        _mark_choice(axes, choice, labelled=choice["metric"].startswith(metric))
        _segments_above(axes, columns)
    for axes in others[len(metrics) :]:
        axes.set_visible(False)
    figure.suptitle(words[0], fontsize=12, color=INK, fontweight="bold", x=0.01, ha="left")
    figure.supxlabel(f"Bands, and the shaded range of thresholds: 95 % of {words[1]}", fontsize=8.5, color=QUIET)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _splits_and_merges(axes: Axes, columns: Columns, choice: Mapping[str, Any]) -> None:
    split, merge, threshold = columns["voi_split"], columns["voi_merge"], columns["threshold"]
    points = np.stack([split, merge], axis=1)
    pieces = np.stack([points[:-1], points[1:]], axis=1)
    lines = LineCollection(list(pieces), cmap="viridis_r", array=threshold[1:], linewidths=2.2, zorder=2)
    axes.add_collection(lines)
    dots = axes.scatter(split, merge, c=threshold, cmap="viridis_r", s=16, zorder=3, linewidths=0)
    lines.set_clim(*dots.get_clim())
    row = int(np.flatnonzero(threshold == choice["threshold"])[0])
    axes.scatter(split[row], merge[row], s=120, facecolors="none", edgecolors=INK, linewidths=1.8, zorder=4)
    right = split[row] < (split.min() + split.max()) / 2
    axes.annotate(
        f"{choice['threshold']:g}", (split[row], merge[row]), (9 if right else -9, 9), textcoords="offset points",
        color=INK, fontsize=10, fontweight="bold", ha="left" if right else "right",
    )  # fmt: skip
    _equal_sums(axes, float(split[row] + merge[row]))
    axes.margins(0.08)
    # the curve is an L: its upper right is free
    bar = axes.figure.colorbar(dots, cax=axes.inset_axes((0.48, 0.9, 0.48, 0.03)), orientation="horizontal")
    bar.set_label("threshold", fontsize=8.5, color=INK, labelpad=1)
    bar.ax.tick_params(labelsize=7.5, colors=INK, length=2)
    bar.ax.xaxis.set_major_locator(MaxNLocator(5))
    bar.outline.set_visible(False)
    _dress(axes, "Splits against merges", "VOI split, bits", "VOI merge, bits", height=1.01)


def _equal_sums(axes: Axes, total: float) -> None:
    """Draw the line of all points with this sum, without widening the axes."""
    axes.autoscale_view()
    limits = axes.get_xlim(), axes.get_ylim()
    label = f"sum {total:.2f} bits, as there"
    axes.plot([0, total], [total, 0], color=SOFT, linewidth=1.4, zorder=1, scalex=False, scaley=False, label=label)
    axes.legend(frameon=False, fontsize=8, loc="center right", labelcolor=QUIET)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def _curve(axes: Axes, columns: Columns, metric: str, colour: str, band: bool = True, **style: Any) -> None:
    scale = 1e-3 if metric.startswith("erl") else 1.0
    at = columns["threshold"]
    if band:
        low, high = columns[f"{metric}_low"] * scale, columns[f"{metric}_high"] * scale
        axes.fill_between(at, low, high, color=colour, alpha=0.16, linewidth=0)
    marker = "o" if len(at) < 3 else None
    axes.plot(at, columns[metric] * scale, color=colour, linewidth=2.0, marker=marker, **style)


def _run_lengths(axes: Axes, columns: Columns, chosen_by: str) -> None:
    """Draw both run lengths; the band of the one that chooses, else of the more tolerant one."""
    banded = chosen_by if chosen_by.startswith("erl") else "erl_tolerance_5"
    for tolerance, style in ((5, "-"), (0, (0, (3, 1.4)))):
        metric = f"erl_tolerance_{tolerance}"
        band = metric == banded
        label = f"{tolerance}{', with its band' if band else ''}"
        _curve(axes, columns, metric, GREEN, band=band, linestyle=style, label=label)
    axes.set_ylim(bottom=0)
    words = "nodes of another skeleton tolerated"
    axes.legend(frameon=False, fontsize=8, loc="upper right", labelcolor=INK, title=words, title_fontsize=8)
    _dress(axes, "Expected run length", "threshold", "um")


def _mark_choice(axes: Axes, choice: Mapping[str, Any], labelled: bool) -> None:
    axes.axvspan(choice["low"], choice["high"], color=INK, alpha=0.07, linewidth=0, zorder=0)
    axes.axvline(choice["threshold"], color=INK, linewidth=1.3, linestyle=(0, (4, 2)), zorder=1)
    if labelled:
        words = f"recommended {choice['threshold']:g}\n({choice['low']:g} to {choice['high']:g})"
        low, high = axes.get_xlim()
        right = choice["threshold"] < (low + high) / 2
        axes.annotate(
            words, (choice["threshold"], 0.97), (7 if right else -7, 0), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="left" if right else "right", va="top", fontsize=9, color=INK,
            fontweight="bold",
        )  # fmt: skip


def _segments_above(axes: Axes, columns: Columns) -> None:
    """Say at the top how many segments the thresholds make."""
    threshold, segments = columns["threshold"], columns["segments"]
    above = axes.twiny()
    above.set_xlim(axes.get_xlim())
    wanted = np.linspace(threshold.min(), threshold.max(), 5 if len(threshold) > 4 else len(threshold))
    rows = np.unique(np.abs(threshold[:, None] - wanted).argmin(axis=0))
    above.xaxis.set_major_locator(FixedLocator(threshold[rows].tolist()))
    above.xaxis.set_minor_locator(NullLocator())
    above.set_xticklabels([_short(int(n)) for n in segments[rows]])
    above.set_xlabel("segments", fontsize=8.5, color=QUIET)
    above.tick_params(labelsize=8, colors=QUIET, length=2)
    for side in above.spines.values():
        side.set_visible(False)


def _short(n: int) -> str:
    for size, unit in ((1_000_000, "M"), (10_000, "k")):
        if n >= size:
            return f"{n / (1000 if unit == 'k' else size):.3g}{unit}"
    return f"{n:,}"


def _dress(axes: Axes, title: str, across: str, up: str, height: float = 1.12) -> None:
    axes.set_title(title, fontsize=11, color=INK, loc="left", fontweight="bold", y=height)
    axes.set_xlabel(across, fontsize=9, color=INK)
    axes.set_ylabel(up, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(color=SOFT, linewidth=0.6, alpha=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(SOFT)
