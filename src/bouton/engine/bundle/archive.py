"""A zip that two exports of one run write with the same bytes, and that nobody's hostile zip can harm a reader of.

Entries are sorted, their times fixed, their modes plain. A reader refuses, before a byte is unpacked, names that leave
the folder, links, entries twice, more bytes or entries than a bundle has, and what is compressed beyond any bundle.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from bouton.errors import DataError, SpecError
from bouton.volume.files import disk_errors, sync_file, sync_folder

EPOCH = (1980, 1, 1, 0, 0, 0)
PIECE = 1 << 20
LARGEST_DIRECTORY = 4 << 20
_END, _END_BYTES = b"PK\x05\x06", 22
_END64_LOCATOR, _LOCATOR_BYTES = b"PK\x06\x07", 20
_LONGEST_COMMENT = 1 << 16


@dataclass(frozen=True)
class Limits:
    """What a bundle never exceeds.

    Attributes
    ----------
    archive_bytes, total_bytes : int
        Size of the zip; of everything in it, unpacked.
    entries : int
    ratio : int
        Bytes unpacked for one packed, of entries above ``PIECE``. Deflate reaches 1,032; lists of checksums, tables and
        reports stay below 50.
    """

    archive_bytes: int = (1 << 31) - 1
    total_bytes: int = 8 << 30
    entries: int = 10_000
    ratio: int = 200


LIMITS = Limits()


@dataclass(frozen=True)
class FileFact:
    """Size and SHA-256 (hexadecimal) of an entry."""

    bytes: int
    sha256: str


def fact_of(content: bytes | Path) -> FileFact:
    """Return size and hash of what is to be an entry."""
    if isinstance(content, bytes):
        return FileFact(len(content), hashlib.sha256(content).hexdigest())
    with disk_errors(content), content.open("rb") as file:
        return FileFact(content.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def write_archive(path: Path, entries: Mapping[str, bytes | Path], limits: Limits = LIMITS) -> Path:
    """Write a new zip, whole or not at all; equal entries give equal bytes.

    Parameters
    ----------
    entries : mapping of name -> bytes or Path
        A file's content, or where it lies.

    Raises
    ------
    SpecError
        ``path`` exists.
    DataError
        The disk refuses, or the bundle would be larger than one may be.
    """
    if path.exists():
        raise SpecError(f"{path} exists", expected="a new file", fix="--out another.crate.zip, or remove it")
    partial = path.with_name(f".{path.name}.partial")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with zipfile.ZipFile(partial, "w") as archive:
                for name in sorted(entries):
                    _add(archive, name, entries[name])
            _check_written(partial, entries, path, limits)
            sync_file(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)
    return path


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    if isinstance(content, bytes):
        archive.writestr(entry, content)
        return
    entry.file_size = content.stat().st_size
    with content.open("rb") as source, archive.open(entry, "w") as target:
        shutil.copyfileobj(source, target, PIECE)


def _check_written(partial: Path, entries: Mapping[str, bytes | Path], path: Path, limits: Limits) -> None:
    size = partial.stat().st_size
    if size > limits.archive_bytes or len(entries) > limits.entries:
        raise DataError(
            f"a bundle of {len(entries)} entries, {size:,} bytes", where=str(path),
            expected=f"at most {limits.entries} and {limits.archive_bytes:,}",
            fix="leave --with-models out: the cards tell which models they were",
        )  # fmt: skip


class Archive:
    """A zip open for reading, all of whose entries are safe to unpack.

    Raises
    ------
    DataError
        It is no zip, truncated, or has an entry that no bundle has.
    """

    def __init__(self, path: Path, limits: Limits = LIMITS) -> None:
        self.path, self.limits = path, limits
        with disk_errors(path):
            _check_end(path, limits)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
            raise _damaged(path, str(error)) from error
        self.entries: dict[str, zipfile.ZipInfo] = {}
        self._seen: set[str] = set()
        try:
            for entry in self._zip.infolist():
                self._take(entry)
            self._check_total()
        except DataError:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exc: object) -> None:
        self._zip.close()

    def _take(self, entry: zipfile.ZipInfo) -> None:
        wrong = what_is_wrong(entry, self.limits)
        if not wrong and entry.filename.casefold() in self._seen:
            # Linux would hold both, other systems the last one alone
            wrong = "stands there twice"
        if wrong:
            raise DataError(
                f"entry {entry.filename[:100]!r} {wrong}", where=str(self.path),
                expected="a bundle that bouton export-run wrote", fix="do not unpack it with other programs either",
            )  # fmt: skip
        self._seen.add(entry.filename.casefold())
        if not entry.is_dir():
            self.entries[entry.filename] = entry

    def _check_total(self) -> None:
        total = sum(entry.file_size for entry in self.entries.values())
        if total > self.limits.total_bytes:
            raise DataError(
                f"{total:,} bytes unpacked", where=str(self.path), expected=f"at most {self.limits.total_bytes:,}",
                fix="do not unpack it: bouton export-run writes no such bundle",
            )  # fmt: skip

    def pieces(self, name: str, fact: FileFact | None = None) -> Iterator[bytes]:
        """Yield an entry's bytes, and fail at the end where they are not what ``fact`` says.

        Raises
        ------
        DataError
            There is no such entry, it is damaged, or it is another.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise DataError(f"no entry {name!r}", where=str(self.path), expected=f"{name}, which bundle.json names")
        if fact is not None and entry.file_size != fact.bytes:
            raise _damaged(self.path, f"{name} has {entry.file_size} bytes, bundle.json says {fact.bytes}")
        total = hashlib.sha256()
        try:
            with self._zip.open(entry) as file:
                yield from _hashed(file, total)
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, zlib.error) as error:
            raise _damaged(self.path, f"{name}: {error}") from error
        if fact is not None and total.hexdigest() != fact.sha256:
            raise _damaged(self.path, f"{name} has another checksum than bundle.json says")

    def read(self, name: str, most_bytes: int, fact: FileFact | None = None) -> bytes:
        """Return an entry of at most ``most_bytes``.

        Raises
        ------
        DataError
            As :meth:`pieces`, or it is larger.
        """
        entry = self.entries.get(name)
        if entry is not None and entry.file_size > most_bytes:
            raise _damaged(self.path, f"{name} has {entry.file_size:,} bytes, at most {most_bytes:,} are expected")
        return b"".join(self.pieces(name, fact))


def _hashed(file: IO[bytes], total: hashlib._Hash) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        total.update(piece)
        yield piece


def what_is_wrong(entry: zipfile.ZipInfo, limits: Limits = LIMITS) -> str:
    """Return why an entry is not unpacked; empty if nothing is wrong with it."""
    mode = entry.external_attr >> 16
    if not is_safe_name(entry.orig_filename) or not is_safe_name(entry.filename):
        return "has a name that leads elsewhere"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if entry.flag_bits & 1:
        return "is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed in a way that bundles are not"
    if entry.file_size > max(PIECE, limits.ratio * entry.compress_size):
        return f"unpacks to {entry.file_size:,} bytes from {entry.compress_size:,}"
    return ""


def is_safe_name(name: str) -> bool:
    """Return whether a name stays below the folder that it is unpacked into, on every system."""
    parts = name.removesuffix("/").split("/")
    plain = name.isprintable() and not set(name) & set('\\:*?"<>|') and len(name) <= 400
    inside = all(part not in ("", ".", "..") and not part.endswith((".", " ")) for part in parts)
    return plain and inside and not PurePosixPath(name).is_absolute()


def _check_end(path: Path, limits: Limits) -> None:
    """Check what the last record says before ``zipfile`` makes an object of every entry.

    A directory in the 64-bit form is refused: no bundle has one, and it would count instead of what is checked here.
    """
    size = path.stat().st_size
    if size > limits.archive_bytes:
        raise _damaged(path, f"{size:,} bytes, at most {limits.archive_bytes:,} are expected")
    with path.open("rb") as file:
        file.seek(max(0, size - _END_BYTES - _LONGEST_COMMENT - _LOCATOR_BYTES))
        tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise _damaged(path, "no zip, or the end of it is missing")
    entries, directory = struct.unpack("<HI", tail[at + 10 : at + 16])
    if tail[max(0, at - _LOCATOR_BYTES) :].startswith(_END64_LOCATOR):
        raise _damaged(path, "a directory in the 64-bit form")
    if entries > limits.entries or directory > LARGEST_DIRECTORY:
        raise _damaged(path, f"{entries} entries, a directory of {directory:,} bytes")


def _damaged(path: Path, found: str) -> DataError:
    return DataError(
        f"no bundle, or a damaged one: {found}", where=str(path), expected="what bouton export-run wrote",
        fix="have it copied or exported again",
    )  # fmt: skip
