"""Pictures of a segmentation's largest errors, each in a section through its place.

Colours are the segmentation: orange the piece that is wrong, blue the one it touches; lines are the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from bouton.errors import DataError
from bouton.geometry import NM, Box
from bouton.report.links import place_url
from bouton.report.pictures import Plane, Section, add_bar, grey, label_colours
from bouton.report.sections import Picture
from bouton.volume import TableData
from bouton.volume.run_folder import Run
from bouton.volume.run_layers import RunLayer, read_available, read_tables, run_layers

MOST_PICTURES = 12
MOST_STEPS = 3
HALF_VOXELS = 70
LINE_PIXELS = 2
SPLIT, MERGE = "split", "merge"
LEGEND = {
    SPLIT: "Line: the true neuron. Orange: the piece cut off; blue: the piece it touches.",
    MERGE: "Green: the segment. Orange line: the true neuron that does not belong; blue line: the one it touches.",
}
_ORANGE, _BLUE, _GREEN, _WHITE = (255, 140, 30), (70, 150, 255), (70, 220, 120), (255, 255, 255)
_FAINT, _STRONG, _COLOURS = 0.13, 0.42, 96

Reader = Callable[[str, Box], np.ndarray | None]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class NeuronError:
    """One row of ``split_errors`` or ``merge_errors``; ``kind`` is ``split`` or ``merge``."""

    kind: str
    truth: int
    segment: int
    bits: float
    voxels: int
    share: float
    other: int
    at: tuple[int, int, int]

    @property
    def title(self) -> str:
        """What is wrong, in a few words."""
        if self.kind == SPLIT:
            return f"neuron {self.truth} without segment {self.segment}"
        return f"segment {self.segment} with neuron {self.truth}"

    @property
    def note(self) -> str:
        """How much it costs."""
        whole = "neuron" if self.kind == SPLIT else "segment"
        return f"{self.voxels:,} voxels, {self.share:.1%} of the {whole}, {self.bits:.3g} bits"

    @property
    def segments(self) -> list[int]:
        """The segments to look at."""
        return [self.segment, self.other] if self.kind == SPLIT else [self.segment]


@dataclass(frozen=True)
class ErrorSet:
    """Pictures of the largest errors that one step found."""

    step: str
    groups: list[tuple[str, str, list[Picture]]]


def neuron_errors(kind: str, rows: TableData, most: int = MOST_PICTURES) -> list[NeuronError]:
    """Return the first rows of ``split_errors`` or ``merge_errors``."""
    found = []
    for i in range(min(most, len(rows["bits"]))):
        z, y, x = (int(rows[f"{axis}_voxel"][i]) for axis in "zyx")
        other = int(rows["neighbour"][i]) or int(rows["largest"][i])
        truth, segment, voxels = (int(rows[name][i]) for name in ("truth", "segment", "voxels"))
        bits, share = float(rows["bits"][i]), float(rows["share"][i])
        found.append(NeuronError(kind, truth, segment, bits, voxels, share, other, (z, y, x)))
    return found


def error_picture(error: NeuronError, read: Reader, bounds: Box, voxel_size_nm: NM) -> Image.Image:
    """Return the picture of one error: the xy section through its place, or xz where that shows more of both sides.

    Parameters
    ----------
    error : NeuronError
    read : callable
        ``read(name, box)`` returns ``image``, ``truth`` or ``segmentation``, (z, y, x); None where there is no image.
    bounds : Box
        Nothing is read outside of it.
    voxel_size_nm : (z, y, x)
    """
    sections = [_section(plane, error.at, bounds, voxel_size_nm) for plane in ("xy", "xz")]
    seen = [[_flat(read(name, s.box), s) for name in ("truth", "segmentation")] for s in sections]
    shown = [_both_sides(error, *labels) for labels in seen]
    best = 1 if shown[1] > 2 * shown[0] else 0
    section, (truth, segmentation) = sections[best], seen[best]
    image = read("image", section.box)
    background = np.full((*truth.shape, 3), 90, np.uint8)
    if image is not None:
        values = _flat(image, section)
        background = grey(Plane(values, np.ones(values.shape, np.bool_)))
    return _draw(error, section, background, (truth, segmentation))


def error_sets(run: Run) -> tuple[list[ErrorSet], list[str]]:
    """Return pictures for the steps that list errors, and why some could not be read.

    Segmentations that the run made come before those that it only read; at most MOST_STEPS.
    """
    tables: dict[str, dict[str, TableData]] = {}
    problems: list[str] = []
    for kind in (SPLIT, MERGE):
        found, bad = read_tables(run, f"{kind}_errors")
        problems += bad
        for table, rows in found:
            tables.setdefault(table.step, {})[kind] = rows
    own = [step for step in tables if not run.steps[step].reads.get("segmentation", "").startswith("data:")]
    layers = {layer.ref: layer for layer in run_layers(run)}
    sets = [_error_set(run, step, tables[step], layers) for step in (own or list(tables))[:MOST_STEPS]]
    return [found for found in sets if found.groups], problems


def _error_set(run: Run, step: str, tables: Mapping[str, TableData], layers: Mapping[str, RunLayer]) -> ErrorSet:
    reads, groups = run.steps[step].reads, []
    chosen = {name: layers.get(_full_ref(run, reads.get(name, ""))) for name in ("truth", "segmentation")}
    if any(layer is None for layer in chosen.values()):
        return ErrorSet(step, [])
    chosen["image"] = next((layer for layer in layers.values() if layer.kind == "image"), None)
    read, bounds = _reader(run, chosen), Box.parse(run.steps[step].bounds_zyx)
    for kind, rows in tables.items():
        pictures = []
        for error in neuron_errors(kind, rows):
            picture = error_picture(error, read, bounds, run.voxel_size_nm)
            at_nm = [(p + 0.5) * size for p, size in zip(error.at, run.voxel_size_nm, strict=True)]
            pictures.append(
                Picture(error.title, error.note, picture, place_url(run.folder.name, at_nm, error.segments))
            )
        if pictures:
            title = "Largest splits" if kind == SPLIT else "Largest merges"
            groups.append((title, LEGEND[kind], pictures))
    return ErrorSet(step, groups)


def _full_ref(run: Run, ref: str) -> str:
    """Return ``step.output`` of a reference that may name the step alone."""
    if ref.startswith("data:") or "." in ref or ref not in run.steps:
        return ref
    return f"{ref}.{next(iter(run.steps[ref].outputs), '')}"


def _reader(run: Run, layers: Mapping[str, RunLayer | None]) -> Reader:
    volumes = {name: run.volume(layer.ref) for name, layer in layers.items() if layer is not None}

    def read(name: str, box: Box) -> np.ndarray | None:
        layer = layers[name]
        if layer is None:
            return None
        try:
            return read_available(volumes[name], layer, box)[0]
        except DataError:
            return None if name == "image" else np.zeros(box.shape, np.uint64)

    return read


def _section(plane: str, at: tuple[int, int, int], bounds: Box, voxel_size_nm: NM) -> Section:
    """Return a window around a voxel: HALF_VOXELS of the shortest edge to either side, one voxel thick."""
    reach = HALF_VOXELS * min(voxel_size_nm)
    half = [max(1, round(reach / size)) for size in voxel_size_nm]
    half[0 if plane == "xy" else 1] = 0
    z, y, x = at
    return Section(plane, Box((z, y, x), (z + 1, y + 1, x + 1)).grow(half) & bounds, voxel_size_nm)


def _flat(values: np.ndarray | None, section: Section) -> np.ndarray:
    if values is None:
        shape = [n for axis, n in enumerate(section.box.shape) if axis != section.thin_axis]
        return np.zeros(shape, np.uint64)
    return np.take(values if values.ndim == 3 else values[0], 0, axis=section.thin_axis)


def _sides(error: NeuronError, truth: np.ndarray, segmentation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the wrong part of the object is, and where the part that it touches."""
    if error.kind == SPLIT:
        inside = truth == error.truth
        return inside & (segmentation == error.segment), inside & (segmentation == error.other)
    inside = segmentation == error.segment
    return inside & (truth == error.truth), inside & (truth == error.other)


def _both_sides(error: NeuronError, truth: np.ndarray, segmentation: np.ndarray) -> int:
    wrong, other = _sides(error, truth, segmentation)
    return min(int(wrong.sum()), int(other.sum()))


def _draw(
    error: NeuronError, section: Section, background: np.ndarray, labels: tuple[np.ndarray, np.ndarray]
) -> Image.Image:
    height, width = section.pixels
    under = Image.fromarray(background).resize((width, height), Image.Resampling.BICUBIC)
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(np.int64), m - 1)
        for n, m in zip((height, width), labels[0].shape, strict=True)
    )
    truth, segmentation = (values[rows][:, columns] for values in labels)
    rgb = _fill(np.asarray(under).astype(np.float32), error, segmentation)
    rgb[_edges(truth)] = rgb[_edges(truth)] * 0.35
    picture = Image.fromarray(rgb.astype(np.uint8))
    add_bar(picture, section)
    lines = [(_outline(truth == wanted), colour) for wanted, colour in _lines(error)]
    return _with_lines(picture.quantize(_COLOURS), lines, _ring(error, section))


def _with_lines(
    picture: Image.Image, lines: Sequence[tuple[np.ndarray, Colour]], ring: tuple[float, float, float]
) -> Image.Image:
    """Return a picture of few colours with lines and ring in colours of their own, which its palette would dull."""
    palette = (picture.getpalette() or [])[: 3 * _COLOURS]
    first = len(palette) // 3
    pixels = np.array(picture)
    for number, (line, _) in enumerate(lines):
        pixels[line] = first + number
    black, yellow = first + len(lines), first + len(lines) + 1
    picture = Image.fromarray(pixels, mode="P")
    picture.putpalette([*palette, *(v for _, colour in lines for v in colour), 0, 0, 0, 255, 255, 0])
    y, x, radius = ring
    draw = ImageDraw.Draw(picture)
    for grow, index in ((1, black), (0, yellow)):
        box = [x - radius - grow, y - radius - grow, x + radius + grow, y + radius + grow]
        draw.ellipse(box, outline=index, width=2 + 2 * grow)
    return picture


def _fill(rgb: np.ndarray, error: NeuronError, segmentation: np.ndarray) -> np.ndarray:
    """Return the background under the colours of the segments."""
    tint, weight = label_colours(segmentation).astype(np.float32), np.where(segmentation == 0, 0.0, _FAINT)
    strong = [(error.segment, _ORANGE), (error.other, _BLUE)] if error.kind == SPLIT else [(error.segment, _GREEN)]
    for segment, colour in strong:
        tint[segmentation == segment] = colour
        weight[segmentation == segment] = _STRONG
    return rgb * (1 - weight[..., None]) + tint * weight[..., None]


def _lines(error: NeuronError) -> Sequence[tuple[int, Colour]]:
    if error.kind == SPLIT:
        return [(error.truth, _WHITE)]
    return [(error.other, _BLUE), (error.truth, _ORANGE)]


def _edges(labels: np.ndarray) -> np.ndarray:
    edge = np.zeros(labels.shape, np.bool_)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return edge


def _outline(inside: np.ndarray) -> np.ndarray:
    """Return the outermost pixels of a region, LINE_PIXELS deep, but not along the picture's own edge."""
    core = inside
    for _ in range(LINE_PIXELS):
        around = np.pad(core, 1, mode="edge")
        core = core & around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return inside & ~core


def _ring(error: NeuronError, section: Section) -> tuple[float, float, float]:
    """Return the place in the picture, row and column, and the radius of a ring around it."""
    axes = [axis for axis in (0, 1, 2) if axis != section.thin_axis]
    inside = [(error.at[a] + 0.5 - section.box.start[a]) / section.box.shape[a] for a in axes]
    height, width = section.pixels
    return inside[0] * height, inside[1] * width, 0.04 * max(height, width)
