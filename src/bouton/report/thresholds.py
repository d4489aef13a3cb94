"""How a segmentation would change with its threshold, from the merge history alone."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from bouton.report.pictures import png_address
from bouton.report.plots import BLUE, INK, RED, SOFT


@dataclass(frozen=True)
class ThresholdCurve:
    """Segments against threshold.

    Attributes
    ----------
    step : str
        The step that holds the merge history.
    columns : mapping of str -> numpy.ndarray
        ``threshold``, float64 rising; ``segments`` and ``largest_voxels``, int64.
    fragments, voxels : int
        How many fragments there are, and their voxels.
    used : sequence of float
        Thresholds at which the run wrote volumes.
    """

    step: str
    columns: Mapping[str, np.ndarray]
    fragments: int
    voxels: int
    used: Sequence[float] = ()

    @property
    def facts(self) -> dict[str, str]:
        """Label -> text for the report."""
        facts = {"fragments": f"{self.fragments:,}"}
        for threshold in self.used:
            # the last threshold that is not above it
            row = int(np.searchsorted(self.columns["threshold"], threshold + 1e-9)) - 1
            if row >= 0:
                facts[f"segments at {threshold:g}"] = f"{int(self.columns['segments'][row]):,}"
        return facts

    @property
    def plot(self) -> str:
        """Two plots as a ``data:`` address: number of segments, share of the largest."""
        figure = Figure(figsize=(9, 2.9), dpi=120, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        number, largest = figure.subplots(1, 2)
        number.step(self.columns["threshold"], self.columns["segments"], where="post", color=BLUE, linewidth=1.8)
        number.set_ylim(bottom=0)
        number.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        share = self.columns["largest_voxels"] / max(1, self.voxels)
        largest.step(self.columns["threshold"], share, where="post", color=RED, linewidth=1.8)
        largest.set_ylim(0, max(0.01, 1.1 * float(share.max(initial=0))))
        largest.yaxis.set_major_formatter(PercentFormatter(1))
        self._dress(number, "Number of segments")
        self._dress(largest, "Largest segment, of all voxels")
        buffer = io.BytesIO()
        canvas.print_png(buffer)
        return png_address(buffer.getvalue())

    def _dress(self, axes: Axes, title: str) -> None:
        for threshold in self.used:
            axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            place = (threshold, axes.get_ylim()[1])
            axes.annotate(f" {threshold:g}", place, fontsize=8, color=INK, va="top")
        axes.set_title(title, fontsize=10, color=INK, loc="left", fontweight="bold")
        axes.set_xlabel("threshold (0 to 1)", fontsize=9, color=INK)
        axes.set_xlim(float(self.columns["threshold"].min(initial=1.0)) - 0.01, 1.0)
        axes.tick_params(labelsize=8, colors=INK)
        axes.grid(axis="y", color=SOFT, linewidth=0.5)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(SOFT)
