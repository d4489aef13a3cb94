"""Image stacks read: a TIFF file of many pages, a folder of TIFF or PNG sections, a ``.npy`` array."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from bouton.errors import DataError
from bouton.geometry import Box
from bouton.volume.axes import arrange_axes, check_dtype
from bouton.volume.base import Volume, VolumeInfo
from bouton.volume.files import natural_key
from bouton.volume.tiff import check_grey, check_whole, colour, read_page, truncated
from bouton.volume.voxel_size import settle_voxel_size

_TIFF = (".tif", ".tiff")
_GREY = {"L": np.dtype(np.uint8), "I;16": np.dtype(np.uint16), "I;16B": np.dtype(np.uint16)}


class NpyVolume(Volume):
    """A ``.npy`` file, mapped into memory for each read."""

    def _read(self, box: Box) -> np.ndarray:
        return _map_npy(self.path)[(..., *box.slices)].astype(self.dtype)


class TiffVolume(Volume):
    """A TIFF file; each page is a section.

    Parameters
    ----------
    info : VolumeInfo
    plain : (int, numpy.dtype), optional
        Where the voxels start in the file and their type there, if they lie in one piece.
    """

    sections = True

    def __init__(self, info: VolumeInfo, plain: tuple[int, np.dtype] | None) -> None:
        super().__init__(info)
        self.plain = plain

    def _read(self, box: Box) -> np.ndarray:
        if self.plain is not None:
            offset, dtype = self.plain
            return np.memmap(self.path, dtype, "r", offset, self.shape)[box.slices].astype(self.dtype)
        rows, columns = box.slices[1:]
        with _opened_tiff(self.path) as file:
            found = np.empty(box.shape, dtype=self.dtype)
            for section, z in zip(found, range(box.start[0], box.stop[0]), strict=True):
                section[:] = read_page(self.path, file.pages[z], rows, columns)
            return found


class SectionsVolume(Volume):
    """A folder of sections, one image file each, in the natural order of their names."""

    sections = True

    def __init__(self, info: VolumeInfo, files: Sequence[Path]) -> None:
        super().__init__(info)
        self.files = files

    def _read(self, box: Box) -> np.ndarray:
        rows, columns = box.slices[1:]
        found = np.empty(box.shape, dtype=self.dtype)
        for section, file in zip(found, self.files[box.start[0] : box.stop[0]], strict=True):
            section[:] = self._section(file, rows, columns)
        return found

    def _section(self, file: Path, rows: slice, columns: slice) -> np.ndarray:
        if file.suffix.lower() in _TIFF:
            with _opened_tiff(file) as tiff:
                return read_page(file, tiff.pages[0], rows, columns)
        try:
            with Image.open(file) as image:
                return np.asarray(image.crop((columns.start, rows.start, columns.stop, rows.stop))).astype(self.dtype)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise _damaged_png(file, error) from error


def open_npy(path: Path, declared: Sequence[float] | None) -> NpyVolume:
    """Open a ``.npy`` array of axes (z, y, x) or (c, z, y, x).

    Raises
    ------
    DataError
        It is truncated or no volume.
    """
    array = _map_npy(path)
    arrangement = arrange_axes(array.shape, None, str(path))
    dtype = check_dtype(array.dtype, str(path))
    if not arrangement.is_straight:
        raise DataError(f"{array.ndim}-D array of shape {array.shape}", where=str(path), expected="(z, y, x)")
    return NpyVolume(VolumeInfo(path, None, arrangement.shape, dtype, settle_voxel_size(None, declared, str(path))))


def _map_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        if "zero-size" in str(error) or "empty file" in str(error):
            raise DataError(
                "empty volume", where=str(path), expected="at least one voxel on every axis", fix="export it again"
            ) from error
        raise DataError(
            f"truncated or damaged .npy file: {error}", where=str(path), expected="a whole array", fix="write it again"
        ) from error


def open_tiff(path: Path, declared: Sequence[float] | None) -> TiffVolume:
    """Open a TIFF file.

    Raises
    ------
    DataError
        It is truncated, in colour, or its pages differ.
    """
    with _opened_tiff(path) as file:
        check_whole(path, file)
        first = file.pages[0]
        check_grey(path, first)
        series = file.series[0]
        plain = (series.dataoffset, series.dtype) if series.dataoffset is not None and len(file.series) == 1 else None
        if plain is None:
            _check_pages(path, file)
        # Pages written one by one form a series each; equal pages are one stack all the same.
        whole = series.shape if len(file.series) == 1 else (len(file.pages), *first.shape)
        shape = _stack_shape(whole, str(path))
        if plain is None and shape[0] != len(file.pages):
            raise DataError(f"{len(file.pages)} pages for shape {shape}", where=str(path), expected="a page a section")
        dtype = check_dtype(first.dtype, str(path))
    size = settle_voxel_size(None, declared, str(path))
    return TiffVolume(VolumeInfo(path, None, shape, dtype, size), plain)


def _check_pages(path: Path, file: tifffile.TiffFile) -> None:
    first = file.pages[0].keyframe
    for number, page in enumerate(file.pages):
        key = page.keyframe
        check_grey(path, key)
        if (key.shape, key.dtype) != (first.shape, first.dtype):
            raise DataError(
                f"page {number} has {_show(key.shape, key.dtype)}",
                where=str(path),
                expected=f"{_show(first.shape, first.dtype)} as on page 0",
                fix="export the sections with one size and type",
            )


def _stack_shape(shape: Sequence[int], where: str) -> tuple[int, int, int]:
    """Return (z, y, x) of a TIFF series; one page is one section, leading axes of length one do not count."""
    leading = [length for length in shape[:-2] if length != 1] or [1]
    if len(leading) > 1:
        raise DataError(
            f"{len(leading) + 2}-D array of shape {tuple(shape)}",
            where=where,
            expected="a 3-D stack (z, y, x)",
            fix="export one channel and one time point",
        )
    z, y, x = arrange_axes((*leading, *shape[-2:]), None, where).shape
    return z, y, x


def _opened_tiff(path: Path) -> tifffile.TiffFile:
    # tifffile logs what it passes over; here each of those is an error of ours.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        file = tifffile.TiffFile(path)
        if not len(file.pages):
            file.close()
            raise truncated(path, "no page")
    except (tifffile.TiffFileError, ValueError, OSError, IndexError) as error:
        raise truncated(path, str(error)) from error
    return file


def section_files(folder: Path) -> list[Path]:
    """Return the image sections in a folder, in natural order of their names."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in (*_TIFF, ".png") and file.name[0] != "."]
    return sorted(files, key=lambda file: natural_key(file.name))


def open_sections(path: Path, files: Sequence[Path], declared: Sequence[float] | None) -> SectionsVolume:
    """Open a folder of sections, or one PNG.

    Raises
    ------
    DataError
        Sections differ in size or type, are in colour or damaged, or one of a numbered series is missing.
    """
    if len({file.suffix.lower() in _TIFF for file in files}) > 1:
        raise DataError("TIFF and PNG sections in one folder", where=str(path), expected="one format", fix="part them")
    _check_numbers(files, path)
    first = _section_info(files[0])
    for file in files[1:]:
        found = _section_info(file)
        if found != first:
            raise DataError(
                f"section of {_show(*found)}",
                where=str(file),
                expected=f"{_show(*first)} as in {files[0].name}",
                fix="pad, crop or convert the sections to one size and type",
            )
    (height, width), dtype = first
    shape = arrange_axes((len(files), height, width), None, str(path)).shape
    return SectionsVolume(VolumeInfo(path, None, shape, dtype, settle_voxel_size(None, declared, str(path))), files)


def _show(size: Sequence[int], dtype: np.dtype) -> str:
    return f"{size[0]} x {size[1]} pixels (y, x), {dtype}"


def _section_info(file: Path) -> tuple[tuple[int, int], np.dtype]:
    if file.suffix.lower() in _TIFF:
        with _opened_tiff(file) as tiff:
            check_whole(file, tiff)
            check_grey(file, tiff.pages[0])
            if len(tiff.pages) != 1:
                raise DataError(f"{len(tiff.pages)} pages", where=str(file), expected="one section a file")
            page = tiff.pages[0]
            return (page.imagelength, page.imagewidth), check_dtype(page.dtype, str(file))
    try:
        with Image.open(file) as image:
            mode, (width, height) = image.mode, image.size
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise _damaged_png(file, error) from error
    if mode not in _GREY:
        raise colour(file, f"PNG of mode {mode}")
    return (height, width), _GREY[mode]


def _damaged_png(file: Path, error: Exception) -> DataError:
    return DataError(f"damaged PNG: {error}", where=str(file), expected="a whole PNG section", fix="export it again")


def _check_numbers(files: Sequence[Path], folder: Path) -> None:
    """Find gaps in a series whose names differ in one number alone."""
    keys = [natural_key(file.stem) for file in files]
    places = {place for key in keys for place, part in enumerate(key) if part[:2] != keys[0][place % len(keys[0])][:2]}
    if len(places) != 1 or len({len(key) for key in keys}) != 1 or len(files) < 3:
        return
    (place,) = places
    numbers = [key[place][1] for key in keys]
    steps = np.diff(numbers)
    if any(key[place][0] for key in keys) or steps.min() < 1:
        return
    after = int(np.argmax(steps > steps.min()))
    if steps.max() != steps.min():
        raise DataError(
            f"section {numbers[after] + int(steps.min())} is missing between {files[after].name} and "
            f"{files[after + 1].name}",
            where=str(folder),
            expected="every section of the series",
            fix="restore it, put a copy of a neighbour in its place, or number the sections without gaps",
        )
