"""Files on disk: durable atomic writes, checksums, fingerprints, and operating-system errors told in one line."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bouton.errors import DataError

_PIECE = 1 << 22


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut.

    Raises
    ------
    DataError
        The disk is full, read-only or otherwise refuses.
    """
    write_pieces(path, [data])


def write_pieces(path: str | Path, pieces: Iterable[bytes]) -> None:
    """Write a file made of pieces, one at a time in memory, as :func:`write_bytes`."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_durably(partial, pieces)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)


def publish(path: str | Path, data: bytes) -> bool:
    """Write a file under a name that must not exist yet, so that whatever once stood there never changes.

    The bytes are durable before the name is there, and the name before this returns: link(2) fails where the name
    exists, also over NFS, where rename(2) would replace it. Of several writers one wins.

    Returns
    -------
    bool
        True: these bytes stand there, written now or by an equal writer before. False: other bytes stand there.

    Raises
    ------
    DataError
        The disk is full, read-only or otherwise refuses, or ``path`` is a folder.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    with disk_errors(path):
        make_folder(path.parent)
        try:
            _write_durably(partial, [data])
            ours = _linked(partial, path) or path.read_bytes() == data
        finally:
            partial.unlink(missing_ok=True)
        # Also where an equal writer was first: it may have been killed before it came to this.
        sync_folder(path.parent)
    return ours


def _linked(partial: Path, path: Path) -> bool:
    """Give a file a second name; return whether that name was free."""
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    return True


def publish_folder(temporary: Path, path: Path) -> bool:
    """Make a folder that a task wrote durable, and give it a name that must not exist yet; as :func:`publish`.

    Returns
    -------
    bool
        True: its files stand there, moved now or put there by an equal writer before. False: other files stand there.
        ``temporary`` is gone where it was moved, and remains otherwise.

    Raises
    ------
    DataError
        The disk refuses, or ``path`` is a file.
    """
    with disk_errors(path):
        for base, _, names in os.walk(temporary):
            for name in names:
                sync_file(Path(base) / name)
            sync_folder(base)
        make_folder(path.parent)
        ours = _moved(temporary, path) or checksum(path) == checksum(temporary)
        sync_folder(path.parent)
    return ours


def _moved(temporary: Path, path: Path) -> bool:
    """Rename a folder; return whether the name was free, or that of an empty folder."""
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def make_folder(folder: Path) -> None:
    """Create a folder and those above it that are missing, each durable in the one above."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def write_folder(path: str | Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files so that whoever opens it finds all of the old ones or all of the new ones.

    A folder of that name is replaced with all that it holds.

    Raises
    ------
    DataError
        The disk is full, read-only or otherwise refuses, or ``path`` is a file.
    """
    path = Path(path)
    new, old = (path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.{kind}") for kind in ("partial", "old"))
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            new.mkdir()
            for name, data in files.items():
                _write_durably(new / name, [data])
            sync_folder(new)
            _replace_folder(new, path, old)
        finally:
            _remove(new)
            _remove(old)
        sync_folder(path.parent)


def _replace_folder(new: Path, path: Path, old: Path) -> None:
    """Give ``new`` the name ``path``; in one step where the system can swap two names, else in two."""
    if not path.exists():
        new.rename(path)
    elif not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    elif not _swapped(new, path):
        path.rename(old)
        new.rename(path)


def _swapped(one: Path, other: Path) -> bool:
    """Exchange two names at once (Linux, on most file systems); return whether that worked."""
    exchange = getattr(ctypes.CDLL(None), "renameat2", None)
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return exchange is not None and exchange(here, os.fsencode(one), here, os.fsencode(other), swap) == 0


def _write_durably(path: Path, pieces: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: str | Path) -> None:
    """Make a file's bytes durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: str | Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: str | Path) -> str:
    """Return the blake2b hash (64 hexadecimal digits) of a file, or of a folder's relative names and contents.

    Raises
    ------
    DataError
        There is no such path.
    """
    path = Path(path)
    with disk_errors(path):
        if path.is_dir():
            total = hashlib.blake2b(digest_size=32)
            for file in _files_in(path):
                total.update(f"{file.relative_to(path).as_posix()}\0{_hash_file(file)}\n".encode())
            return total.hexdigest()
        return _hash_file(path)


def bytes_checksum(data: bytes) -> str:
    """Return the :func:`checksum` of a file that holds ``data``."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def _hash_file(path: Path) -> str:
    total = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            total.update(piece)
    return total.hexdigest()


def fingerprint(path: str | Path, dataset: str | None = None) -> str:
    """Return a hash of what a volume or table looks like from outside: names, sizes, times of change, data set.

    It reads no content, so it costs one ``stat`` a file. A copy or a touched file has another fingerprint.

    Raises
    ------
    DataError
        There is no such path.
    """
    path = Path(path)
    total = hashlib.blake2b(f"{dataset or ''}\n".encode(), digest_size=32)
    with disk_errors(path):
        for file in _files_in(path) if path.is_dir() else [path]:
            found = file.stat()
            name = file.relative_to(path).as_posix()
            total.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return total.hexdigest()


def _files_in(folder: Path) -> list[Path]:
    """Return the files below a folder, sorted; without the locks and temporary files of writers."""
    found = (Path(base) / name for base, _, names in os.walk(folder) for name in names)
    return sorted(file for file in found if not file.name.endswith((".__lock", ".partial")))


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key under which ``s2`` comes before ``s10``."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts if part)


@contextlib.contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Turn an OSError inside the block into a DataError about ``path``."""
    try:
        yield
    except OSError as error:
        raise disk_error(path, error) from error


def disk_error(path: str | Path, error: OSError) -> DataError:
    """Return the DataError that tells ``error``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(path)
    if error.errno == errno.ENOENT:
        return DataError("no such file or folder", where=str(path), expected="an existing path", fix="check the path")
    reason = error.strerror or str(error)
    return DataError(reason, where=str(path), fix="check the permissions and the disk")


def disk_full(path: str | Path) -> DataError:
    """Return the DataError for a disk without room left for ``path``."""
    return DataError(
        "disk full: no space left while writing",
        where=str(path),
        expected="room for the result",
        fix="free some space or choose a folder on another disk, then run the same command again",
    )


@contextlib.contextmanager
def partial_folder(final: Path) -> Iterator[Path]:
    """Give a temporary sibling folder that takes the name ``final`` when the block ends well, and goes when it fails.

    What a killed predecessor left is removed first; two writers of one result exclude each other.

    Raises
    ------
    DataError
        ``final`` exists already, or another process is writing it.
    """
    if final.exists():
        raise DataError("exists already", where=str(final), fix="remove it or choose another name")
    partial = final.with_name(f".{final.name}.partial")
    with disk_errors(final), _locked(partial, final):
        for child in partial.iterdir():
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        try:
            yield partial
            sync_folder(partial)
            partial.rename(final)
        finally:
            # After the rename there is nothing left to remove.
            _remove(partial)
        sync_folder(final.parent)


def _remove(folder: Path) -> None:
    """Remove a folder that a failed write may still be putting chunks into: its other chunks are under way."""
    for _ in range(500):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.02)


@contextlib.contextmanager
def _locked(folder: Path, final: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError("another process is writing it", where=str(final), fix="wait for it to end") from None
        yield
    finally:
        os.close(handle)
