"""Whether a data source is the one that a run read: by its whole content, or by pieces spread over it.

Objects in a store are read for this only if asked: nobody could ask for every chunk. At the same URL their fingerprint
(URL and generations of the metadata) tells, on every machine.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from bouton.volume import checksum
from bouton.volume.files import disk_errors
from bouton.volume.places import Place

SMALL_BYTES = 1 << 30
PIECES = 1024
PIECE_BYTES = 1 << 16


@dataclass(frozen=True)
class Content:
    """What was found at a source's place. ``content`` is empty where it was not read whole; all are, of objects."""

    bytes: int = 0
    files: int = 0
    sample: str = ""
    content: str = ""


def look_at(path: Place, whole: bool = False) -> Content:
    """Return size and checksums of a source; its whole content where it is at most ``SMALL_BYTES``, or if asked.

    Raises
    ------
    DataError
        It cannot be read.
    """
    if not isinstance(path, Path):
        return Content(content=checksum(path) if whole else "")
    with disk_errors(path):
        files = _files(path)
        size = sum(found for _, _, found in files)
        content = checksum(path) if whole or size <= SMALL_BYTES else ""
        return Content(size, len(files), sample(path), content)


def sample(path: Path) -> str:
    """Return a BLAKE2b hash of the names and sizes of all files and of ``PIECES`` pieces of ``PIECE_BYTES``.

    The pieces lie at equal distances over the files as if these were one, so it costs 64 MiB of reading whatever the
    size. A change that meets no piece and changes no size goes unseen; one of a 1024th of the bytes in a row or more
    always meets a piece.
    """
    files = _files(path)
    total = hashlib.blake2b(digest_size=32)
    for name, _, size in files:
        total.update(f"{name}\0{size}\n".encode())
    size = sum(found for _, _, found in files)
    if size <= PIECES * PIECE_BYTES:
        places = [(file, 0, length) for _, file, length in files]
    else:
        places = _places(files, [size * i // PIECES for i in range(PIECES)])
    for file, start, length in places:
        with file.open("rb") as handle:
            handle.seek(start)
            total.update(handle.read(length))
    return total.hexdigest()


def _places(files: list[tuple[str, Path, int]], starts: list[int]) -> list[tuple[Path, int, int]]:
    """Return (file, offset, length) of the pieces that begin at ``starts`` of all files laid end to end."""
    found = []
    begin, rest = 0, iter(starts)
    start = next(rest, None)
    for _, file, size in files:
        while start is not None and start < begin + size:
            found.append((file, start - begin, PIECE_BYTES))
            start = next(rest, None)
        begin += size
    return found


def _files(path: Path) -> list[tuple[str, Path, int]]:
    """Return (name, path, size) of a file, or of all files below a folder, sorted by name."""
    if not path.is_dir():
        return [("", path, path.stat().st_size)]
    found = [Path(base) / name for base, _, names in os.walk(path) for name in names]
    kept = [file for file in found if not file.name.endswith((".__lock", ".partial"))]
    return sorted((file.relative_to(path).as_posix(), file, file.stat().st_size) for file in kept)
