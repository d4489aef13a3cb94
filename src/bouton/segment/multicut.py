"""Multicut of the region graph: the partition whose cut edges cost least, without a threshold; in memory.

Every edge of the region graph has a cost of being cut: its contact in voxels times the log-odds of its mean affinity
against the affinity ``boundary``, at which a contact says nothing. Contacts above it hold together, contacts below it
pull apart, and a large one counts for more. The partition of least cost is hard to find (NP-hard): edges are
contracted greedily, and the answer is improved by moves of nodes between neighbouring segments (Kernighan & Lin). The
better of the two answers is returned: the moves of bioimage-cpp 0.9.0, stopped after some rounds, may end in a worse
one than they start from.

Costs are integers (1/1000), so that sums are exact in any order; the solvers use no randomness.

Greedy additive contraction and Kernighan-Lin: Keuper et al. 2015, doi:10.1109/ICCV.2015.204; computed by the package
``bioimage-cpp``. Multicut of EM: Andres et al. 2012, doi:10.1007/978-3-642-33712-3_56.
"""

from __future__ import annotations

import numpy as np

from bouton.errors import SpecError
from bouton.segment.packages import require

GRAPH_COLUMNS = {"a": "uint64", "b": "uint64", "affinity_sum": "int64", "affinity_count": "int64"}
PACKAGE = "bioimage_cpp"
PER_UNIT = 1000
MOST_COST = 2**53
"""Sums of costs below this are exact in float64."""


def check_package() -> None:
    """Raise :class:`SpecError` unless the package is installed."""
    require(PACKAGE, "bioimage-cpp 0.9", "multicut")


def cut_costs(graph: dict[str, np.ndarray], boundary: float) -> np.ndarray:
    """Return the cost of cutting each edge: contact * (log-odds(mean affinity) - log-odds(``boundary``)), in 1/1000.

    Parameters
    ----------
    graph : dict of str -> numpy.ndarray
        ``GRAPH_COLUMNS``; affinities in 1/255.
    boundary : float
        Between 0 and 1, both excluded.

    Returns
    -------
    numpy.ndarray
        int64 (n,): positive where the ends belong together. Log-odds are taken of values between 1/512 and 511/512.
    """
    if not 0 < boundary < 1:
        raise SpecError(f"boundary {boundary}", expected="a number between 0 and 1")
    mean = (graph["affinity_sum"] / graph["affinity_count"] + 0.5) / 256
    odds = np.log(mean / (1 - mean)) - np.log(boundary / (1 - boundary))
    return np.rint(odds * PER_UNIT).astype(np.int64) * graph["affinity_count"]


def multicut(graph: dict[str, np.ndarray], boundary: float, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the fragments that are not their segment's smallest, sorted, and that smallest fragment.

    Parameters
    ----------
    graph : dict of str -> numpy.ndarray
        ``GRAPH_COLUMNS``, in any order; one row a pair, a < b.
    boundary : float
        As in :func:`cut_costs`.
    rounds : int
        Rounds of moves that improve the greedy answer, at most; 0 leaves it as it is.

    Raises
    ------
    SpecError
        The package is not installed, or ``boundary`` is not between 0 and 1.
    """
    check_package()
    order = np.lexsort((graph["b"], graph["a"]))
    graph = {name: graph[name][order] for name in GRAPH_COLUMNS}
    costs = cut_costs(graph, boundary)
    ids, index = np.unique(np.concatenate([graph["a"], graph["b"]]), return_inverse=True)
    if not len(ids):
        return ids, ids
    pairs = index.reshape(2, -1)
    first = _smallest_members(_solve(pairs, costs, len(ids), rounds))
    moved = first != np.arange(len(ids))
    return ids[moved], ids[first[moved]]


def cost_of(pairs: np.ndarray, costs: np.ndarray, segments: np.ndarray) -> int:
    """Return the summed cost of the edges, ``pairs`` int (2, n) of nodes, whose ends lie in different segments."""
    return int(costs[segments[pairs[0]] != segments[pairs[1]]].sum())


def _solve(pairs: np.ndarray, costs: np.ndarray, nodes: int, rounds: int) -> np.ndarray:
    """Return uint64 (nodes,): the better of the greedy answer and the improved one."""
    from bioimage_cpp.graph import UndirectedGraph
    from bioimage_cpp.graph.multicut import GreedyAdditiveMulticut, KernighanLinMulticut, MulticutObjective

    if int(np.abs(costs).sum()) >= MOST_COST:
        raise SpecError("a region graph of too many voxels for exact sums", expected=f"summed costs below {MOST_COST}")
    both_ways = np.stack([pairs[0], pairs[1]], axis=1).astype(np.uint64)
    objective = MulticutObjective(UndirectedGraph.from_unique_edges(nodes, both_ways), costs.astype(np.float64))
    greedy = np.array(GreedyAdditiveMulticut().optimize(objective))
    if rounds == 0:
        return greedy
    moved = np.array(KernighanLinMulticut(number_of_outer_iterations=rounds).optimize(objective))
    return min(greedy, moved, key=lambda segments: cost_of(pairs, costs, segments))


def _smallest_members(segments: np.ndarray) -> np.ndarray:
    """Return, for each node, the smallest node of its segment."""
    _, first, inverse = np.unique(segments, return_index=True, return_inverse=True)
    return first[inverse]
