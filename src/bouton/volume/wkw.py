"""The webKnossos wrapper format (WKW, version 1): cubes of blocks in Morton order, raw or LZ4, little-endian.

Specification: github.com/scalableminds/webknossos-wrap. A block's values are stored with x fastest, that is as a
C-order array (z, y, x). Block ``n`` of a file lies at the coordinates whose interleaved bits are ``n``, x lowest.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bouton.errors import DataError
from bouton.geometry import ZYX, to_zyx

_HEADER = struct.Struct("<3sBBBBBQ")
_DTYPES = {1: "<u1", 2: "<u2", 3: "<u4", 4: "<u8", 5: "<f4", 6: "<f8"}
_RAW, _LZ4 = 1, (2, 3)
_LARGEST_BLOCK_LOG2 = 8


@dataclass(frozen=True)
class WkwHeader:
    """What the first 16 bytes of a WKW file say.

    Attributes
    ----------
    block : int
        Voxels along a side of a block.
    blocks : int
        Blocks along a side of a file.
    compressed : bool
    dtype : numpy.dtype
    data_offset : int
        Where the first block starts, in bytes.
    """

    block: int
    blocks: int
    compressed: bool
    dtype: np.dtype
    data_offset: int

    @property
    def side(self) -> int:
        """Voxels along a side of a file."""
        return self.block * self.blocks


def parse_header(data: bytes, where: str) -> WkwHeader:
    """Read the header of a WKW file.

    Raises
    ------
    DataError
        It is none, of another version, or of several channels.
    """
    expected = "a WKW file of version 1 with one channel"
    if len(data) < _HEADER.size:
        raise DataError(f"truncated WKW file: {len(data)} bytes", where=where, expected=expected)
    magic, version, sides, kind, voxel_type, voxel_bytes, offset = _HEADER.unpack(data[: _HEADER.size])
    dtype = np.dtype(_DTYPES.get(voxel_type, "V0"))
    if magic != b"WKW" or version != 1 or kind not in (_RAW, *_LZ4) or not dtype.itemsize:
        raise DataError(f"no WKW file: it starts with {data[:8]!r}", where=where, expected=expected)
    if voxel_bytes != dtype.itemsize:
        raise DataError(f"{voxel_bytes / dtype.itemsize:g} channels", where=where, expected=expected)
    if sides & 15 > _LARGEST_BLOCK_LOG2:
        raise DataError(f"blocks of {1 << (sides & 15)}^3 voxels", where=where, expected="at most 256^3")
    return WkwHeader(1 << (sides & 15), 1 << (sides >> 4), kind in _LZ4, dtype, offset)


def morton_index(position: ZYX) -> int:
    """Return the number of the block at ``position`` (z, y, x) of a file."""
    z, y, x = position
    return sum(
        ((x >> bit & 1) | (y >> bit & 1) << 1 | (z >> bit & 1) << 2) << (3 * bit)
        for bit in range(max(position).bit_length())
    )


def read_block(data: bytes, header: WkwHeader, position: ZYX, where: str) -> np.ndarray:
    """Return one block (z, y, x) of a file.

    Parameters
    ----------
    data : bytes
        The whole file.
    header : WkwHeader
    position : (z, y, x)
        Of the block in the file, in blocks.
    where : str
        The file, for messages.

    Raises
    ------
    DataError
        The block is cut short or damaged.
    """
    size = header.block**3 * header.dtype.itemsize
    begin, end = _extent(data, header, morton_index(position), size)
    piece = data[begin:end]
    if end > len(data) or begin >= end:
        raise _damaged(position, where, f"bytes {begin} to {end} of {len(data)}")
    if header.compressed:
        try:
            piece = pa.Codec("lz4_raw").decompress(piece, decompressed_size=size, asbytes=True)
        except (OSError, ValueError) as error:
            raise _damaged(position, where, str(error)) from None
    if len(piece) != size:
        raise _damaged(position, where, f"{len(piece)} bytes for {size}")
    return np.frombuffer(piece, header.dtype).reshape((header.block,) * 3)


def _extent(data: bytes, header: WkwHeader, number: int, size: int) -> tuple[int, int]:
    """Return the first byte of a block and the one after its last; the jump table tells where each block ends."""
    if not header.compressed:
        begin = header.data_offset + number * size
        return begin, begin + size
    table = _HEADER.size + 8 * number
    if table + 8 > len(data):
        return 0, 0
    (end,) = struct.unpack_from("<Q", data, table)
    begin = header.data_offset if number == 0 else struct.unpack_from("<Q", data, table - 8)[0]
    return begin, end


def _damaged(position: ZYX, where: str, reason: str) -> DataError:
    return DataError(
        f"damaged block {position} (z, y, x): {reason}", where=where, expected="the bytes that were written",
        fix="download the annotation again",
    )  # fmt: skip


def file_position(name: str) -> ZYX | None:
    """Return the place (z, y, x), in files, of ``z1/y2/x3.wkw``; None for another name."""
    parts = name.removesuffix(".wkw").split("/")
    if not name.endswith(".wkw") or len(parts) != 3:
        return None
    numbers = [part[1:] for part, axis in zip(parts, "zyx", strict=True) if part[:1] == axis]
    if len(numbers) != 3 or not all(number.isascii() and number.isdigit() for number in numbers):
        return None
    z, y, x = (int(number) for number in numbers)
    return z, y, x


def magnification(folder: str) -> ZYX | None:
    """Return the factors (z, y, x) that the name of a level says, ``2-2-1`` in x, y, z or ``4``; None for another."""
    parts = folder.split("-")
    if len(parts) not in (1, 3) or not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        return None
    return to_zyx([int(part) for part in (parts if len(parts) == 3 else parts * 3)])
