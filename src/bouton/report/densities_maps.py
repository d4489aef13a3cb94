"""Projections of synapse density along the three axes, with what is masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator

from bouton.geometry import NM
from bouton.report.plots import INK, SOFT

NM_PER_UM = 1000.0
MASKED_SHARE = 0.5
"""Above this share, a place of the projection is hatched."""
_COLOURS = "viridis"
_GREY, _DARK = "#e9ebef", "#8d93a1"
# Inches: the longest side of a panel where xz and yz stand right of xy, and where all stand in a row; the least width
# and height (a thin side is drawn larger than to scale); what stands around panels.
_LONGEST, _IN_A_ROW, _NARROWEST, _LOWEST = 4.9, 3.2, 1.4, 0.55
_LEFT, _TOP, _BOTTOM, _GAP, _BETWEEN = 0.75, 0.35, 0.6, 0.85, 0.95
_BAR, _BAR_ROOM, _BAR_HEIGHT = 0.16, 1.0, (1.8, 2.6)

Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True)
class Projection:
    """Blocks summed along one axis.

    Attributes
    ----------
    density_um3 : float64 (rows, columns)
        Synapses over exposed volume; nan where nothing is exposed.
    masked_share : float64 (rows, columns)
        Masked voxels over voxels; nan where there is no block.
    """

    density_um3: np.ndarray
    masked_share: np.ndarray


def projections(blocks: Mapping[str, np.ndarray]) -> list[Projection]:
    """Return the blocks of a table summed along z, y and x: sums over sums, so that a masked block weighs little."""
    index = np.stack([blocks[f"block_{axis}"] for axis in "zyx"], axis=1).astype(np.int64)
    index -= index.min(axis=0)
    shape = tuple(int(n) for n in index.max(axis=0) + 1)
    sums = []
    for name in ("synapses", "exposed_um3", "masked_voxels", "voxels"):
        dense = np.zeros(shape)
        np.add.at(dense, (index[:, 0], index[:, 1], index[:, 2]), blocks[name])
        sums.append(dense)
    found = []
    for axis in range(3):
        synapses, exposed, masked, voxels = (dense.sum(axis=axis) for dense in sums)
        found.append(Projection(_ratio(synapses, exposed), _ratio(masked, voxels)))
    return found


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)


def density_map(blocks: Mapping[str, np.ndarray], voxel_size_nm: NM) -> Figure | None:
    """Return projections on xy, xz and yz as a figure; None without blocks.

    Parameters
    ----------
    blocks : table
        Columns of ``bouton.volume.density_columns.DENSITY_COLUMNS``.
    voxel_size_nm : (z, y, x)
    """
    if not len(blocks["synapses"]):
        return None
    z, y, x = (_edges_um(blocks, axis, size) for axis, size in zip("zyx", voxel_size_nm, strict=True))
    along_z, along_y, along_x = projections(blocks)
    scale = _scale([along_z, along_y, along_x])
    rectangles, size = _layout(*(float(edges[-1] - edges[0]) for edges in (z, y, x)))
    figure = Figure(figsize=size, dpi=120)
    FigureCanvasAgg(figure)
    panels = ((along_z, x, y, "x", "y", "z"), (along_y, x, z, "x", "z", "y"), (along_x, y, z, "y", "z", "x"))
    for (projection, columns, rows, across, down, along), rectangle in zip(panels, rectangles, strict=False):
        axes = figure.add_axes(_share(rectangle, size))
        _draw(axes, projection, (columns, rows), scale)
        _label(axes, f"{across}{down}, mean along {along}", f"{across} (µm)", f"{down} (µm)")
    shown = [along_z, along_y, along_x]
    values = _finite([each.density_um3 for each in shown])
    if values.size:
        _add_bar(figure, _share(rectangles[3], size), scale, values)
    _add_legend(figure, shown)
    return figure


def _edges_um(blocks: Mapping[str, np.ndarray], axis: str, size_nm: float) -> np.ndarray:
    starts, index = blocks[f"{axis}_start"], blocks[f"block_{axis}"]
    step = int(blocks[f"{axis}_stop"][0] - starts[0])
    count = int(index.max() - index.min()) + 1
    return (int(starts.min()) + step * np.arange(count + 1)) * (size_nm / NM_PER_UM)


def _scale(shown: Sequence[Projection]) -> Normalize:
    """Return the range of colours: nearly all values that are not mostly masked: no stray block rules it."""
    clear = [p.density_um3[p.masked_share <= MASKED_SHARE] for p in shown]
    values = _finite(clear)
    if not values.size:
        values = _finite([projection.density_um3 for projection in shown])
    if not values.size:
        return Normalize(0.0, 1.0)
    low, high = (float(v) for v in np.percentile(values, [1, 99]))
    return Normalize(low, high) if high > low else Normalize(0.0, 2 * high or 1.0)


def _finite(parts: Sequence[np.ndarray]) -> np.ndarray:
    values = np.concatenate([part.ravel() for part in parts])
    return values[np.isfinite(values)]


def _layout(z: float, y: float, x: float) -> tuple[list[Rectangle], tuple[float, float]]:
    """Return rectangles (left, bottom, width, height; inches) of xy, xz, yz and the colour bar, and the whole size."""
    stacked = 2 * z <= 0.7 * y
    per_um = (_LONGEST if stacked else _IN_A_ROW) / max(z, y, x)
    wide_x, wide_y = max(_NARROWEST, x * per_um), max(_NARROWEST, y * per_um)
    high_y, high_z = max(_LOWEST, y * per_um), max(_LOWEST, z * per_um)
    second = _LEFT + wide_x + _BETWEEN
    third, below = (second, high_z + _GAP) if stacked else (second + wide_x + _BETWEEN, 0.0)
    height = max(high_y, high_z + below, _BAR_HEIGHT[0])
    top, end = _BOTTOM + height, max(second + wide_x, third + wide_y) + 0.3
    panels = [
        (_LEFT, top - high_y, wide_x, high_y),
        (second, top - high_z, wide_x, high_z),
        (third, top - high_z - below, wide_y, high_z),
    ]
    bar_height = min(_BAR_HEIGHT[1], height)
    return [*panels, (end, top - bar_height, _BAR, bar_height)], (end + _BAR + _BAR_ROOM, top + _TOP + 0.35)


def _share(rectangle: Rectangle, size: tuple[float, float]) -> Rectangle:
    left, bottom, width, height = rectangle
    return left / size[0], (bottom + 0.35) / size[1], width / size[0], height / size[1]


def _draw(axes: Axes, shown: Projection, edges: tuple[np.ndarray, np.ndarray], scale: Normalize) -> None:
    columns, rows = edges
    axes.set_facecolor(_GREY)
    density = np.ma.masked_invalid(shown.density_um3)
    axes.pcolormesh(columns, rows, density, cmap=_COLOURS, norm=scale, rasterized=True)
    empty = ~np.isfinite(shown.density_um3)
    masked = ~empty & (shown.masked_share > MASKED_SHARE)
    # Small cells need narrow hatching to show any.
    lines = int(np.clip(0.4 * len(columns) / _inches(axes)[0], 3, 7))
    for where, hatch, colour in ((empty, "xxx", _DARK), (masked, "/" * lines, "#ffffff")):
        if where.any():
            axes.add_patch(PathPatch(_cells(where, columns, rows), fill=False, hatch=hatch, edgecolor=colour, lw=0))
    axes.set_xlim(columns[0], columns[-1])
    axes.set_ylim(rows[-1], rows[0])


def _cells(where: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> Outline:
    """Return the outline of all cells of a mask as one path: hatching is drawn once, without seams."""
    row, column = np.nonzero(where)
    left, right, low, high = columns[column], columns[column + 1], rows[row], rows[row + 1]
    corners = [(left, low), (right, low), (right, high), (left, high), (left, low)]
    points = np.stack([np.stack(corner, axis=1) for corner in corners], axis=1).reshape(-1, 2)
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
    return Outline(points, np.tile(np.array(codes, Outline.code_type), len(row)))


def _label(axes: Axes, title: str, across: str, down: str) -> None:
    axes.set_title(title, fontsize=10, color=INK, loc="left", fontweight="bold")
    axes.set_xlabel(across, fontsize=9, color=INK)
    axes.set_ylabel(down, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    width, height = _inches(axes)
    axes.yaxis.set_major_locator(_ticks(2.5 * height))
    axes.xaxis.set_major_locator(_ticks(1.8 * width))
    for spine in axes.spines.values():
        spine.set_color(SOFT)


def _inches(axes: Axes) -> tuple[float, float]:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return axes.get_position().width * figure.get_figwidth(), axes.get_position().height * figure.get_figheight()


def _ticks(room: float) -> MaxNLocator:
    return MaxNLocator(int(np.clip(room, 2, 7)), steps=[1, 2, 2.5, 5, 10])


def _add_bar(figure: Figure, rectangle: Rectangle, scale: Normalize, values: np.ndarray) -> None:
    low, high = bool((values < scale.vmin).any()), bool((values > scale.vmax).any())
    ends = "both" if low and high else "min" if low else "max" if high else "neither"
    bar = figure.colorbar(ScalarMappable(scale, _COLOURS), cax=figure.add_axes(rectangle), extend=ends)
    bar.set_label("synapses per µm³", fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_edgecolor(SOFT)  # type: ignore[operator]


def _add_legend(figure: Figure, shown: Sequence[Projection]) -> None:
    handles = []
    if any(np.isnan(p.density_um3).any() for p in shown):
        handles.append(Patch(facecolor=_GREY, edgecolor=_DARK, hatch="xxx", lw=0, label="nothing exposed"))
    if any((np.isfinite(p.density_um3) & (p.masked_share > MASKED_SHARE)).any() for p in shown):
        label = f"more than {MASKED_SHARE:.0%} masked"
        handles.append(Patch(facecolor="#21918c", edgecolor="#ffffff", hatch="////", lw=0, label=label))
    if handles:
        figure.legend(
            handles=handles, loc="lower left", ncols=2, fontsize=8, frameon=False, labelcolor=INK,
            bbox_to_anchor=(_LEFT / figure.get_figwidth() - 0.01, 0.0), borderaxespad=0.2,
        )  # fmt: skip
