"""A synapse table as a Neuroglancer annotation collection: a line from pre to post for each synapse.

Served in parts (a grid of cells, single annotations, those of one segment), so that the viewer's state stays small
however many synapses there are.
Format: https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/annotations.md
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bouton.errors import DataError
from bouton.geometry import NM, ZYX, to_xyz
from bouton.volume.run_folder import Run

POSITION_COLUMNS = ("pre_z_nm", "pre_y_nm", "pre_x_nm", "post_z_nm", "post_y_nm", "post_x_nm")
RELATIONSHIPS = ("pre", "post")
TYPES = ("unknown", "excitatory", "inhibitory")
LINES_PER_CELL = 4000
# Neuroglancer's order on disk: two ends, then properties by falling size, padded to four bytes.
_RECORD = np.dtype([("ends", "<f4", 6), ("score", "<f4"), ("size", "<u4"), ("type", "u1"), ("_pad", "u1", 3)])

Table = dict[str, np.ndarray]


class SynapseLines:
    """The annotation collection of one synapse table.

    Parameters
    ----------
    table : dict of str to numpy.ndarray
        Columns ``id``, ``pre_id``, ``post_id``, ``pre_z_nm`` ... ``post_x_nm``; ``score``, ``size_voxels`` and ``type``
        where there are any.
    shape : (z, y, x)
        Of the data set, voxels.
    voxel_size_nm : (z, y, x)
    """

    def __init__(self, table: Table, shape: ZYX, voxel_size_nm: NM) -> None:
        self.table, self.shape, self.voxel_size_nm = table, shape, voxel_size_nm
        self.ids = np.asarray(table["id"], dtype=np.uint64)
        self.partners = {name: np.asarray(table[f"{name}_id"], dtype=np.uint64) for name in RELATIONSHIPS}
        self.records = _records(table, voxel_size_nm)
        self.cells = self._grid()

    @classmethod
    def of(cls, run: Run, ref: str) -> SynapseLines:
        """Return the lines of the run's table ``ref``."""
        return cls(run.table(ref), run.shape, run.voxel_size_nm)

    def info(self) -> dict[str, Any]:
        """Return the content of the collection's ``info`` file."""
        cell = [n / c for n, c in zip(self.shape, self.cells, strict=True)]
        scales = zip("xyz", to_xyz(self.voxel_size_nm), strict=True)
        return {
            "@type": "neuroglancer_annotations_v1",
            "dimensions": {axis: [size * 1e-9, "m"] for axis, size in scales},
            "lower_bound": [0, 0, 0],
            "upper_bound": list(to_xyz(self.shape)),
            "annotation_type": "LINE",
            "properties": [
                {"id": "score", "type": "float32", "description": "0 to 1"},
                {"id": "size", "type": "uint32", "description": "size of the cleft in voxels"},
                {"id": "type", "type": "uint8", "enum_values": [0, 1, 2], "enum_labels": list(TYPES)},
            ],
            "relationships": [{"id": name, "key": name} for name in RELATIONSHIPS],
            "by_id": {"key": "by_id"},
            "spatial": [
                {
                    "key": "cells",
                    "grid_shape": list(to_xyz(self.cells)),
                    "chunk_size": list(to_xyz(cell)),
                    "limit": max(1, self._fullest()),
                }
            ],
        }

    def part(self, key: str, name: str) -> bytes:
        """Return one file of the collection.

        Parameters
        ----------
        key : {'cells', 'by_id', 'pre', 'post'}
        name : str
            ``x_y_z`` of a cell, the id of a synapse, or the id of a segment.

        Raises
        ------
        DataError
            There is no such part.
        """
        numbers = name.split("_")
        if not all(n.isascii() and n.isdigit() and len(n) <= 20 for n in numbers) or len(numbers) != _parts(key):
            raise DataError(f"no annotations {key}/{name}", expected="cells/x_y_z, by_id/ID, pre/ID or post/ID")
        if key == "cells":
            return self._several(self._in_cell([int(n) for n in numbers]))
        if key == "by_id":
            return self._single(int(name))
        return self._several(np.flatnonzero(self.partners[key] == np.uint64(min(int(name), 2**64 - 1))))

    def _several(self, rows: np.ndarray) -> bytes:
        return np.uint64(len(rows)).tobytes() + self.records[rows].tobytes() + self.ids[rows].tobytes()

    def _single(self, number: int) -> bytes:
        rows = np.flatnonzero(self.ids == np.uint64(min(number, 2**64 - 1)))
        if not len(rows):
            raise DataError(f"no synapse {number}")
        related = [np.uint32(1).tobytes() + self.partners[name][rows[:1]].tobytes() for name in RELATIONSHIPS]
        return self.records[rows[0]].tobytes() + b"".join(related)

    def _grid(self) -> ZYX:
        per_axis = max(1, math.ceil((len(self.ids) / LINES_PER_CELL) ** (1 / 3)))
        z, y, x = (min(per_axis, n) for n in self.shape)
        return z, y, x

    def _cell_of(self) -> np.ndarray:
        """Return the cell (n, 3), x y z, that each line's middle lies in."""
        ends = self.records["ends"].astype(np.float64)
        middle, extent = (ends[:, :3] + ends[:, 3:]) / 2, np.array(to_xyz(self.shape), dtype=np.float64)
        cells = np.array(to_xyz(self.cells))
        return np.clip((middle / extent * cells).astype(np.int64), 0, cells - 1)

    def _in_cell(self, cell: list[int]) -> np.ndarray:
        return np.flatnonzero((self._cell_of() == np.array(cell)).all(axis=1))

    def _fullest(self) -> int:
        if not len(self.ids):
            return 0
        return int(np.unique(self._cell_of(), axis=0, return_counts=True)[1].max())


def _parts(key: str) -> int:
    return {"cells": 3, "by_id": 1, "pre": 1, "post": 1}.get(key, -1)


def _records(table: Table, voxel_size_nm: NM) -> np.ndarray:
    count = len(table["id"])
    records = np.zeros(count, dtype=_RECORD)
    for end, side in enumerate(RELATIONSHIPS):
        for column, (axis, size) in enumerate(zip("xyz", to_xyz(voxel_size_nm), strict=True)):
            records["ends"][:, end * 3 + column] = np.asarray(table[f"{side}_{axis}_nm"]) / size
    records["score"] = table.get("score", np.ones(count))
    records["size"] = np.clip(table.get("size_voxels", np.zeros(count, dtype=np.int64)), 0, 2**32 - 1)
    types = np.asarray(table.get("type", np.full(count, "unknown")), dtype=str)
    for code, name in enumerate(TYPES):
        records["type"][types == name] = code
    return records
