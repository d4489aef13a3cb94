"""One-to-one matchings of every prefix of a sorted list of predictions, in one pass.

Predictions join one after the other, the best score first. Each time the matching is again one of as many pairs as
possible and, among these, of the least summed cost: adding one prediction changes an optimal matching along a single
alternating path that begins there, the shortest of the residual graph (Edmonds & Karp 1972,
doi:10.1145/321694.321699). So the counts at every score threshold equal those of a matching made for it alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

_EPSILON = 1e-9


@dataclass(frozen=True)
class Changes:
    """How the matching changes as predictions join.

    Attributes
    ----------
    step : numpy.ndarray
        int64 (k,), rising: after prediction number ``step`` joined,
    predicted : numpy.ndarray
        int64 (k,), this prediction
    truth : numpy.ndarray
        int64 (k,), is matched with this truth, or with none: -1.
    """

    step: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray


def match_prefixes(pairs: np.ndarray, cost: np.ndarray, n_truth: int, n_predicted: int) -> Changes:
    """Return the changes of the matching as predictions 0, 1, 2 ... join.

    Parameters
    ----------
    pairs : numpy.ndarray
        int64 (k, 2), candidate (truth, predicted) rows, no pair twice.
    cost : numpy.ndarray
        float64 (k,), at least 0.
    n_truth, n_predicted : int
        How many there are.
    """
    order = np.lexsort((pairs[:, 0], pairs[:, 1]))
    first = np.zeros(n_predicted + 1, dtype=np.int64)
    np.cumsum(np.bincount(pairs[:, 1], minlength=n_predicted), out=first[1:])
    to, weight = np.ascontiguousarray(pairs[order, 0]), np.ascontiguousarray(cost[order], dtype=np.float64)
    return Changes(*_join_all(first, to, weight, n_truth))


@njit(cache=True)
def _join_all(
    first: np.ndarray, to: np.ndarray, cost: np.ndarray, n_truth: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = len(first) - 1
    # Of a prediction: its truth, the cost of that pair, and the way here; of a truth: its prediction and the way.
    truth_of, paid, way = np.full(n, -1), np.zeros(n), np.full(n, np.inf)
    holder, via, through, distance = (
        np.full(n_truth, -1),
        np.full(n_truth, -1),
        np.zeros(n_truth),
        np.full(n_truth, np.inf),
    )
    waiting, is_waiting = np.empty(n + 1, np.int64), np.zeros(n, np.bool_)
    seen_p, seen_t = np.empty(n + 1, np.int64), np.empty(n_truth + 1, np.int64)
    step, predicted, truth = np.empty(64 + n, np.int64), np.empty(64 + n, np.int64), np.empty(64 + n, np.int64)
    k = 0
    for p in range(n):
        n_p, n_t = 1, 0
        seen_p[0], way[p] = p, 0.0
        head, length = 0, 1
        waiting[0], is_waiting[p] = p, True
        while length:
            q = waiting[head]
            head, length = (head + 1) % (n + 1), length - 1
            is_waiting[q] = False
            for e in range(first[q], first[q + 1]):
                t, there = to[e], way[q] + cost[e]
                if t == truth_of[q] or there >= distance[t] - _EPSILON:
                    continue
                if distance[t] == np.inf:
                    seen_t[n_t] = t
                    n_t += 1
                distance[t], via[t], through[t] = there, q, cost[e]
                other = holder[t]
                if other < 0:
                    continue
                if way[other] == np.inf:
                    seen_p[n_p] = other
                    n_p += 1
                way[other] = there - paid[other]
                if not is_waiting[other]:
                    is_waiting[other] = True
                    waiting[(head + length) % (n + 1)] = other
                    length += 1
        end = _nearest_free(seen_t[:n_t], holder, distance)
        if end < 0:
            end, dropped = _cheapest_to_drop(seen_p[:n_p], truth_of, way)
            if end >= 0:
                truth_of[dropped] = -1
                step, predicted, truth = _grown(step, k), _grown(predicted, k), _grown(truth, k)
                step[k], predicted[k], truth[k] = p, dropped, -1
                k += 1
        while end >= 0:
            q = via[end]
            before = truth_of[q]
            truth_of[q], holder[end], paid[q] = end, q, through[end]
            step, predicted, truth = _grown(step, k), _grown(predicted, k), _grown(truth, k)
            step[k], predicted[k], truth[k] = p, q, end
            k += 1
            end = before
        for i in range(n_p):
            way[seen_p[i]] = np.inf
        for i in range(n_t):
            distance[seen_t[i]] = np.inf
    return step[:k], predicted[:k], truth[:k]


@njit(cache=True)
def _nearest_free(seen: np.ndarray, holder: np.ndarray, distance: np.ndarray) -> int:
    best = -1
    for t in seen:
        if holder[t] < 0 and (best < 0 or distance[t] < distance[best]):
            best = t
    return best


@njit(cache=True)
def _cheapest_to_drop(seen: np.ndarray, truth_of: np.ndarray, way: np.ndarray) -> tuple[int, int]:
    """Return the truth that changes hands and the prediction that loses it; -1, -1 where the new one stays alone."""
    best, least = -1, -_EPSILON
    for q in seen:
        if way[q] < least:
            best, least = q, way[q]
    return (truth_of[best], best) if best >= 0 else (-1, -1)


@njit(cache=True)
def _grown(values: np.ndarray, k: int) -> np.ndarray:
    if k < len(values):
        return values
    larger = np.empty(2 * len(values), values.dtype)
    larger[:k] = values
    return larger


@njit(cache=True)
def count_prefixes(
    near: tuple[np.ndarray, np.ndarray, np.ndarray],
    level: tuple[np.ndarray, np.ndarray, np.ndarray],
    neutral_truth: np.ndarray,
    neutral_predicted: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the true and the false positives after each prediction joined, int64 (n,) each.

    Parameters
    ----------
    near, level : tuple of numpy.ndarray
        The fields of :class:`Changes` of the matching by place alone, and of the one that counts. What the first one
        matches with a neutral truth is no false positive.
    neutral_truth, neutral_predicted : numpy.ndarray
        bool.
    """
    n = len(neutral_predicted)
    excused, matched, right = neutral_predicted.copy(), np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    tp, fp = np.zeros(n, np.int64), np.zeros(n, np.int64)
    true, false, a, b = 0, 0, 0, 0
    for p in range(n):
        false += not excused[p]
        while a < len(near[0]) and near[0][a] == p:
            q, t = near[1][a], near[2][a]
            false -= not excused[q] and not matched[q]
            excused[q] = neutral_predicted[q] or (t >= 0 and neutral_truth[t])
            false += not excused[q] and not matched[q]
            a += 1
        while b < len(level[0]) and level[0][b] == p:
            q, t = level[1][b], level[2][b]
            false -= not excused[q] and not matched[q]
            true -= right[q]
            matched[q] = t >= 0
            right[q] = t >= 0 and not neutral_truth[t]
            false += not excused[q] and not matched[q]
            true += right[q]
            b += 1
        tp[p], fp[p] = true, false
    return tp, fp
