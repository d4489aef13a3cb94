"""Connectome: the synapses grouped by ordered pair of neurons; also as GraphML and CSV."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import numpy as np

from bouton.errors import SpecError
from bouton.stage import Output, Stage, Table, TableData, WholePart, WholeTask
from bouton.synapse.connectome import connections


@dataclass(frozen=True)
class Params:
    """Parameters of ``connectome``.

    Attributes
    ----------
    min_score : float
        Synapses with a lower score, in [0, 1], are left out.
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
    edges = connections(synapses)
    edges = _rows(edges, edges["count"] >= task.params.min_synapses)
    if task.folder is not None:
        write_csv(task.folder / "connectome.csv", edges)
        write_csv(task.folder / "synapses.csv", synapses)
        write_graphml(task.folder / "connectome.graphml", edges)
    return Output(tables={"connectome": edges})


def _rows(table: TableData, keep: np.ndarray) -> TableData:
    return {name: values[keep] for name, values in table.items()}


def write_csv(path: Path, table: TableData) -> None:
    """Write a table as CSV with a header; text that a spreadsheet would run as a formula is quoted with ``'``."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table)
        writer.writerows(zip(*[_cells(values) for values in table.values()], strict=True))


def _cells(values: np.ndarray) -> list[object]:
    if values.dtype.kind not in "OU":
        return list(values.tolist())
    return [f"'{text}" if str(text).startswith(("=", "+", "-", "@", "\t", "\r")) else text for text in values.tolist()]


def write_graphml(path: Path, edges: TableData) -> None:
    """Write the connections as a directed graph: nodes are neuron ids, edges carry ``count`` and ``size_voxels``."""
    graph = nx.DiGraph()
    graph.add_nodes_from(str(i) for i in np.unique(np.concatenate([edges["pre_id"], edges["post_id"]])))
    for pre, post, count, size in zip(*[edges[name].tolist() for name in _EDGES.columns], strict=True):
        graph.add_edge(str(pre), str(post), count=count, size_voxels=size)
    # The pure-Python writer: the other one is used where lxml happens to be installed and writes other bytes.
    nx.write_graphml_xml(graph, path)


_EDGES = Table({"pre_id": "uint64", "post_id": "uint64", "count": "int64", "size_voxels": "int64"})

STAGE = Stage(
    version=1,
    params=Params,
    reads={
        "synapses": Table(
            {"pre_id": "uint64", "post_id": "uint64", "size_voxels": "int64", "score": "float64", "type": "str"}
        )
    },
    writes=("connectome", "exports"),
    parts=(WholePart("connect", _connect, tables={"connectome": _EDGES}, files=("exports",)),),
)
