"""The merge history: cut it at any threshold without computing anything again.

Scores never rise on the way from a fragment to its root, so the merges of at least a threshold are exactly those that
the greedy algorithm makes when it stops there. Merges of small segments come before all others and always apply.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bouton.errors import SpecError
from bouton.segment.components import join
from bouton.segment.contraction import HISTORY_COLUMNS
from bouton.segment.ratios import level, reaches
from bouton.segment.region_graph import TableData

MERGE_COLUMNS = {**HISTORY_COLUMNS, "small": "uint8", "score": "float64", "floor": "float64"}


def merge_rows(history: TableData, small: bool, floor: float) -> TableData:
    """Return a contraction's history as rows of ``MERGE_COLUMNS``, sorted by b.

    Every merge ends one cluster: b is unique, and a < b. ``score`` in [0, 1] is for the reader (the greatest affinity
    where ``small``, else the mean); the integers decide. ``floor`` is the mean affinity down to which merges are known.
    """
    order = np.argsort(history["b"], kind="stable")
    rows = {name: history[name][order] for name in HISTORY_COLUMNS}
    score = rows["affinity_max"] if small else rows["affinity_sum"] / rows["affinity_count"]
    rows |= {"small": np.full(len(order), small, np.uint8), "score": np.asarray(score, np.float64) / 255}
    return rows | {"floor": np.full(len(order), floor, np.float64)}


def join_histories(tables: Sequence[TableData], columns: dict[str, str]) -> TableData:
    """Concatenate histories, whose merges have nothing to do with one another, sorted by b."""
    rows = {name: np.concatenate([np.zeros(0, columns[name]), *(table[name] for table in tables)]) for name in columns}
    order = np.argsort(rows["b"], kind="stable")
    return {name: values[order] for name, values in rows.items()}


def cut(merges: TableData, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the fragments that are not their segment's smallest, sorted, and that smallest fragment.

    Parameters
    ----------
    merges : dict of str -> numpy.ndarray
        ``MERGE_COLUMNS``, in any order.
    threshold : float
        Mean affinity in [0, 1]: merges of at least this apply, and all merges of small segments.

    Raises
    ------
    SpecError
        The threshold lies below the floor that the history was recorded down to.
    """
    floor = float(np.max(merges["floor"], initial=0.0))
    if threshold < floor:
        fix = f"raise the threshold, or lower the agglomeration's floor to {threshold}"
        raise SpecError(f"threshold {threshold}", expected=f"at least {floor}, where the merge history ends", fix=fix)
    limit = level(threshold)
    enough = reaches(merges["affinity_sum"], merges["affinity_count"], limit.numerator, limit.denominator)
    applied = enough | (merges["small"] != 0)
    return join(merges["a"][applied], merges["b"][applied])
