"""A synapse table as a Neuroglancer annotation collection: a line from pre to post for each synapse.

Served in parts (levels of cells, single annotations, those of one segment), so that the viewer's state stays small
and it opens at once however many synapses there are. The same parts become files in :mod:`annotation_files`.
Format: https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/annotations.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from bouton.errors import DataError
from bouton.geometry import NM, ZYX, to_xyz
from bouton.view.annotation_levels import Level, morton_codes, spatial_levels
from bouton.volume.run_folder import Run
from bouton.volume.synapse_columns import SIDES, TARGETS, TYPES, WORDS, place_nm

RELATIONSHIPS = SIDES
# Neuroglancer's order on disk: two ends, then properties by falling size, padded to four bytes. The size of a cleft is
# a float, exact up to 16 million voxels: Neuroglancer's Python reader misplaces uint32, its older viewers refuse it.
_RECORD = np.dtype(
    [("ends", "<f4", 6), ("score", "<f4"), ("size", "<f4"), ("type", "u1"), ("target", "u1"), ("_pad", "u1", 2)]
)

Table = dict[str, np.ndarray]


class SynapseLines:
    """The annotation collection of one synapse table.

    Parameters
    ----------
    table : dict of str to numpy.ndarray
        Columns ``id``, ``pre_id``, ``post_id``, ``pre_z_nm`` ... ``post_x_nm``; ``score``, ``size_voxels``, ``type``
        and ``target`` where there are any. An end that is not known lies at ``z_nm, y_nm, x_nm``.
    shape : (z, y, x)
        Of the data set, voxels.
    voxel_size_nm : (z, y, x)

    Raises
    ------
    DataError
        A synapse has no place.
    """

    def __init__(self, table: Table, shape: ZYX, voxel_size_nm: NM) -> None:
        self.table, self.shape, self.voxel_size_nm = table, shape, voxel_size_nm
        self.ids = np.asarray(table["id"], dtype=np.uint64)
        self.partners = {name: np.asarray(table[f"{name}_id"], dtype=np.uint64) for name in RELATIONSHIPS}
        self.records = _records(table, voxel_size_nm)
        self._by_id = np.argsort(self.ids, kind="stable")
        self._by_partner = {name: np.argsort(ids, kind="stable") for name, ids in self.partners.items()}
        self._sorted = {name: self.partners[name][order] for name, order in self._by_partner.items()}

    @classmethod
    def of(cls, run: Run, ref: str) -> SynapseLines:
        """Return the lines of the run's table ``ref``."""
        return cls(run.table(ref), run.shape, run.voxel_size_nm)

    @cached_property
    def levels(self) -> list[Level]:
        """The spatial index, coarse to fine."""
        return spatial_levels(self.records["ends"], self.ids, self.shape, self.voxel_size_nm)

    def info(self, sharding: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
        """Return the content of the collection's ``info`` file.

        Parameters
        ----------
        sharding : mapping of key -> sharding specification, optional
            For the parts that lie in shards.
        """
        sharding = sharding or {}
        scales = zip("xyz", to_xyz(self.voxel_size_nm), strict=True)

        def index(key: str) -> dict[str, Any]:
            return {"key": key} | ({"sharding": dict(sharding[key])} if key in sharding else {})

        return {
            "@type": "neuroglancer_annotations_v1",
            "dimensions": {axis: [size * 1e-9, "m"] for axis, size in scales},
            "lower_bound": [0, 0, 0],
            "upper_bound": list(to_xyz(self.shape)),
            "annotation_type": "LINE",
            "properties": [
                {"id": "score", "type": "float32", "description": "0 to 1"},
                {"id": "size", "type": "float32", "description": "size of the cleft in voxels"},
                *(
                    {"id": name, "type": "uint8", "enum_values": list(range(len(words))), "enum_labels": list(words)}
                    for name, words in (("type", TYPES), ("target", TARGETS))
                ),
            ],
            "relationships": [{"id": name} | index(name) for name in RELATIONSHIPS],
            "by_id": index("by_id"),
            "spatial": [
                index(spatial_key(number))
                | {"grid_shape": list(level.grid), "chunk_size": list(level.cell), "limit": level.limit}
                for number, level in enumerate(self.levels)
            ],
        }

    def part(self, key: str, name: str) -> bytes:
        """Return one file of the collection.

        Parameters
        ----------
        key : {'spatial0', 'spatial1', ..., 'by_id', 'pre', 'post'}
        name : str
            ``x_y_z`` of a cell, the id of a synapse, or the id of a segment.

        Raises
        ------
        DataError
            There is no such part.
        """
        level = next((each for i, each in enumerate(self.levels) if key == spatial_key(i)), None)
        parts = 3 if level else 1 if key in ("by_id", *RELATIONSHIPS) else 0
        numbers = name.split("_")
        if not all(n.isascii() and n.isdigit() and len(n) <= 20 for n in numbers) or len(numbers) != parts:
            raise DataError(f"no annotations {key}/{name}", expected="spatialN/x_y_z, by_id/ID, pre/ID or post/ID")
        if level:
            x, y, z = (int(n) for n in numbers)
            if not all(i < n for i, n in zip((x, y, z), level.grid, strict=True)):
                raise DataError(f"no cell {name}", expected=f"a cell of {level.grid} (x, y, z)")
            return self._several(level.at((x, y, z)))
        number = np.uint64(min(int(name), 2**64 - 1))
        return self._single(number) if key == "by_id" else self._several(self._of_partner(key, number))

    def singles(self) -> Iterator[tuple[int, bytes]]:
        """Yield the id and the content of every file ``by_id/ID``."""
        related = [[_related(number) for number in self.partners[name].tolist()] for name in RELATIONSHIPS]
        for number, record, pre, post in zip(self.ids.tolist(), self.records, *related, strict=True):
            yield number, record.tobytes() + pre + post

    def of_partners(self, side: str) -> Iterator[tuple[int, bytes]]:
        """Yield the segment and the content of every file ``pre/ID`` or ``post/ID``; segment 0 is none."""
        segments, starts = np.unique(self._sorted[side], return_index=True)
        ends = np.append(starts, len(self.ids))[1:]
        for segment, start, end in zip(segments.tolist(), starts.tolist(), ends.tolist(), strict=True):
            if segment:
                yield segment, self._several(self._by_partner[side][start:end])

    def of_cells(self, level: Level) -> Iterator[tuple[int, bytes]]:
        """Yield the compressed Morton code and the content of every cell with lines."""
        for number, code in enumerate(morton_codes(level.cells(), level.grid)):
            yield code, self._several(level.rows[level.starts[number] : level.starts[number + 1]])

    def _several(self, rows: np.ndarray) -> bytes:
        return np.uint64(len(rows)).tobytes() + self.records[rows].tobytes() + self.ids[rows].tobytes()

    def _single(self, number: np.uint64) -> bytes:
        place = int(np.searchsorted(self.ids, number, sorter=self._by_id))
        row = self._by_id[place] if place < len(self.ids) else None
        if row is None or self.ids[row] != number:
            raise DataError(f"no synapse {number}")
        related = [_related(int(self.partners[name][row])) for name in RELATIONSHIPS]
        return self.records[row].tobytes() + b"".join(related)

    def _of_partner(self, side: str, number: np.uint64) -> np.ndarray:
        ids = self._sorted[side]
        return self._by_partner[side][np.searchsorted(ids, number, "left") : np.searchsorted(ids, number, "right")]


def spatial_key(level: int) -> str:
    """Return the name of a level's folder."""
    return f"spatial{level}"


def _related(number: int) -> bytes:
    """Return a list of one segment, or of none."""
    return b"\1\0\0\0" + number.to_bytes(8, "little") if number else b"\0\0\0\0"


def _records(table: Table, voxel_size_nm: NM) -> np.ndarray:
    count = len(table["id"])
    records = np.zeros(count, dtype=_RECORD)
    centre = place_nm(table, "cleft")
    for end, side in enumerate(RELATIONSHIPS):
        place = place_nm(table, side)
        voxels = np.where(np.isfinite(place), place, centre) / np.array(voxel_size_nm)
        if not np.isfinite(voxels).all():
            row = int(np.flatnonzero(~np.isfinite(voxels).all(axis=1))[0])
            raise DataError(f"synapse {table['id'][row]} without a place of its {side}", expected="nm in z, y, x")
        for column, values in enumerate(to_xyz([voxels[:, axis] for axis in range(3)])):
            records["ends"][:, end * 3 + column] = values
    records["score"] = table.get("score", np.ones(count))
    records["size"] = table.get("size_voxels", np.zeros(count, dtype=np.int64))
    for name, words in WORDS.items():
        values = np.asarray(table.get(name, np.full(count, words[0])), dtype=str)
        for code, word in enumerate(words):
            records[name][values == word] = code
    return records
