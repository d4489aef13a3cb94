"""agglomeration: fragments -> merge history, down to a floor; ``segmentation`` cuts it at any threshold above.

First, segments below a size merge along their strongest affinity; then all merge by mean affinity. Both are contracted
up an octree of blocks, with segments that touch a block's face frozen, and equal the greedy algorithm on the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bouton.segment.components import join
from bouton.segment.contraction import HISTORY_COLUMNS, MAXIMUM, MEAN, Contraction, Rule, contract
from bouton.segment.history import MERGE_COLUMNS, join_histories, merge_rows
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
    """Add up the region graph and the fragments' sizes."""
    graph = add_edges(task.rows("_edges", "region_graph"))
    sizes = add_sizes(task.rows("_pieces", "fragment_sizes"))
    return Output(tables={"region_graph": graph, "fragment_sizes": sizes})


def small_segments(task: MergeTask) -> Output:
    """Merge segments of too few voxels along their strongest affinity."""
    rule = Rule(MAXIMUM, level(task.params.small_affinity), task.params.min_size_voxels)
    graph = add_edges(task.rows("_edges", "_small_edges"))
    sizes = add_sizes(task.rows("_pieces", "_small_sizes"))
    done = _contract(task, graph, sizes, rule)
    earlier = [] if task.is_leaf else [child["_small_merges"] for child in task.children]
    merges = join_histories([*earlier, done.history], HISTORY_COLUMNS)
    return Output(tables={"_small_merges": merges, "_small_edges": done.edges, "_small_sizes": done.sizes})


def agglomerate(task: MergeTask) -> Output:
    """Merge what the small segments left by mean affinity, down to the floor."""
    graph = add_edges(task.rows("_edges", "_open_edges"))
    sizes = add_sizes(task.rows("_pieces", "_open_sizes"))
    if task.is_leaf:
        small = task.table("_small_merges")
        moves = join(small["a"], small["b"])
        graph, sizes = contract_edges(graph, *moves), contract_sizes(sizes, *moves)
    done = _contract(task, graph, sizes, Rule(MEAN, level(task.params.floor)))
    rows = [merge_rows(done.history, False, task.params.floor)]
    if not task.is_leaf:
        rows += [child["merges"] for child in task.children]
    if task.is_root:
        rows.append(merge_rows(task.table("_small_merges"), True, task.params.floor))
    merges = join_histories(rows, MERGE_COLUMNS)
    return Output(tables={"merges": merges, "_open_edges": done.edges, "_open_sizes": done.sizes})


def _contract(task: MergeTask, graph: TableData, sizes: TableData, rule: Rule) -> Contraction:
    # inside a box, a cluster that touches no face of it has all its edges and voxels there; at the root nothing touches
    frozen = touches_face(sizes, task.box, task.bounds)
    # an edge across the box's lower face has one end inside, which is frozen: the parent that sees both ends takes it
    inside = np.isin(graph["a"], sizes["id"]) & np.isin(graph["b"], sizes["id"])
    crossing = {name: values[~inside] for name, values in graph.items()}
    done = contract({name: values[inside] for name, values in graph.items()}, sizes, frozen, rule)
    return replace(done, edges=add_edges([done.edges, crossing]))


EDGES, SIZES, HISTORY, MERGES = Table(EDGE_COLUMNS), Table(SIZE_COLUMNS), Table(HISTORY_COLUMNS), Table(MERGE_COLUMNS)

STAGE = Stage(
    version=1,
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
        MergePart("totals", totals, ("_edges", "_pieces"), {"region_graph": EDGES, "fragment_sizes": SIZES}),
        MergePart(
            "small_segments",
            small_segments,
            ("_edges", "_pieces"),
            {"_small_merges": HISTORY, "_small_edges": EDGES, "_small_sizes": SIZES},
            bytes_per_row=400.0,
        ),
        MergePart(
            "agglomerate",
            agglomerate,
            ("_edges", "_pieces"),
            {"merges": MERGES, "_open_edges": EDGES, "_open_sizes": SIZES},
            bytes_per_row=400.0,
        ),
    ),
)
