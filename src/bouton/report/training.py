"""A training's curves, example pictures and page: one HTML file that needs nothing else."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image

from bouton.report.page import render
from bouton.report.pictures import Plane, channels_rgb, grey, label_colours, overlay, png_address, png_uri
from bouton.report.plots import BLUE, GREEN, INK, RED, SOFT
from bouton.volume import write_bytes

AMBER = "#e0a516"
SHOWN = 320
Curves = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Example:
    """One place as pictures: a title, and a caption and address for each."""

    title: str
    pictures: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DataRow:
    """A volume as the page lists it; ``use`` is training or validation, ``known`` the annotated share as text."""

    use: str
    name: str
    box: str
    voxels: int
    known: str
    licence: str


@dataclass(frozen=True)
class TrainingPage:
    """What the page of a training tells.

    Attributes
    ----------
    name, state, description : str
        The state is ``running``, ``done`` or ``stopped``.
    facts : mapping of str -> str
    notes : sequence of str
        What the training said aloud: early stop, a damaged checkpoint, what started anew.
    curves : mapping of str -> numpy.ndarray
        Columns of the log over checkpoints, float64 (n,), NaN where not measured; ``step`` is one of them.
    picture : bytes
        :func:`curve_png` of them; empty where there is no row yet.
    best_step : int or None
        The step whose weights are the model, where validation chooses.
    score_words : str
        What the scores mean and which one chooses.
    examples, data : sequences
    settings, card : str
    """

    name: str
    state: str
    description: str
    facts: Mapping[str, str]
    notes: Sequence[str]
    curves: Curves
    picture: bytes
    best_step: int | None
    score_words: str
    examples: Sequence[Example]
    data: Sequence[DataRow]
    settings: str
    card: str


def write_training_page(path: Path, page: TrainingPage) -> None:
    """Write the page as one HTML file."""
    picture = page.picture
    names = [name for name in page.curves if is_score(name)]
    content = {
        **{name: getattr(page, name) for name in ("name", "description", "facts", "notes", "score_words", "examples")},
        **{name: getattr(page, name) for name in ("data", "settings", "card")},
        "state": page.state,
        "curves": png_address(picture) if picture else "",
        "score_names": [name.replace("_", " ") for name in names],
        "scores": _score_rows(page.curves, names, page.best_step),
    }
    write_bytes(path, render(content, "training.html.jinja").encode("utf-8"))


def is_score(name: str) -> bool:
    """Whether a column of the log is a validation score."""
    return name not in ("step", "loss", "learning_rate", "gradient_norm", "seconds", "example")


def _score_rows(curves: Curves, names: Sequence[str], best_step: int | None) -> list[dict[str, object]]:
    rows = []
    for i, step in enumerate(np.asarray(curves.get("step", np.zeros(0))).tolist()):
        values = [float(curves[name][i]) for name in names]
        if not all(np.isnan(values)):
            cells = [f"{step:.0f}", *("" if np.isnan(value) else f"{value:.4g}" for value in values)]
            rows.append({"cells": cells, "best": step == best_step})
    return rows


def curve_png(curves: Curves, best_step: int | None = None) -> bytes:
    """Return the curves of a training as a PNG: loss, learning rate, scores of the segmentation, of detections.

    Parameters
    ----------
    curves : mapping of str -> numpy.ndarray
        As in :class:`TrainingPage`.
    best_step : int, optional
        Marked by a line.
    """
    steps = np.asarray(curves["step"])
    panels = [_losses, _rates]
    if "voi_sum" in curves:
        panels.append(_segmentation)
    if any(name.endswith(("_ap", "_f1")) for name in curves):
        panels.append(_detection)
    width = 4.6 * len(panels)
    figure = Figure(figsize=(width, 3.4), dpi=110)
    canvas = FigureCanvasAgg(figure)
    # fixed room in inches: matplotlib's own search for it costs more than the drawing
    figure.subplots_adjust(left=0.55 / width, right=1 - 0.55 / width, bottom=0.15, top=0.9, wspace=0.32)
    for axes, draw in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        draw(axes, steps, curves)
        if best_step is not None:
            axes.axvline(best_step, color=SOFT, linestyle="--", zorder=0)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _line(axes: Axes, steps: np.ndarray, values: np.ndarray, label: str, colour: str, mark: str = "") -> None:
    there = np.isfinite(values)
    axes.plot(steps[there], values[there], marker=mark or None, markersize=4, color=colour, label=label)


def _losses(axes: Axes, steps: np.ndarray, curves: Curves) -> None:
    _line(axes, steps, curves["loss"], "training (balanced)", BLUE)
    if "validation_loss" in curves:
        _line(axes, steps, curves["validation_loss"], "validation", RED, "o")
    values = np.concatenate([curves[name] for name in ("loss", "validation_loss") if name in curves])
    if np.nanmax(values, initial=0) > 0:
        axes.set_yscale("log")
        for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            which(FuncFormatter(lambda value, _: f"{value:.3g}"))
        axes.tick_params(axis="y", which="minor", labelsize=7)
    _dress(axes, "Loss: cross-entropy")


def _rates(axes: Axes, steps: np.ndarray, curves: Curves) -> None:
    _line(axes, steps, curves["learning_rate"], "learning rate", GREEN)
    axes.set_ylim(bottom=0)
    other = axes.twinx()
    _line(other, steps, curves["gradient_norm"], "gradient norm", AMBER)
    other.tick_params(labelsize=8, colors=AMBER)
    other.set_ylim(bottom=0)
    lines = [*axes.get_lines(), *other.get_lines()]
    _dress(axes, "Learning rate (left), gradient norm (right)")
    axes.legend(lines, [str(line.get_label()) for line in lines], frameon=False, fontsize=8)


def _segmentation(axes: Axes, steps: np.ndarray, curves: Curves) -> None:
    for name, colour in (("voi_split", GREEN), ("voi_merge", RED), ("voi_sum", INK), ("adapted_rand_error", AMBER)):
        _line(axes, steps, curves[name], name.replace("_", " ").replace("voi", "VOI"), colour, "o")
    axes.set_ylim(bottom=0)
    _dress(axes, "Segmentation at the best threshold (bits; error)")


def _detection(axes: Axes, steps: np.ndarray, curves: Curves) -> None:
    colours = [BLUE, GREEN, RED, AMBER, INK]
    heads = [name.removesuffix("_ap") for name in curves if name.endswith("_ap")]
    for i, head in enumerate(heads):
        colour = colours[i % len(colours)]
        _line(axes, steps, curves[f"{head}_ap"], f"{head} AP", colour, "o")
        axes.plot(steps, curves[f"{head}_f1"], "s:", markersize=3, color=colour, label=f"{head} F1")
    axes.set_ylim(0, 1)
    _dress(axes, "Detection, voxel by voxel")


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10, color=INK, loc="left", fontweight="bold")
    axes.set_xlabel("step", fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)
    axes.spines["top"].set_visible(False)


def image_uri(image: np.ndarray, height_to_width: float = 1.0) -> str:
    """Return a grey section as a ``data:`` address.

    Parameters
    ----------
    image : numpy.ndarray
        (y, x).
    height_to_width : float
        Of a voxel in the picture.
    """
    return _uri(grey(Plane(image, np.ones(image.shape, bool))), height_to_width)


def labels_uri(labels: np.ndarray, image: np.ndarray | None, height_to_width: float = 1.0) -> str:
    """Return labels (y, x) as a ``data:`` address, over a grey section where one is given."""
    if image is None:
        return _uri(label_colours(labels), height_to_width)
    there = np.ones(labels.shape, bool)
    return _uri(overlay(grey(Plane(image, there)), Plane(labels, there)), height_to_width)


def channels_uri(values: np.ndarray, height_to_width: float = 1.0) -> str:
    """Return up to three channels (c, y, x), uint8, as red, green, blue, as a ``data:`` address."""
    return _uri(channels_rgb(Plane(values, np.ones(values.shape[1:], bool))), height_to_width)


def _uri(rgb: np.ndarray, height_to_width: float) -> str:
    height, width = rgb.shape[0] * height_to_width, float(rgb.shape[1])
    zoom = SHOWN / max(height, width)
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    return png_uri(Image.fromarray(rgb).resize(size, Image.Resampling.NEAREST))
