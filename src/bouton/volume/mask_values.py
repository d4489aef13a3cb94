"""What the values of a painted volume mean: which are mask, and of which class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.volume.base import Volume

LARGEST_SMALL = 255
"""Classes up to this are stored as uint8."""


@dataclass(frozen=True)
class MaskValues:
    """Which values of a volume are mask.

    Attributes
    ----------
    classes : tuple of int
        Values, or of probabilities channels counted from 1, that are mask; empty: all above 0.
    threshold : float, optional
        For probabilities, above 0 and up to 1: what reaches it is mask. Integers count as shares of their largest.
    keep : bool
        Whether the classes are kept as values; else all are 1.
    as_class : int, optional
        The one class that everything masked gets.
    """

    classes: tuple[int, ...] = ()
    threshold: float | None = None
    keep: bool = False
    as_class: int | None = None

    def __post_init__(self) -> None:
        wrong = [value for value in (*self.classes, self.as_class or 1) if value < 1]
        if wrong or len(set(self.classes)) != len(self.classes):
            raise SpecError(
                f"classes {self.classes if not wrong else wrong[0]}", expected="whole numbers of at least 1, each once",
                fix="--classes 1,3",
            )  # fmt: skip
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise SpecError(f"threshold {self.threshold:g}", expected="above 0, at most 1", fix="--threshold 0.5")


def dtype_of(volume: Volume, values: MaskValues) -> np.dtype:
    """Return the dtype that the classes of a volume need: uint8 or uint64.

    Raises
    ------
    SpecError
        The options do not fit the volume.
    DataError
        The volume holds no classes.
    """
    channels = volume.channels or 1
    if values.threshold is None:
        _check_classes(volume, channels)
    elif channels > 1:
        _check_channels(volume, channels, values)
    elif values.keep or values.classes:
        raise SpecError(
            "classes of one probability", where=volume.name, expected="a channel for each class, or values",
            fix="leave out --classes and --keep-classes",
        )  # fmt: skip
    if values.as_class is not None or not values.keep:
        return np.dtype(np.uint8 if (values.as_class or 1) <= LARGEST_SMALL else np.uint64)
    largest = max(values.classes, default=channels if channels > 1 else _largest(volume.dtype))
    return np.dtype(np.uint8 if largest <= LARGEST_SMALL else np.uint64)


def _largest(dtype: np.dtype) -> int:
    return 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)


def _check_classes(volume: Volume, channels: int) -> None:
    if channels > 1:
        raise DataError(
            f"{channels} channels", where=volume.name, expected="values, or probabilities with --threshold",
            fix="--threshold 0.5 --classes C, where channels count from 1",
        )  # fmt: skip
    if volume.dtype.kind == "f":
        raise DataError(
            f"{volume.dtype} values", where=volume.name, expected="whole numbers, or probabilities with --threshold",
            fix="--threshold 0.5",
        )  # fmt: skip


def _check_channels(volume: Volume, channels: int, values: MaskValues) -> None:
    if not values.classes and not values.keep:
        raise SpecError(
            f"{channels} channels and no classes", where=volume.name, expected="which channels are mask, from 1",
            fix="--classes 1,3",
        )  # fmt: skip
    lost = [number for number in values.classes if number > channels]
    if lost:
        raise SpecError(f"class {lost[0]} of {channels} channels", where=volume.name, expected=f"1 to {channels}")


def classes_of(array: np.ndarray, values: MaskValues, dtype: np.dtype, where: str) -> np.ndarray:
    """Return the class of every voxel, 0 where it is no mask, in ``dtype`` (z, y, x).

    Parameters
    ----------
    array : numpy.ndarray
        (z, y, x) or (c, z, y, x).
    values : MaskValues
    dtype : numpy.dtype
        Of :func:`dtype_of`.
    where : str
        The volume and the box, for messages.

    Raises
    ------
    DataError
        A probability is none, or a class does not fit.
    """
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if values.threshold is None:
        found = _of_values(array, values, dtype, where)
    else:
        found = _of_probabilities(array, values, dtype, where)
    if values.as_class is not None:
        found[found > 0] = values.as_class
    return found


def _of_values(array: np.ndarray, values: MaskValues, dtype: np.dtype, where: str) -> np.ndarray:
    chosen = _is_one_of(array, values.classes) if values.classes else array > 0
    if not values.keep or values.as_class is not None:
        return chosen.astype(dtype)
    low, high = (int(array.min()), int(array.max())) if not values.classes else (0, 0)
    if low < 0 or high > np.iinfo(dtype).max:
        raise DataError(
            f"values from {low} to {high}", where=where, expected=f"classes of 0 to {np.iinfo(dtype).max}",
            fix="--classes 1,3 chooses some",
        )  # fmt: skip
    return np.where(chosen, array, 0).astype(dtype)


def _is_one_of(array: np.ndarray, classes: tuple[int, ...]) -> np.ndarray:
    largest = _largest(array.dtype)
    # In the array's own dtype: ids beside signed numbers would become real ones.
    return np.isin(array, np.array([value for value in classes if value <= largest], dtype=array.dtype))


def _of_probabilities(array: np.ndarray, values: MaskValues, dtype: np.dtype, where: str) -> np.ndarray:
    assert values.threshold is not None
    shares = _shares(array, where)
    if shares.ndim == 3:
        return (shares >= values.threshold).astype(dtype)
    if not values.keep or values.as_class is not None:
        chosen = [number - 1 for number in values.classes] or list(range(len(shares)))
        # Classes exclude one another: a voxel's probability to be any of them is their sum.
        return (shares[chosen].sum(axis=0) >= values.threshold).astype(dtype)
    best = shares.argmax(axis=0) + 1
    kept = shares.max(axis=0) >= values.threshold
    if values.classes:
        kept &= np.isin(best, values.classes)
    return np.where(kept, best, 0).astype(dtype)


def _shares(array: np.ndarray, where: str) -> np.ndarray:
    """Return probabilities as float32 of 0 to 1."""
    if array.dtype.kind != "f":
        return array.astype(np.float32) / np.float32(_largest(array.dtype))
    low, high = float(array.min()), float(array.max())
    # NaN fails every comparison.
    if not (low >= 0 and high <= 1 and math.isfinite(low + high)):
        raise DataError(
            f"probabilities from {low:g} to {high:g}", where=where, expected="0 to 1",
            fix="export probabilities, or classes as whole numbers without --threshold",
        )  # fmt: skip
    return array.astype(np.float32)
