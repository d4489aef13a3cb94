"""The page of ``bouton check-model``: verdict, reasons, the worst regions as pictures, every box in a table."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from bouton.geometry import NM, Box
from bouton.report.page import render
from bouton.report.pictures import png_uri
from bouton.report.plots import BLUE, GREEN, INK, RED, SOFT
from bouton.volume import write_bytes

AMBER, GREY = "#d98a1f", "#8d93a1"
LEVELS: Mapping[str, str] = {"alike": GREEN, "doubtful": AMBER, "strange": RED, "blank": INK, "unknown": GREY}
FARTHEST = 8.0
"""Deviations are drawn up to here."""
_SIDE = 300
_GAP = 6


@dataclass(frozen=True)
class BoxRow:
    """A box as the page lists it; scores are nan where the model has no reference. ``command`` opens the place."""

    box: Box
    level: str
    scores: tuple[float, float, float]
    deviations: np.ndarray
    told: str
    plain: Mapping[str, float]
    command: str


@dataclass(frozen=True)
class Region:
    """The middle section of a box and what lies around it.

    Attributes
    ----------
    row : BoxRow
    title : str
    around : numpy.ndarray
        Image, uint8 (y, x).
    place : (slice, slice)
        Rows and columns of it that the box takes.
    border : numpy.ndarray
        How sure the network is of a border, 0 to 1 (y, x), over the box.
    """

    row: BoxRow
    title: str
    around: np.ndarray
    place: tuple[slice, slice]
    border: np.ndarray


@dataclass(frozen=True)
class ShiftPage:
    """All that the page shows.

    Attributes
    ----------
    title, verdict : str
    facts : mapping of str -> str
    reasons : sequence of mapping
        ``verdict``, ``found``, ``where``, ``fix``.
    rows : sequence of BoxRow
        The worst first.
    regions : sequence of Region
    bounds : Box
        What the boxes were drawn from.
    voxel_size_nm : (z, y, x)
    features : sequence of str
        What ``deviations`` are of.
    limits : (float, float)
        Scores from which a box is doubtful, strange.
    histogram : numpy.ndarray
        int64 (20,): probabilities in twentieths.
    reliability : tuple of numpy.ndarray or None
        Edges, mean probability and true share of each bin.
    """

    title: str
    verdict: str
    facts: Mapping[str, str]
    reasons: Sequence[Mapping[str, str]]
    rows: Sequence[BoxRow]
    regions: Sequence[Region]
    bounds: Box
    voxel_size_nm: NM
    features: Sequence[str]
    limits: tuple[float, float]
    histogram: np.ndarray
    reliability: tuple[np.ndarray, np.ndarray, np.ndarray] | None = field(default=None)


def write_shift_page(page: ShiftPage, path: Path) -> Path:
    """Write the page as one HTML file that needs nothing else, and its plots as ``plots.png`` beside it."""
    plots = shift_plots(page)
    write_bytes(path.with_name("plots.png"), plots)
    content: dict[str, Any] = {
        "name": page.title,
        "verdict": page.verdict,
        "state": {"fits": "done", "doubtful": "blocked"}.get(page.verdict, "failed"),
        "facts": page.facts,
        "reasons": [
            {**reason, "state": {"does not fit": "failed", "doubtful": "blocked"}.get(reason["verdict"], "")}
            for reason in page.reasons
        ],
        "regions": [
            {"title": r.title, "row": r.row, "uri": png_uri(region_picture(r)), "box": str(r.row.box)}
            for r in page.regions
        ],
        "rows": page.rows,
        "colours": LEVELS,
        "plots": png_uri(Image.open(io.BytesIO(plots))),
        "known": bool(page.rows) and bool(np.isfinite(page.rows[0].scores[0])),
        "limits": page.limits,
    }
    write_bytes(path, render(content, "shift.html.jinja").encode("utf-8"))
    return path


def region_picture(region: Region) -> Image.Image:
    """Return a region in its surroundings, framed, and beside it with the borders that the network sees in orange."""
    grey = region.around.astype(np.float32)
    low, high = np.percentile(grey, (0.5, 99.5))
    grey = np.clip((grey - low) / max(high - low, 12.0), 0, 1) * 255
    around = np.repeat(grey[..., None], 3, axis=2)
    inner = around[region.place]
    weight = np.clip(region.border, 0, 1)[..., None] * 0.85
    seen = inner * (1 - weight) + np.array([255.0, 130.0, 20.0]) * weight
    left, right = _sized(around), _sized(seen)
    zoom = left.width / grey.shape[1]
    rows, columns = region.place
    frame = [columns.start * zoom, rows.start * zoom, columns.stop * zoom - 1, rows.stop * zoom - 1]
    ImageDraw.Draw(left).rectangle(frame, outline=(255, 225, 60), width=2)
    picture = Image.new("RGB", (left.width + _GAP + right.width, max(left.height, right.height)), "white")
    picture.paste(left, (0, 0))
    picture.paste(right, (left.width + _GAP, 0))
    return picture


def _sized(rgb: np.ndarray) -> Image.Image:
    height, width = rgb.shape[:2]
    zoom = _SIDE / height
    size = (max(1, min(2 * _SIDE, round(width * zoom))), _SIDE)
    return Image.fromarray(rgb.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def shift_plots(page: ShiftPage) -> bytes:
    """Return a PNG: where the boxes lie and how they score, what tells them apart, how sure the network is."""
    figure = Figure(figsize=(12.4, 7.4), dpi=120, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 3, width_ratios=(1, 1, 1.15))
    _map(figure.add_subplot(grid[0, 0]), page, (2, 1))
    _map(figure.add_subplot(grid[0, 1]), page, (2, 0))
    _features(figure.add_subplot(grid[:, 2]), page)
    _scores(figure.add_subplot(grid[1, 0]), page)
    _certainty(figure.add_subplot(grid[1, 1]), page)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _map(axes: Axes, page: ShiftPage, shown: tuple[int, int]) -> None:
    """Draw the boxes seen along one axis; ``shown`` is what goes right and what goes down."""
    names = "zyx"
    for row in reversed(page.rows):
        right, down = ((row.box.start[a], row.box.shape[a]) for a in shown)
        colour = LEVELS[row.level]
        patch = axes.bar(right[0], down[1], right[1], down[0], align="edge", color=colour, alpha=0.30)
        patch[0].set_edgecolor(colour)
    for a, limit in zip(shown, (axes.set_xlim, axes.set_ylim), strict=True):
        start, stop = page.bounds.start[a], page.bounds.stop[a]
        limit((start, stop) if a == shown[0] else (stop, start))
    axes.set_aspect(page.voxel_size_nm[shown[1]] / page.voxel_size_nm[shown[0]])
    _dress(
        axes, f"Boxes, seen along {names[3 - sum(shown)]}", f"{names[shown[0]]}, voxels", f"{names[shown[1]]}, voxels"
    )


def _features(axes: Axes, page: ShiftPage) -> None:
    places = np.arange(len(page.features))
    axes.axvspan(-2, 2, color="#eef3ec", linewidth=0)
    axes.axvline(0, color=SOFT, linewidth=1)
    spread = np.linspace(-0.25, 0.25, max(2, len(page.rows)))
    for at, row in zip(spread, reversed(page.rows), strict=False):
        values = np.clip(row.deviations, -FARTHEST, FARTHEST)
        axes.scatter(values, places + at, s=15, color=LEVELS[row.level], alpha=0.8, linewidths=0)
    axes.set_xlim(-FARTHEST - 0.4, FARTHEST + 0.4)
    axes.set_yticks(places, page.features)
    axes.invert_yaxis()
    words = (
        "standard deviations of the training data" if page.rows and np.isfinite(page.rows[0].scores[0]) else "unknown"
    )
    _dress(axes, "Features of the boxes", words, "")


def _scores(axes: Axes, page: ShiftPage) -> None:
    scores = np.array([row.scores[0] for row in page.rows])
    if np.isfinite(scores).all() and len(scores):
        axes.bar(np.arange(len(scores)), scores, color=[LEVELS[row.level] for row in page.rows], width=0.8)
        for limit in page.limits:
            axes.axhline(limit, color=INK, linewidth=0.9, linestyle=(0, (4, 2)))
        axes.set_ylim(0, max(page.limits[1] * 1.25, float(scores.max()) * 1.06))
    else:
        axes.text(0.5, 0.5, "no reference", ha="center", va="center", color=GREY, transform=axes.transAxes)
    axes.set_xticks([])
    _dress(axes, "Scores, dashed: doubtful and strange", "boxes, the worst first", "score")


def _certainty(axes: Axes, page: ShiftPage) -> None:
    if page.reliability is None:
        share = page.histogram / max(1, page.histogram.sum())
        axes.bar((np.arange(20) + 0.5) / 20, share, width=0.045, color=BLUE)
        axes.set_yscale("log")
        _dress(axes, "How sure the network is", "probability", "share of predictions")
        return
    edges, mean, share = page.reliability
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1)
    size = 8 + 120 * edges / max(1, edges.max())
    axes.plot(mean, share, color=BLUE, linewidth=1.2)
    axes.scatter(mean, share, s=size, color=BLUE, alpha=0.75, linewidths=0)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    _dress(axes, "Reliability (area: number of edges)", "predicted affinity", "share within one cell")


def _dress(axes: Axes, title: str, right: str, up: str) -> None:
    axes.set_title(title, fontsize=10, color=INK, loc="left", fontweight="bold")
    axes.set_xlabel(right, fontsize=9, color=INK)
    axes.set_ylabel(up, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(SOFT)
