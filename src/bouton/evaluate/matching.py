"""One-to-one matching of predicted with true points.

Pairs nearer than a distance are candidates; among them as many pairs as possible are chosen, and among the choices of
equally many pairs the one with the least summed distance (Hungarian assignment, Kuhn 1955,
doi:10.1002/nav.3800020109). Groups of points that share no candidate are solved on their own: nearly linear cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class Matches:
    """Matched pairs, sorted by the index of the truth.

    Attributes
    ----------
    truth, predicted : numpy.ndarray
        int64 (k,), row numbers; none occurs twice.
    distance_nm : numpy.ndarray
        float64 (k,).
    """

    truth: np.ndarray
    predicted: np.ndarray
    distance_nm: np.ndarray


def match_points(
    truth_nm: np.ndarray,
    predicted_nm: np.ndarray,
    max_distance_nm: float,
    allowed: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Matches:
    """Match points at most ``max_distance_nm`` apart, one to one.

    Parameters
    ----------
    truth_nm, predicted_nm : numpy.ndarray
        float (n, 3) and (m, 3), z, y, x.
    max_distance_nm : float
        The largest distance of a pair, inclusive.
    allowed : callable, optional
        ``allowed(truth rows, predicted rows)`` (int64 (k,) each) returns which of these pairs are candidates, bool.
    """
    pairs, distance = candidates(truth_nm, predicted_nm, max_distance_nm, allowed)
    chosen = assign(pairs, distance)
    pairs, distance = pairs[chosen], distance[chosen]
    return Matches(pairs[:, 0], pairs[:, 1], distance)


def candidates(
    truth_nm: np.ndarray,
    predicted_nm: np.ndarray,
    max_distance_nm: float,
    allowed: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the (truth, predicted) rows that may match, int64 (k, 2), sorted, and their distances, float64 (k,).

    The parameters are those of :func:`match_points`.
    """
    pairs = near_pairs(truth_nm, predicted_nm, max_distance_nm)
    if allowed is not None:
        pairs = pairs[allowed(pairs[:, 0], pairs[:, 1])]
    return pairs, np.linalg.norm(truth_nm[pairs[:, 0]] - predicted_nm[pairs[:, 1]], axis=1)


def near_pairs(truth_nm: np.ndarray, predicted_nm: np.ndarray, max_distance_nm: float) -> np.ndarray:
    """Return the (truth, predicted) index pairs within the distance, int64 (k, 2), sorted."""
    if not len(truth_nm) or not len(predicted_nm):
        return np.zeros((0, 2), dtype=np.int64)
    near = cKDTree(predicted_nm).query_ball_point(truth_nm, max_distance_nm, return_sorted=True)
    counts = [len(found) for found in near]
    first = np.repeat(np.arange(len(near), dtype=np.int64), counts)
    return np.stack([first, np.concatenate([np.asarray(found, dtype=np.int64) for found in near])], axis=1)


def assign(pairs: np.ndarray, cost: np.ndarray, unmatched: float | None = None) -> np.ndarray:
    """Return the numbers of the chosen pairs, sorted: one to one, of the least summed cost.

    Parameters
    ----------
    pairs : numpy.ndarray
        int64 (k, 2), candidate (truth, predicted) rows, no pair twice.
    cost : numpy.ndarray
        float64 (k,), at least 0.
    unmatched : float, optional
        Cost of what stays alone, a pair of rows at a time. Default: as many pairs as possible are chosen first.
    """
    n_truth, n_predicted = pairs.max(axis=0, initial=-1) + 1
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], n_truth + pairs[:, 1])), (n_truth + n_predicted,) * 2)
    group = connected_components(links, directed=False)[1][pairs[:, 0]] if len(pairs) else pairs[:, 0]
    order = np.argsort(group, kind="stable")
    bounds = np.flatnonzero(np.diff(group[order])) + 1
    groups = [rows for rows in np.split(order, bounds) if rows.size]
    chosen = [_assign_group(pairs[rows], cost[rows], rows, unmatched) for rows in groups]
    return np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *chosen]))


def _assign_group(pairs: np.ndarray, cost: np.ndarray, rows: np.ndarray, unmatched: float | None) -> np.ndarray:
    truth, t = np.unique(pairs[:, 0], return_inverse=True)
    predicted, p = np.unique(pairs[:, 1], return_inverse=True)
    if unmatched is None:
        # One more pair always outweighs any saving of cost.
        unmatched = (float(cost.max()) + 1.0) * (min(truth.size, predicted.size) + 1)
    costs = np.full((truth.size, predicted.size), unmatched)
    costs[t, p] = cost
    number = np.full(costs.shape, -1, dtype=np.int64)
    number[t, p] = rows
    picked = number[linear_sum_assignment(costs)]
    return picked[picked >= 0]
