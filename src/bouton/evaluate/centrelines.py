"""Centre lines of true neurons: simple skeletons from a volume of labels, good enough for run lengths.

The volume is cut into cells of about ``step_nm``. In each cell every neuron has at most one node: its voxel that lies
deepest inside it. Nodes of one neuron in neighbouring cells (26) are joined where the neuron's voxels touch across the
cells. In each connected piece, the shortest path from the root (the end that is farthest from the piece's first node)
to the farthest node not yet covered becomes part of the tree, again and again; a path covers the nodes within reach of
it. Costs of paths fall with the depth, so paths keep to the middle.

Sato et al. 2000 (TEASAR), doi:10.1109/PCCGA.2000.883951. All voxels of a neuron in one cell count as joined; so two
branches, or the sides of a loop, that are nearer to each other than ``step_nm`` may become one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from bouton.geometry import NM, ZERO, ZYX, centres_nm


@dataclass(frozen=True)
class LineRule:
    """How centre lines are drawn.

    Attributes
    ----------
    step_nm : float
        About the distance of nodes.
    margin_nm : float
        Only voxels at least this deep become nodes: a node nearer to a membrane than its place is certain would tell
        of merges and splits that are none. Thinner parts are left out, and what they joined comes apart.
    reach : float
        A path covers the nodes nearer than this many times its depth there, plus ``reach_nm``.
    reach_nm : float
        Twigs shorter than about this are left out.
    shortest_nm : float
        Pieces whose lines are shorter are left out.
    """

    step_nm: float = 40.0
    margin_nm: float = 20.0
    reach: float = 2.0
    reach_nm: float = 100.0
    shortest_nm: float = 200.0


@dataclass(frozen=True)
class _Nodes:
    neuron: np.ndarray
    place_nm: np.ndarray
    depth_nm: np.ndarray
    links: csr_array


def centre_lines(
    labels: np.ndarray, voxel_size_nm: NM, origin: ZYX = ZERO, rule: LineRule | None = None
) -> dict[str, np.ndarray]:
    """Return skeletons of all labels but 0.

    Parameters
    ----------
    labels : numpy.ndarray
        Integer ids (z, y, x). Neurons are open where they leave the array: its faces are no membranes.
    voxel_size_nm : (z, y, x)
    origin : (z, y, x)
        Place of the first voxel, in voxels.
    rule : LineRule, optional

    Returns
    -------
    dict of str -> numpy.ndarray
        ``bouton.evaluate.skeletons.SKELETON_COLUMNS``, sorted by skeleton (the label) and node, numbered from 0. Nodes
        are centres of voxels of their label.
    """
    rule = rule or LineRule()
    nodes = _nodes(labels, voxel_size_nm, origin, rule)
    count, piece = connected_components(nodes.links, directed=False)
    order = np.argsort(piece, kind="stable")
    rows, parents = [], []
    for members in np.split(order, np.cumsum(np.bincount(piece, minlength=count))[:-1]):
        found, parent = _tree(nodes, members, rule) if len(members) > 1 else (members[:0], members[:0])
        rows.append(found)
        parents.append(parent)
    none = np.zeros(0, np.int64)
    return _table(nodes, np.concatenate([none, *rows]), np.concatenate([none, *parents]))


def _table(nodes: _Nodes, row: np.ndarray, parent: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of the nodes ``row`` with the parents ``parent``, rows of the nodes or -1."""
    order = np.lexsort((row, nodes.neuron[row]))
    row, parent = row[order], parent[order]
    neuron = nodes.neuron[row]
    number = np.arange(len(row)) - np.searchsorted(neuron, neuron)
    number_of = np.full(len(nodes.neuron) + 1, -1, np.int64)
    number_of[row] = number
    places = {f"{axis}_nm": nodes.place_nm[row, i] for i, axis in enumerate("zyx")}
    return {"skeleton": neuron, "node": number, "parent": number_of[parent], **places}


def _nodes(labels: np.ndarray, voxel_size_nm: NM, origin: ZYX, rule: LineRule) -> _Nodes:
    depth = _depth_nm(labels, voxel_size_nm)
    cell = tuple(max(1, round(rule.step_nm / size)) for size in voxel_size_nm)
    counts = tuple(-(-n // c) for n, c in zip(labels.shape, cell, strict=True))
    axes = np.meshgrid(
        *(np.arange(n) // c for n, c in zip(labels.shape, cell, strict=True)), indexing="ij", sparse=True
    )
    cells = (axes[0] * counts[1] + axes[1]) * counts[2] + axes[2]
    ids, neuron = np.unique(labels, return_inverse=True)
    key = neuron.reshape(labels.shape) * np.int64(np.prod(counts)) + cells
    inside = np.flatnonzero((labels != 0) & (depth >= rule.margin_nm))
    # the deepest voxel of every (neuron, cell); of equal ones the first
    order = inside[np.lexsort((-depth.ravel()[inside], key.ravel()[inside]))]
    first = np.flatnonzero(np.diff(key.ravel()[order], prepend=-1))
    voxel = order[first]
    place = centres_nm(np.stack(np.unravel_index(voxel, labels.shape), axis=1) + np.asarray(origin), voxel_size_nm)
    number = np.full(labels.size, -1, np.int64)
    number[order] = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(order))))
    links = _links(number.reshape(labels.shape), labels, place)
    return _Nodes(ids[neuron.reshape(-1)[voxel]].astype(np.uint64), place, depth.ravel()[voxel], links)


def _depth_nm(labels: np.ndarray, voxel_size_nm: NM) -> np.ndarray:
    """Return how far each voxel lies from the nearest that touches another label, float64; half a voxel at least."""
    edge = np.zeros(labels.shape, np.bool_)
    for axis in range(3):
        low = tuple(slice(None, -1) if i == axis else slice(None) for i in range(3))
        high = tuple(slice(1, None) if i == axis else slice(None) for i in range(3))
        differ = labels[low] != labels[high]
        edge[low] |= differ
        edge[high] |= differ
    least = min(voxel_size_nm) / 2
    if not edge.any():
        return np.full(labels.shape, least)
    return distance_transform_edt(~edge, sampling=voxel_size_nm) + least


def _links(number: np.ndarray, labels: np.ndarray, place: np.ndarray) -> csr_array:
    """Return the lengths, in nm, of the links between nodes whose voxels, as ``number`` says, touch (26)."""
    n, found = len(place), [np.zeros(0, np.int64)]
    for direction in range(14, 27):
        offset = (direction // 9 - 1, direction // 3 % 3 - 1, direction % 3 - 1)
        low = tuple(slice(max(0, -d), -d if d > 0 else None) for d in offset)
        high = tuple(slice(max(0, d), d if d < 0 else None) for d in offset)
        a, b = number[low], number[high]
        touch = (a != b) & (labels[low] == labels[high]) & (a >= 0) & (b >= 0)
        found.append(np.unique(a[touch] * n + b[touch]))
    pair = np.unique(np.concatenate(found))
    a, b = pair // max(1, n), pair % max(1, n)
    length = np.linalg.norm(place[a] - place[b], axis=1)
    one, other = (coo_array((length, ends), (n, n)).tocsr() for ends in ((a, b), (b, a)))
    # a pair may be found in both orders: the maximum keeps one of two equal lengths
    return one.maximum(other)


def _tree(nodes: _Nodes, members: np.ndarray, rule: LineRule) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes (rows) of the piece ``members`` that its lines keep, and the parent of each, -1 for the root."""
    links, depth, place = nodes.links[members][:, members], nodes.depth_nm[members], nodes.place_nm[members]
    root = int(np.argmax(dijkstra(links, indices=0)))
    away = dijkstra(links, indices=root)
    # the mean of both ends' costs a nm; the square keeps paths in the middle, in thick neurites and in thin ones
    cost = links.tocoo()
    per_nm = 1.0 / np.square(depth)
    cost.data = cost.data * (per_nm[cost.coords[0]] + per_nm[cost.coords[1]])
    parent = dijkstra(cost.tocsr(), indices=root, return_predecessors=True)[1]
    kept = _paths(root, away, parent, (cKDTree(place), place, depth * rule.reach + rule.reach_nm))
    rows = np.flatnonzero(kept)
    above = np.where(rows == root, -1, parent[rows])
    length = np.linalg.norm(place[rows] - place[np.where(above < 0, root, above)], axis=1).sum()
    if length < rule.shortest_nm:
        return members[:0], members[:0]
    return members[rows], np.where(above < 0, -1, members[above])


def _paths(
    root: int, away: np.ndarray, parent: np.ndarray, space: tuple[cKDTree, np.ndarray, np.ndarray]
) -> np.ndarray:
    """Return which nodes lie on the paths to the farthest nodes, bool; ``space``: tree, places, reach of each node."""
    finder, place, reach = space
    kept = np.zeros(len(parent), np.bool_)
    covered = np.zeros(len(parent), np.bool_)
    kept[root] = True
    for target in np.argsort(-away, kind="stable"):
        if covered[target]:
            continue
        path = []
        while not kept[target]:
            path.append(target)
            kept[target] = True
            target = parent[target]
        for near in finder.query_ball_point(place[path], reach[path]):
            covered[near] = True
    return kept
