"""Which edge of an agglomeration to cut or to join, so that two neurons part or a neuron becomes whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.volume import TableData


@dataclass(frozen=True)
class Edge:
    """Two fragments; ``score`` 0 to 1, NaN where unknown; ``action`` ``cut`` or ``join``, empty where there is none."""

    action: str = ""
    a: int = 0
    b: int = 0
    score: float = float("nan")


class MergeHistory:
    """The merges of an agglomeration as a forest: each cluster that ended, what it joined, and at which score."""

    def __init__(self, merges: TableData) -> None:
        order = np.argsort(merges["b"], kind="stable")
        self._ended = merges["b"][order]
        self._rows = {name: merges[name][order] for name in ("a", "b", "score", "small")}

    def weakest(self, first: int, second: int) -> Edge:
        """Return the merge that joined two fragments: the weakest on the way from one to the other.

        Without one, or where both are one fragment, the edge has no action.
        """
        way, back = self._way(first), self._way(second)
        shared = {fragment for fragment, _ in way} & {fragment for fragment, _ in back}
        if not shared or first == second:
            return Edge()
        rows = [row for steps in (way, back) for fragment, row in steps if fragment not in shared]
        if not rows:
            return Edge()
        # joins of small segments come before all others, whatever their score
        row = min(rows, key=lambda r: (int(self._rows["small"][r]), float(self._rows["score"][r]), r))
        a, b = (int(self._rows[name][row]) for name in ("a", "b"))
        return Edge("cut", a, b, float(self._rows["score"][row]))

    def _way(self, fragment: int) -> list[tuple[int, int]]:
        """Return the clusters from a fragment to its root, each with the row of its end, -1 at the root."""
        steps = []
        while True:
            row = int(np.searchsorted(self._ended, np.uint64(fragment)))
            known = row < len(self._ended) and int(self._ended[row]) == fragment
            steps.append((fragment, row if known else -1))
            if not known:
                return steps
            fragment = int(self._rows["a"][row])


def joining(history: MergeHistory | None, graph: TableData | None, first: int, second: int) -> Edge:
    """Return the edge that would join two fragments: their merge below the threshold, else their contact."""
    if not first or not second or first == second:
        return Edge()
    late = history.weakest(first, second) if history is not None else Edge()
    if late.action:
        return Edge("join", late.a, late.b, late.score)
    a, b = min(first, second), max(first, second)
    if graph is not None:
        row = np.flatnonzero((graph["a"] == np.uint64(a)) & (graph["b"] == np.uint64(b)))
        if len(row):
            total, count = (float(graph[f"affinity_{name}"][row[0]]) for name in ("sum", "count"))
            return Edge("join", a, b, total / count / 255)
    return Edge("join", a, b)
