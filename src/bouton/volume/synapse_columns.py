"""The columns of a table of synapses, whichever file it came from, and what stands where a file says nothing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

SIDES = ("pre", "post")
CENTRE_COLUMNS = ("z_nm", "y_nm", "x_nm")
PRE_COLUMNS = ("pre_z_nm", "pre_y_nm", "pre_x_nm")
POST_COLUMNS = ("post_z_nm", "post_y_nm", "post_x_nm")
POSITION_COLUMNS = (*CENTRE_COLUMNS, *PRE_COLUMNS, *POST_COLUMNS)
SYNAPSE_COLUMNS = {
    "id": "uint64",
    **dict.fromkeys(CENTRE_COLUMNS, "float64"),
    "pre_id": "uint64",
    "post_id": "uint64",
    **dict.fromkeys((*PRE_COLUMNS, *POST_COLUMNS), "float64"),
    "size_voxels": "int64",
    "score": "float64",
    "type": "str",
    "target": "str",
}
UNKNOWN = "unknown"
TYPES = (UNKNOWN, "excitatory", "inhibitory")
TARGETS = (UNKNOWN, "spine", "shaft", "soma")
WORDS = {"type": TYPES, "target": TARGETS}


def absent(name: str, rows: int) -> np.ndarray:
    """Return a column of ``SYNAPSE_COLUMNS`` for a file that has none: no place, no id, score 1, type unknown."""
    kind = SYNAPSE_COLUMNS[name]
    if kind == "str":
        return np.full(rows, UNKNOWN, dtype=object)
    if name == "score":
        return np.ones(rows)
    if name == "id":
        return np.arange(1, rows + 1, dtype=np.uint64)
    return np.full(rows, np.nan) if name in POSITION_COLUMNS else np.zeros(rows, dtype=kind)


def place_nm(table: Mapping[str, np.ndarray], role: str) -> np.ndarray:
    """Return where the pre, the cleft or the post of each synapse lies, float64 (n, 3), z, y, x in nm; nan: unknown."""
    names = {"pre": PRE_COLUMNS, "cleft": CENTRE_COLUMNS, "post": POST_COLUMNS}[role]
    if not all(name in table for name in names):
        return np.full((len(table["id"]), 3), np.nan)
    return np.stack([np.asarray(table[name], dtype=np.float64) for name in names], axis=1)
