"""Mappings on disk: the segment that each fragment belongs to, a table ``id -> root``; other ids stay themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bouton.errors import DataError
from bouton.volume.tables import read_table, write_table

MAPPING_COLUMNS = {"id": "uint64", "root": "uint64"}
_FIX = "bouton cut RUN --threshold T writes one"


def write_mapping(path: str | Path, ids: np.ndarray, roots: np.ndarray) -> None:
    """Write a mapping: uint64 (n,) ids, sorted, and their roots; root 0 is background.

    Raises
    ------
    DataError
        The disk refuses.
    """
    write_table(path, {"id": ids, "root": roots}, MAPPING_COLUMNS)


def read_mapping(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return a mapping's ids, uint64 (n,) sorted, and their roots; the rows may be in any order, from any tool.

    Raises
    ------
    DataError
        Nothing is there, it is no mapping, or one id has two rows.
    """
    table = read_table(path)
    missing = [name for name in MAPPING_COLUMNS if name not in table]
    if missing:
        raise DataError(
            f"no column {' and '.join(missing)} among {', '.join(table)}", where=str(path),
            expected="columns id, root", fix=_FIX,
        )  # fmt: skip
    ids, roots = (_ids(table[name], f"{path}, column {name}") for name in MAPPING_COLUMNS)
    if np.any(ids[1:] < ids[:-1]):
        order = np.argsort(ids, kind="stable")
        ids, roots = ids[order], roots[order]
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if len(twice):
        raise DataError(f"id {ids[twice[0]]} has two rows", where=str(path), expected="each id once", fix=_FIX)
    return ids, roots


def _ids(values: np.ndarray, where: str) -> np.ndarray:
    if values.dtype.kind not in "iu" or np.any(values < 0):
        raise DataError(f"{values.dtype} values that are no ids", where=where, expected="uint64", fix=_FIX)
    return values.astype(np.uint64)
