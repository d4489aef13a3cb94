"""Which rows are whole: how far up the octree of blocks the rows about an id have to travel.

Every block lists the ids that it has rows about. Once the number of blocks that list an id is known, a node that has
seen as many of them keeps the id's rows; no box nor shape of the object is needed for that, so an object may lie in
several pieces.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

TableData = Mapping[str, np.ndarray]


def closed_ids(ids: TableData, shared: TableData) -> np.ndarray:
    """Return the ids whose rows are all here, uint64 sorted.

    Parameters
    ----------
    ids : mapping
        ``id`` uint64, each once; ``blocks`` int64: how many of the blocks here list it.
    shared : mapping
        The same over all blocks, sorted; ids that only one block lists may be left out.
    """
    total = np.ones(ids["id"].size, dtype=np.int64)
    if shared["id"].size:
        at = np.minimum(np.searchsorted(shared["id"], ids["id"]), shared["id"].size - 1)
        found = shared["id"][at] == ids["id"]
        total[found] = shared["blocks"][at[found]]
    return np.sort(ids["id"][ids["blocks"] == total])


def split(table: TableData, closed: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the rows whose ``id`` is among ``closed``, and the others."""
    whole = np.isin(table["id"], closed)
    return {name: values[whole] for name, values in table.items()}, {
        name: values[~whole] for name, values in table.items()
    }
