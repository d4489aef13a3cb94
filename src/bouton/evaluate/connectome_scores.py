"""Scores of a wiring diagram against the true one: its edges, the partners of each neuron, the ratio of its types.

Edges are ordered pairs of neurons with the number of synapses between them. At a strength k an edge is true, or
predicted, if it has at least k synapses there; autapses count like other edges. Weak and strong edges apart: Buhmann et
al. 2021, doi:10.1038/s41592-021-01183-7. Cosine similarity compares a neuron's true and predicted counts over its
partners.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.errors import DataError
from bouton.evaluate.contingency import sum_pairs
from bouton.evaluate.detection import Detection, Proportion, wilson

STRENGTHS = (1, 3, 5)


@dataclass(frozen=True)
class Edges:
    """Edges of a wiring diagram, sorted by pre, then post; none occurs twice.

    Attributes
    ----------
    pre, post : numpy.ndarray
        uint64 (n,), neurons of the *true* diagram's ids, none 0.
    count : numpy.ndarray
        int64 (n,), synapses, at least 1.
    """

    pre: np.ndarray
    post: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class Similarity:
    """Cosine similarities of neurons' true and predicted counts over their partners.

    Attributes
    ----------
    id : numpy.ndarray
        uint64 (n,), sorted: the neurons that have a true or a predicted edge in the direction.
    cosine : numpy.ndarray
        float64 (n,), 0 to 1; 0 where one side has no edge.
    is_true : numpy.ndarray
        bool (n,): has a true edge in the direction.
    """

    id: np.ndarray
    cosine: np.ndarray
    is_true: np.ndarray

    @property
    def true_cosine(self) -> np.ndarray:
        """The similarities of the neurons that have a true edge in the direction."""
        return self.cosine[self.is_true]


def count_edges(pre: np.ndarray, post: np.ndarray) -> Edges:
    """Return the edges of synapses with these neurons, uint64 (n,) each; those that lack one (0) make none."""
    known = (pre != 0) & (post != 0)
    return sum_edges(pre[known], post[known], np.ones(int(known.sum()), dtype=np.int64))


def sum_edges(pre: np.ndarray, post: np.ndarray, count: np.ndarray) -> Edges:
    """Return the edges of rows pre, post, count, in any order; rows of one pair are added up."""
    table = sum_pairs(np.asarray(pre, np.uint64), np.asarray(post, np.uint64), np.asarray(count, np.int64))
    some = table.count > 0
    return Edges(table.truth[some], table.segment[some], table.count[some])


def matrix_edges(matrix: np.ndarray, pre: np.ndarray, post: np.ndarray) -> Edges:
    """Return the edges of an adjacency matrix.

    Parameters
    ----------
    matrix : numpy.ndarray
        (n, m) counts, row = pre, column = post.
    pre, post : numpy.ndarray
        uint64 (n,) and (m,), the neurons of rows and columns; rows of one neuron are added up.

    Raises
    ------
    DataError
        The shape is another, or an entry is no count.
    """
    matrix = np.asarray(matrix)
    if matrix.shape != (len(pre), len(post)):
        raise DataError(
            f"adjacency of shape {matrix.shape}", expected=f"{len(pre)} rows (pre), {len(post)} columns (post)"
        )
    if (matrix < 0).any() or (matrix != np.floor(matrix)).any():
        raise DataError("an adjacency that is no count", expected="whole numbers, at least 0")
    row, column = np.nonzero(matrix)
    return sum_edges(np.asarray(pre)[row], np.asarray(post)[column], matrix[row, column])


def edge_scores(truth: Edges, predicted: Edges, at_least: int) -> Detection:
    """Return how many edges of at least ``at_least`` synapses are in both diagrams, only predicted, only true."""
    strong_true, strong_found = (_keys(edges, at_least) for edges in (truth, predicted))
    tp = len(strong_true & strong_found)
    return Detection(tp=tp, fp=len(strong_found) - tp, fn=len(strong_true) - tp)


def edge_accuracy(truth: Edges, predicted: Edges, at_least: int, possible: int) -> Proportion:
    """Return the share of the ``possible`` ordered pairs of neurons that are rightly connected or unconnected."""
    found = edge_scores(truth, predicted, at_least)
    return wilson(possible - found.fp - found.fn, possible)


def cosine_similarity(truth: Edges, predicted: Edges, side: str) -> Similarity:
    """Return the similarity of each neuron's partners.

    Parameters
    ----------
    side : str
        ``pre``: of the outputs of presynaptic neurons; ``post``: of the inputs of postsynaptic ones.
    """
    ends = [getattr(edges, side) for edges in (truth, predicted)]
    ids = np.unique(np.concatenate(ends))
    rows = [np.searchsorted(ids, end) for end in ends]
    squares = [
        np.bincount(row, edges.count.astype(np.float64) ** 2, ids.size)
        for row, edges in zip(rows, (truth, predicted), strict=True)
    ]
    theirs = {(a, b): n for a, b, n in _triples(predicted)}
    both = np.array([n * theirs.get((a, b), 0) for a, b, n in _triples(truth)], dtype=np.float64)
    product = np.bincount(rows[0], both, ids.size)
    norm = np.sqrt(squares[0] * squares[1])
    cosine = np.divide(product, norm, out=np.zeros(ids.size), where=norm > 0)
    return Similarity(ids, cosine, squares[0] > 0)


def similarity_table(truth: Edges, predicted: Edges) -> dict[str, np.ndarray]:
    """Return, for every neuron of either diagram, ``id``, ``outputs_cosine`` and ``inputs_cosine`` (NaN: has none)."""
    sides = [cosine_similarity(truth, predicted, side) for side in ("pre", "post")]
    ids = np.unique(np.concatenate([side.id for side in sides]))
    table = {"id": ids}
    for name, side in zip(("outputs_cosine", "inputs_cosine"), sides, strict=True):
        table[name] = np.full(ids.size, np.nan)
        table[name][np.searchsorted(ids, side.id)] = side.cosine
    return table


def _triples(edges: Edges) -> list[tuple[int, int, int]]:
    return list(zip(edges.pre.tolist(), edges.post.tolist(), edges.count.tolist(), strict=True))


def _keys(edges: Edges, at_least: int) -> set[tuple[int, int]]:
    return {(a, b) for a, b, n in _triples(edges) if n >= at_least}
