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
from typing import Any

from bouton.errors import DataError
from bouton.volume.objects import ObjectPath
from bouton.volume.places import Place, name_below, place

_PIECE = 1 << 22
_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", "info", "attributes.json")


def write_bytes(path: str | Place, data: bytes) -> None:
    """Write a file or object so that it is there whole or not at all, also after a power cut.

    Raises
    ------
    DataError
        The disk is full, read-only or otherwise refuses.
    """
    write_pieces(path, [data])


def write_pieces(path: str | Place, pieces: Iterable[bytes]) -> None:
    """Write a file made of pieces, one at a time in memory (an object: all), as :func:`write_bytes`."""
    path = place(path)
    if isinstance(path, ObjectPath):
        with disk_errors(path):
            path.write_bytes(b"".join(pieces))
        return
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_durably(partial, pieces)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)


def publish(path: str | Place, data: bytes) -> bool:
    """Write a file or object under a name that must not exist yet: whatever once stood there never changes.

    The bytes are durable before the name is there, and the name before this returns: link(2) fails where the name
    exists, also over NFS, where rename(2) would replace it; an object is put on the condition that there is none. Of
    several writers one wins.

    Returns
    -------
    bool
        True: these bytes stand there, written now or by an equal writer before. False: other bytes stand there.

    Raises
    ------
    DataError
        The disk is full, read-only or otherwise refuses, or ``path`` is a folder.
    """
    path = place(path)
    if isinstance(path, ObjectPath):
        with disk_errors(path):
            return path.write_new(data) or path.read_bytes() == data
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


def publish_folder(temporary: Path, path: str | Place) -> bool:
    """Make a folder that a task wrote durable, and give it a name that must not exist yet; as :func:`publish`.

    Of objects each is published by itself: the folder is whole when this returns, not before.

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
    path = place(path)
    if isinstance(path, ObjectPath):
        names = [file.relative_to(temporary).as_posix() for file in _files_in(temporary)]
        return all(publish(path / name, (temporary / name).read_bytes()) for name in names)
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
        # A rename whose answer was lost is sent again over NFS, and then finds nothing to rename.
        moved = error.errno == errno.ENOENT and not temporary.exists() and path.is_dir()
        if not moved and error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return moved
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


def see_folder(folder: Place) -> None:
    """Make names that other hosts gave in a folder visible here.

    An NFS client believes what it knows of a folder for up to a minute; asked for attributes that are surely the
    server's, it drops what it knows where the folder has changed. On a local disk this is one cheap call.
    """
    if isinstance(folder, Path):
        statx = getattr(ctypes.CDLL(None), "statx", None)
        here, force_sync, modification_time = -100, 0x2000, 0x40  # AT_FDCWD, AT_STATX_FORCE_SYNC, STATX_MTIME
        if statx is not None:
            statx(here, os.fsencode(folder), force_sync, modification_time, ctypes.create_string_buffer(256))


def see_file(path: Place, below: Place) -> None:
    """Make a file that another host wrote visible here, with the folders that lead to it from ``below``."""
    for folder in reversed(path.parents if isinstance(path, Path) else ()):
        if folder == below or below in folder.parents:
            see_folder(folder)


def sync_folder(folder: str | Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: str | Place) -> str:
    """Return the blake2b hash (64 hexadecimal digits) of a file, or of a folder's relative names and contents.

    Raises
    ------
    DataError
        There is no such path.
    """
    path = place(path)
    with disk_errors(path):
        if path.is_file() or not path.is_dir():
            return _hash_file(path)
        total = hashlib.blake2b(digest_size=32)
        for file in _files_in(path):
            total.update(f"{name_below(path, file)}\0{_hash_file(file)}\n".encode())
        return total.hexdigest()


def bytes_checksum(data: bytes) -> str:
    """Return the :func:`checksum` of a file that holds ``data``."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def _hash_file(path: Place) -> str:
    total = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            total.update(piece)
    return total.hexdigest()


def fingerprint(path: str | Place, dataset: str | None = None) -> str:
    """Return a hash of what a volume or table looks like from outside: names, sizes, times of change, data set.

    It reads no content, so it costs one ``stat`` a file. A copy or a touched file has another fingerprint. Of objects
    it is the URL and the generations of the metadata, or of a table's parts: nobody could ask for every chunk.

    Raises
    ------
    DataError
        There is no such path.
    """
    path = place(path)
    total = hashlib.blake2b(f"{dataset or ''}\n".encode(), digest_size=32)
    with disk_errors(path):
        for line in _look_of_objects(path, dataset) if isinstance(path, ObjectPath) else _look_of_files(path):
            total.update(f"{line}\n".encode())
    return total.hexdigest()


def _look_of_files(path: Path) -> Iterator[str]:
    for file in _files_in(path) if path.is_dir() else [path]:
        found = file.stat()
        yield f"{name_below(path, file)}\0{found.st_size}\0{found.st_mtime_ns}"


def _look_of_objects(path: ObjectPath, dataset: str | None) -> Iterator[str]:
    folders = [path, *([path / dataset] if dataset else [])]
    found = [path, *(folder / name for folder in folders for name in _METADATA)]
    if path.suffix == ".parquet" and not path.is_file():
        found = list(path.rglob("*"))
    looks = [f"{file}\0{generation}" for file in found if (generation := file.generation())]
    if not looks:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    yield from looks


def _files_in(folder: Place) -> list[Any]:
    """Return the files below a folder, sorted; without the locks and temporary files of writers."""
    if isinstance(folder, ObjectPath):
        return list(folder.rglob("*"))
    found = (Path(base) / name for base, _, names in os.walk(folder) for name in names)
    return sorted(file for file in found if not file.name.endswith((".__lock", ".partial")))


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key under which ``s2`` comes before ``s10``."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts if part)


@contextlib.contextmanager
def disk_errors(path: str | Place) -> Iterator[None]:
    """Turn an OSError inside the block into a DataError about ``path``."""
    try:
        yield
    except OSError as error:
        raise disk_error(path, error) from error


def disk_error(path: str | Place, error: OSError) -> DataError:
    """Return the DataError that tells ``error``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(path)
    if error.errno == errno.ENOENT:
        return DataError("no such file or folder", where=str(path), expected="an existing path", fix="check the path")
    reason = error.strerror or str(error)
    is_object = isinstance(place(path), ObjectPath)
    fix = "check the bucket, the credentials and the endpoint" if is_object else "check the permissions and the disk"
    return DataError(reason, where=str(path), fix=fix)


def disk_full(path: str | Place) -> DataError:
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
        raise _exists_already(final)
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


@contextlib.contextmanager
def new_folder(final: Place) -> Iterator[Place]:
    """Give a folder to fill that is not there yet: of files as :func:`partial_folder` does, of objects in its place.

    Objects cannot be renamed: whoever fills the folder writes last what makes it a result. They go when that fails.
    """
    if isinstance(final, Path):
        with partial_folder(final) as partial:
            yield partial
        return
    with disk_errors(final):
        if final.is_dir():
            raise _exists_already(final)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(final.remove_below)
            yield final
            on_failure.pop_all()


def _exists_already(final: Place) -> DataError:
    return DataError("exists already", where=str(final), fix="remove it or choose another name")


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
