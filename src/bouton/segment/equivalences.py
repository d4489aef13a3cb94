"""Union-find out of core: labels of blocks are joined across faces up an octree, and no node holds them all.

A node of the octree joins the pairs whose labels both lie in its box. It hands its parent only labels that touch a face
of its box, each with its root so far, and pairs that lead out of the box: both grow with the surface, not with the
volume. What it joined stays with it as rows ``id -> root``. The way from any label of a block to its final root is
found in the rows of the block's own node and the nodes above it: a row about a label is made in a box that holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bouton.geometry import Box
from bouton.segment.components import distinct_pairs, face, join, relabel
from bouton.segment.region_graph import (
    SIZE_COLUMNS,
    TableData,
    add_sizes,
    both_in,
    concatenate,
    fragment_sizes,
    rows_where,
    touches_face,
)

PAIR_COLUMNS = {"a": "uint64", "b": "uint64"}
OPEN_COLUMNS = {**SIZE_COLUMNS, "root": "uint64"}


def border_labels(read: Callable[[Box], np.ndarray], core: Box, bounds: Box) -> TableData:
    """Return the labels on those faces of ``core`` that are no faces of ``bounds``, each its own root.

    Parameters
    ----------
    read : callable
        Returns the labels of a box, uint64 (z, y, x); 0 is background.
    core, bounds : Box
        In voxels of the data set.

    Returns
    -------
    dict of str -> numpy.ndarray
        ``OPEN_COLUMNS``, sorted by id; voxels and bounding boxes are those on the faces.
    """
    planes = [face(core, axis, core.start[axis]) for axis in range(3) if core.start[axis] > bounds.start[axis]]
    planes += [face(core, axis, core.stop[axis] - 1) for axis in range(3) if core.stop[axis] < bounds.stop[axis]]
    found = add_sizes([fragment_sizes(read(plane), plane) for plane in planes])
    return found | {"root": found["id"]}


def join_inside(
    opened: Sequence[TableData], pairs: Sequence[TableData], box: Box, bounds: Box
) -> tuple[TableData, TableData, TableData]:
    """Join the pairs that lie inside of ``box``.

    Parameters
    ----------
    opened : sequence of dict
        ``OPEN_COLUMNS`` of the children, disjoint.
    pairs : sequence of dict
        ``PAIR_COLUMNS``: labels to be joined, of any box; of those inside, both ends are among ``opened``.
    box, bounds : Box

    Returns
    -------
    moves, opened, pairs : dict
        ``PAIR_COLUMNS``: roots that ended (a) and the root, smaller, that they joined (b), sorted by a; the labels that
        touch a face of the box; the pairs that lead out of it.
    """
    rows = concatenate(opened, OPEN_COLUMNS)
    rows = rows_where(rows, np.argsort(rows["id"], kind="stable"))
    found = concatenate(pairs, PAIR_COLUMNS)
    (a, b), inside = found.values(), both_in(found, rows["id"])
    ids, roots = join(relabel(a[inside], rows["id"], rows["root"]), relabel(b[inside], rows["id"], rows["root"]))
    rows["root"] = relabel(rows["root"], ids, roots)
    touching = touches_face(rows, box, bounds)
    rest = dict(zip("ab", distinct_pairs(a[~inside], b[~inside]), strict=True))
    return {"a": ids, "b": roots}, rows_where(rows, touching), rest
