"""Connectome: the synapses grouped by ordered pair of neurons; also as GraphML and CSV.

With the scores of an evaluation every count has beside it the true number it stands for, with its 95 % interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import numpy as np

from bouton.errors import DataError, SpecError
from bouton.evaluate.corrected import (
    CORRECTED_COLUMNS,
    Corrected,
    corrected_counts,
    score_values,
    scored_detection,
    uncorrected,
)
from bouton.stage import Output, Stage, Table, TableData, WholePart, WholeTask
from bouton.synapse.connectome import connections
from bouton.volume import write_csv


@dataclass(frozen=True)
class Params:
    """Parameters of ``connectome``.

    Attributes
    ----------
    min_score : float
        Synapses with a lower score, in [0, 1], are left out. ``synapse_scores`` must have been made with the same.
    min_synapses : int
        Connections of fewer synapses are left out.
    """

    min_score: float = 0.0
    min_synapses: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise SpecError(f"min_score = {self.min_score}", expected="0 to 1")
        if self.min_synapses < 1:
            raise SpecError(f"min_synapses = {self.min_synapses}", expected="at least 1")


def _connect(task: WholeTask) -> Output:
    synapses = _rows(task.table("synapses"), task.table("synapses")["score"] >= task.params.min_score)
    scores = _scores(task)
    edges = connections(synapses)
    edges = corrected_edges(_rows(edges, edges["n"] >= task.params.min_synapses), scores)
    totals = type_totals(synapses["type"], scores)
    if task.folder is not None:
        unknown = () if scores is not None else tuple(CORRECTED_COLUMNS)
        for name, table in (("connectome", edges), ("totals", totals)):
            write_csv(task.folder / f"{name}.csv", {k: v for k, v in table.items() if k not in unknown})
        write_csv(task.folder / "synapses.csv", synapses)
        write_graphml(task.folder / "connectome.graphml", edges)
    return Output(tables={"connectome": edges, "totals": totals})


def _scores(task: WholeTask) -> TableData | None:
    """Return the scores of an evaluation, if there is one; refuse those of another least score."""
    if "synapse_scores" not in task.given:
        return None
    scores, mine = task.table("synapse_scores"), task.params.min_score
    theirs = score_values(scores).get("min_score")
    if theirs is None:
        raise DataError(
            "the scores do not say for which synapses they hold",
            where="synapse_scores",
            expected="a row min_score",
            fix="read the table scores of stage evaluate_synapses",
        )
    if theirs != mine:
        raise DataError(
            f"the scores hold for synapses of score {theirs:g} or more, here {mine:g} or more count",
            where="synapse_scores",
            expected="one min_score in both: precision and recall change with it",
            fix=f"params: {{min_score: {theirs:g}}} here, or min_score: {mine:g} in evaluate_synapses",
        )
    return scores


def corrected_edges(edges: TableData, scores: TableData | None) -> TableData:
    """Return the connections with ``n`` and, by the scores of level partners, the corrected number.

    A synapse counts for a connection if place, pre and post are right: hence that level.
    """
    n = edges["n"]
    found = uncorrected(n.size) if scores is None else corrected_counts(n, scored_detection(scores, "synapse_partners"))
    return {
        "pre_id": edges["pre_id"],
        "post_id": edges["post_id"],
        "n": n,
        **found.columns(),
        "size_voxels": edges["size_voxels"],
    }


def type_totals(types: np.ndarray, scores: TableData | None) -> TableData:
    """Return how many synapses there are, with and without partners: all of them, and of each type.

    ``all`` is corrected by the scores of level location, a type by its own; ``unknown`` is not corrected.
    """
    parts = [("all", types.size, "synapse"), *((kind, int((types == kind).sum()), kind) for kind in _TYPES)]
    rows = [(kind, n, _total(n, name, scores)) for kind, n, name in parts]
    columns = {name: np.concatenate([found.columns()[name] for _, _, found in rows]) for name in CORRECTED_COLUMNS}
    names = np.array([kind for kind, _, _ in rows], dtype=object)
    return {"type": names, "n": np.array([n for _, n, _ in rows], dtype=np.int64), **columns}


def _total(n: int, name: str, scores: TableData | None) -> Corrected:
    if scores is None or name == "unknown":
        return uncorrected(1)
    return corrected_counts(np.array([n]), scored_detection(scores, name))


def _rows(table: TableData, keep: np.ndarray) -> TableData:
    return {name: values[keep] for name, values in table.items()}


def write_graphml(path: Path, edges: TableData) -> None:
    """Write the connections as a directed graph: nodes are neuron ids, edges carry all other columns but NaN."""
    graph = nx.DiGraph()
    graph.add_nodes_from(str(i) for i in np.unique(np.concatenate([edges["pre_id"], edges["post_id"]])))
    names = [name for name in edges if name not in ("pre_id", "post_id")]
    for pre, post, *values in zip(*[edges[name].tolist() for name in ("pre_id", "post_id", *names)], strict=True):
        known = {name: value for name, value in zip(names, values, strict=True) if value == value}
        graph.add_edge(str(pre), str(post), **known)
    # The pure-Python writer: the other one is used where lxml happens to be installed and writes other bytes.
    nx.write_graphml_xml(graph, path)


_TYPES = ("excitatory", "inhibitory", "unknown")
_EDGES = Table({"pre_id": "uint64", "post_id": "uint64", "n": "int64", **CORRECTED_COLUMNS, "size_voxels": "int64"})

STAGE = Stage(
    version=3,
    params=Params,
    reads={
        "synapses": Table(
            {"pre_id": "uint64", "post_id": "uint64", "size_voxels": "int64", "score": "float64", "type": "str"}
        ),
        "synapse_scores": Table({"metric": "str", "value": "float64"}),
    },
    optional=frozenset({"synapse_scores"}),
    writes=("connectome", "totals", "exports"),
    parts=(
        WholePart(
            "connect",
            _connect,
            tables={"connectome": _EDGES, "totals": Table({"type": "str", "n": "int64", **CORRECTED_COLUMNS})},
            files=("exports",),
        ),
    ),
)
