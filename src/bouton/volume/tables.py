"""Tables on disk: Parquet, one file or a folder of parts, with checksums on every page; and as CSV for others."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from bouton.errors import DataError
from bouton.geometry import Box
from bouton.volume.files import disk_errors, natural_key, see_folder, write_bytes
from bouton.volume.objects import ObjectPath, read_all
from bouton.volume.places import Place, place

TableData = dict[str, np.ndarray]
_BOX = re.compile("_" + "_".join([r"(\d{1,18})-(\d{1,18})"] * 3) + r"\.parquet$")
_NODE = re.compile(r"^(.*)-level(\d+)-")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_table(path: str | Place, table: Mapping[str, np.ndarray], columns: Mapping[str, str]) -> None:
    """Write a table as one Parquet file: durable, whole or not at all, and the same bytes for the same rows.

    Parameters
    ----------
    path : path
        The ``.parquet`` file.
    table : mapping of column name -> 1-D array
        All of one length.
    columns : mapping of column name -> numpy dtype name, or ``str``
        The columns to write, in their order in the file. A column of the table that would lose values in its declared
        type is refused.

    Raises
    ------
    DataError
        Columns are missing, too many, of different lengths or of another type; or the disk is full.
    """
    write_bytes(path, table_bytes(table, columns, str(path)))


def table_bytes(table: Mapping[str, np.ndarray], columns: Mapping[str, str], where: str) -> bytes:
    """Return a table as the bytes of a Parquet file: the same bytes for the same rows; see :func:`write_table`."""
    if set(table) != set(columns):
        raise DataError(f"columns {sorted(table)}", where=where, expected=f"{sorted(columns)}")
    arrays = [
        _arrow_column(np.asarray(table[name]), dtype, f"{where}, column {name}") for name, dtype in columns.items()
    ]
    lengths = {name: len(array) for name, array in zip(columns, arrays, strict=True)}
    if len(set(lengths.values())) > 1:
        raise DataError(f"columns of different lengths {lengths}", where=where, expected="one length")
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table(arrays, names=list(columns)),
        sink,
        compression="zstd",
        write_page_checksum=True,
        store_schema=False,
    )
    return sink.getvalue().to_pybytes()


def write_csv(path: str | Place, table: Mapping[str, np.ndarray]) -> None:
    """Write a table as CSV with a header: durable, and whole or not at all.

    Numbers keep all their digits and NaN is an empty field. Text that a spreadsheet would run as a formula begins with
    ``'`` instead.

    Parameters
    ----------
    path : path
    table : mapping of column name -> 1-D array
        All of one length.
    """
    write_bytes(path, csv_bytes(pa.table({name: _csv_column(np.asarray(values)) for name, values in table.items()})))


def csv_bytes(table: pa.Table) -> bytes:
    """Return a table of numbers and texts as CSV; texts are quoted only where one of them needs it."""
    options = {"include_header": False, "batch_size": 1 << 16}
    try:
        rows = _csv_rows(table, pa_csv.WriteOptions(quoting_style="none", **options))
    except pa.ArrowInvalid:
        rows = _csv_rows(table, pa_csv.WriteOptions(quoting_style="needed", **options))
    return (",".join(table.column_names) + "\n").encode() + rows


def _csv_rows(table: pa.Table, options: pa_csv.WriteOptions) -> bytes:
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(table, sink, options)
    return sink.getvalue().to_pybytes()


def _csv_column(values: np.ndarray) -> pa.Array:
    if values.dtype.kind not in "OU":
        return pa.array(values, from_pandas=True)
    texts = (str(value) for value in values)
    return pa.array([f"'{text}" if text.startswith(_FORMULA) else text for text in texts], type=pa.string())


def _arrow_column(values: np.ndarray, dtype: str, where: str) -> pa.Array:
    if values.ndim != 1:
        raise DataError(f"array of shape {values.shape}", where=where, expected="one dimension")
    if dtype == "str":
        return pa.array([str(value) for value in values], type=pa.string())
    wanted = np.dtype(dtype)
    if not np.can_cast(values.dtype, wanted, "safe") and not _fits(values, wanted):
        raise DataError(f"{values.dtype} values that {wanted} cannot hold", where=where, expected=str(wanted))
    return pa.array(values.astype(wanted))


def _fits(values: np.ndarray, wanted: np.dtype) -> bool:
    """Whether every value survives the conversion; ids never come through float."""
    if len(values) == 0:
        return True
    if values.dtype.kind not in "iub" or wanted.kind not in "iub":
        return values.dtype.kind == "f" and wanted.kind == "f"
    limits = np.iinfo(wanted) if wanted.kind != "b" else np.iinfo(np.int8)
    return int(values.min()) >= int(limits.min) and int(values.max()) <= int(limits.max)


def part_file(name: str, box: Box) -> str:
    """Return the file name of a part whose rows are about the voxels of ``box`` (z, y, x)."""
    sides = "".join(f"_{a}-{b}" for a, b in zip(box.start, box.stop, strict=True))
    return f"{name}{sides}.parquet"


def read_table(path: str | Place, over: Box | None = None) -> TableData:
    """Read a Parquet file, or a folder of parts one after another in the order of their names (``2`` before ``10``).

    Parameters
    ----------
    over : Box, optional
        Of a folder, read only the parts named by :func:`part_file` whose box shares a voxel with this one, and parts
        whose name tells no box. Who asks for many boxes of a folder keeps its :class:`TableParts`.

    Returns
    -------
    dict of column name -> numpy.ndarray
        One dimension each; text columns are object arrays of ``str``.

    Raises
    ------
    DataError
        Nothing is there, a part is damaged, or the parts' columns differ.
    """
    path = place(path)
    if is_folder(path):
        return TableParts(path).read(over)
    return _read_part(path, next(_opened([path], path)))


class TableParts:
    """The parts of a table that is complete: a folder that is listed once and read many times.

    Parameters
    ----------
    folder : path
        Parts that come later are not seen.

    Raises
    ------
    DataError
        No part is there, or a part of an octree's node is missing.
    """

    def __init__(self, folder: str | Place) -> None:
        self.folder = place(folder)
        # Names, not paths: these are kept for as long as a worker works on a step, and may be a million.
        self._names = [part.name for part in _parts_of(self.folder)]
        boxes = [_box_of(name) for name in self._names]
        self._anywhere = np.array([box is None for box in boxes])
        self._start = np.array([box.start if box else (0, 0, 0) for box in boxes], np.int64)
        self._stop = np.array([box.stop if box else (0, 0, 0) for box in boxes], np.int64)

    def read(self, over: Box | None = None) -> TableData:
        """Return the rows of all parts, or of those over a box; see :func:`read_table`."""
        parts = [self.folder / name for name in self._over(over)]
        return _join(
            [_read_part(part, file) for part, file in zip(parts, _opened(parts, self.folder), strict=True)], self.folder
        )

    def _over(self, box: Box | None) -> list[str]:
        if box is None:
            return self._names
        shared = np.maximum(self._start, box.start) < np.minimum(self._stop, box.stop)
        return [self._names[number] for number in np.flatnonzero(shared.all(axis=1) | self._anywhere)]


def _opened(parts: Sequence[Place], where: Place) -> Iterator[IO[bytes]]:
    objects = [part for part in parts if isinstance(part, ObjectPath)]
    with disk_errors(where):
        if objects:
            yield from map(io.BytesIO, read_all(objects))
    for part in parts[len(objects) :]:
        with disk_errors(part):
            file = part.open("rb")
        yield file


def is_folder(path: Place) -> bool:
    """Whether a table lies there as a folder of parts."""
    # A missing object is taken for a folder without parts, which is told; a listing tells the same, at more cost.
    return not path.is_file() if isinstance(path, ObjectPath) else path.is_dir()


def table_columns(path: str | Place) -> list[str]:
    """Return the names of a table's columns without reading its rows; see :func:`read_table`."""
    return list(table_types(path))


def table_types(path: str | Place) -> dict[str, str]:
    """Return a table's columns without reading its rows, by name: ``str`` for text, empty for anything else."""
    path = place(path)
    first = _parts_of(path)[0] if is_folder(path) else path
    with disk_errors(first), first.open("rb") as file:
        try:
            return {field.name: "str" if _is_text(field.type) else "" for field in pq.ParquetFile(file).schema_arrow}
        except pa.ArrowException as error:
            raise _damaged(first, str(error)) from error


def table_rows(path: str | Place) -> int:
    """Return the number of a table's rows without reading them; see :func:`read_table`."""
    path = place(path)
    rows = 0
    for part in _parts_of(path) if is_folder(path) else [path]:
        with disk_errors(part), part.open("rb") as file:
            try:
                rows += pq.ParquetFile(file).metadata.num_rows
            except pa.ArrowException as error:
                raise _damaged(part, str(error)) from error
    return rows


def _parts_of(folder: Place) -> Sequence[Place]:
    # A part that is not listed is rows that nobody misses.
    see_folder(folder)
    parts: list[Place] = sorted(folder.glob("[!.]*.parquet"), key=lambda part: natural_key(part.stem))
    if not parts:
        raise DataError("no .parquet file in the folder", where=str(folder), expected="one part or more")
    _check_levels(parts, folder)
    return parts


def _check_levels(parts: Sequence[Place], folder: Place) -> None:
    """Raise unless the parts of an octree's nodes are all there: every level tiles the same voxels, the top is one."""
    trees: dict[str, dict[int, list[int]]] = {}
    for part in parts:
        node, box = _NODE.search(part.stem), _box_of(part.name)
        if node and box:
            trees.setdefault(node[1], {}).setdefault(int(node[2]), []).append(box.voxels)
    for name, levels in trees.items():
        voxels = {sum(boxes) for boxes in levels.values()}
        if len(voxels) > 1 or sorted(levels) != list(range(len(levels))) or len(levels[max(levels)]) > 1:
            raise DataError(
                f"parts of {name} are missing", where=str(folder), expected="a part for every node of the octree",
                fix="bouton verify RUN --repair",
            )  # fmt: skip


def _box_of(name: str) -> Box | None:
    found = _BOX.search(name)
    if found is None:
        return None
    z0, z1, y0, y1, x0, x1 = (int(number) for number in found.groups())
    return Box((z0, y0, x0), (z1, y1, x1))


def _read_part(path: Place, file: IO[bytes]) -> TableData:
    with file:
        try:
            table = pq.ParquetFile(file, page_checksum_verification=True).read()
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, str(error)) from error
    return {name: _column(table.column(name)) for name in table.column_names}


def _damaged(path: Place, reason: str) -> DataError:
    return DataError(
        f"damaged or no table ({reason.splitlines()[0]})",
        where=str(path),
        expected="a Parquet file",
        fix="bouton verify RUN --repair if a run wrote it, else restore the file",
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _column(column: pa.ChunkedArray) -> np.ndarray:
    if _is_text(column.type):
        return np.array(column.to_pylist(), dtype=object)
    return column.to_numpy()


def _join(parts: Sequence[TableData], path: Place) -> TableData:
    if not parts:
        raise DataError("no part lies over the box that is asked for", where=str(path), expected="one part or more")
    names = list(parts[0])
    for part in parts:
        if list(part) != names:
            raise DataError(f"parts with columns {names} and {list(part)}", where=str(path), expected="equal columns")
    return {name: np.concatenate([part[name] for part in parts]) for name in names}
