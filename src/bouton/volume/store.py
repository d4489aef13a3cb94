"""Volumes over TensorStore. An absent chunk, a wrong checksum and a short file are errors that name file and box.

TensorStore keeps threads: open volumes in the process that reads them, never before a fork.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorstore as ts

from bouton.errors import DataError
from bouton.geometry import Box, Grid
from bouton.volume.axes import Arrangement
from bouton.volume.base import Volume, VolumeInfo, WritableVolume
from bouton.volume.files import disk_error, disk_full, see_file
from bouton.volume.objects import STORE_ERRORS, ObjectPath, is_out_of_reach, store_error
from bouton.volume.places import Place, place

ABSENT = ("error", "zero")
_FILE = re.compile(r'(?:local file|file) "([^"]+)"')
_KEY = re.compile(r'"([^"]+)"')


def open_store(spec: dict[str, Any], where: str, absent: str = "error", **options: Any) -> ts.TensorStore:
    """Open a TensorStore whose absent chunks are errors, or zeros where ``absent`` says so.

    Raises
    ------
    DataError
        The metadata are missing, damaged or of an unknown kind.
    """
    strict = {"store_data_equal_to_fill_value": True, "fill_missing_data_reads": absent == "zero"}
    try:
        return ts.open({**spec, **strict}, **options).result()
    except STORE_ERRORS as error:
        if "No space left" in str(error):
            raise disk_full(where) from error
        _check_reach(where, error)
        raise DataError(
            f"cannot open it: {_reason(error)}", where=where, expected="valid metadata", fix="restore the metadata file"
        ) from error


def arranged(store: ts.TensorStore, arrangement: Arrangement) -> ts.TensorStore:
    """Return a view of ``store`` with axes (z, y, x) or (c, z, y, x) that starts at zero."""
    view = store[tuple(0 if axis in arrangement.dropped else slice(None) for axis in range(store.rank))]
    kept = [axis for axis in range(store.rank) if axis not in arrangement.dropped]
    return view.transpose([kept.index(axis) for axis in arrangement.order])


class StoreVolume(Volume):
    """A volume over a TensorStore whose axes are (z, y, x) or (c, z, y, x) and start at zero."""

    def __init__(self, info: VolumeInfo, store: ts.TensorStore) -> None:
        super().__init__(info)
        self.store = store

    def _read(self, box: Box) -> np.ndarray:
        try:
            return self._voxels(box)
        except STORE_ERRORS as error:
            _check_reach(self.path, error)
            if not str(error).startswith("NOT_FOUND"):
                raise self._damage(box, error) from error
            missing = self._place_in(str(error))
        # Another host may have written it since this one last looked into the folder.
        see_file(place(missing), self.path)
        try:
            return self._voxels(box)
        except STORE_ERRORS as error:
            raise self._damage(box, error) from error

    def _voxels(self, box: Box) -> np.ndarray:
        found = self.store[(..., *box.slices)]
        # numpy asks for large pages: of a large array, more time went into its page faults than into its voxels.
        array = np.empty(found.shape, dtype=found.dtype.numpy_dtype)
        ts.array(array, copy=False, write=True).write(found[ts.d[:].translate_to[0]]).result()
        return array

    def _damage(self, box: Box, error: Exception) -> DataError:
        """Name the first bad chunk: its file and its box."""
        part, reason = self._find_bad(box) or (box, str(error))
        absent = reason.startswith("NOT_FOUND")
        return DataError(
            f"{'missing' if absent else 'damaged'} chunk, box {part}" + ("" if absent else f": {_reason(reason)}"),
            where=self._place_in(reason),
            expected="a readable chunk (missing is not zero)" if absent else "the bytes that were written",
            fix="restore the file, or compute it again (bouton verify RUN --repair)"
            + (", or bouton convert --absent zero if its writer leaves out empty chunks" if absent else ""),
        )

    def _place_in(self, reason: str) -> str:
        """Return the file or object that TensorStore's message names."""
        if isinstance(self.path, ObjectPath):
            keys = [key for key in _KEY.findall(reason) if key.startswith(self.path.key)]
            return str(replace(self.path, key=keys[0])) if keys else self.name
        found = _FILE.search(reason)
        return found.group(1) if found else self.name

    def _find_bad(self, box: Box) -> tuple[Box, str] | None:
        for shape in (self.store.chunk_layout.write_chunk.shape, self.store.chunk_layout.read_chunk.shape):
            for part in _cells(box, shape[-3:]):
                try:
                    self.store[(..., *part.slices)].read().result()
                except STORE_ERRORS as error:
                    box, reason = part, str(error)
                    break
            else:
                return None
        return box, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self.info, self.store.spec().to_json(), isinstance(self, WritableVolume))


def _reopen(kind: type[StoreVolume], info: VolumeInfo, spec: dict[str, Any], write: bool) -> StoreVolume:
    return kind(info, ts.open(spec, open=True, read=True, write=write).result())


def _check_reach(where: str | Place, error: Exception) -> None:
    """Raise an error about the way to a store where it is one: nothing there is damaged or missing then."""
    path = place(where)
    if isinstance(path, ObjectPath) and is_out_of_reach(error):
        raise disk_error(path, store_error(path, error)) from error


def _cells(box: Box, cell: Sequence[int]) -> Iterator[Box]:
    """Yield the chunks that share voxels with ``box``, whole or clipped to it: what a message may name."""
    grid = Grid(box, (int(cell[0]), int(cell[1]), int(cell[2])))
    return (grid.core(index) for index in grid)


class WritableStoreVolume(StoreVolume, WritableVolume):
    """A volume over a TensorStore that takes voxels."""

    def _write(self, box: Box, array: np.ndarray) -> None:
        try:
            self.store[(..., *box.slices)].write(array).result()
        except STORE_ERRORS as error:
            if "No space left" in str(error) or "Disk quota" in str(error):
                raise disk_full(self.path) from error
            _check_reach(self.path, error)
            raise DataError(
                f"cannot write box {box}: {_reason(error)}",
                where=self.name,
                fix="check the disk; where the block holds a damaged file, delete that file first",
            ) from error


def _reason(error: Exception | str) -> str:
    return re.sub(r"\s*\[(?:tensorstore_spec|source locations).*", "", str(error), flags=re.DOTALL)[:300]
