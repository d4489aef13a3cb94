"""Affinities -> fragments and merge history of a volume that fits into memory: the stages' results without blocks.

Beside the affinities it takes 4 bytes a voxel for the fragments, and the region graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.geometry import Box
from bouton.segment.basins import Thresholds, narrow_fragments
from bouton.segment.components import join
from bouton.segment.contraction import MEAN, Rule, contract
from bouton.segment.history import MERGE_COLUMNS, join_histories, merge_rows, small_rows
from bouton.segment.ratios import level
from bouton.segment.region_graph import TableData, contract_edges, contract_sizes, fragment_sizes, region_graph
from bouton.segment.small import SmallRule, join_small, small_edges, small_sizes


@dataclass(frozen=True)
class WholeParams:
    """Parameters, with the meaning and the defaults of the stages ``fragments`` and ``agglomeration``.

    Attributes
    ----------
    low, high, flat : float
        Affinities (0 to 1): up to ``low`` none joins, from ``high`` on all join, from ``flat`` on all equal best ones.
    floor : float
        Mean affinity (0 to 1) down to which merges are recorded.
    min_size_voxels : int
        Segments of fewer voxels first merge along their strongest affinity. 0 leaves them alone.
    small_affinity : float
        A small segment merges only along affinities of at least this (0 to 1).
    """

    low: float = 0.1
    high: float = 0.99
    flat: float = 0.9
    floor: float = 0.2
    min_size_voxels: int = 100
    small_affinity: float = 0.3


def merge_history(affinities: np.ndarray, params: WholeParams | None = None) -> tuple[np.ndarray, TableData]:
    """Return the fragments of a whole volume and the merges between them, at mean affinities down to the floor.

    ``relabel(fragments, *cut(merges, threshold))`` is the segmentation at a threshold.

    Parameters
    ----------
    affinities : numpy.ndarray
        uint8 (3, z, y, x), v / 255: channel c joins a voxel with its lower neighbour along axis c.
    params : WholeParams, optional

    Returns
    -------
    fragments : numpy.ndarray
        uint32 (z, y, x), or uint64 from 2**32 - 1 voxels on: the C-order index of the fragment's first voxel plus one;
        0 is background.
    merges : dict of str -> numpy.ndarray
        ``MERGE_COLUMNS``, sorted by b.

    Raises
    ------
    SpecError
        A parameter lies outside of its range.
    DataError
        The array is not uint8 with three channels.
    """
    params = params or WholeParams()
    rule = Rule(MEAN, level(params.floor))
    fragments = narrow_fragments(affinities, Thresholds(params.low, params.high, params.flat))
    whole = Box.of_shape(fragments.shape)
    edges, sizes = region_graph(fragments, affinities, whole), fragment_sizes(fragments, whole)
    rows = []
    if params.min_size_voxels > 1:
        small = SmallRule(params.min_size_voxels, level(params.small_affinity))
        joins = join_small(small_edges(edges), small_sizes(sizes), _none(sizes), small).moves
        moves = join(joins["a"], joins["b"])
        edges, sizes = contract_edges(edges, *moves), contract_sizes(sizes, *moves)
        rows.append(small_rows(*moves, params.floor))
    rows.append(merge_rows(contract(edges, sizes, _none(sizes), rule).history, False, params.floor))
    return fragments, join_histories(rows, MERGE_COLUMNS)


def _none(sizes: TableData) -> np.ndarray:
    return np.zeros(len(sizes["id"]), np.bool_)
