"""Painted masks read: ilastik, TIFF, webKnossos, precomputed or whatever bouton opens, as one mask on one grid.

ilastik's HDF5 exports hold ``exported_data`` with the attribute ``axistags``, a JSON text with the key of every axis;
a simple segmentation has the classes 1 to n, probabilities a channel a class.
https://www.ilastik.org/documentation/basics/export
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.geometry import NM, Box
from bouton.volume.base import Volume, VolumeInfo
from bouton.volume.mask_grid import GridOf, grid_of, on_grid, turned
from bouton.volume.mask_values import MaskValues, classes_of, dtype_of
from bouton.volume.open import open_volume
from bouton.volume.voxel_size import settle_voxel_size


@dataclass(frozen=True)
class MaskReading:
    """How painted files are read.

    Attributes
    ----------
    dataset : str, optional
        Array inside, as for :func:`bouton.volume.open.open_volume`.
    voxel_size_nm : (z, y, x), optional
        Of the painted files; must agree with what they say.
    axes : str, optional
        Order of the axes of files that do not say it, such as ``xyz``; else z, y, x.
    absent : str
        ``error`` or ``zero``, for chunks without a file.
    resample : bool
        Whether masks of coarser or finer voxels, by whole factors, are taken.
    fallback : Volume, optional
        What the unpainted voxels of a webKnossos annotation are, where it has a fallback layer.
    """

    dataset: str | None = None
    voxel_size_nm: NM | None = None
    axes: str | None = None
    absent: str = "error"
    resample: bool = False
    fallback: Volume | None = None


class MaskVolume(Volume):
    """Several painted volumes as one mask.

    Attributes
    ----------
    counts : Counter
        Voxels of every value above 0 in all that was read so far.
    """

    def __init__(self, sources: Sequence[Volume], values: Sequence[MaskValues], like: GridOf, invert: bool) -> None:
        dtypes = [dtype_of(source, each) for source, each in zip(sources, values, strict=True)]
        dtype = max(dtypes, key=lambda dtype: dtype.itemsize)
        first = sources[0].info
        size = like.voxel_size_nm or first.voxel_size_nm
        super().__init__(VolumeInfo(first.path, first.dataset, like.shape, dtype, size))
        self.sources, self.values, self.invert = list(sources), list(values), invert
        self.sections = any(source.sections for source in sources)
        self.counts: Counter[int] = Counter()

    def _read(self, box: Box) -> np.ndarray:
        found = np.zeros(box.shape, self.dtype)
        for source, values in zip(self.sources, self.values, strict=True):
            classes = classes_of(source.read(box), values, self.dtype, f"{source.name}, box {box}")
            # Of classes that overlap the one named first counts.
            np.copyto(found, classes, where=found == 0)
        if self.invert:
            found = (found == 0).astype(self.dtype)
        self._count(found)
        return found

    def _count(self, found: np.ndarray) -> None:
        if self.dtype == np.uint8:
            counts = np.bincount(found.reshape(-1), minlength=2)
            numbers = np.flatnonzero(counts)
            self.counts.update(dict(zip(numbers.tolist(), counts[numbers].tolist(), strict=True)))
        else:
            numbers, counts = np.unique(found, return_counts=True)
            self.counts.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
        del self.counts[0]


def open_masks(
    paths: Sequence[Path], like: Volume, reading: MaskReading, values: Sequence[MaskValues], invert: bool = False
) -> MaskVolume:
    """Open painted files as one mask on the grid of a volume.

    Parameters
    ----------
    paths : sequence of Path
        The files; a voxel is masked if it is in any of them.
    like : Volume
        Shape, voxel size and offset of the mask.
    reading : MaskReading
    values : sequence of MaskValues
        One a file.
    invert : bool
        Whether what is not masked is the mask.

    Raises
    ------
    DataError
        A file is damaged, has another grid, or values that are no mask.
    SpecError
        An option does not fit a file.
    """
    if invert and any(each.keep for each in values):
        raise SpecError("--invert with classes", expected="one of them", fix="leave --keep-classes and --as out")
    grid = grid_of(like)
    return MaskVolume([_opened(path, grid, reading) for path in paths], values, grid, invert)


def _opened(path: Path, grid: GridOf, reading: MaskReading) -> Volume:
    volume = turned(_with_fallback(path, reading), reading.axes)
    size = settle_voxel_size(volume.voxel_size_nm, reading.voxel_size_nm, volume.name)
    volume.voxel_size_nm, volume.info = size, replace(volume.info, voxel_size_nm=size)
    if volume.voxel_size_nm is None and grid.voxel_size_nm is None:
        raise DataError(
            "neither the mask nor the volume it is for says its voxel size", where=volume.name,
            fix="--voxel-size-nm Z,Y,X, for example 40,4,4",
        )  # fmt: skip
    return on_grid(volume, grid, reading.resample)


def _with_fallback(path: Path, reading: MaskReading) -> Volume:
    if reading.fallback is None:
        return open_volume(path, reading.dataset, None, reading.absent)
    if path.suffix.lower() != ".zip":
        raise SpecError("--fallback", where=str(path), expected="an annotation of webKnossos", fix="leave it out")
    from bouton.volume.webknossos import open_annotation

    return open_annotation(path, reading.dataset, None, reading.fallback)
