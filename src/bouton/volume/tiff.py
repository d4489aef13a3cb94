"""TIFF pages read in part: strips and tiles that a box touches, and no others.

A file that ends before its pages do is an error when it is opened, not zeros when it is read.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from bouton.errors import DataError

_CLASSIC = {b"II*\0": "<", b"MM\0*": ">"}
# none, deflate (two codes), packbits: what tifffile decodes without another package
_BUILT_IN = (1, 8, 32946, 32773)
_BIG = {b"II+\0": "<", b"MM\0+": ">"}


def is_tiff(head: bytes) -> bool:
    """Whether a file that starts with these bytes is a TIFF."""
    return head[:4] in _CLASSIC or head[:4] in _BIG


def check_whole(path: Path, file: tifffile.TiffFile) -> None:
    """Check that the chain of pages and every page's data lie inside the file.

    Raises
    ------
    DataError
        The file is truncated.
    """
    size = path.stat().st_size
    with path.open("rb") as raw:
        _check_chain(path, raw, size)
    for number, page in enumerate(file.pages):
        ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if not ends or max(ends) > size or len(page.dataoffsets) != len(page.databytecounts):
            raise truncated(path, f"page {number} ends at byte {max(ends, default=0)} of {size}")
    series = file.series[0] if file.series else None
    if series is not None and series.dataoffset is not None and series.dataoffset + series.nbytes > size:
        raise truncated(path, f"its planes end at byte {series.dataoffset + series.nbytes} of {size}")


def truncated(path: Path, reason: str) -> DataError:
    """Return the error for a TIFF that lacks its end."""
    return DataError(
        f"truncated TIFF: {reason}", where=str(path), expected="a whole TIFF file", fix="copy or export it again"
    )


def _check_chain(path: Path, raw: BinaryIO, size: int) -> None:
    """Walk the directories: tifffile passes over a chain that breaks off."""
    head = raw.read(16)
    big = head[:4] in _BIG
    order = (_BIG if big else _CLASSIC)[head[:4]]
    if len(head) < (16 if big else 8):
        raise truncated(path, f"{size} bytes")
    offset = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)[0]
    seen: set[int] = set()
    while offset:
        raw.seek(offset)
        counted = raw.read(8 if big else 2)
        if offset in seen or len(counted) < (8 if big else 2):
            raise truncated(path, f"page {len(seen)} starts at byte {offset} of {size}")
        seen.add(offset)
        entries = struct.unpack(order + ("Q" if big else "H"), counted)[0]
        raw.seek(entries * (20 if big else 12), 1)
        following = raw.read(8 if big else 4)
        if len(following) < (8 if big else 4):
            raise truncated(path, f"the directory of page {len(seen) - 1} breaks off")
        offset = struct.unpack(order + ("Q" if big else "I"), following)[0]


def check_grey(path: Path, page: tifffile.TiffPage) -> None:
    """Check that a page has one grey value a pixel.

    Raises
    ------
    DataError
        Colour or palette.
    """
    if page.samplesperpixel != 1 or page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.PALETTE):
        raise colour(path, f"{page.samplesperpixel} values a pixel ({tifffile.PHOTOMETRIC(page.photometric).name})")


def colour(path: Path, found: str) -> DataError:
    """Return the error for a section in colour."""
    return DataError(
        f"colour section: {found}",
        where=str(path),
        expected="one grey value a pixel, 8 or 16 bit",
        fix="write it as grey values first, for example in Fiji: Image > Type > 8-bit",
    )


def read_page(path: Path, page: tifffile.TiffPage | tifffile.TiffFrame, rows: slice, columns: slice) -> np.ndarray:
    """Return a part of a page, decoding only the strips or tiles that it touches.

    Raises
    ------
    DataError
        The data are damaged, or of a compression that neither tifffile nor Pillow knows here.
    """
    if page.keyframe.compression not in _BUILT_IN:
        return _read_pillow(path, page, rows, columns)
    try:
        return _read_segments(page, rows, columns)
    except (ValueError, RuntimeError, OSError, struct.error, zlib.error) as error:
        raise DataError(f"damaged page {page.index}: {error}", where=str(path), fix="export it again") from error


def _read_segments(page: tifffile.TiffPage | tifffile.TiffFrame, rows: slice, columns: slice) -> np.ndarray:
    key = page.keyframe
    tile_h, tile_w = (key.tilelength, key.tilewidth) if key.is_tiled else (key.rowsperstrip, key.imagewidth)
    tile_h = tile_h if key.is_tiled else min(tile_h, key.imagelength)
    across = -(-key.imagewidth // tile_w)
    result = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=key.dtype.newbyteorder("="))
    for row in range(rows.start // tile_h, -(-rows.stop // tile_h)):
        for column in range(columns.start // tile_w, -(-columns.stop // tile_w)):
            part = _segment(page, row * across + column)
            _paste(result, part, (row * tile_h - rows.start, column * tile_w - columns.start))
    return result


def _segment(page: tifffile.TiffPage | tifffile.TiffFrame, index: int) -> np.ndarray:
    """Return the decoded strip or tile ``index`` of a page."""
    handle = page.parent.filehandle
    handle.seek(page.dataoffsets[index])
    decoded = page.keyframe.decode(handle.read(page.databytecounts[index]), index)[0]
    if decoded is None:
        raise ValueError(f"strip {index} is empty")
    return np.squeeze(decoded, axis=(0, 3))


def _paste(result: np.ndarray, part: np.ndarray, at: tuple[int, int]) -> None:
    """Copy the overlap of ``part``, whose first pixel lies at ``at``, into ``result``."""
    (y, x), (height, width) = at, part.shape
    y0, x0, y1, x1 = max(0, y), max(0, x), min(result.shape[0], y + height), min(result.shape[1], x + width)
    result[y0:y1, x0:x1] = part[y0 - y : y1 - y, x0 - x : x1 - x]


def _read_pillow(path: Path, page: tifffile.TiffPage | tifffile.TiffFrame, rows: slice, columns: slice) -> np.ndarray:
    """Read a page whose compression tifffile knows only with imagecodecs (LZW, JPEG, CCITT)."""
    try:
        with Image.open(path) as image:
            image.seek(page.index)
            part = image.crop((columns.start, rows.start, columns.stop, rows.stop))
            found = np.asarray(part)
    except (OSError, ValueError, EOFError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        name = tifffile.COMPRESSION(page.keyframe.compression).name
        raise DataError(
            f"page {page.index} ({name}) cannot be decoded: {error}",
            where=str(path),
            expected="a whole page without compression, or with deflate, LZW or packbits",
            fix="export it again",
        ) from error
    return found.astype(page.keyframe.dtype.newbyteorder("="), copy=False)
