"""A painted volume on the grid of another: the same voxels, or whole multiples of them, or what of them was painted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.geometry import NM, ZYX, Box, Grid
from bouton.volume.base import Volume
from bouton.volume.hdf5 import Hdf5Volume
from bouton.volume.places import Place
from bouton.volume.precomputed import is_precomputed
from bouton.volume.stacks import NpyVolume, SectionsVolume, TiffVolume

_READ_LENGTH = 512
_SAME = 1e-3


@dataclass(frozen=True)
class GridOf:
    """The voxels of a volume.

    Attributes
    ----------
    name : str
    shape : (z, y, x)
    voxel_size_nm : (z, y, x) or None
    offset : (z, y, x) or None
        None where the format has no words for it.
    """

    name: str
    shape: ZYX
    voxel_size_nm: NM | None
    offset: ZYX | None

    def __str__(self) -> str:
        size = f"voxels of {_times(self.voxel_size_nm)} nm" if self.voxel_size_nm else "voxels of unknown size"
        offset = f" from {_times(self.offset)}" if self.offset and any(self.offset) else ""
        return f"{_times(self.shape)} {size}{offset}"


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def grid_of(volume: Volume) -> GridOf:
    """Return the grid of a volume."""
    says = any(volume.info.offset_zyx) or _is_precomputed(volume.path)
    return GridOf(volume.name, volume.box.shape, volume.voxel_size_nm, volume.info.offset_zyx if says else None)


def _is_precomputed(path: Place) -> bool:
    return path.suffix != ".zip" and is_precomputed(path)


class TurnedVolume(Volume):
    """A volume whose stored axes are not z, y, x although its file says nothing else.

    Parameters
    ----------
    source : Volume
        Opened as (z, y, x).
    axes : str
        What its axes are: a permutation of ``zyx``.
    """

    def __init__(self, source: Volume, axes: str) -> None:
        self.order = tuple(axes.index(name) for name in "zyx")
        size = source.voxel_size_nm
        shape = tuple(source.shape[axis] for axis in self.order)
        turned = None if size is None else (size[self.order[0]], size[self.order[1]], size[self.order[2]])
        super().__init__(replace(source.info, shape=shape, voxel_size_nm=turned))
        self.source = source

    def _read(self, box: Box) -> np.ndarray:
        place = {axis: n for n, axis in enumerate(self.order)}
        start, stop = ([corner[place[axis]] for axis in range(3)] for corner in (box.start, box.stop))
        found = self.source.read(Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])))
        return np.transpose(found, self.order)


def turned(volume: Volume, axes: str | None) -> Volume:
    """Return the volume with its axes as ``--axes`` says, where the file does not say.

    Raises
    ------
    SpecError
        These are no axes, or the file says its own.
    """
    if axes is None:
        return volume
    if sorted(axes) != sorted("zyx"):
        raise SpecError(f"--axes {axes!r}", expected="an order of z, y and x", fix="--axes xyz")
    silent = (NpyVolume, TiffVolume, SectionsVolume, Hdf5Volume)
    if not isinstance(volume, silent) or getattr(volume, "says_axes", False):
        raise SpecError(
            f"--axes {axes}", where=volume.name, expected="a file that does not say its axes", fix="leave --axes out"
        )
    if volume.channels is not None:
        raise SpecError(f"--axes {axes} for {volume.ndim}-D data", where=volume.name, expected="a 3-D array")
    return TurnedVolume(volume, axes) if axes != "zyx" else volume


@dataclass(frozen=True)
class _Step:
    """How voxels of one axis follow from those of a source: ``up`` repeats each, else every n-th is taken."""

    factor: int
    up: bool

    def source(self, start: int, stop: int, length: int) -> np.ndarray:
        """Return the source's voxel for each voxel from start to stop."""
        here = np.arange(start, stop)
        found = here // self.factor if self.up else here * self.factor + self.factor // 2
        return np.minimum(found, length - 1)


class ResampledVolume(Volume):
    """The nearest voxel of a volume with coarser or finer voxels by whole factors."""

    def __init__(self, source: Volume, shape: ZYX, size: NM, steps: Sequence[_Step]) -> None:
        super().__init__(replace(source.info, shape=(*source.shape[:-3], *shape), voxel_size_nm=size))
        self.source, self.steps = source, steps

    def _read(self, box: Box) -> np.ndarray:
        found = np.empty(self._shape_of(box), self.dtype)
        # Part by part: the voxels of a fine source under one block would take gigabytes.
        z, y, x = (_READ_LENGTH if step.up else max(1, _READ_LENGTH // step.factor) for step in self.steps)
        parts = Grid(box, (z, y, x))
        for index in parts:
            part = parts.core(index)
            found[(..., *part.within(box).slices)] = self._part(part)
        return found

    def _part(self, box: Box) -> np.ndarray:
        rows = [
            step.source(box.start[axis], box.stop[axis], self.source.box.shape[axis])
            for axis, step in enumerate(self.steps)
        ]
        low, high = [int(row[0]) for row in rows], [int(row[-1]) + 1 for row in rows]
        values = self.source.read(Box((low[0], low[1], low[2]), (high[0], high[1], high[2])))
        z, y, x = (row - start for row, start in zip(rows, low, strict=True))
        return values[..., z[:, None, None], y[:, None], x]


class PaddedVolume(Volume):
    """What was painted of a larger or smaller data set that begins at the same voxel: 0 elsewhere."""

    def __init__(self, source: Volume, shape: ZYX) -> None:
        super().__init__(replace(source.info, shape=shape))
        self.source = source

    def _read(self, box: Box) -> np.ndarray:
        found = np.zeros(box.shape, self.dtype)
        inside = box & self.source.box
        if not inside.is_empty:
            found[inside.within(box).slices] = self.source.read(inside)
        return found


def on_grid(volume: Volume, like: GridOf, resample: bool) -> Volume:
    """Return a volume on the grid of another.

    Parameters
    ----------
    volume : Volume
    like : GridOf
    resample : bool
        Whether the nearest voxel is taken where voxels are larger or smaller by whole factors.

    Raises
    ------
    DataError
        It has another grid.
    """
    own = grid_of(volume)
    steps = _steps(own, like, volume.open_ended) if resample else _no_steps(own, like)
    if steps is None:
        raise _other_grid(own, like, volume.open_ended)
    if volume.open_ended:
        # People paint in coordinates of the data set; their file ends where they stopped.
        coarse = [-(-n // s.factor) if s.up else n * s.factor for n, s in zip(like.shape, steps, strict=True)]
        volume = PaddedVolume(volume, (coarse[0], coarse[1], coarse[2]))
    elif not _fits(own, like, steps):
        raise _other_grid(own, like, volume.open_ended)
    size = like.voxel_size_nm or own.voxel_size_nm
    if all(step.factor == 1 for step in steps) or size is None:
        return volume
    return ResampledVolume(volume, like.shape, size, steps)


def _no_steps(own: GridOf, like: GridOf) -> list[_Step] | None:
    known = own.voxel_size_nm is not None and like.voxel_size_nm is not None
    if known and any(step.factor != 1 for step in _steps_of_sizes(own, like) or [_Step(0, True)]):
        return None
    return [_Step(1, True)] * 3


def _steps(own: GridOf, like: GridOf, open_ended: bool) -> list[_Step] | None:
    if own.voxel_size_nm is not None and like.voxel_size_nm is not None:
        return _steps_of_sizes(own, like)
    if open_ended:
        return None
    found = []
    for mine, theirs in zip(own.shape, like.shape, strict=True):
        up = theirs >= mine
        factor, rest = divmod(theirs, mine) if up else divmod(mine, theirs)
        if rest:
            return None
        found.append(_Step(factor, up))
    return found


def _steps_of_sizes(own: GridOf, like: GridOf) -> list[_Step] | None:
    assert own.voxel_size_nm is not None and like.voxel_size_nm is not None
    found = []
    for mine, theirs in zip(own.voxel_size_nm, like.voxel_size_nm, strict=True):
        ratio = max(mine / theirs, theirs / mine)
        if abs(ratio - round(ratio)) > _SAME * ratio:
            return None
        found.append(_Step(round(ratio), mine >= theirs))
    return found


def _fits(own: GridOf, like: GridOf, steps: Sequence[_Step]) -> bool:
    """Whether shapes and offsets agree; the last voxel of the coarser one may be cut, or left out."""
    for mine, theirs, step in zip(own.shape, like.shape, steps, strict=True):
        fine, coarse = (theirs, mine) if step.up else (mine, theirs)
        if coarse not in (fine // step.factor, -(-fine // step.factor)):
            return False
    if own.offset is None or not (any(own.offset) or like.offset):
        return True
    scaled = [o * s.factor if s.up else o / s.factor for o, s in zip(own.offset, steps, strict=True)]
    return list(like.offset or (0, 0, 0)) == scaled


def _other_grid(own: GridOf, like: GridOf, open_ended: bool) -> DataError:
    return DataError(
        f"{own} (z, y, x)", where=own.name, expected=f"the grid of {like.name}: {like} (z, y, x)",
        fix=_way_out(own, like, open_ended),
    )  # fmt: skip


def _way_out(own: GridOf, like: GridOf, open_ended: bool) -> str:
    for axes in itertools.permutations("zyx"):
        order = [axes.index(name) for name in "zyx"]
        if own.shape != like.shape and tuple(own.shape[axis] for axis in order) == like.shape:
            return f"--axes {''.join(axes)} if the array's axes are {', '.join(axes)}"
    steps = _steps(own, like, open_ended)
    if steps is not None and (open_ended or _fits(own, like, steps)):
        return "--resample takes the nearest voxel, if it was painted on coarser or finer voxels of the same volume"
    if own.voxel_size_nm is None and own.shape != like.shape:
        return "--voxel-size-nm Z,Y,X of the painted volume, with --resample; or paint on the volume itself"
    return "give the volume, or its level, that was painted on as --like"
