"""Which pictures a report shows: image, affinities, evidence, segmentation, truth, on an xy and an xz section."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from bouton.geometry import Box
from bouton.report.links import place_url
from bouton.report.pictures import (
    Plane,
    Section,
    bar_nm,
    channels_rgb,
    draw_lines,
    grey,
    hatch_missing,
    middle_sections,
    overlay,
    png_uri,
    read_plane,
    to_picture,
)
from bouton.volume import TableData
from bouton.volume.run_folder import Run
from bouton.volume.run_layers import RunLayer, main_labels, read_tables, run_layers

NEAR_NM = 60.0


@dataclass(frozen=True)
class Picture:
    """One picture of the report."""

    title: str
    note: str
    image: Image.Image
    url: str

    @property
    def uri(self) -> str:
        """The picture as a ``data:`` address."""
        return png_uri(self.image)


@dataclass(frozen=True)
class Row:
    """The pictures of one section."""

    title: str
    pictures: list[Picture]


@dataclass(frozen=True)
class _Shown:
    image: RunLayer | None
    layers: list[RunLayer]
    synapses: TableData | None


@dataclass(frozen=True)
class _Seen:
    layer: RunLayer
    plane: Plane


def picture_rows(run: Run) -> list[Row]:
    """Return the rows of pictures of a run; none where the run has nothing to look at."""
    shown = _choose(run)
    everything = [layer for layer in (shown.image, *shown.layers) if layer is not None]
    if not everything:
        return []
    sections = middle_sections(_common_bounds(shown, everything), run.voxel_size_nm)
    return [_row(run, section, shown) for section in sections if min(section.box.shape) > 0]


def overview(rows: list[Row], gap: int = 8) -> Image.Image | None:
    """Return the pictures of the first section side by side; None where there are none."""
    if not rows or not rows[0].pictures:
        return None
    images = [picture.image for picture in rows[0].pictures]
    width = sum(image.width + gap for image in images) - gap
    canvas = Image.new("RGB", (width, max(image.height for image in images)), "white")
    left = 0
    for image in images:
        canvas.paste(image, (left, 0))
        left += image.width + gap
    return canvas


def _choose(run: Run) -> _Shown:
    layers = [layer for layer in run_layers(run) if not layer.bounds.is_empty]
    image = next((layer for layer in layers if layer.kind == "image"), None)
    chosen = [_last_of(layers, kind) for kind in ("affinities", "probability")]
    chosen.append(main_labels(layers))
    chosen.append(next((layer for layer in layers if layer.is_truth), None))
    tables = read_tables(run, "synapses")[0]
    return _Shown(image, [layer for layer in chosen if layer is not None], tables[-1][1] if tables else None)


def _last_of(layers: list[RunLayer], kind: str) -> RunLayer | None:
    found = [layer for layer in layers if layer.kind == kind]
    return found[-1] if found else None


def _common_bounds(shown: _Shown, everything: list[RunLayer]) -> Box:
    """Return the box where the computed layers lie; all layers' where they overlap."""
    computed = [layer for layer in everything if not layer.ref.startswith("data:")]
    common = (computed or everything)[-1].bounds
    for layer in everything:
        if not (common & layer.bounds).is_empty:
            common = common & layer.bounds
    return common


def _row(run: Run, section: Section, shown: _Shown) -> Row:
    image = read_plane(run, shown.image, section) if shown.image is not None else None
    background = grey(image) if image is not None else None
    pictures = []
    if shown.image is not None and image is not None and background is not None:
        picture = to_picture(hatch_missing(background, image.there), section)
        pictures.append(_picture(run, section, (shown.image.name, f"image{_gap(image)}"), picture))
    for layer in shown.layers:
        pictures.append(_layer_picture(run, section, layer, background, shown.synapses))
    axis, size = ("z", 0) if section.plane == "xy" else ("y", 1)
    bar = bar_nm(section)
    title = f"{section.plane} section at {axis} = {section.box.start[size]}" + (f", bar {bar:,} nm" if bar else "")
    return Row(title, pictures)


def _layer_picture(
    run: Run, section: Section, layer: RunLayer, background: np.ndarray | None, synapses: TableData | None
) -> Picture:
    plane = read_plane(run, layer, section)
    if layer.kind == "labels":
        return _label_picture(run, section, _Seen(layer, plane), background, synapses)
    colours = "; red, green, blue = the first three channels" if (layer.channels or 1) > 1 else ""
    picture = to_picture(hatch_missing(channels_rgb(plane), plane.there), section)
    return _picture(run, section, (layer.name, f"{layer.kind}{colours}{_gap(plane)}"), picture)


def _label_picture(
    run: Run, section: Section, seen: _Seen, background: np.ndarray | None, synapses: TableData | None
) -> Picture:
    plane, truth = seen.plane, seen.layer.is_truth
    under = np.full((*plane.there.shape, 3), 30, dtype=np.uint8) if background is None else background
    picture = to_picture(hatch_missing(overlay(under, plane), plane.there), section, labels=True)
    note = f"{len(np.unique(plane.values[plane.values > 0])):,} segments on this section{_gap(plane)}"
    lines = None if synapses is None or truth else _near_lines(section, synapses)
    if lines is not None and len(lines):
        draw_lines(picture, section, lines)
        note += "; lines: synapses near it, pre green, post red"
    name = f"{seen.layer.name} (truth)" if truth and "truth" not in seen.layer.name else seen.layer.name
    return _picture(run, section, (name, note), picture)


def _picture(run: Run, section: Section, caption: tuple[str, str], picture: Image.Image) -> Picture:
    return Picture(caption[0], caption[1], picture, place_url(run.folder.name, section.middle_nm))


def _near_lines(section: Section, rows: TableData) -> np.ndarray | None:
    """Return the ends (n, 2, 2) in nm of the synapses within NEAR_NM of the section."""
    thin = "zyx"[section.thin_axis]
    axes = [axis for axis in "zyx" if axis != thin]
    if f"pre_{thin}_nm" not in rows:
        return None
    near = np.abs(rows[f"{thin}_nm"] - section.middle_nm[section.thin_axis]) <= NEAR_NM
    ends = [np.stack([rows[f"{side}_{axis}_nm"][near] for axis in axes], axis=1) for side in ("pre", "post")]
    return np.stack(ends, axis=1)


def _gap(plane: Plane) -> str:
    missing = 1 - plane.there.mean() if plane.there.size else 1.0
    return f"; {missing:.0%} of it is missing (hatched)" if missing > 0 else ""
