"""What a task wrote: checked against its declaration, made durable, and named with its checksum."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bouton.engine.tasks import OutputFile
from bouton.errors import RunError
from bouton.geometry import Box
from bouton.stage import Layer, Output, Table, TableData
from bouton.volume import ShardEncoder, bytes_checksum, checksum, publish, publish_folder, table_bytes
from bouton.volume.objects import ObjectPath
from bouton.volume.places import Place, name_below


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


class Conflict(RunError):
    """Another content stands under the name of a file that a task wrote. ``path`` is relative to the step's folder."""

    def __init__(self, root: Place, path: Place) -> None:
        self.path = name_below(root, path)
        super().__init__("another content stands there already", where=str(path), expected="no file, or the same bytes")


def write_layers(root: Place, encoders: Mapping[str, ShardEncoder], output: Output, core: Box) -> list[OutputFile]:
    """Write a task's layers, one shard each, and return the files.

    Raises
    ------
    Conflict
        Another content stands there.
    """
    return [
        write_new(root, encoders[name].file(core), encoders[name].encode(core, array))
        for name, array in sorted(output.layers.items())
    ]


def write_tables(
    root: Place, paths: Mapping[str, Place], output: Output, declared: Mapping[str, Table]
) -> list[OutputFile]:
    """Write a task's tables and return the files.

    Raises
    ------
    Conflict
        Another content stands there.
    """
    return [
        write_new(root, paths[name], table_bytes(table, declared[name].columns, str(paths[name])))
        for name, table in sorted(output.tables.items())
    ]


def write_new(root: Place, path: Place, data: bytes) -> OutputFile:
    """Make a file durable under a name that is free, or that holds the same bytes: a late finisher changes nothing.

    Raises
    ------
    Conflict
        Another content stands there.
    """
    if not publish(path, data):
        raise Conflict(root, path)
    return OutputFile(name_below(root, path), len(data), bytes_checksum(data))


def adopt_folder(root: Place, temporary: Path, final: Place) -> list[OutputFile]:
    """Make a folder of files that a task wrote durable, move it to its final name, and return its files.

    Raises
    ------
    Conflict
        Another content stands there.
    """
    if not publish_folder(temporary, final):
        raise Conflict(root, final)
    return [file_record(root, path) for path in all_files(final)]


def all_files(folder: Place) -> Iterator[Any]:
    """Yield the files under a folder, sorted."""
    found = folder.rglob("*")
    # All that a store lists are objects: asking of each whether it is one would be a request.
    yield from found if isinstance(folder, ObjectPath) else sorted(path for path in found if path.is_file())


def file_record(root: Place, path: Place) -> OutputFile:
    """Return a file's name inside ``root``, size and checksum."""
    if isinstance(path, ObjectPath):
        data = path.read_bytes()
        return OutputFile(name_below(root, path), len(data), bytes_checksum(data))
    return OutputFile(name_below(root, path), path.stat().st_size, checksum(path))


def remove_leftovers(root: Path) -> None:
    """Remove the temporary files of attempts that were killed."""
    for folder, folders, files in os.walk(root):
        for name in [n for n in folders if is_temporary(n)]:
            # a worker of an earlier coordinator may be removing it, too
            shutil.rmtree(Path(folder) / name, ignore_errors=True)
            folders.remove(name)
        for name in files:
            if is_temporary(name):
                (Path(folder) / name).unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Return whether a file or folder name is one of an unfinished write."""
    return name.startswith(".tmp-") or name.endswith(".partial")
