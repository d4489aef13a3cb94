"""The page of ``bouton trace``: what each cause costs, what to do first, and pictures of errors of every cause."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from bouton.geometry import NM, Box
from bouton.report.page import render
from bouton.report.pictures import Plane, Section, add_bar, grey, label_colours, png_uri
from bouton.volume import TableData, write_bytes

HALF_NM = 600.0
LAYERS = ("image", "evidence", "clefts", "segments", "truth")
_SIDE = 230
_GAP = 4
_YELLOW, _GREEN, _RED, _BLACK = (255, 225, 60), (70, 240, 110), (255, 70, 100), (20, 20, 20)

Reader = Callable[[str, Box], np.ndarray | None]


@dataclass(frozen=True)
class ErrorPicture:
    """One error with its picture: a strip of sections, one a layer."""

    title: str
    note: str
    url: str
    image: Image.Image

    @property
    def uri(self) -> str:
        """The picture as a ``data:`` address."""
        return png_uri(self.image)


@dataclass(frozen=True)
class TracePage:
    """All that the page shows.

    Attributes
    ----------
    name : str
    facts : mapping of str -> str
    counts : mapping of str -> int
        ``right``, ``missed``, ``false``, ``wrong``.
    costs : TableData
        :data:`bouton.evaluate.trace_costs.COST_COLUMNS`.
    explained : mapping of str -> str
        Cause -> what it means.
    recommendations : sequence of mapping
    missing : sequence of str
        What could not be asked.
    pictures : mapping of str -> sequence of ErrorPicture
        By cause.
    warnings : sequence of str
        Why not to believe all that.
    """

    name: str
    facts: Mapping[str, str]
    counts: Mapping[str, int]
    costs: TableData
    explained: Mapping[str, str]
    recommendations: Sequence[Mapping[str, Any]]
    missing: Sequence[str]
    pictures: Mapping[str, Sequence[ErrorPicture]]
    warnings: Sequence[str] = ()


def write_trace_page(page: TracePage, path: Path) -> None:
    """Write the page as one HTML file that needs nothing else."""
    rows = [{name: values[i] for name, values in page.costs.items()} for i in range(len(page.costs["cause"]))]
    top = max([float(row["f1_gain"]) for row in rows], default=0.0)
    content = {
        "name": page.name,
        "facts": page.facts,
        "counts": page.counts,
        "rows": [row | {"share": 100 * row["f1_gain"] / top if top > 0 else 0.0} for row in rows],
        "explained": page.explained,
        "recommendations": page.recommendations,
        "missing": page.missing,
        "warnings": page.warnings,
        "pictures": page.pictures,
    }
    write_bytes(path, render(content, "trace.html.jinja").encode("utf-8"))


def error_strip(error: Mapping[str, Any], read: Reader, bounds: Box, voxel_size_nm: NM) -> Image.Image:
    """Return one error as a strip: the xy section through its place, in every layer that there is.

    Parameters
    ----------
    error : mapping
        A row with ``z_nm`` ... and, where known, ``pre_z_nm`` ... ``post_x_nm``.
    read : callable
        ``read(layer, box)`` returns a layer of :data:`LAYERS`, (z, y, x), or None.
    bounds : Box
        Nothing is read outside of it.
    voxel_size_nm : (z, y, x)
    """
    section = _section([error[f"{axis}_nm"] for axis in "zyx"], bounds, voxel_size_nm)
    planes = {name: read(name, section.box) for name in LAYERS}
    image = planes.pop("image")
    background = np.full((*section.box.shape[1:], 3), 90, np.uint8)
    if image is not None:
        background = grey(Plane(image[0], np.ones(image[0].shape, np.bool_)))
    shown = [_over(background, values[0], name) for name, values in planes.items() if values is not None]
    if image is not None or not shown:
        shown.insert(0, background)
    parts = [_panel(rgb, section, error) for rgb in shown]
    add_bar(parts[0], section)
    strip = Image.new("RGB", (sum(p.width for p in parts) + _GAP * (len(parts) - 1), parts[0].height), "white")
    left = 0
    for part in parts:
        strip.paste(part, (left, 0))
        left += part.width + _GAP
    return strip


def _section(at_nm: Sequence[float], bounds: Box, size: NM) -> Section:
    z, y, x = (int(np.clip(np.floor(a / s), low, high - 1)) for a, s, low, high in
               zip(at_nm, size, bounds.start, bounds.stop, strict=True))  # fmt: skip
    half = (0, *(max(1, round(HALF_NM / s)) for s in size[1:]))
    return Section("xy", Box((z, y, x), (z + 1, y + 1, x + 1)).grow(half) & bounds, size)


def _over(background: np.ndarray, values: np.ndarray, name: str) -> np.ndarray:
    """Return a layer over the image: probabilities in orange, ids in colours."""
    if name == "evidence":
        weight = values.astype(np.float32)[..., None] / 255
        tint = np.array([255.0, 130.0, 20.0], np.float32)
    else:
        weight = np.where(values == 0, 0.0, 0.45)[..., None].astype(np.float32)
        tint = label_colours(values.astype(np.uint64)).astype(np.float32)
    return (background * (1 - weight) + tint * weight).astype(np.uint8)


def _panel(rgb: np.ndarray, section: Section, error: Mapping[str, Any]) -> Image.Image:
    """Return one layer at its size, the place ringed, pre (green) to post (red) where they are known."""
    zoom = _SIDE / max(section.extent_nm)
    height, width = (max(1, round(length * zoom)) for length in section.extent_nm)
    picture = Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)

    def at(prefix: str) -> tuple[float, float]:
        y, x = ((error[f"{prefix}{axis}_nm"] - section.box.start[n] * section.voxel_size_nm[n]) * zoom
                for n, axis in ((1, "y"), (2, "x")))  # fmt: skip
        return x, y

    x, y = at("")
    draw.ellipse([x - 13, y - 13, x + 13, y + 13], outline=_BLACK, width=3)
    draw.ellipse([x - 12, y - 12, x + 12, y + 12], outline=_YELLOW, width=1)
    for prefix, colour in (("pre_", _GREEN), ("post_", _RED)):
        if np.isfinite(error.get(f"{prefix}y_nm", float("nan"))):
            x, y = at(prefix)
            draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour, outline=_BLACK)
    return picture
