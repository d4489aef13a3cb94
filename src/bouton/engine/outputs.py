"""What a task wrote: checked against its declaration, made durable, and named with its checksum."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from bouton.engine.tasks import OutputFile
from bouton.errors import RunError
from bouton.geometry import ZYX, Box
from bouton.stage import Layer, Output, Table, TableData
from bouton.volume import WritableVolume, checksum, shard_file, write_table


def check_layers(found: Mapping[str, np.ndarray], declared: Mapping[str, Layer], core: Box | None, where: str) -> None:
    """Compare a task's layers with what its part declares.

    Raises
    ------
    RunError
        A layer is missing, unknown, of another shape or dtype, or not finite.
    """
    _check_names("layers", found, declared, where)
    for name, layer in declared.items():
        assert core is not None
        array = found[name]
        shape = core.shape if layer.channels is None else (layer.channels, *core.shape)
        if not isinstance(array, np.ndarray) or array.shape != shape:
            raise RunError(f"layer {name} has shape {np.shape(array)}", where=where, expected=str(shape))
        if str(array.dtype) != layer.dtype:
            raise RunError(f"layer {name} is {array.dtype}", where=where, expected=str(layer.dtype))
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise RunError(f"layer {name} holds NaN or infinity", where=where, expected="finite values")


def check_tables(found: Mapping[str, TableData], declared: Mapping[str, Table], where: str) -> None:
    """Compare a task's tables with what its part declares.

    Raises
    ------
    RunError
        A table or column is missing, unknown, of another dtype, or columns differ in length.
    """
    _check_names("tables", found, declared, where)
    for name, table in declared.items():
        _check_names(f"columns of table {name}", found[name], table.columns, where)
        lengths = {column: np.shape(found[name][column]) for column in table.columns}
        if any(len(shape) != 1 for shape in lengths.values()) or len(set(lengths.values())) > 1:
            raise RunError(f"table {name} has columns of shapes {lengths}", where=where, expected="1-D, one length")
        for column, dtype in table.columns.items():
            values = np.asarray(found[name][column])
            right = values.dtype.kind in "OU" if dtype == "str" else str(values.dtype) == dtype
            if not right:
                raise RunError(f"column {name}.{column} is {values.dtype}", where=where, expected=dtype)


def _check_names(what: str, found: Mapping[str, object], declared: Mapping[str, object], where: str) -> None:
    if set(found) != set(declared):
        shown = ", ".join(sorted(found)) or "none"
        raise RunError(f"{what}: {shown}", where=where, expected=", ".join(sorted(declared)) or "none")


def write_layers(
    root: Path, writers: Mapping[str, WritableVolume], output: Output, index: ZYX, core: Box
) -> list[OutputFile]:
    """Write a task's layers, one shard each, and return the files.

    What an earlier attempt left in a shard is removed first: bytes depend on this task alone.
    """
    files = []
    for name, array in sorted(output.layers.items()):
        path = shard_file(root / name, index)
        path.unlink(missing_ok=True)
        writers[name].write(core, array)
        files.append(file_record(root, path))
    return files


def write_tables(
    root: Path, paths: Mapping[str, Path], output: Output, declared: Mapping[str, Table]
) -> list[OutputFile]:
    """Write a task's tables and return the files."""
    files = []
    for name, table in sorted(output.tables.items()):
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        write_table(paths[name], table, declared[name].columns)
        files.append(file_record(root, paths[name]))
    return files


def adopt_folder(root: Path, temporary: Path, final: Path) -> list[OutputFile]:
    """Make a folder of files that a task wrote durable, move it to its final name, and return its files."""
    for path in all_files(temporary):
        fsync(path)
    for folder in [temporary, *(p for p in temporary.rglob("*") if p.is_dir())]:
        fsync(folder)
    if final.exists():
        shutil.rmtree(final)
    temporary.rename(final)
    fsync(final.parent)
    return [file_record(root, path) for path in all_files(final)]


def all_files(folder: Path) -> Iterator[Path]:
    """Yield the files under a folder, sorted."""
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def file_record(root: Path, path: Path) -> OutputFile:
    """Return a file's name inside ``root``, size and checksum."""
    return OutputFile(path.relative_to(root).as_posix(), path.stat().st_size, checksum(path))


def remove_leftovers(root: Path) -> None:
    """Remove the temporary files of attempts that were killed."""
    for folder, folders, files in os.walk(root):
        for name in [n for n in folders if is_temporary(n)]:
            shutil.rmtree(Path(folder) / name)
            folders.remove(name)
        for name in files:
            if is_temporary(name):
                (Path(folder) / name).unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Return whether a file or folder name is one of an unfinished write."""
    return name.startswith(".tmp-") or name.endswith((".__lock", ".partial"))


def fsync(path: Path) -> None:
    """Make a file or folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
