"""Partners of a cleft, worked out by hand."""

import itertools

import numpy as np

from bouton.geometry import Box
from bouton.synapse.connectome import connections
from bouton.synapse.partners import choose, nearest_of, nearest_voxels, voxel_positions
from bouton.synapse.tables import concatenate, sum_rows


def sides(*rows):
    """Rows of (id, segment, pre, post[, voxels])."""
    rows = [(*row, 1)[:5] for row in rows]
    table = {
        name: np.array([row[i] for row in rows]) for i, name in enumerate(("id", "segment", "pre", "post", "voxels"))
    }
    table = {name: v.astype(np.uint64 if name in ("id", "segment") else np.int64) for name, v in table.items()}
    return table | {axis: table["voxels"] * i for i, axis in enumerate("zyx", start=1)}


def partners(*rows):
    table = sides(*rows)
    chosen = choose(np.unique(table["id"]), table)
    return list(zip(chosen["pre_id"].tolist(), chosen["post_id"].tolist(), strict=True))


def test_most_evidence_on_each_side():
    assert partners((1, 10, 90, 5), (1, 11, 4, 80), (1, 12, 30, 30)) == [(10, 11)]


def test_one_segment_best_on_both_sides_keeps_the_side_where_it_gains_more():
    # 10 is best on both: (10 pre, 11 post) = 150, (12 pre, 10 post) = 160.
    assert partners((1, 10, 100, 90), (1, 11, 0, 50), (1, 12, 70, 0)) == [(12, 10)]


def test_against_all_ordered_pairs():
    rng = np.random.default_rng(8)
    for _ in range(50):
        evidence = rng.integers(0, 6, (5, 2))
        ((pre, post),) = partners(*[(1, s, *evidence[s - 1]) for s in range(1, 6)])
        best = max(evidence[a, 0] + evidence[b, 1] for a, b in itertools.permutations(range(5), 2))
        assert pre != post
        assert evidence[pre - 1, 0] + evidence[post - 1, 1] == best


def test_without_evidence_the_two_with_most_voxels_then_the_smaller_ids():
    assert partners((1, 10, 0, 0, 5), (1, 11, 0, 0, 9), (1, 12, 0, 0, 7)) == [(11, 12)]
    assert partners((1, 10, 0, 0), (1, 11, 0, 0), (1, 12, 0, 0)) == [(10, 11)]


def test_one_segment_alone_stands_on_its_stronger_side():
    assert partners((1, 10, 9, 3), (2, 10, 3, 9)) == [(10, 0), (0, 10)]


def test_a_cleft_without_segments_is_kept():
    chosen = choose(np.array([4, 5], np.uint64), sides((5, 1, 1, 0), (5, 2, 0, 1)))
    assert chosen["pre_id"].tolist() == [0, 1]
    assert np.isnan(chosen["pre_z"][0])
    assert (chosen["pre_z"][1], chosen["pre_y"][1], chosen["post_x"][1]) == (1.0, 2.0, 3.0)
    assert choose(np.zeros(0, np.uint64), sides())["pre_id"].tolist() == []


def test_position_is_a_voxel_of_the_partner_even_if_the_centroid_is_not():
    # Segment 3 is a ring of 3 x 3 around a voxel of segment 8: its centroid lies in 8.
    segmentation = np.full((1, 3, 3), 3, np.uint64)
    segmentation[0, 1, 1] = 8
    owner = np.full((1, 3, 3), 1, np.uint64)
    chosen = choose(np.array([1], np.uint64), sides((1, 3, 9, 0, 8), (1, 8, 0, 9, 1)))
    chosen |= {
        f"{side}_{axis}": np.array([v])
        for side in ("pre", "post")
        for axis, v in zip("zyx", (4.0, 11.0, 21.0), strict=True)
    }
    core, shape = Box((4, 10, 20), (5, 13, 23)), (9, 20, 40)
    near = nearest_voxels(owner, segmentation, chosen, core, (shape, (30.0, 10.0, 5.0)))
    assert near["side"].tolist() == [0, 1]
    # x is the finest axis: the neighbours along x are nearest, and of the two the one with the smaller voxel id wins.
    assert voxel_positions(near["voxel"], shape).tolist() == [[4, 11, 20], [4, 11, 21]]
    assert near["squared"].tolist() == [25.0, 0.0]


def test_nearest_rows_merge_in_any_order():
    rng = np.random.default_rng(9)
    n = 200
    rows = {
        "id": rng.integers(1, 9, n).astype(np.uint64),
        "side": rng.integers(0, 2, n),
        "squared": rng.integers(0, 4, n).astype(float),
        "voxel": rng.permutation(n).astype(np.uint64),
    }
    whole = nearest_of(rows)
    parts = [nearest_of({name: v[i::3] for name, v in rows.items()}) for i in (2, 0, 1)]
    merged = nearest_of(concatenate(parts))
    assert all(np.array_equal(whole[name], merged[name]) for name in whole)


def test_sums_by_key_keep_large_ids_apart():
    a = 2**63
    table = {"id": np.array([a + 1, a, a + 1], np.uint64), "n": np.array([1, 2, 3])}
    found = sum_rows(table, ["id"])
    assert found["id"].tolist() == [a, a + 1]
    assert found["n"].tolist() == [2, 4]
    assert sum_rows({"id": np.zeros(0, np.uint64), "n": np.zeros(0, np.int64)}, ["id"])["n"].size == 0


def test_connections_by_hand():
    synapses = {
        "pre_id": np.array([1, 2, 1, 0, 2], np.uint64),
        "post_id": np.array([2, 1, 2, 5, 0], np.uint64),
        "size_voxels": np.array([10, 20, 30, 40, 50]),
    }
    found = connections(synapses)
    assert [found[name].tolist() for name in ("pre_id", "post_id", "count", "size_voxels")] == [
        [1, 2],
        [2, 1],
        [2, 1],
        [40, 20],
    ]
