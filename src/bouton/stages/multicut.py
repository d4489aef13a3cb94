"""multicut: region graph + fragments -> segments by the multicut: an alternative to cutting the merge history.

One task solves the whole region graph in memory (:mod:`bouton.segment.multicut`); ``max_edges`` limits it. Blocks then
relabel the fragments. Needs ``pip install 'bouton[multicut]'``.
"""

from __future__ import annotations

from dataclasses import dataclass

from bouton.errors import SpecError
from bouton.segment.components import relabel
from bouton.segment.multicut import GRAPH_COLUMNS, check_package, multicut
from bouton.stage import BlockPart, BlockTask, Layer, Output, Stage, Table, WholePart, WholeTask

BYTES_PER_EDGE = 400


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    boundary : float
        Mean affinity (between 0 and 1) at which a contact speaks neither for nor against one segment.
    rounds : int
        Rounds of moves that improve the greedy answer, at most; 0: the greedy answer.
    max_edges : int
        Most edges that the region graph may have: it is solved in memory at once.
    """

    boundary: float = 0.5
    rounds: int = 10
    max_edges: int = 10_000_000

    def __post_init__(self) -> None:
        if not 0 < self.boundary < 1:
            raise SpecError(f"boundary = {self.boundary}", expected="between 0 and 1, neither of them")
        if self.rounds < 0 or self.max_edges < 1:
            raise SpecError(
                f"rounds = {self.rounds}, max_edges = {self.max_edges}",
                expected="rounds of at least 0 and max_edges of at least 1",
            )


def roots(task: WholeTask) -> Output:
    """Solve the region graph: every fragment that is not its segment's smallest has that one as its root."""
    graph, params = task.table("region_graph"), task.params
    edges = len(graph["a"])
    if edges > params.max_edges:
        need = edges * BYTES_PER_EDGE >> 30
        raise SpecError(
            f"a region graph of {edges} edges is more than max_edges = {params.max_edges}",
            expected="a graph that is solved in memory at once",
            fix=f"--bounds-zyx BOX, or max_edges: {edges} with about {need + 1} GiB of memory, or the stage "
            "segmentation, which has no such limit",
        )
    ids, root = multicut(graph, params.boundary, params.rounds)
    return Output(tables={"roots": {"id": ids, "root": root}})


def segmentation(task: BlockTask) -> Output:
    """Write each voxel's segment."""
    moves = task.table("roots")
    return Output(layers={"segmentation": relabel(task.read("fragments"), moves["id"], moves["root"])})


STAGE = Stage(
    version=1,
    params=Params,
    reads={"fragments": Layer("uint64", kind="labels"), "region_graph": Table(GRAPH_COLUMNS)},
    writes=("segmentation", "roots"),
    parts=(
        WholePart(
            "roots",
            roots,
            tables={"roots": Table({"id": "uint64", "root": "uint64"})},
            memory_bytes=Params.max_edges * BYTES_PER_EDGE,
        ),
        BlockPart(
            "segmentation",
            segmentation,
            layers={"segmentation": Layer("uint64", kind="labels")},
            bytes_per_voxel=20.0,
        ),
    ),
    check=lambda plan: check_package(),
)
