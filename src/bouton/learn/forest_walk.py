"""Walking decision trees fast: nodes of 8 bytes, siblings side by side, several rows at once.

A node holds the threshold as an integer that is ordered as float32 is, the feature, and where its first child lies;
the second one lies beside it. A leaf is its own child. So one step of a walk is two loads, a comparison and an
addition, without a branch; ``LANES`` rows walk together, because each would otherwise wait for memory at every step.
Trees come one after the other, so that each of them stays in the cache while all rows walk it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

LANES = 8
MAX_FEATURES = 256
_KEY_BITS, _FEATURE_BITS = 32, 8
MAX_NODES = 1 << (_KEY_BITS - _FEATURE_BITS)
_NEVER = np.int64(0x7FFFFFFF)


@dataclass(frozen=True)
class PackedForest:
    """A forest laid out for walking.

    Attributes
    ----------
    nodes : numpy.ndarray
        int64 (n,): key of the threshold << 32 | first child, counted from the tree's root, << 8 | feature.
    value : numpy.ndarray
        float32 (n, classes), in the order of ``nodes``.
    starts : numpy.ndarray
        int64 (trees + 1,): where each tree's nodes begin.
    """

    nodes: np.ndarray
    value: np.ndarray
    starts: np.ndarray


def order_keys(values: np.ndarray) -> np.ndarray:
    """Return int32 of the shape of ``values``, float32 and not NaN, that are ordered as they are; -0 is 0."""
    bits = (np.ascontiguousarray(values, np.float32) + np.float32(0)).view(np.int32)
    return np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)


def pack_trees(
    feature: np.ndarray, threshold: np.ndarray, children: tuple[np.ndarray, np.ndarray], value: np.ndarray,
    roots: np.ndarray,
) -> PackedForest:  # fmt: skip
    """Return the layout for walking of the arrays of :class:`bouton.learn.forest.Forest`, children (left, right)."""
    order, first, starts = _breadth_first(children[0], children[1], roots)
    leaf = feature[order] < 0
    keys = np.where(leaf, _NEVER, order_keys(threshold[order]).astype(np.int64))
    nodes = (keys << _KEY_BITS) | (first << _FEATURE_BITS) | np.where(leaf, 0, feature[order])
    return PackedForest(nodes, np.ascontiguousarray(value[order]), starts)


@njit(cache=True, nogil=True)
def _breadth_first(left, right, roots):  # type: ignore[no-untyped-def]
    """Return the nodes tree by tree and level by level, the place of each one's first child, and the trees' starts."""
    order, first = np.empty(left.size, np.int64), np.empty(left.size, np.int64)
    starts = np.zeros(roots.size + 1, np.int64)
    n = 0
    for tree in range(roots.size):
        base, at = n, n
        order[n] = roots[tree]
        n += 1
        while at < n:
            node = order[at]
            if left[node] < 0:
                first[at] = at - base
            else:
                first[at] = n - base
                order[n], order[n + 1] = left[node], right[node]
                n += 2
            at += 1
        starts[tree + 1] = n
    return order, first, starts


@njit(cache=True, nogil=True)
def walk(nodes, value, starts, keys):  # type: ignore[no-untyped-def]
    """Return the mean over all trees of the values of the leaves that rows end in, float32 (rows, classes).

    Parameters
    ----------
    nodes, value, starts : numpy.ndarray
        Of :class:`PackedForest`.
    keys : numpy.ndarray
        int32 (rows, features), of :func:`order_keys`; the rows are a multiple of ``LANES``.
    """
    rows, trees, classes = keys.shape[0], starts.size - 1, value.shape[1]
    sums = np.zeros((rows, classes), np.float64)
    ends = np.zeros(rows, np.int32)
    for tree in range(trees):
        base = starts[tree]
        _leaves(nodes[base : starts[tree + 1]], keys, ends)
        for row in range(rows):
            leaf = base + ends[row]
            for c in range(classes):
                sums[row, c] += value[leaf, c]
    return (sums / trees).astype(np.float32)


@njit(cache=True, nogil=True, inline="always")
def _step(nodes, keys, row, at):  # type: ignore[no-untyped-def]
    node = nodes[at]
    first = (node >> 8) & 0xFFFFFF
    return np.uint32(first + (np.int64(keys[row, node & 0xFF]) > (node >> 32)))


@njit(cache=True, nogil=True)
def _leaves(nodes, keys, ends):  # type: ignore[no-untyped-def]
    """Write the leaf of one tree, counted from its root, that each row ends in."""
    for row in range(0, keys.shape[0], LANES):
        a, b, c, d = np.uint32(0), np.uint32(0), np.uint32(0), np.uint32(0)
        e, f, g, h = np.uint32(0), np.uint32(0), np.uint32(0), np.uint32(0)
        moved = True
        while moved:
            # two levels at a time: whether all are leaves is asked half as often
            a, b = _step(nodes, keys, row, a), _step(nodes, keys, row + 1, b)
            c, d = _step(nodes, keys, row + 2, c), _step(nodes, keys, row + 3, d)
            e, f = _step(nodes, keys, row + 4, e), _step(nodes, keys, row + 5, f)
            g, h = _step(nodes, keys, row + 6, g), _step(nodes, keys, row + 7, h)
            i, j = _step(nodes, keys, row, a), _step(nodes, keys, row + 1, b)
            k, m = _step(nodes, keys, row + 2, c), _step(nodes, keys, row + 3, d)
            n, o = _step(nodes, keys, row + 4, e), _step(nodes, keys, row + 5, f)
            p, q = _step(nodes, keys, row + 6, g), _step(nodes, keys, row + 7, h)
            moved = bool((a ^ i) | (b ^ j) | (c ^ k) | (d ^ m) | (e ^ n) | (f ^ o) | (g ^ p) | (h ^ q))
            a, b, c, d, e, f, g, h = i, j, k, m, n, o, p, q
        ends[row], ends[row + 1], ends[row + 2], ends[row + 3] = a, b, c, d
        ends[row + 4], ends[row + 5], ends[row + 6], ends[row + 7] = e, f, g, h
