"""agglomeration: fragments -> merge history, down to a floor; ``segmentation`` cuts it at any threshold above.

First, segments below a size merge along their strongest affinity; then all merge by mean affinity. Both are contracted
up an octree of blocks, with segments that touch a block's face frozen, and equal the greedy algorithm on the whole.
Every node keeps the merges, edges and sizes that it completes, and hands on what touches its faces: none holds all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bouton.segment.components import join
from bouton.segment.contraction import MAXIMUM, MEAN, Contraction, Rule, contract
from bouton.segment.history import MERGE_COLUMNS, merge_rows
from bouton.segment.ratios import level
from bouton.segment.region_graph import (
    EDGE_COLUMNS,
    SIZE_COLUMNS,
    add_edges,
    add_sizes,
    contract_edges,
    contract_sizes,
    fragment_sizes,
    region_graph,
    rows_where,
    touches_face,
)
from bouton.stage import BlockPart, BlockTask, Layer, MergePart, MergeTask, Output, Stage, Table, TableData


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    floor : float
        Mean affinity (0 to 1) down to which merges are recorded; no segmentation can be cut below it.
    min_size_voxels : int
        Segments of fewer voxels first merge along their strongest affinity. 0 leaves them alone.
    small_affinity : float
        A small segment merges only along affinities of at least this (0 to 1).
    """

    floor: float = 0.2
    min_size_voxels: int = 100
    small_affinity: float = 0.3


def edges(task: BlockTask) -> Output:
    """Add up the affinities between fragments, and the fragments' voxels, that the block owns."""
    labels = task.read("fragments", (1, 1, 1))
    core = task.core.within(task.box())
    graph = region_graph(labels, task.read("affinities", (0, 0, 0)), core)
    return Output(tables={"_edges": graph, "_pieces": fragment_sizes(labels[core.slices], task.core)})


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
    """Merge segments of too few voxels along their strongest affinity."""
    rule = Rule(MAXIMUM, level(task.params.small_affinity), task.params.min_size_voxels)
    graph = add_edges(task.rows("_edges", "_small_edges"))
    sizes = add_sizes(task.rows("_pieces", "_small_sizes"))
    done = _contract(task, graph, sizes, rule)
    merges = merge_rows(done.history, True, task.params.floor)
    return Output(tables={"merges": merges, "_small_edges": done.edges, "_small_sizes": done.sizes})


def agglomerate(task: MergeTask) -> Output:
    """Merge what the small segments left by mean affinity, down to the floor."""
    graph = add_edges(task.rows("_edges", "_open_edges"))
    sizes = add_sizes(task.rows("_pieces", "_open_sizes"))
    if task.is_leaf:
        # a merge of what touches this block is made by this block's node or one above it
        merges = task.table("merges", task.box)
        small = rows_where(merges, merges["small"] != 0)
        moves = join(small["a"], small["b"])
        graph, sizes = contract_edges(graph, *moves), contract_sizes(sizes, *moves)
    done = _contract(task, graph, sizes, Rule(MEAN, level(task.params.floor)))
    merges = merge_rows(done.history, False, task.params.floor)
    return Output(tables={"merges": merges, "_open_edges": done.edges, "_open_sizes": done.sizes})


def _contract(task: MergeTask, graph: TableData, sizes: TableData, rule: Rule) -> Contraction:
    # inside a box, a cluster that touches no face of it has all its edges and voxels there; at the root nothing touches
    frozen = touches_face(sizes, task.box, task.bounds)
    # an edge across the box's lower face has one end inside, which is frozen: the parent that sees both ends takes it
    inside = np.isin(graph["a"], sizes["id"]) & np.isin(graph["b"], sizes["id"])
    done = contract(rows_where(graph, inside), sizes, frozen, rule)
    return replace(done, edges=add_edges([done.edges, rows_where(graph, ~inside)]))


EDGES, SIZES, MERGES = Table(EDGE_COLUMNS), Table(SIZE_COLUMNS), Table(MERGE_COLUMNS)

STAGE = Stage(
    version=2,
    params=Params,
    reads={
        "affinities": Layer("uint8", channels=3, kind="affinities"),
        "fragments": Layer("uint64", kind="labels"),
    },
    writes=("merges", "region_graph", "fragment_sizes"),
    parts=(
        BlockPart(
            "edges",
            edges,
            tables={"_edges": EDGES, "_pieces": SIZES},
            halo=lambda params, voxel_size_nm: (1, 1, 1),
            bytes_per_voxel=20.0,
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
            {"_small_edges": EDGES, "_small_sizes": SIZES},
            kept={"merges": MERGES},
        ),
        MergePart(
            "agglomerate",
            agglomerate,
            ("_edges", "_pieces"),
            {"_open_edges": EDGES, "_open_sizes": SIZES},
            kept={"merges": MERGES},
        ),
    ),
)
