"""Tables of synapses from files of any kind that bouton knows, as the same columns.

==============  =====================================================================================================
style           told by the columns
==============  =====================================================================================================
bouton          ``z_nm, y_nm, x_nm`` or ``pre_z_nm`` ... ``post_x_nm``: nm
CAVE            ``pre_pt_position, post_pt_position, ctr_pt_position`` as ``[x, y, z]``, or split into ``..._x``,
                ``..._y``, ``..._z``: voxels of the size that the caller gives; ``pre_pt_root_id``, ``size``
RAMON           ``SynapseID, FromSegmentID, ToSegmentID, xPosition, yPosition, zPosition``: micrometres
NML             trees of three nodes: :mod:`bouton.volume.synapse_nml_reader`
==============  =====================================================================================================

CAVE's schema of a synapse: https://github.com/CAVEconnectome/EMAnnotationSchemas (``synapse``). Its positions are
voxels, x, y, z; as everywhere here a whole-numbered voxel stands for its centre, and a broken number for itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from bouton.errors import DataError
from bouton.geometry import NM, to_xyz, to_zyx
from bouton.volume.files import disk_errors, write_bytes
from bouton.volume.synapse_columns import (
    CENTRE_COLUMNS,
    POSITION_COLUMNS,
    POST_COLUMNS,
    PRE_COLUMNS,
    SYNAPSE_COLUMNS,
    UNKNOWN,
    WORDS,
    absent,
    place_nm,
)
from bouton.volume.synapse_nml_reader import read_nml
from bouton.volume.tables import TableData, csv_bytes, read_table
from bouton.volume.voxel_size import as_nm, settle_voxel_size

READABLE = (".parquet", ".csv", ".nml", ".zip")
RESOLUTION = b"voxel_resolution"
_CAVE_POINTS = {"ctr_pt": CENTRE_COLUMNS, "pre_pt": PRE_COLUMNS, "post_pt": POST_COLUMNS}
_CAVE_NAMES = {"pre_pt_root_id": "pre_id", "post_pt_root_id": "post_id", "size": "size_voxels"}
_RAMON_NAMES = {"SynapseID": "id", "FromSegmentID": "pre_id", "ToSegmentID": "post_id"}
_RAMON_PLACES = ("zPosition", "yPosition", "xPosition")
_NM_PER_UM = 1000.0


def read_synapses(path: str | Path, voxel_size_nm: NM | None = None) -> TableData:
    """Read synapses from a Parquet table (or folder of parts), CSV, or NML file.

    Parameters
    ----------
    path : path
    voxel_size_nm : (z, y, x), optional
        Needed for CAVE tables that do not say; of others that tell one, it must agree.

    Returns
    -------
    dict of str -> numpy.ndarray
        ``SYNAPSE_COLUMNS``. What the file does not have is: id 1, 2, ...; segment 0; place nan, but a cleft's the
        middle of pre and post; size 0; score 1; type and target ``unknown``. A place has all three axes or none.

    Raises
    ------
    DataError
        The file is none of these, or a row of it is no synapse; the message names the row and the column.
    """
    return read_synapse_file(path, voxel_size_nm)[0]


def read_synapse_file(path: str | Path, voxel_size_nm: NM | None = None) -> tuple[TableData, list[str]]:
    """Return what :func:`read_synapses` does, and the names of the file's columns that are left out, in its order."""
    path = Path(path)
    with disk_errors(path):
        is_folder = path.is_dir()
    if path.suffix in (".nml", ".zip"):
        table, left = read_nml(path, voxel_size_nm)
        return _checked(table, lambda row: f"{path}, synapse {table['id'][row]}"), left
    if path.suffix == ".csv":
        rows = _read_csv(path)
        return _checked(rows.standard(voxel_size_nm), rows.where), rows.left_out()
    if not is_folder and path.suffix != ".parquet":
        raise DataError(
            "no table of synapses", where=str(path), expected=", ".join(READABLE), fix="give the file its suffix"
        )
    found = None if is_folder else _resolution(path)
    rows = _Rows(read_table(path), lambda row: f"{path}, row {row + 1}", str(path))
    size = settle_voxel_size(found, voxel_size_nm, str(path))
    return _checked(rows.standard(size), rows.where), rows.left_out()


def write_cave_table(path: str | Path, table: Mapping[str, np.ndarray], voxel_size_nm: NM) -> None:
    """Write synapses as CAVE's table of synapses, ``.parquet`` or ``.csv``.

    Columns: ``id``; ``pre_pt_position``, ``ctr_pt_position``, ``post_pt_position`` (x, y, z of the voxel that the place
    lies in, empty where it is not known); ``pre_pt_supervoxel_id`` (the column ``pre_fragment`` where there is one,
    else 0) and ``pre_pt_root_id``, and those of post; ``size`` (voxels); and what CAVE's schema does not know:
    ``score``, ``type``, ``target``. A Parquet file tells the voxel size, a CSV file cannot.

    Raises
    ------
    DataError
        The suffix is another, a place is none, or the disk is full.
    """
    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise DataError(f"suffix {path.suffix!r}", where=str(path), expected=".parquet or .csv")
    size = as_nm(voxel_size_nm, str(path))
    rows = len(table["id"])
    columns = {"id": pa.array(np.asarray(table["id"], dtype=np.uint64))}
    for point, role in (("pre_pt", "pre"), ("ctr_pt", "cleft"), ("post_pt", "post")):
        columns[f"{point}_position"] = _positions(place_nm(table, role) / np.array(size), path)
        if role != "cleft":
            for name, source in (("supervoxel_id", f"{role}_fragment"), ("root_id", f"{role}_id")):
                ids = np.asarray(table.get(source, np.zeros(rows)), dtype=np.uint64)
                columns[f"{point}_{name}"] = pa.array(ids)
    columns["size"] = pa.array(np.asarray(_column(table, "size_voxels"), dtype=np.float64))
    columns["score"] = pa.array(np.asarray(_column(table, "score"), dtype=np.float64))
    columns |= {name: pa.array([str(v) for v in _column(table, name)], pa.string()) for name in WORDS}
    _write(path, pa.table(columns).replace_schema_metadata({RESOLUTION: json.dumps(to_xyz(size)).encode()}))


def _column(table: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    return table[name] if name in table else absent(name, len(table["id"]))


def _positions(voxels: np.ndarray, path: Path) -> pa.Array:
    """Return x, y, z of each voxel, null where it is not known."""
    lost = np.isnan(voxels).any(axis=1)
    whole = np.floor(np.where(lost[:, None], 0.0, voxels))
    if (np.abs(whole) > 2**31).any():
        raise DataError("a place that is no voxel", where=str(path), expected="nm within the data set")
    xyz = np.stack(to_xyz([whole[:, axis] for axis in range(3)]), axis=1).astype(np.int64)
    offsets = pa.array(np.arange(len(xyz) + 1, dtype=np.int32) * 3)
    return pa.ListArray.from_arrays(offsets, pa.array(xyz.ravel()), mask=pa.array(lost))


def _write(path: Path, table: pa.Table) -> None:
    if path.suffix != ".parquet":
        write_bytes(path, csv_bytes(_without_lists(table)))
        return
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    write_bytes(path, sink.getvalue().to_pybytes())


def _without_lists(table: pa.Table) -> pa.Table:
    for number, name in enumerate(table.column_names):
        if pa.types.is_list(table.schema.field(name).type):
            texts = ["" if place is None else str(place) for place in table.column(name).to_pylist()]
            table = table.set_column(number, name, pa.array(texts, pa.string()))
    return table


def _resolution(path: Path) -> NM | None:
    """Return the voxel size that :func:`write_cave_table` noted."""
    with disk_errors(path), path.open("rb") as file:
        try:
            noted = (pq.ParquetFile(file).metadata.metadata or {}).get(RESOLUTION)
            return None if noted is None else as_nm(to_zyx(json.loads(noted)), str(path))
        except pa.ArrowException:
            # The reader of tables tells what is wrong with the file.
            return None
        except ValueError:
            raise DataError("voxel_resolution is no triple", where=str(path), expected="x, y, z in nm") from None


def _read_csv(path: Path) -> _Rows:
    with disk_errors(path):
        data = path.read_bytes()
    try:
        header = next(iter(data.decode(errors="replace").splitlines()), "")
        names = [name.strip().strip('"') for name in header.split(",")]
        options = pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        table = pa_csv.read_csv(pa.BufferReader(data), convert_options=options)
    except pa.ArrowException as error:
        raise DataError(
            f"damaged or no CSV ({str(error).splitlines()[0]})",
            where=str(path),
            expected="a header, then a row a synapse",
        ) from None
    columns = {name.strip(): np.array(table.column(name).to_pylist(), dtype=object) for name in table.column_names}
    return _Rows(columns, lambda row: f"{path}:{row + 2}", str(path))


class _Rows:
    """The columns of a file, as they are, and how a row is named in messages."""

    def __init__(self, columns: Mapping[str, np.ndarray], where: Callable[[int], str], file: str) -> None:
        self.columns, self.where, self.file = dict(columns), where, file
        self.rows = len(next(iter(columns.values()))) if columns else 0

    def standard(self, voxel_size_nm: NM | None) -> TableData:
        """Return ``SYNAPSE_COLUMNS`` where the file has them, whatever its style."""
        named = self._names()
        if named is _CAVE_NAMES:
            places = self._cave_places(voxel_size_nm)
        else:
            places = self._ramon_places() if named is _RAMON_NAMES else self._nm_places()
        table = dict(places)
        for name, values in self.columns.items():
            ours = named.get(name, name)
            if ours in SYNAPSE_COLUMNS and ours not in places and ours not in POSITION_COLUMNS:
                kind = SYNAPSE_COLUMNS[ours]
                table[ours] = values if kind == "str" else self._numbers(name, kind, absent(ours, 1)[0])
        return table

    def left_out(self) -> list[str]:
        """Return the columns that are none of a synapse; one without a name counts the rows."""
        named = self._names()
        known = {"", *SYNAPSE_COLUMNS, *named}
        known |= {*_cave_columns()} if named is _CAVE_NAMES else {*_RAMON_PLACES} if named is _RAMON_NAMES else set()
        return [name for name in self.columns if name not in known]

    def _names(self) -> Mapping[str, str]:
        """Return what the file's style calls our columns."""
        if any(name in self.columns for name in _cave_columns()):
            return _CAVE_NAMES
        return _RAMON_NAMES if "xPosition" in self.columns else {}

    def _nm_places(self) -> TableData:
        for names in _CAVE_POINTS.values():
            if any(name in self.columns for name in names):
                self._need(names)
        complete = [all(name in self.columns for name in names) for names in _CAVE_POINTS.values()]
        if not (complete[0] or all(complete[1:])):
            raise DataError(
                f"columns {', '.join(self.columns) or 'none'}", where=self.file,
                expected="z_nm, y_nm, x_nm, or pre_pt_position and others of CAVE, or xPosition and others of RAMON",
                fix="rename the columns; places in nm",
            )  # fmt: skip
        return {name: self._numbers(name, "float64", np.nan) for name in POSITION_COLUMNS if name in self.columns}

    def _ramon_places(self) -> TableData:
        self._need(_RAMON_PLACES)
        return {
            name: self._numbers(side, "float64", np.nan) * _NM_PER_UM
            for name, side in zip(CENTRE_COLUMNS, _RAMON_PLACES, strict=True)
        }

    def _cave_places(self, voxel_size_nm: NM | None) -> TableData:
        if voxel_size_nm is None:
            raise DataError(
                "a CAVE table: its places are voxels, and it does not say how large they are", where=self.file,
                expected="the voxel size z,y,x in nm", fix="--voxel-size-nm 40,4,4",
            )  # fmt: skip
        places: TableData = {}
        for point, names in _CAVE_POINTS.items():
            voxels = self._cave_point(point)
            if voxels is not None:
                known = voxels[np.isfinite(voxels)]
                middle = 0.5 if (known == np.floor(known)).all() else 0.0
                nm = (voxels + middle) * np.array(as_nm(voxel_size_nm, self.file))
                places |= {name: nm[:, axis] for axis, name in enumerate(names)}
        return places

    def _cave_point(self, point: str) -> np.ndarray | None:
        """Return float64 (n, 3), voxels z, y, x; nan where the file has none; None without such a column."""
        name = f"{point}_position"
        split = [f"{name}_{axis}" for axis in "zyx"]
        if name in self.columns:
            xyz = np.array([self._triple(value, name, row) for row, value in enumerate(self.columns[name])])
            xyz = xyz.reshape(-1, 3)
            return np.stack(to_zyx([xyz[:, axis] for axis in range(3)]), axis=1)
        if any(each in self.columns for each in split):
            self._need(split)
            return np.stack([self._numbers(each, "float64", np.nan) for each in split], axis=1)
        return None

    def _triple(self, value: object, name: str, row: int) -> Sequence[float]:
        if value is None or (isinstance(value, str) and not value.strip()):
            return (np.nan, np.nan, np.nan)
        parts = value.strip("[]() ").replace(",", " ").split() if isinstance(value, str) else value
        try:
            x, y, z = (float(part) for part in parts)  # type: ignore[attr-defined]
        except (TypeError, ValueError):
            raise DataError(
                f"{name} {value!r}", where=self.where(row), expected="three numbers [x, y, z], voxels"
            ) from None
        return x, y, z

    def _need(self, names: Sequence[str]) -> None:
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise DataError(f"no column {missing[0]}", where=self.file, expected=", ".join(names))

    def _numbers(self, name: str, kind: str, empty: float) -> np.ndarray:
        """Return a column as ``kind``; ``empty`` stands for an empty field; ids never come through float."""
        values = self.columns[name]
        wanted = pa.from_numpy_dtype(np.dtype(kind))
        if values.dtype == object:
            return self._from_text(values, name, wanted, empty)
        if kind != "float64" and values.dtype.kind == "f":
            broken = ~(np.abs(values) < 2**53) | (values != np.floor(values))
            if broken.any():
                self._refuse(name, int(np.flatnonzero(broken)[0]), "a whole number, 0 for none")
        try:
            return np.asarray(pa.array(values).cast(wanted))
        except pa.ArrowException:
            bad = np.flatnonzero(values < 0) if values.dtype.kind in "iuf" else np.zeros(1, int)
            self._refuse(name, int(bad[0]) if len(bad) else 0, kind)
        return values

    def _from_text(self, values: np.ndarray, name: str, wanted: pa.DataType, empty: float) -> np.ndarray:
        texts = pa.array([str(value).strip() or None if value is not None else None for value in values], pa.string())
        try:
            return np.asarray(texts.cast(wanted).fill_null(pa.scalar(empty, wanted)))
        except pa.ArrowException:
            for row, text in enumerate(texts):
                try:
                    text.cast(wanted)
                except pa.ArrowException:
                    self._refuse(name, row, "a number" if pa.types.is_floating(wanted) else "a whole number")
            raise

    def _refuse(self, name: str, row: int, expected: str) -> None:
        found = f"{name} {str(self.columns[name][row])!r}"
        raise DataError(found, where=self.where(row), expected=expected, fix="correct that field, or drop the row")


def _cave_columns() -> list[str]:
    return [f"{point}_position{end}" for point in _CAVE_POINTS for end in ("", "_x", "_y", "_z")]


def _checked(table: Mapping[str, np.ndarray], where: Callable[[int], str]) -> TableData:
    """Return all of ``SYNAPSE_COLUMNS`` after a look at every value."""
    rows = len(next(iter(table.values()))) if table else 0
    for names in _CAVE_POINTS.values():
        _check_whole_places(table, names, where)
    whole = {name: table[name] if name in table else absent(name, rows) for name in SYNAPSE_COLUMNS}
    middle = (place_nm(whole, "pre") + place_nm(whole, "post")) / 2
    for axis, name in enumerate(CENTRE_COLUMNS):
        whole[name] = np.where(np.isnan(whole[name]), middle[:, axis], whole[name])
        _refuse_where(~np.isfinite(whole[name]), where, f"no {name}", "the place of the cleft, or of pre and post")
    for name in (*PRE_COLUMNS, *POST_COLUMNS):
        _refuse_where(np.isinf(whole[name]), where, f"an infinite {name}", "nm")
    _refuse_where(~np.isfinite(whole["score"]), where, "a score that is no number", "0 to 1, or none")
    outside = (whole["score"] < 0) | (whole["score"] > 1)
    if outside.any():
        found = f"score {whole['score'][outside][0]:g}"
        _refuse_where(outside, where, found, "0 to 1", "scale the column: (score - least) / (greatest - least)")
    _refuse_where(whole["size_voxels"] < 0, where, "a negative size", "voxels")
    _refuse_where(whole["id"] == 0, where, "id 0", "an id that is not 0")
    _check_ids(whole["id"], where)
    for name, words in WORDS.items():
        whole[name] = _words(whole[name], name, words, where)
    return whole


def _check_whole_places(table: Mapping[str, np.ndarray], names: Sequence[str], where: Callable[[int], str]) -> None:
    """Refuse a place of which one axis is known and another is not: it is a slip, and no place can be made of it."""
    lost = {name: np.isnan(table[name]) for name in names if name in table}
    for name, empty in lost.items():
        for other, also in lost.items():
            _refuse_where(empty & ~also, where, f"no {name}, but {other}", "all of z, y, x of a place, or none")


def _refuse_where(
    bad: np.ndarray,
    where: Callable[[int], str],
    found: str,
    expected: str,
    fix: str = "correct that field, or drop the row",
) -> None:
    if bad.any():
        raise DataError(found, where=where(int(np.flatnonzero(bad)[0])), expected=expected, fix=fix)


def _check_ids(ids: np.ndarray, where: Callable[[int], str]) -> None:
    order = np.argsort(ids, kind="stable")
    twice = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(twice):
        first, second = order[twice[0]], order[twice[0] + 1]
        raise DataError(
            f"id {ids[first]} a second time", where=where(int(second)), expected="ids used once",
            fix=f"the first is {where(int(first))}",
        )  # fmt: skip


def _words(values: np.ndarray, name: str, words: Sequence[str], where: Callable[[int], str]) -> np.ndarray:
    texts = np.array([str(value or UNKNOWN).strip().lower() or UNKNOWN for value in values], dtype=object)
    for word in set(texts) - set(words):
        row = int(np.flatnonzero(texts == word)[0])
        expected = f"one of {', '.join(words)}"
        raise DataError(f"{name} {word!r}", where=where(row), expected=expected, fix="rename it, or leave it empty")
    return texts
