"""HDF5 read. The attributes ``resolution`` (nm, in the order of ``axes``) and ``axes`` (default zyx) are honoured.

So is vigra's attribute ``axistags``, in which ilastik's exports say their axes: a JSON text with a key for each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bouton.errors import DataError
from bouton.geometry import NM, Box
from bouton.volume.axes import Arrangement, arrange_axes, check_dtype
from bouton.volume.base import Volume, VolumeInfo
from bouton.volume.voxel_size import as_nm, nm_per_unit, settle_voxel_size


class Hdf5Volume(Volume):
    """A data set of an HDF5 file. The file is opened for each read, so that the volume may go to another process.

    Attributes
    ----------
    says_axes : bool
        Whether the file says the order of its axes.
    """

    def __init__(self, info: VolumeInfo, arrangement: Arrangement, says_axes: bool = False) -> None:
        super().__init__(info)
        self.arrangement, self.says_axes = arrangement, says_axes

    def _read(self, box: Box) -> np.ndarray:
        index: list[Any] = [0] * (len(self.arrangement.order) + len(self.arrangement.dropped))
        channels = [slice(None)] if self.arrangement.has_channels else []
        for axis, part in zip(self.arrangement.order, [*channels, *box.slices], strict=True):
            index[axis] = part
        with _opened(self.path) as file:
            try:
                found = file[self.info.dataset][tuple(index)]
            except (OSError, KeyError) as error:
                raise DataError(
                    f"damaged chunk in box {box}: {error}", where=self.name, fix="restore the file from its source"
                ) from error
        kept = sorted(self.arrangement.order)
        return np.transpose(found, [kept.index(axis) for axis in self.arrangement.order])


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        text = str(error)
        short = "truncated" in text or path.stat().st_size == 0
        raise DataError(
            "truncated HDF5 file" if short else f"damaged HDF5 file: {text}",
            where=str(path),
            expected="a whole HDF5 file",
            fix="copy or download the file again",
        ) from error
    with file:
        yield file


def open_hdf5(path: Path, dataset: str | None, declared: Sequence[float] | None) -> Hdf5Volume:
    """Open a data set of an HDF5 file; ``dataset`` may be left out where the file has one array alone.

    Raises
    ------
    DataError
        The file is damaged, has no such data set, it is no volume, or its voxel size is not the declared one.
    """
    with _opened(path) as file:
        arrays = _arrays_in(file)
        name = dataset.strip("/") if dataset else arrays[0] if len(arrays) == 1 else None
        if name not in arrays:
            raise _no_dataset(path, dataset, arrays)
        where = f"{path}, data set {name}"
        array = file[name]
        axes = _axes(array, where)
        arrangement = arrange_axes(array.shape, axes, where)
        dtype = check_dtype(array.dtype, where)
        size = settle_voxel_size(_size(array, arrangement, where), declared, where)
    return Hdf5Volume(VolumeInfo(path, name, arrangement.shape, dtype, size), arrangement, axes is not None)


def _axes(array: h5py.Dataset, where: str) -> list[str] | None:
    axes, tags = _text(array.attrs.get("axes")), _text(array.attrs.get("axistags"))
    if axes or not tags:
        return list(axes) if axes else None
    try:
        return [str(axis["key"]) for axis in json.loads(tags)["axes"]]
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"attribute axistags {tags[:60]!r}", where=where, expected="vigra's JSON with a key for each axis",
            fix="export it again, or give the array an attribute axes such as zyx",
        ) from None  # fmt: skip


def _arrays_in(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return sorted(found)


def _no_dataset(path: Path, dataset: str | None, arrays: list[str]) -> DataError:
    return DataError(
        f"no data set {dataset!r}" if dataset else "no data set given",
        where=str(path),
        expected=f"one of {', '.join(arrays[:20])}" if arrays else "an HDF5 file that holds an array",
        fix="name one as the data set" if arrays else "check the path",
    )


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        return "".join(str(_text(item)) for item in value)
    return value.decode() if isinstance(value, bytes) else str(value)


def _size(array: h5py.Dataset, arrangement: Arrangement, where: str) -> NM | None:
    found = array.attrs.get("resolution")
    if found is None:
        return None
    sizes = np.atleast_1d(found).tolist()
    spatial = arrangement.order[-3:]
    if len(sizes) == 3:
        ranks = sorted(spatial)
        spatial = tuple(ranks.index(axis) for axis in spatial)
    elif len(sizes) != array.ndim:
        raise DataError(f"attribute resolution {sizes}", where=where, expected="three numbers in nm")
    unit = nm_per_unit(_text(array.attrs.get("unit")), where)
    return as_nm([sizes[axis] * unit for axis in spatial], where)
