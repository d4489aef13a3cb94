"""Rows of tables with the same keys added up: what blocks and nodes of a merge count is summed by this alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def summed(
    tables: Sequence[Mapping[str, np.ndarray]], keys: Sequence[str], sums: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return one row for each value of the keys, sorted by them.

    Parameters
    ----------
    tables : sequence of mapping of column name -> (n,)
        At least one; all with the same columns.
    keys, sums : sequence of str
        Columns of integers that tell rows apart, the first one first, and that are added up; of the other columns the
        first row's value stays.
    """
    rows = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    order = np.argsort(rows[keys[-1]], kind="stable")
    for name in reversed(keys[:-1]):
        # Tables come sorted, which this makes use of and a sort by all keys at once does not.
        order = order[np.argsort(rows[name][order], kind="stable")]
    rows = {name: values[order] for name, values in rows.items()}
    new = np.ones(len(order), dtype=bool)
    new[1:] = np.any([rows[name][1:] != rows[name][:-1] for name in keys], axis=0)
    if new.all():
        return rows
    first = np.flatnonzero(new)
    return {name: np.add.reduceat(v, first) if name in sums else v[first] for name, v in rows.items()}
