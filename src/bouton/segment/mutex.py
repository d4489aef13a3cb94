"""Mutex watershed: segments without a threshold on merges, from attractive and repulsive edges; in memory.

Edges are taken from the strongest to the weakest. An attractive one joins its segments unless they repel each other;
a repulsive one makes its segments repel each other for good. The nearest affinities give both kinds: above ``bias``
they attract, below they repel, as strong as they are far from it. Repulsion at a distance is read off the nearest
affinities, too: the smallest affinity on the straight path between two voxels, if it is below ``bias``. So a membrane
with a hole in it repels around the hole.

The order is total: strength, attraction before repulsion, then the edge's index. Hence the result does not depend on
how the package sorts. It does depend on everything in the box: mutex watershed cannot be computed by blocks.

Wolf et al. 2018, doi:10.1007/978-3-030-01225-0_34; 2020, doi:10.1109/TPAMI.2020.2980827. Computed by the package
``mwatershed``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from bouton.errors import DataError
from bouton.geometry import ZYX, Box, voxel_ids
from bouton.segment.components import find
from bouton.segment.packages import require
from bouton.segment.ratios import level

RUN_COLUMNS = {"start": "uint64", "label": "uint64"}
PACKAGE = "mwatershed"


@dataclass(frozen=True)
class MutexRule:
    """What attracts, what repels, and what is background.

    Attributes
    ----------
    bias : float
        In [0, 1]: affinities above it attract, others repel.
    reach : (z, y, x)
        Distance along each axis, in voxels, at which voxels repel; below 2 they repel as neighbours only.
    low : float
        In [0, 1]: a voxel that nothing attracts joins along affinities above this, or is background.
    """

    bias: float
    reach: ZYX
    low: float


def check_package() -> None:
    """Raise :class:`SpecError` unless the package is installed."""
    require(PACKAGE, "mwatershed 0.5.4", "mutex")


def mutex_watershed(affinities: np.ndarray, rule: MutexRule, box: Box, shape: ZYX) -> np.ndarray:
    """Return the mutex watershed of a box.

    Parameters
    ----------
    affinities : numpy.ndarray
        uint8 (3, z, y, x), v / 255: channel c joins a voxel with its lower neighbour along axis c. Edges that leave
        the array do not exist.
    rule : MutexRule
    box : Box
        Where the array lies in the data set.
    shape : (z, y, x)
        Shape of the data set.

    Returns
    -------
    numpy.ndarray
        uint64 (z, y, x): global id of each segment's first voxel; 0 is background. Segments are connected.

    Raises
    ------
    SpecError
        The package is not installed, or ``bias`` or ``low`` is no affinity.
    DataError
        The array is not uint8 with three channels.
    """
    check_package()
    if affinities.ndim != 4 or affinities.shape[0] != 3 or affinities.dtype != np.uint8:
        raise DataError(f"affinities {affinities.dtype} {affinities.shape}", expected="uint8 (3, z, y, x)")
    order, above = _order(rule.bias), math.floor(level(rule.low))
    steps = [(axis, 1) for axis in range(3)] + [(axis, rule.reach[axis]) for axis in range(3) if rule.reach[axis] > 1]
    # the package refuses edges that are longer than the box
    steps = [(axis, distance) for axis, distance in steps if distance < affinities.shape[1 + axis]]
    labels = np.zeros(affinities.shape[1:], np.uint64)
    if steps:
        labels = _solve(_weights(affinities, steps, order), steps)
    attracted = _with_edge(order[1][affinities])
    parent = _parents(labels.ravel(), attracted.ravel(), int(labels.max(initial=0)))
    values, lower, upper = _open_edges(affinities, attracted, above)
    _grow(parent, attracted.ravel(), lower, upper, np.argsort(255 - values, kind="stable"))
    return _name(parent, attracted.ravel(), voxel_ids(box, shape).ravel()).reshape(box.shape)


def _solve(weights: np.ndarray, steps: list[tuple[int, int]]) -> np.ndarray:
    import mwatershed

    offsets = [[-distance if a == axis else 0 for a in range(3)] for axis, distance in steps]
    return np.asarray(mwatershed.agglom(weights, offsets))


def path_minimum(affinities: np.ndarray, axis: int, steps: int) -> np.ndarray:
    """Return the smallest affinity on the straight path of ``steps`` edges from each voxel down along ``axis``.

    Parameters
    ----------
    affinities : numpy.ndarray
        uint8 (z, y, x): the channel of ``axis``.
    axis, steps : int

    Returns
    -------
    numpy.ndarray
        uint8 (z, y, x); where the path leaves the array, over the part inside.
    """
    lowest = affinities.copy()
    for step in range(1, min(steps, affinities.shape[axis])):
        upper = tuple(slice(step, None) if a == axis else slice(None) for a in range(3))
        lower = tuple(slice(0, -step) if a == axis else slice(None) for a in range(3))
        np.minimum(lowest[upper], affinities[lower], out=lowest[upper])
    return lowest


def _order(bias: float) -> tuple[np.ndarray, np.ndarray]:
    """Return, for the affinities 0 to 255, their place in ascending order of strength, and whether they attract."""
    middle = level(bias)
    strengths = [(abs(v - middle), v > middle) for v in range(256)]
    order = sorted(set(strengths))
    ranks = np.array([order.index(strength) for strength in strengths], np.int64)
    return ranks, np.array([attracts for _, attracts in strengths], np.bool_)


def _weights(affinities: np.ndarray, steps: list[tuple[int, int]], order: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the weights of the edges (axis, distance), float64 (c, z, y, x), no two of one magnitude."""
    weights = np.empty((len(steps), *affinities.shape[1:]), np.float64)
    for channel, (axis, distance) in enumerate(steps):
        values = path_minimum(affinities[axis], axis, distance)
        _weigh(values.ravel(), weights[channel].ravel(), order, weights.size, channel, distance > 1)
    return weights


@njit(cache=True, nogil=True)
def _weigh(
    values: np.ndarray,
    weights: np.ndarray,
    order: tuple[np.ndarray, np.ndarray],
    edges: int,
    channel: int,
    repels_only: bool,
) -> None:
    # rank * edges + index is below 2**53 for 10**12 edges: exact in float64
    ranks, attracts = order
    index = channel * len(values)
    for i in range(len(values)):
        value = values[i]
        tie = edges - index - i
        if not attracts[value]:
            weights[i] = -np.float64((ranks[value] + 1) * edges + tie)
        elif repels_only:
            # a path without a boundary says nothing: as the weakest repulsion it comes last and changes nothing
            weights[i] = -np.float64(tie)
        else:
            weights[i] = np.float64((ranks[value] + 1) * edges + tie)


def _with_edge(edges: np.ndarray) -> np.ndarray:
    """Return bool (z, y, x): whether one of a voxel's edges inside the array is True, bool (3, z, y, x)."""
    found = np.zeros(edges.shape[1:], np.bool_)
    for axis in range(3):
        upper, lower = _ends(axis)
        found[upper] |= edges[axis][upper]
        found[lower] |= edges[axis][upper]
    return found


def _ends(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the places of the upper and of the lower ends of all edges along an axis."""
    upper = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
    return upper, tuple(slice(0, -1) if a == axis else slice(None) for a in range(3))


def _open_edges(affinities: np.ndarray, taken: np.ndarray, above: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the edges above ``above`` with an end that is not ``taken``: affinity, lower and upper end (flat)."""
    places = np.arange(taken.size).reshape(taken.shape)
    values, lowers, uppers = [], [], []
    for axis in range(3):
        upper, lower = _ends(axis)
        edge = (affinities[axis][upper] > above) & ~(taken[upper] & taken[lower])
        values.append(affinities[axis][upper][edge])
        lowers.append(places[lower][edge])
        uppers.append(places[upper][edge])
    return np.concatenate(values), np.concatenate(lowers), np.concatenate(uppers)


@njit(cache=True, nogil=True)
def _parents(labels: np.ndarray, taken: np.ndarray, most: int) -> np.ndarray:
    """Return, for each voxel, its segment's first voxel; itself where it is not taken."""
    first, parent = np.full(most + 1, -1), np.arange(len(labels))
    for i in range(len(labels)):
        if taken[i]:
            if first[labels[i]] < 0:
                first[labels[i]] = i
            parent[i] = first[labels[i]]
    return parent


@njit(cache=True, nogil=True)
def _grow(parent: np.ndarray, taken: np.ndarray, lower: np.ndarray, upper: np.ndarray, order: np.ndarray) -> None:
    """Join the ends of the edges, in order, unless both belong to segments; ``taken`` says which roots do."""
    for e in order:
        i, j = find(parent, lower[e]), find(parent, upper[e])
        if i == j or (taken[i] and taken[j]):
            continue
        if taken[j]:
            i, j = j, i
        parent[j] = i


@njit(cache=True, nogil=True)
def _name(parent: np.ndarray, taken: np.ndarray, ids: np.ndarray) -> np.ndarray:
    first, result = np.zeros(len(parent), np.uint64), np.zeros(len(parent), np.uint64)
    for i in range(len(parent)):
        root = find(parent, i)
        if taken[root]:
            if first[root] == 0:
                first[root] = ids[i]
            result[i] = first[root]
    return result


def label_runs(labels: np.ndarray, box: Box, shape: ZYX) -> dict[str, np.ndarray]:
    """Return the runs of one label along x, ``RUN_COLUMNS``: id of the first voxel, label (0 too); sorted by start.

    Parameters
    ----------
    labels : numpy.ndarray
        uint64 (z, y, x), the voxels of ``box``.
    box, shape
        As in :func:`mutex_watershed`.
    """
    new = np.ones(labels.shape, np.bool_)
    new[:, :, 1:] = labels[:, :, 1:] != labels[:, :, :-1]
    return {"start": voxel_ids(box, shape)[new], "label": labels[new]}


def paint_runs(runs: dict[str, np.ndarray], box: Box, shape: ZYX) -> np.ndarray:
    """Return uint64 (z, y, x), the labels of ``box``: the inverse of :func:`label_runs`, on any part of its box."""
    if box.is_empty:
        return np.zeros(box.shape, np.uint64)
    return _paint(voxel_ids(box, shape), runs["start"], runs["label"])


@njit(cache=True, nogil=True)
def _paint(ids: np.ndarray, starts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    result = np.empty_like(ids)
    nz, ny, nx = ids.shape
    for z in range(nz):
        for y in range(ny):
            run = np.searchsorted(starts, ids[z, y, 0], side="right") - 1
            for x in range(nx):
                while run + 1 < len(starts) and starts[run + 1] <= ids[z, y, x]:
                    run += 1
                result[z, y, x] = labels[run]
    return result
