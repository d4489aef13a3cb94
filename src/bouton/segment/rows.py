"""Connected components of a voxel graph, one row of voxels after the other, in the array that becomes the labels.

Voxel i of a box (counted from 1 in C order) has its parent in element i of the array: a voxel of its component that
does not come later. Element 0 is background. A row takes its labels from the row below and the plane below, spread
along x, first backwards, then forwards; a place where two labels meet is then a union. Only those places cost a jump in
memory, everything else runs along contiguous rows. The root of a component is its first voxel.

Union-find: Rem's algorithm with splicing, Patwary, Blair & Manne 2010, doi:10.1007/978-3-642-13193-6_35.
"""

from __future__ import annotations

import numpy as np
from numba import njit

LOWER_Z, LOWER_Y, LOWER_X, INSIDE = 1, 2, 4, 8  # bits: joined to the lower neighbour along an axis; foreground

Work = tuple[np.ndarray, ...]


def new_parents(voxels: int) -> np.ndarray:
    """Return the array for :func:`label_row`: ``voxels + 1`` elements, of 4 bytes where that is enough."""
    # numpy asks for large pages, numba would not: a third of the time
    parents = np.empty(voxels + 1, np.uint32 if voxels < 2**32 - 1 else np.uint64)
    parents[0] = 0
    return parents


def labels_of(parents: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return each voxel's root (counted from 1; 0 is background) as (z, y, x), in place."""
    point_to_parents_of_parents(parents, 1, len(parents) - 1)
    return parents[1:].reshape(shape)


@njit(cache=True, nogil=True)
def new_work(parents: np.ndarray, n: int) -> Work:
    """Return the memory that :func:`label_row` needs for rows of ``n`` voxels."""
    flags_y, flags_z = np.empty(n, np.uint8), np.empty(n, np.uint8)
    places_y, places_z = np.empty(n + 1, np.uint32), np.empty(n + 1, np.uint32)
    return np.empty(n, parents.dtype), np.empty(n, parents.dtype), flags_y, flags_z, places_y, places_z


@njit(cache=True, nogil=True)
def label_row(parents: np.ndarray, first: int, back: tuple[int, int], bits: np.ndarray, work: Work) -> None:
    """Label a row of voxels after all rows that come before it.

    Parameters
    ----------
    parents : numpy.ndarray
        From :func:`new_parents`.
    first : int
        The row's first voxel, counted from 1.
    back : (int, int)
        How many voxels before it the row below and the plane below lie; 0 where there is none, then the bit is not set.
    bits : numpy.ndarray
        uint8 (n,): ``LOWER_Z | LOWER_Y | LOWER_X | INSIDE``; whatever is joined is inside.
    work : tuple of numpy.ndarray
        From :func:`new_work`.
    """
    n = len(bits)
    label, apart, flags_y, flags_z, places_y, places_z = work
    row = parents[first : first + n]
    below_y = parents[first - back[0] : first - back[0] + n]
    below_z = parents[first - back[1] : first - back[1] + n]
    _lowest_below(bits, below_y, below_z, label, apart)
    _spread(label, apart, first, row)
    _meetings(bits, below_y, below_z, row, flags_y, flags_z)
    count_y, count_z = _places(flags_y, flags_z, places_y, places_z)
    _unite_back(parents, first, back[0], places_y[:count_y])
    _unite_back(parents, first, back[1], places_z[:count_z])
    if count_y + count_z:
        point_to_parents_of_parents(parents, first, n)


@njit(cache=True, nogil=True)
def _lowest_below(
    bits: np.ndarray, below_y: np.ndarray, below_z: np.ndarray, label: np.ndarray, apart: np.ndarray
) -> None:
    """Set ``label`` to the lowest label that a voxel is joined to below, else all ones; ``apart`` to all ones or 0."""
    for x in range(len(bits)):
        b, one = np.uint64(bits[x]), np.uint64(1)
        not_z, not_y = (b & one) - one, ((b >> one) & one) - one
        label[x] = min(below_y[x] | not_y, below_z[x] | not_z)
        apart[x] = ((b >> np.uint64(2)) & one) - one


@njit(cache=True, nogil=True)
def _spread(label: np.ndarray, apart: np.ndarray, first: int, row: np.ndarray) -> None:
    """Set ``row`` to the lowest label of each run of joined voxels, its first voxel where it has none."""
    lowest = ~np.uint64(0)
    for x in range(len(row) - 1, -1, -1):
        lowest = min(np.uint64(label[x]), lowest)
        label[x] = lowest
        lowest |= np.uint64(apart[x])
    lowest = ~np.uint64(0)
    for x in range(len(row)):
        lowest = min(min(np.uint64(label[x]), np.uint64(first + x)), lowest | np.uint64(apart[x]))
        row[x] = lowest


@njit(cache=True, nogil=True)
def _meetings(
    bits: np.ndarray,
    below_y: np.ndarray,
    below_z: np.ndarray,
    row: np.ndarray,
    flags_y: np.ndarray,
    flags_z: np.ndarray,
) -> None:
    """Flag the voxels that are joined to another label below; set the background to 0."""
    for x in range(len(bits)):
        b, one = np.uint64(bits[x]), np.uint64(1)
        own = np.uint64(row[x])
        flags_z[x] = ((below_z[x] ^ own) & (np.uint64(0) - (b & one))) != 0
        flags_y[x] = ((below_y[x] ^ own) & (np.uint64(0) - ((b >> one) & one))) != 0
        row[x] = own & (np.uint64(0) - (b >> np.uint64(3)))


@njit(cache=True, nogil=True)
def _places(
    flags_y: np.ndarray, flags_z: np.ndarray, places_y: np.ndarray, places_z: np.ndarray
) -> tuple[np.int64, np.int64]:
    """List the flagged voxels, without a branch."""
    count_y, count_z = np.int64(0), np.int64(0)
    for x in range(len(flags_y)):
        places_y[count_y] = x
        places_z[count_z] = x
        count_y += np.int64(flags_y[x])
        count_z += np.int64(flags_z[x])
    return count_y, count_z


@njit(cache=True, nogil=True)
def _unite_back(parents: np.ndarray, first: int, back: int, places: np.ndarray) -> None:
    for j in range(len(places)):
        at = np.uint64(first) + np.uint64(places[j])
        _unite(parents, at, at - np.uint64(back))


@njit(cache=True, nogil=True)
def _unite(parents: np.ndarray, a: np.uint64, b: np.uint64) -> None:
    of_a, of_b = np.uint64(parents[a]), np.uint64(parents[b])
    while of_a != of_b:
        if of_a < of_b:
            a, b, of_a, of_b = b, a, of_b, of_a
        # on the way to the root of a, hang all below the parent of b, which comes first
        parents[a] = of_b
        if of_a == a:
            return
        a = of_a
        of_a = np.uint64(parents[a])


@njit(cache=True, nogil=True)
def point_to_parents_of_parents(parents: np.ndarray, first: int, n: int) -> None:
    """Shorten the ways to the roots of ``n`` voxels; if all before them point to roots, so do they."""
    for i in range(np.uint64(first), np.uint64(first + n)):
        parents[i] = parents[np.uint64(parents[i])]


@njit(cache=True, nogil=True)
def global_ids(parents: np.ndarray, start: np.ndarray, extent: np.ndarray, labels: np.ndarray) -> None:
    """Fill ``labels`` with the global ids of the roots of a box.

    Parameters
    ----------
    parents : numpy.ndarray
        Filled by :func:`label_row`.
    start, extent : numpy.ndarray
        int64 (3,), z, y, x: where the box begins in the data set, and the data set's shape.
    labels : numpy.ndarray
        uint64 (z, y, x).
    """
    nz, ny, nx = labels.shape
    flat, i = labels.ravel(), np.uint64(0)
    for z in range(nz):
        for y in range(ny):
            first = np.uint64(((start[0] + z) * extent[1] + start[1] + y) * extent[2] + start[2] + 1)
            for x in range(np.uint64(nx)):
                root = np.uint64(parents[i + np.uint64(1)])
                if root == i + np.uint64(1):
                    flat[i] = first + x
                else:
                    # roots come first, so theirs are filled already
                    flat[i] = flat[root - np.uint64(1)] if root else np.uint64(0)
                i += np.uint64(1)
