"""tissue_mask: image -> candidates of tissue in which no synapse can be counted, for people to correct.

The texture of small cells is measured block by block and counted over the volume; cells of little texture are then
joined with those around them. Both looks are local and the counts are sums, so blocks do not show
(:mod:`bouton.density.candidates`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from bouton.density.candidates import (
    CLASSES,
    STEP,
    UNKNOWN,
    Lattice,
    Rules,
    areas_of,
    lattice,
    neuropil,
    spread,
    textures_of,
    wide,
)
from bouton.density.sums import summed
from bouton.errors import SpecError
from bouton.geometry import NM, ZYX, Box, Grid
from bouton.stage import BlockPart, BlockTask, Layer, MergePart, MergeTask, Output, Stage, Table, TableData

NM_PER_UM = 1000.0
_SLAB = 64
_INDEX = ("block_z", "block_y", "block_x")
_CORNERS = tuple(f"{axis}_{end}" for end in ("start", "stop") for axis in "zyx")
_SUMS = ("voxels", *CLASSES)
COLUMNS = dict.fromkeys((*_INDEX, *_CORNERS, *_SUMS), "int64")
TEXTURE_COLUMNS = {"stored": "int64", "texture": "float64", "cells": "int64"}


@dataclass(frozen=True)
class Params:
    """Parameters of ``tissue_mask``.

    Attributes
    ----------
    black : int
        Grey values up to this count as one.
    white : int
        Grey values from this on count as one; 0: the largest of the image's dtype.
    area_nm : float
        Squares of one grey value, of this side in a section, are blank (class 1), white ones saturated (2).
    grain_nm : float
        The image is averaged over patches of this side, which takes away noise.
    scale_nm : float
        Side of the cells whose texture is measured.
    vessel_texture, soma_texture : float
        Textures up to which a cell may be a vessel's lumen (class 3), or a soma's (4), as shares of neuropil's.
    neuropil_texture : float
        Texture (standard deviation of patches) of neuropil in grey values of an 8-bit image; 0: the upper quartile of
        the cells of the volume.
    vessel_um, soma_um : float
        Least widths of vessels and somata.
    share : float
        Share of the cells of a cube of that width that must be so, above 0 up to 1.
    block_um : (z, y, x)
        Blocks of the table ``classes``, from the bounds' low corner.
    """

    black: int = 0
    white: int = 0
    area_nm: float = 200.0
    grain_nm: float = 40.0
    scale_nm: float = 160.0
    vessel_texture: float = 0.25
    soma_texture: float = 0.6
    neuropil_texture: float = 0.0
    vessel_um: float = 2.0
    soma_um: float = 3.0
    share: float = 0.8
    block_um: tuple[float, float, float] = (5.0, 5.0, 5.0)

    def __post_init__(self) -> None:
        for field in fields(self):
            values = getattr(self, field.name) if field.name == "block_um" else (getattr(self, field.name),)
            may_be_0 = field.name in ("black", "white") or field.name.endswith("_texture")
            if not all(0 <= value < math.inf and (value > 0 or may_be_0) for value in values):
                raise SpecError(f"{field.name} = {getattr(self, field.name)}", expected="a number above 0")
        if not 0 < self.share <= 1:
            raise SpecError(f"share = {self.share}", expected="above 0, at most 1")
        if self.vessel_texture > self.soma_texture:
            raise SpecError(
                f"vessel_texture = {self.vessel_texture:g}, soma_texture = {self.soma_texture:g}",
                expected="the vessel's at most the soma's",
            )
        if self.white and self.white <= self.black:
            raise SpecError(f"black = {self.black}, white = {self.white}", expected="black below white")

    def rules(self, dtype: np.dtype) -> Rules:
        """Return the rules for an image of ``dtype``."""
        white = self.white or int(np.iinfo(dtype).max)
        return Rules(
            self.black, white, self.area_nm, self.grain_nm, self.scale_nm, self.vessel_texture, self.soma_texture,
            self.vessel_um * NM_PER_UM, self.soma_um * NM_PER_UM, self.share,
        )  # fmt: skip


def _lattice(params: Params, voxel_size_nm: NM) -> Lattice:
    return lattice(params.rules(np.dtype(np.uint8)), voxel_size_nm)


def _near(params: Params, voxel_size_nm: NM) -> ZYX:
    place = _lattice(params, voxel_size_nm)
    z, y, x = (n - 1 for n in place.cell)
    return z, y + place.square[0] - 1, x + place.square[1] - 1


def _far(params: Params, voxel_size_nm: NM) -> ZYX:
    place = _lattice(params, voxel_size_nm)
    z, y, x = ((reach + 1) * n - 1 for reach, n in zip(place.reach, place.cell, strict=True))
    return z, y, x


def _far_planned(params: Params, voxel_size_nm: NM) -> ZYX:
    z, y, x = _far(params, voxel_size_nm)
    # what lies farther along z is read in slabs
    return min(z, _SLAB), y, x


def texture(task: BlockTask) -> Output:
    """Find blank and saturated areas and the texture of the cells; count the cells whose first voxel the block owns."""
    params, place = task.params, _lattice(task.params, task.voxel_size_nm)
    wanted = place.voxels(place.covering(task.core)) & task.bounds
    box = wanted.grow((0, place.square[0] - 1, place.square[1] - 1)) & task.bounds
    image = task.volumes["image"].read(box)
    rules = params.rules(image.dtype)
    areas = areas_of(image, box, wanted, rules, place)
    cells = textures_of(image[wanted.within(box).slices], areas, wanted, rules, place)
    layers = {
        "_areas": np.ascontiguousarray(areas[task.core.within(wanted).slices]),
        "_textures": spread(cells, task.core, place),
    }
    return Output(layers=layers, tables={"_cells": _texture_rows(_owned(cells, wanted, task.core, place))})


def _owned(cells: np.ndarray, wanted: Box, core: Box, place: Lattice) -> np.ndarray:
    """Return the textures of the cells that begin in the core; a first cell that the bounds cut begins there."""
    first = place.covering(wanted).start
    skipped = [
        0 if max(f * c, w) >= a else 1
        for f, c, w, a in zip(first, place.cell, wanted.start, core.start, strict=True)
    ]  # fmt: skip
    return cells[skipped[0] :, skipped[1] :, skipped[2] :]


def _texture_rows(cells: np.ndarray) -> TableData:
    counts = np.bincount(cells.reshape(-1), minlength=1)
    counts[UNKNOWN] = 0
    stored = np.flatnonzero(counts).astype(np.int64)
    return {"stored": stored, "texture": (stored - 1) * STEP, "cells": counts[stored].astype(np.int64)}


def count(task: MergeTask) -> Output:
    """Add up the cells of every texture."""
    return Output(tables={"textures": summed(task.rows("_cells", "textures"), ("stored",), ("cells",))})


def mask(task: BlockTask) -> Output:
    """Join cells of little texture into vessels and somata; count each class in the blocks of the table."""
    params, place = task.params, _lattice(task.params, task.voxel_size_nm)
    table = task.table("textures")
    given = 1 + params.neuropil_texture / STEP
    of_neuropil = given if params.neuropil_texture else neuropil(table["stored"], table["cells"])
    cells = wide(_cells(task, place), of_neuropil, params.rules(np.dtype(np.uint8)), place)
    areas = task.read("_areas", (0, 0, 0))
    found = np.where(areas > 0, areas, spread(cells, task.core, place))
    return Output(layers={"mask": found}, tables={"_counts": _counts(task, found)})


def _cells(task: BlockTask, place: Lattice) -> np.ndarray:
    """Return the texture of all cells that decide about the core's; beyond the bounds the last cells go on."""
    inner, outer = place.covering(task.bounds), place.covering(task.core).grow(place.reach)
    inside = outer & inner
    found = np.empty(inside.shape, np.uint8)
    slabs = Grid(inside, (max(1, _SLAB // place.cell[0]), inside.stop[1], inside.stop[2]))
    for index in slabs:
        slab = slabs.core(index)
        found[slab.within(inside).slices] = _slab(task, place, slab)
    pads = [(a - b, d - c) for a, b, c, d in zip(inside.start, outer.start, inside.stop, outer.stop, strict=True)]
    return np.pad(found, pads, mode="edge")


def _slab(task: BlockTask, place: Lattice, cells: Box) -> np.ndarray:
    """Return the texture of cells: that of their first voxels inside the bounds."""
    box = place.voxels(cells) & task.bounds
    values = task.volumes["_textures"].read(box)
    z, y, x = (
        np.maximum(np.arange(a, b) * n, low) - low
        for a, b, n, low in zip(cells.start, cells.stop, place.cell, box.start, strict=True)
    )
    return values[z[:, None, None], y[:, None], x]


def _counts(task: BlockTask, found: np.ndarray) -> TableData:
    """Return a row for each block of the table that shares a voxel with the core."""
    size = [max(1, round(NM_PER_UM * um / nm)) for um, nm in zip(task.params.block_um, task.voxel_size_nm, strict=True)]
    origin = task.bounds.start
    grid = Grid(task.bounds.within(task.bounds), (size[0], size[1], size[2]))
    rows = []
    for index in grid.blocks_in(task.core.within(task.bounds)):
        block = grid.core(index).shift(origin)
        part = found[(block & task.core).within(task.core).slices]
        counts = np.bincount(part.reshape(-1), minlength=len(CLASSES) + 1)[1:]
        rows.append((*index, *block.start, *block.stop, part.size, *counts.tolist()))
    table = np.array(rows, np.int64).reshape(-1, len(COLUMNS))
    return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(COLUMNS)}


def gather(task: MergeTask) -> Output:
    """Add up the rows of each block of the table."""
    return Output(tables={"classes": summed(task.rows("_counts", "classes"), _INDEX, _SUMS)})


STAGE = Stage(
    version=1,
    params=Params,
    reads={"image": Layer(("uint8", "uint16"))},
    writes=("mask", "classes", "textures"),
    parts=(
        BlockPart(
            "texture", texture,
            layers={"_areas": Layer("uint8", kind="labels"), "_textures": Layer("uint8", kind="labels")},
            tables={"_cells": Table(TEXTURE_COLUMNS)}, halo=_near, bytes_per_voxel=12.0,
        ),
        MergePart("count", count, source=("_cells",), tables={"textures": Table(TEXTURE_COLUMNS)}),
        BlockPart(
            "mask", mask, layers={"mask": Layer("uint8", kind="labels")}, tables={"_counts": Table(COLUMNS)},
            halo=_far, planned_halo=_far_planned, bytes_per_voxel=4.0,
        ),
        MergePart("gather", gather, source=("_counts",), tables={"classes": Table(COLUMNS)}),
    ),
)  # fmt: skip
