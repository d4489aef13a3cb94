"""The order of an array's axes on disk, and how it becomes (z, y, x) or (c, z, y, x)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bouton.errors import DataError

MAX_CHANNELS = 64
MAX_LENGTH = 2**40
_DEFAULT = {3: "zyx", 4: "czyx", 5: "tczyx"}


@dataclass(frozen=True)
class Arrangement:
    """How a stored array becomes a volume.

    Attributes
    ----------
    order : tuple of int
        Stored axes in the volume's order: (z, y, x) or (c, z, y, x).
    dropped : tuple of int
        Stored axes of length one that the volume has not.
    shape : tuple of int
        The volume's shape.
    """

    order: tuple[int, ...]
    dropped: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def has_channels(self) -> bool:
        """Whether the volume has a channel axis."""
        return len(self.order) == 4

    @property
    def is_straight(self) -> bool:
        """Whether the stored axes have the volume's order already."""
        return not self.dropped and list(self.order) == sorted(self.order)


def arrange_axes(shape: Sequence[int], names: Sequence[str] | None, where: str) -> Arrangement:
    """Find the volume in an array of ``shape``, whose axes are called ``names`` (default: zyx, czyx, tczyx).

    Raises
    ------
    DataError
        The array is no volume: too few or too many axes, an axis without or with too many voxels, colour sections,
        time points.
    """
    if names is None and len(shape) not in _DEFAULT:
        raise _no_volume(shape, where)
    axes = [str(name).lower() for name in (names or _DEFAULT[len(shape)])]
    axes = ["c" if name in ("channel", "c^") else name for name in axes]
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or not {"z", "y", "x"} <= set(axes) <= set("tczyx"):
        raise _no_volume(shape, where, f" with axes {axes}")
    if 0 in shape:
        raise DataError(
            f"empty volume: shape {tuple(shape)}", where=where, expected="at least one voxel on every axis",
            fix="export it again, or choose another data set",
        )  # fmt: skip
    if max(shape) > MAX_LENGTH:
        raise DataError(
            f"shape {tuple(shape)}", where=where, expected="at most 2^40 voxels on an axis", fix="restore its metadata"
        )
    if names is None and len(shape) == 4:
        _check_channels(shape, where)
    return _arrangement(shape, axes, where)


def _arrangement(shape: Sequence[int], axes: list[str], where: str) -> Arrangement:
    at = {name: axis for axis, name in enumerate(axes)}
    if "t" in at and shape[at["t"]] != 1:
        raise DataError(f"{shape[at['t']]} time points", where=where, expected="one", fix="convert one time point")
    single = "c" in at and shape[at["c"]] == 1 and len(shape) == 5
    order = tuple(at[name] for name in ("zyx" if single or "c" not in at else "czyx"))
    dropped = tuple(axis for axis in range(len(shape)) if axis not in order)
    return Arrangement(order, dropped, tuple(int(shape[axis]) for axis in order))


def _check_channels(shape: Sequence[int], where: str) -> None:
    if shape[0] > MAX_CHANNELS:
        colour = ": colour sections?" if shape[3] in (3, 4) else ""
        raise DataError(
            f"4-D array of shape {tuple(shape)}{colour}",
            where=where,
            expected=f"(z, y, x), or (channels, z, y, x) with at most {MAX_CHANNELS} channels",
            fix="choose or write one channel as a 3-D array",
        )


def _no_volume(shape: Sequence[int], where: str, more: str = "") -> DataError:
    return DataError(
        f"{len(shape)}-D array of shape {tuple(shape)}{more}",
        where=where,
        expected="a volume (z, y, x) or (channels, z, y, x)",
        fix="give the path or data set of a 3-D array",
    )


def check_dtype(dtype: np.dtype, where: str) -> np.dtype:
    """Return ``dtype`` in native byte order where voxels may have it.

    Raises
    ------
    DataError
        Complex numbers, text, records: no volume.
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "biuf":
        raise DataError(f"{dtype} values", where=where, expected="integers or real numbers", fix="store real values")
    return dtype.newbyteorder("=")
