"""The merge history: cut it at any threshold without computing anything again.

Scores never rise on the way from a fragment to its root, so the merges of at least a threshold are exactly those that
the greedy algorithm makes when it stops there. Merges of small segments come before all others and always apply.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numba import njit

from bouton.errors import DataError, SpecError
from bouton.segment.contraction import HISTORY_COLUMNS
from bouton.segment.ratios import compare_ratios, level, reaches
from bouton.segment.region_graph import TableData, concatenate, move, rows_where

BY_MEAN = -1
MERGE_COLUMNS = {
    **HISTORY_COLUMNS,
    "affinity_quantile": "int64",
    "small": "uint8",
    "score": "float64",
    "floor": "float64",
}
DENDROGRAM_COLUMNS = {
    "a": "uint64",
    "b": "uint64",
    "a_voxels": "int64",
    "b_voxels": "int64",
    "voxels": "int64",
    "small": "uint8",
    "score": "float64",
    "affinity_sum": "int64",
    "affinity_count": "int64",
    "affinity_max": "int64",
    "affinity_quantile": "int64",
}


def merge_rows(history: TableData, small: bool, floor: float) -> TableData:
    """Return a contraction's history as rows of ``MERGE_COLUMNS``, sorted by b.

    Every merge ends one cluster: b is unique, and a < b. ``affinity_quantile`` is ``BY_MEAN`` unless quantiles decided.
    ``score`` in [0, 1] is for the reader (the greatest affinity where ``small``, else the quantile or the mean); the
    integers decide. ``floor`` is the score down to which merges are known.
    """
    order = np.argsort(history["b"], kind="stable")
    rows = {name: history[name][order] for name in HISTORY_COLUMNS}
    by_mean = np.full(len(order), BY_MEAN, np.int64)
    rows["affinity_quantile"] = history["affinity_quantile"][order] if "affinity_quantile" in history else by_mean
    rows["small"] = np.full(len(order), small, np.uint8)
    numerator, denominator = _ratio(rows)
    return rows | {"score": numerator / denominator / 255, "floor": np.full(len(order), floor, np.float64)}


def small_rows(ids: np.ndarray, roots: np.ndarray, floor: float) -> TableData:
    """Return the joins of small segments as rows of ``MERGE_COLUMNS``: fragments (b) and their clusters' smallest (a).

    They always apply, whatever their order: ``score`` is 1 and the affinities are 0.
    """
    zero = np.zeros(len(ids), np.int64)
    rows = {"a": roots, "b": ids} | dict.fromkeys(("affinity_sum", "affinity_count", "affinity_max"), zero)
    rows |= {"affinity_quantile": np.full(len(ids), BY_MEAN, np.int64), "small": np.ones(len(ids), np.uint8)}
    return rows | {"score": np.ones(len(ids)), "floor": np.full(len(ids), floor)}


def join_histories(tables: Sequence[TableData], columns: dict[str, str]) -> TableData:
    """Concatenate histories, whose merges have nothing to do with one another, sorted by b."""
    rows = concatenate(tables, columns)
    return rows_where(rows, np.argsort(rows["b"], kind="stable"))


def check_threshold(merges: TableData, threshold: float) -> Fraction:
    """Return the threshold in 1/255.

    Raises
    ------
    SpecError
        It is no affinity, or lies below the floor that the history was recorded down to.
    """
    limit = level(threshold)
    floor = float(np.max(merges["floor"], initial=0.0))
    if threshold < floor:
        fix = f"raise the threshold, or lower the agglomeration's floor to {threshold}"
        raise SpecError(f"threshold {threshold}", expected=f"at least {floor}, where the merge history ends", fix=fix)
    return limit


def cut(merges: TableData, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the fragments that are not their segment's smallest, sorted, and that smallest fragment.

    Parameters
    ----------
    merges : dict of str -> numpy.ndarray
        ``MERGE_COLUMNS``, in any order.
    threshold : float
        Score in [0, 1]: merges of at least this apply, and all merges of small segments.

    Returns
    -------
    ids, roots : numpy.ndarray
        uint64 (n,): one of each merge that applies.

    Raises
    ------
    SpecError
        As :func:`check_threshold`.
    """
    limit = check_threshold(merges, threshold)
    enough = reaches(*_ratio(merges), limit.numerator, limit.denominator)
    applied = enough | (merges["small"] != 0)
    ids, heads = merges["b"][applied], merges["a"][applied]
    if np.any(ids[1:] < ids[:-1]):
        order = np.argsort(ids, kind="stable")
        ids, heads = ids[order], heads[order]
    return ids, _follow(heads, *_lookup(ids, heads))


def segment_sizes(fragment_sizes: TableData, ids: np.ndarray, roots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the segments that a cut makes, uint64 (n,) sorted, and their voxels, int64 (n,).

    Parameters
    ----------
    fragment_sizes : dict of str -> numpy.ndarray
        ``id``, uint64 sorted, and ``voxels``, int64, of every fragment.
    ids, roots : numpy.ndarray
        As from :func:`cut`.

    Raises
    ------
    DataError
        A fragment of the cut has no size.
    """
    known = fragment_sizes["id"]
    _rows_of(known, ids)
    total = np.zeros(len(known), np.int64)
    np.add.at(total, _rows_of(known, move(known, ids, roots)), fragment_sizes["voxels"])
    is_root = np.ones(len(known), np.bool_)
    is_root[_rows_of(known, ids)] = False
    return known[is_root], total[is_root]


def without_dust(
    fragment_sizes: TableData, ids: np.ndarray, roots: np.ndarray, dust_voxels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return a cut whose segments of fewer than ``dust_voxels`` voxels are background, 0; parameters as above."""
    segments, voxels = segment_sizes(fragment_sizes, ids, roots)
    dust = segments[voxels < dust_voxels]
    if not len(dust):
        return ids, roots
    every = fragment_sizes["id"]
    after = move(move(every, ids, roots), dust, np.zeros_like(dust))
    moved = after != every
    return every[moved], after[moved]


def dendrogram(merges: TableData, fragment_sizes: TableData) -> TableData:
    """Return the merges as the greedy algorithm makes them one after the other, whatever the order of the rows.

    Small segments first, then by falling score, compared exactly; of equal scores the greater ids (a, then b) come
    first. That is the order that decides ties in the contraction, so parts precede wholes.

    Parameters
    ----------
    merges : dict of str -> numpy.ndarray
        ``MERGE_COLUMNS``.
    fragment_sizes : dict of str -> numpy.ndarray
        ``id``, uint64 sorted, and ``voxels``, int64, of every fragment.

    Returns
    -------
    dict of str -> numpy.ndarray
        ``DENDROGRAM_COLUMNS``: ``a_voxels`` and ``b_voxels`` are the sizes of the two clusters at the merge,
        ``voxels`` that of the result.

    Raises
    ------
    DataError
        A fragment of the history has no size.
    """
    by_b = np.argsort(merges["b"], kind="stable")
    rows = {name: merges[name][by_b] for name in DENDROGRAM_COLUMNS if name in MERGE_COLUMNS}
    a, b = _rows_of(fragment_sizes["id"], rows["a"]), _rows_of(fragment_sizes["id"], rows["b"])
    swallowed = _swallowed(a, b, fragment_sizes["voxels"])
    order = _greedy_order(rows)
    a, swallowed = a[order], swallowed[order]
    grown = _grown(a, swallowed, fragment_sizes["voxels"])
    table = {name: values[order] for name, values in rows.items()}
    table |= {"a_voxels": grown, "b_voxels": swallowed, "voxels": grown + swallowed}
    return {name: table[name] for name in DENDROGRAM_COLUMNS}


def threshold_curve(tree: TableData, fragment_sizes: TableData, thresholds: Sequence[float]) -> TableData:
    """Return ``threshold``, ``segments`` and ``largest_voxels`` of cuts of a :func:`dendrogram`.

    Parameters
    ----------
    tree, fragment_sizes : dict of str -> numpy.ndarray
        A dendrogram and what it was made with.
    thresholds : sequence of float
        In [0, 1], at least the history's floor.
    """
    numerator, denominator = _ratio(tree)
    small, n = int(np.count_nonzero(tree["small"])), len(tree["b"])
    largest = np.maximum.accumulate(np.append(np.max(fragment_sizes["voxels"], initial=0), tree["voxels"]))

    def applied(threshold: float) -> int:
        limit = level(threshold)

        def below(i: int) -> bool:
            return compare_ratios(int(numerator[i]), int(denominator[i]), limit.numerator, limit.denominator) < 0

        return bisect_left(range(n), True, lo=small, key=below)

    merges = np.array([applied(threshold) for threshold in thresholds], np.int64)
    segments = len(fragment_sizes["id"]) - merges
    return {"threshold": np.asarray(thresholds, np.float64), "segments": segments, "largest_voxels": largest[merges]}


def _ratio(merges: TableData) -> tuple[np.ndarray, np.ndarray]:
    """Return what a merge was ordered by, as integers: greatest affinity where small, else the quantile or the mean."""
    small, by_mean = merges["small"] != 0, merges["affinity_quantile"] == BY_MEAN
    one = np.where(by_mean, merges["affinity_sum"], merges["affinity_quantile"])
    numerator = np.where(small, merges["affinity_max"], one)
    return numerator, np.where(small | ~by_mean, 1, merges["affinity_count"])


def _greedy_order(merges: TableData) -> np.ndarray:
    numerator, denominator = _ratio(merges)
    score = numerator / denominator
    # ~id falls where id rises, without leaving uint64
    order = np.lexsort((~merges["b"], ~merges["a"], -score, merges["small"] == 0))
    # correctly rounded division is monotone: only ratios that are equal as floats may stand in a wrong order
    doubtful = _only_as_floats_equal(numerator[order], denominator[order], merges["small"][order])
    for first, stop in _runs(score[order], merges["small"][order], doubtful):
        part = order[first:stop].tolist()
        part.sort(key=lambda row: -Fraction(int(numerator[row]), int(denominator[row])))
        order[first:stop] = part
    return order


def _runs(score: np.ndarray, small: np.ndarray, at: np.ndarray) -> list[tuple[int, int]]:
    """Return the ranges of equal score and phase that the rows ``at`` lie in."""
    if not len(at):
        return []
    ends = np.flatnonzero((score[1:] != score[:-1]) | (small[1:] != small[:-1])) + 1
    edges = np.concatenate([[0], ends, [len(score)]])
    run = np.unique(np.searchsorted(edges, at, side="right"))
    return [(int(edges[i - 1]), int(edges[i])) for i in run]


def _rows_of(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    rows, found = _lookup(known, ids)
    if not found.all():
        raise DataError(
            f"fragment {ids[~found][0]} has no size", expected="merges and fragment_sizes of one agglomeration",
            fix="bouton verify RUN",
        )  # fmt: skip
    return rows


def _lookup(known: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of ``ids`` in the sorted ``known``, and whether they are there (row 0 where not)."""
    rows = np.searchsorted(known, ids)
    rows[rows == len(known)] = 0
    found = known[rows] == ids if len(known) else np.zeros(len(ids), np.bool_)
    return rows, found


@njit(cache=True, nogil=True)
def _follow(heads: np.ndarray, row: np.ndarray, merged: np.ndarray) -> np.ndarray:
    """Return the root of each row; ``row[i]`` is the row in which heads[i] was merged, if it was."""
    roots = heads.copy()
    for i in range(len(heads)):
        # a < b and rows are sorted by b: the head's row comes first, and its root is final
        if merged[i]:
            roots[i] = roots[row[i]]
    return roots


@njit(cache=True, nogil=True)
def _swallowed(a: np.ndarray, b: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Return the voxels of cluster b at each merge: all that ever became part of it. Rows sorted by b."""
    total, swallowed = voxels.copy(), np.empty(len(b), np.int64)
    for i in range(len(b) - 1, -1, -1):
        swallowed[i] = total[b[i]]
        total[a[i]] += total[b[i]]
    return swallowed


@njit(cache=True, nogil=True)
def _grown(a: np.ndarray, swallowed: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Return the voxels of cluster a before each merge. Rows in the order of the merges."""
    total, grown = voxels.copy(), np.empty(len(a), np.int64)
    for i in range(len(a)):
        grown[i] = total[a[i]]
        total[a[i]] += swallowed[i]
    return grown


@njit(cache=True, nogil=True)
def _only_as_floats_equal(numerator: np.ndarray, denominator: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Return the rows whose quotient equals the next row's, of the same phase, while the ratios differ."""
    rows = []
    for i in range(len(numerator) - 1):
        if small[i] != small[i + 1] or numerator[i] / denominator[i] != numerator[i + 1] / denominator[i + 1]:
            continue
        if compare_ratios(numerator[i], denominator[i], numerator[i + 1], denominator[i + 1]) != 0:
            rows.append(i)
    return np.array(rows, dtype=np.int64)
