"""agglomeration: fragments -> merge history, down to a floor; ``segmentation`` cuts it at any threshold above.

First, segments below a size join others along their strongest affinity; then all merge by score. Both are done up an
octree of blocks, with segments that touch a block's face frozen, and equal the greedy algorithm on the whole.
Every node keeps the merges, edges and sizes that it completes, and hands on what touches its faces: none holds all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bouton.errors import SpecError
from bouton.segment.attributes import greatest_of
from bouton.segment.components import join
from bouton.segment.contraction import (
    MEAN,
    QUANTILE,
    Accept,
    Contraction,
    LargeRule,
    Rule,
    TwigRule,
    contract,
)
from bouton.segment.equivalences import PAIR_COLUMNS
from bouton.segment.histograms import HISTOGRAM_COLUMNS, add_histograms, contract_histograms, histogram_rows
from bouton.segment.history import MERGE_COLUMNS, join_histories, merge_rows, small_rows
from bouton.segment.ratios import level
from bouton.segment.region_graph import (
    EDGE_COLUMNS,
    SIZE_COLUMNS,
    add_edges,
    add_sizes,
    both_in,
    contract_edges,
    contract_sizes,
    fragment_sizes,
    move,
    region_graph,
    rows_where,
    touches_face,
)
from bouton.segment.rules import limits_of
from bouton.segment.small import (
    SMALL_EDGE_COLUMNS,
    SMALL_SIZE_COLUMNS,
    SmallRule,
    gather,
    gather_sizes,
    join_small,
    small_edges,
    small_sizes,
)
from bouton.stage import BlockPart, BlockTask, Layer, MergePart, MergeTask, Output, Stage, Table, TableData


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    score : str
        ``mean`` affinity between two segments, or the ``quantile`` of the affinities.
    quantile : float
        Of ``quantile``: the smallest affinity that at least this share (above 0, to 1) of a contact does not exceed.
    floor : float
        Score (0 to 1) down to which merges are recorded; no segmentation can be cut below it.
    min_size_voxels : int
        Segments of fewer voxels first merge along their strongest affinity. 0 leaves them alone.
    small_affinity : float
        A small segment merges only along affinities of at least this (0 to 1).
    large_affinity : float
        Below this score (0 to 1; 0 turns the rule off) two large segments do not merge: ...
    large_voxels, together_voxels : int
        ... the smaller of more than the one, both together of more than the other number of voxels.
    twig_affinity : float
        Below this score (0 to 1; 0 turns the rule off) only twigs merge: ...
    twig_voxels, twig_faces : int
        ... one of the two has fewer voxels than the one, and their contact at most so many voxel faces as the other.
    """

    score: Literal["mean", "quantile"] = "mean"
    quantile: float = 0.75
    floor: float = 0.2
    min_size_voxels: int = 100
    small_affinity: float = 0.3
    large_affinity: float = 0.0
    large_voxels: int = 1_000_000
    together_voxels: int = 10_000_000
    twig_affinity: float = 0.0
    twig_voxels: int = 100_000
    twig_faces: int = 50

    def __post_init__(self) -> None:
        for name in ("floor", "small_affinity", "large_affinity", "twig_affinity"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"{name} = {getattr(self, name)}", expected="an affinity from 0 to 1")
        for name in ("min_size_voxels", "large_voxels", "together_voxels", "twig_voxels", "twig_faces"):
            if getattr(self, name) < 0:
                raise SpecError(f"{name} = {getattr(self, name)}", expected="at least 0")
        rule_of(self, somata=False)


def edges(task: BlockTask) -> Output:
    """Add up the affinities between fragments, and the fragments' voxels, that the block owns."""
    labels, affinities = task.read("fragments", (1, 1, 1)), task.read("affinities", (0, 0, 0))
    core = task.core.within(task.box())
    graph, sizes = region_graph(labels, affinities, core), fragment_sizes(labels[core.slices], task.core)
    sizes["soma"] = np.zeros(len(sizes["id"]), np.int64)
    if "somata" in task.volumes:
        sizes["soma"] = greatest_of(labels[core.slices], task.read("somata", (0, 0, 0)), sizes["id"])
    counts = add_histograms([])
    if task.params.score == "quantile":
        counts = histogram_rows(labels, affinities, core)
    return Output(tables={"_edges": graph, "_pieces": sizes, "_histograms": counts})


def totals(task: MergeTask) -> Output:
    """Add up the region graph and the fragments' sizes; keep the rows to which nothing outside of the box can add."""
    graph = add_edges(task.rows("_edges", "_partial_edges"))
    sizes = add_sizes(task.rows("_pieces", "_partial_sizes"))
    touching = touches_face(sizes, task.box, task.bounds)
    whole = sizes["id"][~touching]
    known = np.isin(graph["a"], whole) | np.isin(graph["b"], whole)
    return Output(
        tables={
            "region_graph": rows_where(graph, known),
            "fragment_sizes": rows_where(sizes, ~touching),
            "_partial_edges": rows_where(graph, ~known),
            "_partial_sizes": rows_where(sizes, touching),
        }
    )


def small_segments(task: MergeTask) -> Output:
    """Join segments of too few voxels to others along their strongest affinity."""
    graphs, pieces = task.rows("_edges", "_small_edges"), task.rows("_pieces", "_small_sizes")
    if task.is_leaf:
        graphs, pieces = [small_edges(table) for table in graphs], [small_sizes(table) for table in pieces]
    sizes = gather_sizes(pieces)
    rule = SmallRule(task.params.min_size_voxels, level(task.params.small_affinity))
    done = join_small(gather(graphs), sizes, touches_face(sizes, task.box, task.bounds), rule)
    return Output(tables={"_small_moves": done.moves, "_small_edges": done.edges, "_small_sizes": done.sizes})


def agglomerate(task: MergeTask) -> Output:
    """Merge what the small segments left by score, down to the floor; keep the joins of small segments as well."""
    graph = add_edges(task.rows("_edges", "_open_edges"))
    sizes = add_sizes(task.rows("_pieces", "_open_sizes"))
    counts = add_histograms(task.rows("_histograms", "_open_histograms"))
    members = task.rows("_pieces", "_members")
    if task.is_leaf:
        # a merge of what touches this block is made by this block's node or one above it
        small = task.table("_small_moves", task.box)
        moves = join(small["a"], small["b"])
        members = [_members(sizes, *moves)]
        graph, sizes = contract_edges(graph, *moves), contract_sizes(sizes, *moves)
        counts = contract_histograms(counts, *moves)
    done = _contract(task, graph, sizes, rule_of(task.params, "somata" in task.volumes), counts)
    # a fragment's row is kept where all of the fragment is: every block that holds some of it finds it there
    joined = gather_sizes(members)
    touching = touches_face(joined, task.box, task.bounds)
    whole = small_rows(joined["id"][~touching], joined["name"][~touching], task.params.floor)
    merges = join_histories([whole, merge_rows(done.history, False, task.params.floor)], MERGE_COLUMNS)
    rest = {"_open_edges": done.edges, "_open_sizes": done.sizes, "_open_histograms": done.histograms}
    return Output(tables={"merges": merges, "_members": rows_where(joined, touching), **rest})


def _members(sizes: TableData, ids: np.ndarray, roots: np.ndarray) -> TableData:
    """Return the fragments of ``sizes`` that joined another one, which is their ``name``."""
    named = small_sizes(sizes) | {"name": move(sizes["id"], ids, roots)}
    return rows_where(named, named["name"] != named["id"])


def rule_of(params: Params, somata: bool) -> Rule:
    """Return the rule of the main phase.

    Raises
    ------
    SpecError
        A parameter lies outside of its range.
    """
    large = LargeRule(params.large_affinity, params.large_voxels, params.together_voxels)
    twig = TwigRule(params.twig_affinity, params.twig_voxels, params.twig_faces)
    accept = Accept(somata, large if params.large_affinity else None, twig if params.twig_affinity else None)
    score = QUANTILE if params.score == "quantile" else MEAN
    rule = Rule(score, level(params.floor), accept=accept, quantile=params.quantile)
    limits_of(rule)
    return rule


def _contract(task: MergeTask, graph: TableData, sizes: TableData, rule: Rule, counts: TableData) -> Contraction:
    # inside a box, a cluster that touches no face of it has all its edges and voxels there; at the root nothing touches
    frozen = touches_face(sizes, task.box, task.bounds)
    # an edge across the box's lower face has one end inside, which is frozen: the parent that sees both ends takes it
    inside, known = both_in(graph, sizes["id"]), both_in(counts, sizes["id"])
    done = contract(rows_where(graph, inside), sizes, frozen, rule, rows_where(counts, known))
    assert done.histograms is not None
    return replace(
        done,
        edges=add_edges([done.edges, rows_where(graph, ~inside)]),
        histograms=add_histograms([done.histograms, rows_where(counts, ~known)]),
    )


EDGES, MERGES, HISTOGRAMS = Table(EDGE_COLUMNS), Table(MERGE_COLUMNS), Table(HISTOGRAM_COLUMNS)
SIZES, MEMBERS = Table({**SIZE_COLUMNS, "soma": "int64"}), Table(SMALL_SIZE_COLUMNS)

STAGE = Stage(
    version=3,
    params=Params,
    reads={
        "affinities": Layer("uint8", channels=3, kind="affinities"),
        "fragments": Layer("uint64", kind="labels"),
        "somata": Layer(("uint64", "uint32", "uint16", "uint8"), kind="labels"),
    },
    optional=frozenset({"somata"}),
    writes=("merges", "region_graph", "fragment_sizes"),
    parts=(
        BlockPart(
            "edges",
            edges,
            tables={"_edges": EDGES, "_pieces": SIZES, "_histograms": HISTOGRAMS},
            halo=lambda params, voxel_size_nm: (1, 1, 1),
            bytes_per_voxel=25.0,
        ),
        MergePart(
            "totals",
            totals,
            ("_edges", "_pieces"),
            {"_partial_edges": EDGES, "_partial_sizes": SIZES},
            kept={"region_graph": EDGES, "fragment_sizes": SIZES},
        ),
        MergePart(
            "small_segments",
            small_segments,
            ("_edges", "_pieces"),
            {"_small_edges": Table(SMALL_EDGE_COLUMNS), "_small_sizes": MEMBERS},
            kept={"_small_moves": Table(PAIR_COLUMNS)},
        ),
        MergePart(
            "agglomerate",
            agglomerate,
            ("_edges", "_pieces", "_histograms"),
            {"_open_edges": EDGES, "_open_sizes": SIZES, "_open_histograms": HISTOGRAMS, "_members": MEMBERS},
            kept={"merges": MERGES},
        ),
    ),
)
