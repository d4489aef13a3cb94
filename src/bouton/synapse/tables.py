"""Sums of integer rows by key: associative, so that any tiling and any order of merging gives the same table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def sum_rows(table: Mapping[str, np.ndarray], keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Add up the rows that agree in all key columns.

    Parameters
    ----------
    table : mapping
        1-D integer columns of one length.
    keys : sequence of str
        Key columns, the first one sorts first.

    Returns
    -------
    dict
        The same columns, sorted by the keys, no key twice; other columns are int64 sums.
    """
    order = np.lexsort([table[key] for key in reversed(keys)])
    columns = {name: values[order] for name, values in table.items()}
    firsts = np.flatnonzero(changes([columns[key] for key in keys]))
    return {name: values[firsts] if name in keys else _sums(values, firsts) for name, values in columns.items()}


def concatenate(tables: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the rows of one or more tables with equal columns, in order."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def changes(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return, bool (n,), where a row differs from the row before in any column; the first row always does."""
    new = np.zeros(columns[0].size, dtype=bool)
    new[:1] = True
    for values in columns:
        new[1:] |= values[1:] != values[:-1]
    return new


def _sums(values: np.ndarray, firsts: np.ndarray) -> np.ndarray:
    if not firsts.size:
        return np.zeros(0, dtype=np.int64)
    return np.add.reduceat(values.astype(np.int64), firsts)
