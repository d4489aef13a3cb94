"""Connected components that do not depend on blocks.

Each block labels its own voxels by the global id of each local component's first voxel (:func:`label_components`,
:func:`label_joined`). Pairs of labels that touch across block faces (:func:`face_pairs`) are merged, in any order, by
:func:`join`; :func:`relabel` then gives every component the id of its first voxel in the whole volume. A local first
voxel never comes before the global one, hence the smallest label of a component is that id.

Union-find: Tarjan 1975, doi:10.1145/321879.321884.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bouton.geometry import ZYX, Box
from bouton.segment.rows import LOWER_X, LOWER_Y, LOWER_Z, global_ids, label_row, new_parents, new_work


def label_components(mask: np.ndarray, box: Box, shape: ZYX) -> np.ndarray:
    """Label the 6-connected components of ``mask``.

    Parameters
    ----------
    mask : numpy.ndarray
        bool (z, y, x), the voxels of ``box``.
    box : Box
        Where the mask lies in the data set.
    shape : (z, y, x)
        Shape of the whole data set.

    Returns
    -------
    numpy.ndarray
        uint64 (z, y, x): global id of the component's first voxel in ``box``; 0 outside of the mask.
    """
    mask = np.ascontiguousarray(mask, dtype=np.bool_)
    joined = np.zeros(mask.shape, np.uint8)
    joined[1:] |= mask[1:] & mask[:-1]
    joined[:, 1:] |= (mask[:, 1:] & mask[:, :-1]).astype(np.uint8) << 1
    joined[:, :, 1:] |= (mask[:, :, 1:] & mask[:, :, :-1]).astype(np.uint8) << 2
    return label_joined(joined, mask, box, shape)


def label_joined(joined: np.ndarray, foreground: np.ndarray, box: Box, shape: ZYX) -> np.ndarray:
    """Label the components of the voxel graph whose edges are given as bits.

    Parameters
    ----------
    joined : numpy.ndarray
        uint8 (z, y, x): bit c is set where a voxel is joined to its lower neighbour along axis c. Bits of edges that
        leave the array are ignored.
    foreground : numpy.ndarray
        bool (z, y, x): voxels that get a label. Both ends of a joined edge must be foreground.
    box, shape
        As in :func:`label_components`.

    Returns
    -------
    numpy.ndarray
        uint64 (z, y, x), as in :func:`label_components`.
    """
    parents, labels = new_parents(joined.size), np.empty(joined.shape, np.uint64)
    _label(np.ascontiguousarray(joined), np.ascontiguousarray(foreground), parents)
    global_ids(parents, np.asarray(box.start, np.int64), np.asarray(shape, np.int64), labels)
    return labels


def face_pairs(labels: np.ndarray, core: Box) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of labels that touch across the lower faces of ``core``.

    A pair of voxels belongs to the block that owns the upper one: every block looks across its three lower faces only,
    so each pair is seen once.

    Parameters
    ----------
    labels : numpy.ndarray
        uint64 (z, y, x): the core with one voxel more on the lower sides, where the bounds allow.
    core : Box
        The core in coordinates of ``labels`` (``task.core.within(task.box())``).

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        uint64 (n,), distinct pairs of non-zero labels in sorted order: lower side, upper side.
    """
    found_a, found_b = [], []
    for axis in range(3):
        if core.start[axis] == 0:
            continue
        lower, upper = face(core, axis, core.start[axis] - 1), face(core, axis, core.start[axis])
        a, b = labels[lower.slices].ravel(), labels[upper.slices].ravel()
        both = (a != 0) & (b != 0)
        found_a.append(a[both])
        found_b.append(b[both])
    if not found_a:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    return distinct_pairs(np.concatenate(found_a), np.concatenate(found_b))


def face(box: Box, axis: int, at: int) -> Box:
    """Return the plane of ``box`` that lies at coordinate ``at`` of ``axis``."""
    start, stop = list(box.start), list(box.stop)
    start[axis], stop[axis] = at, at + 1
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def distinct_pairs(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct pairs of two uint64 columns, sorted by the first, then the second."""
    order = np.lexsort((b, a))
    a, b = a[order], b[order]
    new = np.ones(len(a), np.bool_)
    new[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    return a[new], b[new]


def join(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge all pairs; the answer, taken as pairs, can be joined again with more pairs (associative).

    Parameters
    ----------
    a, b : numpy.ndarray
        uint64 (n,), the two labels of each pair.

    Returns
    -------
    ids, roots : numpy.ndarray
        uint64 (m,): the labels that are not the smallest of their component, sorted, and that smallest label.
    """
    ids, index = np.unique(np.concatenate([a, b]), return_inverse=True)
    root = ids[union(index[: len(a)], index[len(a) :], len(ids))]
    moved = root != ids
    return ids[moved], root[moved]


def relabel(labels: np.ndarray, ids: np.ndarray, roots: np.ndarray) -> np.ndarray:
    """Return ``labels`` with each of ``ids`` replaced by its root; others stay.

    Parameters
    ----------
    labels : numpy.ndarray
        uint64, any shape.
    ids, roots : numpy.ndarray
        uint64 (m,); ``ids`` sorted, as from :func:`join`.
    """
    return _relabel(np.ascontiguousarray(labels).ravel(), ids, roots).reshape(labels.shape)


@njit(cache=True, nogil=True)
def find(parent: np.ndarray, i: int) -> int:
    """Return the root of ``i``; halves the path on the way."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def union(a: np.ndarray, b: np.ndarray, n: int) -> np.ndarray:
    """Return int64 (n,): the smallest member of each node's component after joining the node pairs (a[i], b[i])."""
    parent = np.arange(n)
    for i in range(len(a)):
        _unite(parent, a[i], b[i])
    for i in range(n):
        parent[i] = parent[parent[i]]
    return parent


@njit(cache=True, nogil=True)
def _unite(parent: np.ndarray, i: int, j: int) -> None:
    i, j = find(parent, i), find(parent, j)
    # the smaller index becomes the root, so that parents always precede their children
    if i < j:
        parent[j] = i
    else:
        parent[i] = j


@njit(cache=True, nogil=True)
def _label(joined: np.ndarray, foreground: np.ndarray, parents: np.ndarray) -> None:
    nz, ny, nx = joined.shape
    bits, work = np.empty(nx, np.uint8), new_work(parents, nx)
    for z in range(nz):
        for y in range(ny):
            # edges that leave the array do not count
            keep = np.uint8((LOWER_Y if y else 0) | (LOWER_Z if z else 0) | LOWER_X)
            for x in range(nx):
                bits[x] = (joined[z, y, x] & keep) | np.uint8(foreground[z, y, x]) << np.uint8(3)
            if nx:
                bits[0] &= ~LOWER_X
            back = (nx if y else 0, nx * ny if z else 0)
            label_row(parents, (z * ny + y) * nx + 1, back, bits, work)


@njit(cache=True, nogil=True)
def _relabel(labels: np.ndarray, ids: np.ndarray, roots: np.ndarray) -> np.ndarray:
    result = np.empty_like(labels)
    last, root = np.uint64(0), np.uint64(0)
    for i in range(len(labels)):
        if labels[i] != last:
            last = labels[i]
            at = np.searchsorted(ids, last)
            root = roots[at] if at < len(ids) and ids[at] == last else last
        result[i] = root
    return result
