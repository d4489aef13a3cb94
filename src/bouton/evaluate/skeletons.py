"""Scores of a segmentation against true skeletons: expected run length, edges, splits and merges.

Each node of a skeleton lies in a segment (0: in none). An edge is

* omitted, if one of its ends lies in segment 0; else
* split, if its ends lie in different segments; else
* merged, if its segment merges skeletons: more than ``tolerance`` nodes of each of at least two lie in it; else
* correct.

With l_ks the length of the correct edges of skeleton k in segment s, and L_k the length of skeleton k:
ERL = sum_ks l_ks^2 / sum_k L_k, the expected correct length around a point drawn from all that length; NERL is ERL
divided by its greatest value, sum_k L_k^2 / sum_k L_k. What is lacking divides into what splits and omissions cost (as
if no segment merged) and what merges cost beyond.

ERL sees a merge only where both neurons have skeletons. A segment known from elsewhere to merge (with an object without
a skeleton, with outside) can be named; else ERL praises a segmentation that runs everything else into the skeletons'
segments. Never report ERL without the merges, and not at one tolerance alone.

Januszewski et al. 2018, doi:10.1038/s41592-018-0049-4. Unlike in some implementations a merge costs the edges in the
merging segment, not all edges of the skeletons that it touches, and segment 0 merges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from bouton.errors import DataError
from bouton.evaluate.scores import Score

SKELETON_COLUMNS = {
    "skeleton": "uint64",
    "node": "int64",
    "parent": "int64",
    "z_nm": "float64",
    "y_nm": "float64",
    "x_nm": "float64",
}
TOLERANCES = (0, 5)
OMITTED, SPLIT, MERGED, CORRECT = range(4)
EDGE_CLASSES = ("omitted", "split", "merged", "correct")
EXPLAINED = {
    "skeletons": "true skeletons of at least one edge",
    "skeleton_length": "their length",
    "erl_perfect": "ERL of a segmentation without error",
    "erl": "expected run length: correct length around a random point of the skeletons",
    "nerl": "ERL / its greatest value",
    "erl_lost_to_splits": "ERL that splits and omissions cost",
    "erl_lost_to_merges": "ERL that merges cost beyond; merges with objects without skeletons do not show",
    "edges_omitted": "edges with an end in no segment",
    "edges_split": "edges between two segments",
    "edges_merged": "edges in a segment that merges skeletons",
    "edges_correct": "all other edges",
    "edge_accuracy_count": "correct edges / edges",
    "edge_accuracy_length": "length of correct edges / length",
    "splits": "cuts: pieces of the skeletons in segments, less their number",
    "split_rate": "length for each split",
    "omit_rate": "length of omitted edges / length",
    "merges": "skeletons in merging segments, less the number of these segments",
    "merge_rate": "length for each merge",
}


@dataclass(frozen=True)
class SkeletonOverlap:
    """In which segments skeletons lie: nodes and edges, summed up by skeleton and segment.

    Attributes
    ----------
    skeleton : numpy.ndarray
        uint64 (k,), ids, sorted.
    length_nm : numpy.ndarray
        float64 (k,).
    trees : numpy.ndarray
        int64 (k,), connected parts of the skeleton of which a node lies in a segment.
    node_skeleton, node_segment, nodes : numpy.ndarray
        int64, uint64, int64 (m,): number of a skeleton, segment, how many of its nodes lie there.
    edge_skeleton, edge_a, edge_b : numpy.ndarray
        int64, uint64, uint64 (e,): number of a skeleton, the segments of an edge's ends.
    edges, edges_nm : numpy.ndarray
        int64, float64 (e,): how many such edges, and their length.
    """

    skeleton: np.ndarray
    length_nm: np.ndarray
    trees: np.ndarray
    node_skeleton: np.ndarray
    node_segment: np.ndarray
    nodes: np.ndarray
    edge_skeleton: np.ndarray
    edge_a: np.ndarray
    edge_b: np.ndarray
    edges: np.ndarray
    edges_nm: np.ndarray

    def moved(self, node_segment: np.ndarray, edge_a: np.ndarray, edge_b: np.ndarray) -> SkeletonOverlap:
        """Return the overlap with other segments, in the same rows; 0 must stay 0. Rows may then repeat."""
        return replace(self, node_segment=node_segment, edge_a=edge_a, edge_b=edge_b)


@dataclass(frozen=True)
class SkeletonErrors:
    """What is right and wrong, skeleton by skeleton, at one tolerance.

    Attributes
    ----------
    count, length_nm : numpy.ndarray
        int64 and float64 (k, 4): edges omitted, split, merged, correct.
    run_nm2, run_unmerged_nm2 : numpy.ndarray
        float64 (k,): sum over segments of the squared length of the correct edges there; and of correct and merged.
    splits, merges : numpy.ndarray
        int64 (k,): pieces less trees; merging segments with more than ``tolerance`` nodes of the skeleton.
    total_merges : int
        Skeletons in merging segments less the number of these segments, and those named as merging.
    """

    count: np.ndarray
    length_nm: np.ndarray
    run_nm2: np.ndarray
    run_unmerged_nm2: np.ndarray
    splits: np.ndarray
    merges: np.ndarray
    total_merges: int


def clip(table: Mapping[str, np.ndarray], start_nm: np.ndarray, stop_nm: np.ndarray) -> dict[str, np.ndarray]:
    """Return the nodes inside a box, (3,) z, y, x, half-open; a node whose parent lies outside becomes a root."""
    place = np.stack([table[f"{axis}_nm"] for axis in "zyx"], axis=1)
    inside = np.all((place >= start_nm) & (place < stop_nm), axis=1)
    _, skeleton = np.unique(table["skeleton"], return_inverse=True)
    child, parent = _edges(table, skeleton)
    left = {name: np.array(values) for name, values in table.items()}
    left["parent"][child[~inside[parent]]] = -1
    return {name: values[inside] for name, values in left.items()}


def overlap(table: Mapping[str, np.ndarray], segments: np.ndarray) -> SkeletonOverlap:
    """Sum up in which segments the nodes and edges of skeletons lie.

    Parameters
    ----------
    table : mapping of str -> numpy.ndarray
        ``SKELETON_COLUMNS``: a node's number is unique in its skeleton; ``parent`` is another node's of the same
        skeleton, -1 for a root. A skeleton may have several roots.
    segments : numpy.ndarray
        uint64 (n,), the segment at each node; 0 is none.

    Raises
    ------
    DataError
        A node occurs twice, a parent is missing, or the parents form a ring.
    """
    ids, skeleton = np.unique(table["skeleton"].astype(np.uint64), return_inverse=True)
    if len(segments) != len(skeleton):
        raise DataError(f"{len(segments)} segments for {len(skeleton)} nodes", expected="one for each node")
    child, parent = _edges(table, skeleton)
    place = np.stack([table[f"{axis}_nm"] for axis in "zyx"], axis=1).astype(np.float64)
    length = np.linalg.norm(place[child] - place[parent], axis=1)
    segments = segments.astype(np.uint64)
    node_rows, nodes = _sum_rows((skeleton, segments), np.ones(len(skeleton), np.int64))
    ends = np.minimum(segments[child], segments[parent]), np.maximum(segments[child], segments[parent])
    edge_rows, edges, edges_nm = _sum_rows((skeleton[child], *ends), np.ones(len(child), np.int64), length)
    return SkeletonOverlap(
        skeleton=ids,
        length_nm=np.bincount(skeleton[child], length, len(ids)),
        trees=_labelled_trees(skeleton, segments, (child, parent), ids),
        node_skeleton=skeleton[node_rows],
        node_segment=segments[node_rows],
        nodes=nodes,
        edge_skeleton=skeleton[child][edge_rows],
        edge_a=ends[0][edge_rows],
        edge_b=ends[1][edge_rows],
        edges=edges,
        edges_nm=edges_nm,
    )


def skeleton_errors(found: SkeletonOverlap, tolerance: int, known_merging: np.ndarray | None = None) -> SkeletonErrors:
    """Class every edge and sum up by skeleton.

    Parameters
    ----------
    found : SkeletonOverlap
    tolerance : int
        A segment merges skeletons if more than this many nodes of each of at least two of them lie in it.
    known_merging : numpy.ndarray, optional
        uint64: segments that are known from elsewhere to merge.
    """
    k = len(found.skeleton)
    rows, nodes = _sum_rows((found.node_segment, found.node_skeleton), found.nodes)
    segment, skeleton = found.node_segment[rows], found.node_skeleton[rows]
    many = (nodes > tolerance) & (segment != 0)
    merging, mates = np.unique(segment[many], return_counts=True)
    named = np.zeros(0, np.uint64) if known_merging is None else np.unique(known_merging).astype(np.uint64)
    keep = (mates > 1) | np.isin(merging, named)
    total = int((mates[keep] - 1 + np.isin(merging[keep], named)).sum())
    merging = np.union1d(merging[keep], named[named != 0])
    inside = (found.edge_a == found.edge_b) & (found.edge_a != 0)
    kind = np.where(inside, CORRECT, SPLIT)
    kind[inside & np.isin(found.edge_a, merging)] = MERGED
    kind[(found.edge_a == 0) | (found.edge_b == 0)] = OMITTED
    cell = found.edge_skeleton * 4 + kind
    labelled = np.bincount(found.node_skeleton, found.nodes * (found.node_segment != 0), k).astype(np.int64)
    kept = np.bincount(found.edge_skeleton, found.edges * inside, k).astype(np.int64)
    return SkeletonErrors(
        count=np.bincount(cell, found.edges, 4 * k).astype(np.int64).reshape(k, 4),
        length_nm=np.bincount(cell, found.edges_nm, 4 * k).reshape(k, 4),
        run_nm2=_squared_runs(found, kind == CORRECT),
        run_unmerged_nm2=_squared_runs(found, inside),
        # the pieces of a forest are its nodes less its edges
        splits=labelled - kept - found.trees,
        merges=np.bincount(skeleton[many & np.isin(segment, merging)], minlength=k),
        total_merges=total,
    )


def skeleton_scores(
    found: SkeletonOverlap, tolerances: Sequence[int] = TOLERANCES, known_merging: np.ndarray | None = None
) -> list[Score]:
    """Return all scores; those that depend on the tolerance end in ``_tolerance_<nodes>``.

    ``n`` is the number of skeletons, or of edges. NaN where there is no edge; infinite rates where there is no error.
    """
    return scores_of_errors(found, {t: skeleton_errors(found, t, known_merging) for t in tolerances})


def scores_of_errors(found: SkeletonOverlap, errors: Mapping[int, SkeletonErrors]) -> list[Score]:
    """Return :func:`skeleton_scores` from the errors at each tolerance."""
    k, edges = int((found.length_nm > 0).sum()), int(found.edges.sum())
    total, perfect = float(found.length_nm.sum()), perfect_erl(found.length_nm)
    first = next(iter(errors.values()))
    count, length = first.count.sum(axis=0), first.length_nm.sum(axis=0)
    unmerged, splits = _share(first.run_unmerged_nm2.sum(), total), int(first.splits.sum())
    rows = [
        Score("skeletons", k, "skeletons", "", k),
        Score("skeleton_length", total, "nm", "", k),
        Score("erl_perfect", perfect, "nm", "", k),
        Score("erl_lost_to_splits", perfect - unmerged, "nm", "lower", k),
        Score("edges_omitted", count[OMITTED], "edges", "lower", edges),
        Score("edges_split", count[SPLIT], "edges", "lower", edges),
        Score("splits", splits, "splits", "lower", k),
        Score("split_rate", _rate(total, splits), "nm per split", "higher", k),
        Score("omit_rate", _share(length[OMITTED], total), "", "lower", edges),
    ]
    for tolerance, at in errors.items():
        erl, count, length = _share(at.run_nm2.sum(), total), at.count.sum(axis=0), at.length_nm.sum(axis=0)
        values = [
            Score("erl", erl, "nm", "higher", k),
            Score("nerl", _share(erl, perfect), "", "higher", k),
            Score("erl_lost_to_merges", unmerged - erl, "nm", "lower", k),
            Score("edges_merged", count[MERGED], "edges", "lower", edges),
            Score("edges_correct", count[CORRECT], "edges", "higher", edges),
            Score("edge_accuracy_count", _share(count[CORRECT], edges), "", "higher", edges),
            Score("edge_accuracy_length", _share(length[CORRECT], total), "", "higher", edges),
            Score("merges", at.total_merges, "merges", "lower", k),
            Score("merge_rate", _rate(total, at.total_merges), "nm per merge", "higher", k),
        ]
        rows += [replace(score, metric=f"{score.metric}_tolerance_{tolerance}") for score in values]
    return [replace(score, value=float(score.value)) for score in rows]


def perfect_erl(length_nm: np.ndarray) -> float:
    """Return the greatest ERL, in nm, that skeletons of these lengths allow; NaN where there is no length."""
    return _share(float(np.square(length_nm).sum()), float(length_nm.sum()))


def explain(metric: str) -> str:
    """Return what a metric of this module says, in a few words; empty for an unknown one."""
    stem, _, tolerance = metric.partition("_tolerance_")
    words = EXPLAINED.get(stem, "")
    if not tolerance or not words:
        return words
    return f"{words}; a segment merges from {int(tolerance) + 1} nodes of a second skeleton on"


def _edges(table: Mapping[str, np.ndarray], skeleton: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the row numbers of the ends of every edge, child and parent."""
    node, parent = table["node"].astype(np.int64), table["parent"].astype(np.int64)
    order = np.lexsort((node, skeleton))
    twice = (np.diff(skeleton[order]) == 0) & (np.diff(node[order]) == 0)
    if twice.any():
        row = order[:-1][twice][0]
        found = f"node {node[row]} of skeleton {table['skeleton'][row]} occurs twice"
        raise DataError(found, expected="numbers unique in a skeleton", fix="correct the skeleton file")
    child = np.flatnonzero(parent >= 0)
    # one sort of nodes and parents together: a parent's row is that of the equal (skeleton, node)
    both = np.stack([np.append(skeleton, skeleton[child]), np.append(node, parent[child])], axis=1)
    _, group = np.unique(both, axis=0, return_inverse=True)
    row_of = np.full(group.max(initial=-1) + 1, -1, np.int64)
    row_of[group[: len(node)]] = np.arange(len(node))
    found_rows = row_of[group[len(node) :]]
    if (found_rows < 0).any():
        row = child[found_rows < 0][0]
        found = f"node {node[row]} of skeleton {table['skeleton'][row]} has the parent {parent[row]}, which is missing"
        raise DataError(found, expected="a node of the same skeleton, or -1", fix="correct the skeleton file")
    return child, found_rows


def _labelled_trees(
    skeleton: np.ndarray, segments: np.ndarray, edges: tuple[np.ndarray, np.ndarray], ids: np.ndarray
) -> np.ndarray:
    n = len(skeleton)
    trees, tree = connected_components(coo_matrix((np.ones(len(edges[0])), edges), (n, n)), directed=False)
    if trees + len(edges[0]) != n:
        # a forest has exactly as many trees as nodes less edges
        bad = np.flatnonzero(np.bincount(tree) <= np.bincount(tree[edges[0]], minlength=trees))[0]
        found = f"the parents of skeleton {ids[skeleton[tree == bad][0]]} form a ring"
        raise DataError(found, expected="trees", fix="remove an edge of the ring")
    labelled = np.zeros(trees, np.bool_)
    labelled[tree[segments != 0]] = True
    owner = np.zeros(trees, np.int64)
    owner[tree] = skeleton
    return np.bincount(owner[labelled], minlength=len(ids))


def _squared_runs(found: SkeletonOverlap, chosen: np.ndarray) -> np.ndarray:
    """Return, for each skeleton, the sum over segments of the squared length of the chosen edges there."""
    skeleton = found.edge_skeleton[chosen]
    rows, length = _sum_rows((skeleton, found.edge_a[chosen]), found.edges_nm[chosen])
    return np.bincount(skeleton[rows], np.square(length), len(found.skeleton))


def _sum_rows(keys: Sequence[np.ndarray], *values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return a row number for each distinct key, in the keys' order, and the sums of the values over its rows."""
    order = np.lexsort(tuple(reversed(keys)))
    if not order.size:
        return (order, *values)
    new = np.ones(len(order), np.bool_)
    new[1:] = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
    firsts = np.flatnonzero(new)
    return (order[firsts], *(np.add.reduceat(value[order], firsts) for value in values))


def _share(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole > 0 else float("nan")


def _rate(length_nm: float, errors: int) -> float:
    return length_nm / errors if errors else float("inf")
