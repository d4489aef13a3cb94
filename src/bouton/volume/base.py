"""What every volume can do, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bouton.errors import DataError
from bouton.geometry import NM, ZYX, Box
from bouton.volume.places import Place

DISCRETE = ("labels", "mask")
"""Kinds whose values cannot be averaged."""
KINDS = ("image", "probability", "affinities", "labels", "mask")


@dataclass(frozen=True)
class VolumeInfo:
    """Where a volume lies and what it is.

    Attributes
    ----------
    path : Path or ObjectPath
    dataset : str or None
        Array inside the file or folder.
    shape : tuple of int
        (z, y, x) or (c, z, y, x).
    dtype : numpy.dtype
    voxel_size_nm : (z, y, x) or None
        None where neither file nor user says it.
    offset_zyx : (z, y, x)
        Where the file puts its first voxel, in voxels. Boxes of :meth:`Volume.read` start at (0, 0, 0) all the same.
    """

    path: Place
    dataset: str | None
    shape: tuple[int, ...]
    dtype: np.dtype
    voxel_size_nm: NM | None
    offset_zyx: ZYX = (0, 0, 0)


class Volume(ABC):
    """An array over voxels on disk, read box by box; ``volume[...]`` takes numpy's basic slices.

    Attributes
    ----------
    info : VolumeInfo
    path : Path or ObjectPath
    shape : tuple of int
        (z, y, x) or (c, z, y, x).
    dtype : numpy.dtype
    voxel_size_nm : (z, y, x) or None
    channels : int or None
    box : Box
        All voxels; starts at (0, 0, 0).
    """

    sections = False
    """Whether reading a thin box costs as much as reading whole sections (so that readers take wide boxes)."""
    open_ended = False
    """Whether the file ends where somebody stopped to paint, not where the data set does; all beyond is 0."""

    def __init__(self, info: VolumeInfo) -> None:
        self.info = info
        self.path = info.path
        self.shape = info.shape
        self.dtype = info.dtype
        self.voxel_size_nm = info.voxel_size_nm
        self.channels = info.shape[0] if len(info.shape) == 4 else None
        self.box = Box.of_shape(info.shape[-3:])

    @property
    def ndim(self) -> int:
        """3, or 4 with channels."""
        return len(self.shape)

    @property
    def name(self) -> str:
        """Path and data set, as error messages say them."""
        return f"{self.path}, data set {self.info.dataset}" if self.info.dataset else str(self.path)

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of ``box`` as a new C-contiguous array, (z, y, x) or (c, z, y, x).

        Raises
        ------
        DataError
            The box leaves the volume, or voxels are missing or damaged.
        """
        self._check(box)
        found = np.require(self._read(box), dtype=self.dtype, requirements=["C", "W"])
        assert found.shape == self._shape_of(box)
        return found

    @abstractmethod
    def _read(self, box: Box) -> np.ndarray:
        """Return the voxels of a box that lies inside and is not empty."""

    def _shape_of(self, box: Box) -> tuple[int, ...]:
        return box.shape if self.channels is None else (self.channels, *box.shape)

    def _check(self, box: Box) -> None:
        if box.is_empty or not self.box.contains(box):
            raise DataError(f"box {box}", where=self.name, expected=f"a box with voxels, inside {self.box}")

    def __getitem__(self, key: Any) -> np.ndarray:
        ranges, rest = _basic_index(key, self.shape)
        if any(stop <= start for start, stop in ranges):
            empty = np.empty([max(0, stop - start) for start, stop in ranges], dtype=self.dtype)
            return empty[rest]
        (z0, z1), (y0, y1), (x0, x1) = ranges[-3:]
        found = self.read(Box((z0, y0, x0), (z1, y1, x1)))
        if self.channels is not None:
            found = found[slice(*ranges[0])]
        return found[rest]

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        found = self[...]
        return found if dtype is None else found.astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.dtype} {self.shape}, {self.voxel_size_nm} nm>"


class WritableVolume(Volume):
    """A volume that takes voxels."""

    def write(self, box: Box, array: np.ndarray) -> None:
        """Write the voxels of ``box``; when the call returns they are durable.

        Two processes may write at once where their boxes lie in different blocks. A whole block (clipped to the volume)
        replaces whatever was there, damaged or not; the same array gives the same bytes.

        Raises
        ------
        DataError
            The box leaves the volume, shape or dtype differ, or the disk is full.
        """
        self._check(box)
        if array.shape != self._shape_of(box) or array.dtype != self.dtype:
            raise DataError(
                f"{array.dtype} array of shape {array.shape} for box {box}",
                where=self.name,
                expected=f"{self.dtype} of shape {self._shape_of(box)}",
            )
        self._write(box, array)

    @abstractmethod
    def _write(self, box: Box, array: np.ndarray) -> None:
        """Write an array that fits the box."""


def _basic_index(key: Any, shape: Sequence[int]) -> tuple[list[tuple[int, int]], tuple[Any, ...]]:
    """Split a numpy index into the range to read on each axis and the index to apply to what was read."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if sum(item is Ellipsis for item in keys) > 1 or len([item for item in keys if item is not Ellipsis]) > len(shape):
        raise IndexError(f"index {key!r} for {len(shape)} axes")
    at = next((i for i, item in enumerate(keys) if item is Ellipsis), None)
    if at is None:
        keys.append(Ellipsis)
        at = len(keys) - 1
    keys[at : at + 1] = [slice(None)] * (len(shape) - len(keys) + 1)
    pairs = [_axis_index(item, length) for item, length in zip(keys, shape, strict=True)]
    return [pair[0] for pair in pairs], tuple(pair[1] for pair in pairs)


def _axis_index(item: Any, length: int) -> tuple[tuple[int, int], int | slice]:
    if isinstance(item, slice):
        wanted = range(length)[item]
        if len(wanted) == 0:
            return (0, 0), slice(None)
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1])
        return (low, high + 1), slice(None, None, wanted.step)
    if not isinstance(item, int | np.integer) or isinstance(item, bool | np.bool_):
        raise IndexError(f"index {item!r}; expected numbers, slices and ...")
    if not -length <= item < length:
        raise IndexError(f"index {item} is out of range for an axis of {length}")
    position = int(item) % length
    return (position, position + 1), 0


def check_volume(
    volume: Volume, *, dtypes: Sequence[str], channels: int | tuple[int | None, ...] | None, role: str
) -> None:
    """Check that a volume can serve as ``role``.

    Parameters
    ----------
    volume : Volume
    dtypes : sequence of str
        Names of the numpy dtypes that the role accepts.
    channels : int or tuple, optional
        None for (z, y, x); or a tuple of what the role accepts.
    role : str
        What the volume is for, as the message says it: ``image``, ``labels``.

    Raises
    ------
    DataError
        It cannot.
    """
    accepted = channels if isinstance(channels, tuple) else (channels,)
    if volume.channels not in accepted:
        wanted = ["a 3-D array (z, y, x)" if n is None else f"a 4-D array ({n}, z, y, x)" for n in accepted]
        raise DataError(
            f"{volume.ndim}-D array of shape {volume.shape} as {role}",
            where=volume.name,
            expected=" or ".join(wanted),
            fix="choose another data set, or write the part that you need as an array of its own",
        )
    if volume.dtype.name not in dtypes:
        raise DataError(
            f"{volume.dtype} values as {role}" + _float_remark(volume.dtype, dtypes),
            where=volume.name,
            expected=" or ".join(dtypes),
            fix=f"bouton convert {volume.path} OUT --dtype {dtypes[0]}" + _float_option(volume.dtype, dtypes),
        )


def _is_ids(dtypes: Sequence[str]) -> bool:
    return all(np.dtype(name).itemsize >= 4 and np.dtype(name).kind in "ui" for name in dtypes)


def _float_remark(dtype: np.dtype, dtypes: Sequence[str]) -> str:
    return " (ids stored as real numbers may have lost digits)" if dtype.kind == "f" and _is_ids(dtypes) else ""


def _float_option(dtype: np.dtype, dtypes: Sequence[str]) -> str:
    if dtype.kind != "f":
        return ""
    return " from integer ids" if _is_ids(dtypes) else " --white VALUE (the value that becomes the largest)"
