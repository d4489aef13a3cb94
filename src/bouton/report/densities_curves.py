"""Density along axes and depth, its histogram, variogram and Ripley's function, as figures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bouton.report.densities_tables import DensityTables
from bouton.report.plots import BLUE, INK, SOFT

# Told apart by colour-blind eyes (Okabe and Ito), and by the kind of line where colour is lost.
ORANGE = "#d55e00"
DENSITY = "synapses per µm³"
_VOLUME, _BARS = "#e3e5ea", "#b7c9ee"
_STRIP = 0.14

Points = Mapping[str, np.ndarray]


def curve_figures(tables: DensityTables) -> dict[str, Figure]:
    """Return the figures for which there are points, by name: axes, depth, variogram, ripley, histogram."""
    figures = {}
    along = {axis: _along(tables, axis) for axis in "zyx"}
    if any(_has_points(points) for points in along.values()):
        figures["axes"] = _axes_figure(along)
    drawn = {"depth": _depth, "variogram": _variogram, "ripley": _ripley}
    for name, draw in drawn.items():
        points = tables.curve(name)
        if _has_points(points):
            figures[name] = _figure(6.0, 3.3)
            draw(figures[name].subplots(), points)
    blocks = tables.curve("histogram")
    if _has_points(blocks):
        figures["histogram"] = _figure(6.0, 3.3)
        _histogram(figures["histogram"].subplots(), blocks, tables.curve("histogram over-dispersed"))
    return figures


def _has_points(points: Points) -> bool:
    return bool(np.isfinite(points["y"]).any())


def _along(tables: DensityTables, axis: str) -> dict[str, np.ndarray]:
    """Return density along an axis as it was found; without tests, sums over sums of the blocks, no interval."""
    if tables.curves:
        return tables.curve(f"axis {axis}")
    blocks = tables.blocks
    positions, place = np.unique(blocks[f"{axis}_nm"], return_inverse=True)
    synapses, volume = (np.bincount(place, weights=blocks[name]) for name in ("synapses", "exposed_um3"))
    density = np.divide(synapses, volume, out=np.full(len(positions), np.nan), where=volume > 0)
    nothing = np.full(len(positions), np.nan)
    total = tables.totals["density_um3"]
    found = {"x": positions / 1000.0, "y": density, "low": nothing, "high": nothing, "weight": volume}
    return found | {"expected": np.full(len(positions), total)}


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _axes_figure(along: Mapping[str, Points]) -> Figure:
    figure = _figure(12.0, 3.3)
    shown = figure.subplots(1, len(along), sharey=True)
    for axes, (axis, points) in zip(shown, along.items(), strict=True):
        _profile(axes, points)
        _dress(axes, f"Density along {axis}", f"{axis} (µm)", DENSITY if axis == "z" else "")
    shown[0].set_ylim(*_limits(list(along.values())))
    handles, labels = max((axes.get_legend_handles_labels() for axes in shown), key=lambda found: len(found[0]))
    figure.legend(handles, labels, loc="outside lower left", ncols=4, fontsize=8, frameon=False, labelcolor=INK)
    return figure


def _profile(axes: Axes, points: Points) -> None:
    """Draw density with its interval, what is expected, and how much volume stands behind each point."""
    x, weight = points["x"], points["weight"]
    top = float(np.nanmax(weight, initial=0.0))
    if top > 0 and len(x) > 1:
        strip = np.nan_to_num(weight) / top * _STRIP
        share = axes.get_xaxis_transform()
        axes.fill_between(
            x, 0, strip, transform=share, color=_VOLUME, step="mid", lw=0, label="exposed volume", zorder=0
        )
    axes.plot(x, points["expected"], color=ORANGE, lw=1.4, ls=(0, (5, 3)), label="if uniform")
    if len(x) == 1:
        away = np.abs(np.stack([points["y"] - points["low"], points["high"] - points["y"]]))
        axes.errorbar(x, points["y"], yerr=np.nan_to_num(away), fmt="o", color=BLUE, ms=5, label="density")
        axes.axhline(float(points["expected"][0]), color=ORANGE, lw=1.4, ls=(0, (5, 3)))
        return
    if np.isfinite(points["low"]).any():
        axes.fill_between(x, points["low"], points["high"], color=BLUE, alpha=0.22, lw=0, label="95 % interval")
    axes.plot(x, points["y"], color=BLUE, lw=1.6, marker="o" if len(x) <= 40 else "", ms=3, label="density")


def _limits(curves: list[Points]) -> tuple[float, float]:
    """Return limits of density that show all points, and intervals unless they reach far beyond the points."""
    y = np.concatenate([points["y"] for points in curves])
    y = y[np.isfinite(y)]
    ends = np.concatenate([points[name] for points in curves for name in ("low", "high", "expected")])
    ends = ends[np.isfinite(ends)]
    if not y.size:
        return 0.0, 1.0
    room = max(3 * float(np.ptp(y)), float(np.abs(y).max()), 1e-9)
    low = max(min(float(y.min()), float(ends.min(initial=np.inf))), float(y.min()) - room)
    high = min(max(float(y.max()), float(ends.max(initial=-np.inf))), float(y.max()) + room)
    edge = 0.08 * max(high - low, 1.0 if high == low == 0.0 else 0.0, 0.1 * abs(high))
    return low - edge - _STRIP * (high - low), high + edge


def _depth(axes: Axes, points: Points) -> None:
    _profile(axes, points)
    axes.set_ylim(*_limits([points]))
    _dress(axes, "Density along depth", "depth (µm)", DENSITY)
    _legend(axes)


def _histogram(axes: Axes, blocks: Points, spread: Points) -> None:
    x = blocks["x"]
    # Bins begin at 0, so a single one is as wide as twice its middle.
    width = float(np.median(np.diff(x))) if len(x) > 1 else 2 * float(x[0])
    axes.bar(x, blocks["y"], width=0.94 * width, color=_BARS, label="found")
    axes.plot(x, blocks["expected"], color=ORANGE, lw=1.6, marker="o", ms=3, label="uniform tissue (Poisson)")
    if np.isfinite(spread["expected"]).any():
        label = "that varies as much as this (negative binomial)"
        axes.plot(spread["x"], spread["expected"], color=INK, lw=1.4, ls=(0, (5, 3)), label=label)
    _dress(axes, "Density of the blocks", DENSITY, "blocks")
    axes.set_ylim(bottom=0)
    _legend(axes)


def _variogram(axes: Axes, points: Points) -> None:
    _against_band(axes, points, "o")
    _dress(axes, "Variogram", "distance of blocks (µm)", "semivariance (variance = 1)")
    _legend(axes)


def _ripley(axes: Axes, points: Points) -> None:
    _against_band(axes, points, "")
    _dress(axes, "Neighbours of synapses (Ripley)", "distance of synapses (µm)", "neighbours over random")
    _legend(axes)


def _against_band(axes: Axes, points: Points, marker: str) -> None:
    """Draw a curve and the band around what is expected, as wide as the curve's interval: to leave it is to differ."""
    x, y, expected = points["x"], points["y"], points["expected"]
    if np.isfinite(points["low"]).any():
        band = (expected - (y - points["low"]), expected + (points["high"] - y))
        axes.fill_between(x, *band, color=SOFT, alpha=0.6, lw=0, label="95 % band")
    axes.plot(x, expected, color=ORANGE, lw=1.4, ls=(0, (5, 3)), label="expected of chance")
    axes.plot(x, y, color=BLUE, lw=1.6, marker=marker, ms=4, label="found")


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.legend(
        handles, labels, loc="outside lower left", ncols=2 if max(map(len, labels)) > 24 else 4, fontsize=8,
        frameon=False, labelcolor=INK,
    )  # fmt: skip


def _dress(axes: Axes, title: str, across: str, up: str) -> None:
    axes.set_title(title, fontsize=10, color=INK, loc="left", fontweight="bold")
    axes.set_xlabel(across, fontsize=9, color=INK)
    axes.set_ylabel(up, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(axis="y", color=SOFT, lw=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(SOFT)
