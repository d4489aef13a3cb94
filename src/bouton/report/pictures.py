"""Sections through a run's layers as small PNGs. Only the pixels of a section are read, block by block."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from bouton.geometry import NM, Box
from bouton.volume.run_folder import Run
from bouton.volume.run_layers import RunLayer, read_available

LARGEST_READ = 1500
LARGEST_SHOWN = 860
SMALLEST_SHOWN = 420
OVERLAY = 0.5
_BAR_NM = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)


@dataclass(frozen=True)
class Section:
    """A plane through a run: ``xy`` or ``xz``, the box one voxel thick, the size of a voxel."""

    plane: str
    box: Box
    voxel_size_nm: NM

    @property
    def thin_axis(self) -> int:
        """The axis (0 z, 1 y) along which the section is one voxel thick."""
        return 0 if self.plane == "xy" else 1

    @property
    def middle_nm(self) -> NM:
        """The section's middle, z, y, x."""
        pairs = zip(self.box.start, self.box.stop, self.voxel_size_nm, strict=True)
        z, y, x = ((a + b) / 2 * size for a, b, size in pairs)
        return z, y, x

    @property
    def extent_nm(self) -> tuple[float, float]:
        """Height and width."""
        sides = [n * s for n, s in zip(self.box.shape, self.voxel_size_nm, strict=True)]
        del sides[self.thin_axis]
        return sides[0], sides[1]

    @property
    def pixels(self) -> tuple[int, int]:
        """Height and width of the picture: square pixels."""
        fine = min(self.voxel_size_nm)
        natural = max(self.extent_nm) / fine
        zoom = min(LARGEST_SHOWN, max(SMALLEST_SHOWN, natural)) / max(self.extent_nm)
        return max(1, round(self.extent_nm[0] * zoom)), max(1, round(self.extent_nm[1] * zoom))


@dataclass(frozen=True)
class Plane:
    """What was read of a layer on a section: values (y, x) or (c, y, x), and where there were any (y, x)."""

    values: np.ndarray
    there: np.ndarray


def middle_sections(bounds: Box, voxel_size_nm: NM) -> list[Section]:
    """Return the xy and the xz section through the middle of ``bounds``, at most LARGEST_READ pixels a side."""
    middle = [(a + b) // 2 for a, b in zip(bounds.start, bounds.stop, strict=True)]
    return [Section(plane, _centred(bounds, middle, thin), voxel_size_nm) for plane, thin in (("xy", 0), ("xz", 1))]


def read_plane(run: Run, layer: RunLayer, section: Section) -> Plane:
    """Return a layer's values on a section; missing blocks are marked, not made up."""
    values, there = read_available(run.volume(layer.ref), layer, section.box)
    axis = section.thin_axis
    return Plane(np.take(values, 0, axis=values.ndim - 3 + axis), np.take(there, 0, axis=axis))


def grey(plane: Plane) -> np.ndarray:
    """Return an image as RGB uint8 (y, x, 3), its 0.5 to 99.5 percentiles spread over the range."""
    values = plane.values.astype(np.float32) if plane.values.ndim == 2 else plane.values[0].astype(np.float32)
    seen = values[plane.there & np.isfinite(values)]
    low, high = np.percentile(seen, (0.5, 99.5)) if seen.size else (0.0, 1.0)
    scaled = np.clip((np.nan_to_num(values) - low) / max(high - low, 1e-6), 0, 1)
    return np.repeat((scaled * 255).astype(np.uint8)[..., None], 3, axis=2)


def channels_rgb(plane: Plane) -> np.ndarray:
    """Return the first three channels as red, green, blue: uint8 (y, x, 3). A single channel becomes grey."""
    values = plane.values[None] if plane.values.ndim == 2 else plane.values
    if len(values) == 1:
        values = np.repeat(values, 3, axis=0)
    rgb = np.zeros((*values.shape[1:], 3), dtype=np.uint8)
    top = 255.0 if values.dtype == np.uint8 else max(float(values.max(initial=0)), 1e-6)
    for channel in range(min(3, len(values))):
        rgb[..., channel] = np.clip(values[channel].astype(np.float32) / top * 255, 0, 255).astype(np.uint8)
    return rgb


def label_colours(labels: np.ndarray) -> np.ndarray:
    """Return a colour for each label, uint8 (..., 3): a hash of the id, the same in every picture; 0 is black."""
    mixed = labels.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    hue = (mixed & np.uint64(0xFFFF)).astype(np.float32) / 65536 * 6
    saturation = 0.55 + 0.4 * ((mixed >> np.uint64(16)) & np.uint64(0xFF)).astype(np.float32) / 255
    value = 0.75 + 0.25 * ((mixed >> np.uint64(24)) & np.uint64(0xFF)).astype(np.float32) / 255
    ramps = [np.clip(2 - np.abs((hue + shift) % 6 - 2), 0, 1) for shift in (2.0, 0.0, 4.0)]
    rgb = np.stack([value * (1 - saturation * (1 - ramp)) for ramp in ramps], axis=-1)
    rgb[labels == 0] = 0
    return (rgb * 255).astype(np.uint8)


def overlay(background: np.ndarray, plane: Plane) -> np.ndarray:
    """Return labels over a grey image: colours, with the borders between labels drawn strong."""
    labels = plane.values if plane.values.ndim == 2 else plane.values[0]
    colours = label_colours(labels).astype(np.float32)
    weight = np.where(labels == 0, 0.0, OVERLAY)
    weight[_borders(labels)] = 0.95
    mixed = background * (1 - weight[..., None]) + colours * weight[..., None]
    return mixed.astype(np.uint8)


def hatch_missing(rgb: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return the picture with places that were not computed, or are lost, hatched."""
    rows, columns = np.indices(there.shape)
    stripes = np.where(((rows + columns) // 6 % 2 == 0)[..., None], (214, 214, 220), (240, 240, 244))
    return np.where(there[..., None], rgb, stripes).astype(np.uint8)


def to_picture(rgb: np.ndarray, section: Section, labels: bool = False) -> Image.Image:
    """Return the section as a picture with square pixels and a scale bar."""
    height, width = section.pixels
    shrinks = height < rgb.shape[0] or width < rgb.shape[1]
    method = Image.Resampling.NEAREST if labels else Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    picture = Image.fromarray(rgb).resize((width, height), method)
    add_bar(picture, section)
    return picture


def draw_lines(picture: Image.Image, section: Section, ends_nm: np.ndarray) -> None:
    """Draw synapses as lines, pre (green dot) to post (red dot); ``ends_nm`` is (n, 2, 2): pre, post; row, column."""
    draw = ImageDraw.Draw(picture)
    rows, columns = _axes(section)
    origin = np.array([section.box.start[a] * section.voxel_size_nm[a] for a in (rows, columns)])
    scale = picture.height / section.extent_nm[0]
    for pre, post in (ends_nm - origin) * scale:
        start, stop = (pre[1], pre[0]), (post[1], post[0])
        draw.line([start, stop], fill=(20, 20, 20), width=5)
        draw.line([start, stop], fill=(255, 225, 60), width=3)
        for (x, y), colour in ((start, (70, 240, 110)), (stop, (255, 70, 100))):
            draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour, outline=(20, 20, 20))


def png_bytes(picture: Image.Image) -> bytes:
    """Return a picture as the content of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def png_address(content: bytes) -> str:
    """Return the content of a PNG file as a ``data:`` address."""
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def png_uri(picture: Image.Image) -> str:
    """Return a picture as a ``data:`` address."""
    return png_address(png_bytes(picture))


def bar_nm(section: Section) -> int:
    """Return the length of the scale bar: about a fifth of the width."""
    fitting = [length for length in _BAR_NM if length <= section.extent_nm[1] / 4]
    return fitting[-1] if fitting else 0


def _axes(section: Section) -> Sequence[int]:
    return [axis for axis in (0, 1, 2) if axis != section.thin_axis]


def _centred(bounds: Box, middle: Sequence[int], thin_axis: int) -> Box:
    half = [LARGEST_READ // 2] * 3
    start = [max(a, m - h) for a, m, h in zip(bounds.start, middle, half, strict=True)]
    stop = [min(b, m + h) for b, m, h in zip(bounds.stop, middle, half, strict=True)]
    start[thin_axis], stop[thin_axis] = middle[thin_axis], middle[thin_axis] + 1
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def _borders(labels: np.ndarray) -> np.ndarray:
    border = np.zeros(labels.shape, dtype=bool)
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    border[1:] |= labels[1:] != labels[:-1]
    return border & (labels != 0)


def add_bar(picture: Image.Image, section: Section) -> None:
    """Draw the scale bar."""
    length_nm = bar_nm(section)
    if length_nm and picture.height > 30:
        length = length_nm * picture.width / section.extent_nm[1]
        box = [12, picture.height - 17, 12 + length, picture.height - 12]
        ImageDraw.Draw(picture).rectangle(box, fill=(255, 255, 255), outline=(0, 0, 0))
