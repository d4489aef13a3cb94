"""Partners of a cleft, worked out by hand and against brute force."""

import itertools

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.synapse.connectome import connections
from bouton.synapse.duplicates import chains, keepers
from bouton.synapse.partners import PartnerRule, decide, grouped, nearest_rows
from bouton.synapse.tables import sum_rows

SIZE = (30.0, 10.0, 10.0)


def sides(*rows):
    """Rows of (id, segment, pre, post[, voxels]), evidence as mean probability * 255 of 100 voxels."""
    rows = [(*row, 100)[:5] for row in rows]
    names = ("id", "segment", "pre", "post", "voxels")
    table = {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}
    table = {name: v.astype(np.uint64 if name in ("id", "segment") else np.int64) for name, v in table.items()}
    return table | {axis: table["voxels"] * i for i, axis in enumerate("zyx", start=1)}


def touching(*rows):
    """Rows of (id, a, b[, faces across z, y, x])."""
    rows = [(*row, 0, 0, 9)[:6] for row in rows]
    names = ("id", "a", "b", "faces_z", "faces_y", "faces_x")
    return {
        name: np.array([row[i] for row in rows], np.uint64 if i < 3 else np.int64).reshape(-1)
        for i, name in enumerate(names)
    }


def everything(table):
    """All pairs of a cleft touch."""
    return touching(
        *[
            (cleft, *sorted(pair))
            for cleft in np.unique(table["id"]).tolist()
            for pair in itertools.combinations(table["segment"][table["id"] == cleft].tolist(), 2)
        ]
    )


def choose(table, contacts, rule=PartnerRule(), roots=None, ids=None):
    ids = np.unique(table["id"]) if ids is None else np.array(ids, np.uint64)
    rows = grouped(table, ids, "sides", "segment")
    roots = rows[0]["segment"] if roots is None else np.array(roots, np.uint64)
    return decide(rows, roots, grouped(contacts, ids, "touching"), SIZE, rule)


def partners(*rows, contacts=None, **more):
    table = sides(*rows)
    chosen, _ = choose(table, everything(table) if contacts is None else contacts, **more)
    return list(zip(chosen["pre_id"].tolist(), chosen["post_id"].tolist(), strict=True))


def test_the_largest_shares():
    assert partners((1, 10, 9000, 500), (1, 11, 400, 8000), (1, 12, 3000, 3000)) == [(10, 11)]


def test_one_segment_best_on_both_sides_keeps_the_side_where_the_product_is_larger():
    # 10 is best on both: (10 pre, 11 post) is 100 * 50, (12 pre, 10 post) 70 * 90.
    assert partners((1, 10, 10000, 9000), (1, 11, 0, 5000), (1, 12, 7000, 0)) == [(12, 10)]


def test_segments_that_do_not_touch_are_no_partners():
    rows = ((1, 10, 9000, 0), (1, 11, 0, 9000), (1, 12, 0, 5000))
    contacts = touching((1, 10, 12), (1, 11, 12))
    assert partners(*rows, contacts=contacts) == [(10, 12)]
    assert partners(*rows) == [(10, 11)]


def test_a_segment_within_background_may_pair_with_any_or_with_none():
    rows = ((1, 10, 9000, 0), (1, 11, 0, 9000), (1, 12, 0, 5000))
    contacts = touching((1, 10, 12))
    assert partners(*rows, contacts=contacts) == [(10, 11)]
    assert partners(*rows, contacts=contacts, rule=PartnerRule(bridge=False)) == [(10, 12)]
    assert partners(*rows, contacts=touching()) == [(10, 11)]
    assert partners(*rows, contacts=touching(), rule=PartnerRule(bridge=False)) == [(0, 0)]


def test_contacts_count_by_their_area():
    rows = ((1, 10, 9000, 0), (1, 11, 0, 9000), (1, 12, 0, 5000))
    # 10 and 11 share 2 faces across z of 100 nm^2, 10 and 12 one face across x of 300 nm^2
    contacts = touching((1, 10, 11, 2, 0, 0), (1, 10, 12, 0, 0, 1), (1, 11, 12, 1, 1, 1))
    for least, expected in ((200.0, (10, 11)), (201.0, (10, 12)), (301.0, (11, 12))):
        found = partners(*rows, contacts=contacts, rule=PartnerRule(min_contact_nm2=least))
        assert set(found[0]) == set(expected)


def test_without_evidence_the_largest_win_with_a_low_score():
    rows = ((1, 10, 0, 0, 5), (1, 11, 0, 0, 9), (1, 12, 0, 0, 7))
    assert partners(*rows) == [(11, 12)]
    table = sides(*rows)
    assert choose(table, everything(table))[0]["score"].tolist() == [pytest.approx(9 / 21 * 7 / 21)]
    assert partners((1, 10, 0, 0), (1, 11, 0, 0), (1, 12, 0, 0)) == [(10, 11)]


def test_one_segment_alone_stands_on_its_stronger_side():
    table = sides((1, 10, 9, 3), (2, 10, 3, 9))
    assert partners((1, 10, 9, 3), (2, 10, 3, 9)) == [(10, 0), (0, 10)]
    _, listed = choose(table, touching())
    assert [listed[name].tolist() for name in ("pre_id", "post_id", "score", "chosen")] == [
        [10, 0], [0, 10], [0.0, 0.0], [True, True],
    ]  # fmt: skip


def test_a_cleft_without_segments_is_kept():
    chosen, listed = choose(sides((5, 1, 9000, 0), (5, 2, 0, 9000)), touching((5, 1, 2)), ids=[4, 5])
    assert chosen["pre_id"].tolist() == [0, 1]
    assert listed["cleft"].tolist() == [0, 1, 1]
    assert choose(sides(), touching(), ids=[])[0]["pre_id"].tolist() == []


def test_two_fragments_of_one_root_add_up_and_do_not_pair():
    rows = ((1, 10, 9000, 0), (1, 11, 0, 5000), (1, 12, 0, 3000), (1, 13, 0, 4000))
    assert partners(*rows) == [(10, 11)]
    assert partners(*rows, roots=[10, 11, 12, 12]) == [(10, 12)]
    assert partners(*rows, roots=[10, 10, 10, 10]) == [(0, 10)]


def test_a_polyadic_synapse_by_hand():
    rows = ((1, 10, 20000, 0), (1, 11, 0, 10000), (1, 12, 0, 6000), (1, 13, 0, 3000), (1, 14, 5000, 9000))
    contacts = touching((1, 10, 11), (1, 10, 12), (1, 10, 13), (1, 13, 14))
    table, rule = sides(*rows), PartnerRule(several=True, min_post_score=0.15)
    chosen, listed = choose(table, contacts, rule)
    # pre share of 10: (20000 + 100) / 25500; post shares of 11, 12, 13: 10100, 6100, 3100 of 28500; 14 touches 13 alone
    assert chosen["post_id"].tolist() == [11, 12]
    assert chosen["pre_id"].tolist() == [10, 10]
    assert chosen["rank"].tolist() == [0, 1]
    np.testing.assert_allclose(chosen["score"], 20100 / 25500 * np.array([10100, 6100]) / 28500)
    assert listed["chosen"].sum() == 2
    assert choose(table, contacts, PartnerRule(several=True, min_post_score=0.0))[0]["post_id"].tolist() == [11, 12, 13]
    one, _ = choose(table, contacts)
    assert one["post_id"].tolist() == [11]
    # the best post stays, however low its score
    assert choose(table, contacts, PartnerRule(several=True, min_post_score=1.0))[0]["post_id"].tolist() == [11]


def brute_force(table, contacts):
    """Return the best pair of one cleft's rows by exhaustive search with fractions of integers."""
    n = table["segment"].size
    pre, post = table["pre"] + table["voxels"], table["post"] + table["voxels"]
    area = np.zeros((n, n), int)
    for a, b, *faces in zip(*[contacts[name] for name in ("a", "b", "faces_z", "faces_y", "faces_x")], strict=True):
        i, j = (int(np.flatnonzero(table["segment"] == s)[0]) for s in (a, b))
        area[i, j] = area[j, i] = sum(faces)
    alone = ~area.any(axis=1)
    pairs = [
        (int(pre[i] * post[j]), int(area[i, j]), int(table["voxels"][[i, j]].sum()), int(table["voxels"][i]), -i, -j)
        for i, j in itertools.permutations(range(n), 2)
        if area[i, j] or alone[i] or alone[j]
    ]
    return None if not pairs else tuple(int(table["segment"][-k]) for k in max(pairs)[4:])


def test_against_all_ordered_pairs():
    rng = np.random.default_rng(8)
    for _ in range(200):
        n = int(rng.integers(2, 7))
        names = 2**63 + rng.permutation(20)[:n].astype(np.uint64)
        names.sort()
        table = sides(*[(1, 0, *rng.integers(0, 4, 2), rng.integers(1, 4)) for _ in range(n)])
        table["segment"] = names
        pairs = [p for p in itertools.combinations(names.tolist(), 2) if rng.random() < 0.5]
        contacts = touching(*[(1, a, b, *rng.integers(0, 3, 2), 1) for a, b in pairs])
        contacts["a"], contacts["b"] = (np.array([p[i] for p in pairs], np.uint64) for i in (0, 1))
        chosen, _ = choose(table, contacts)
        expected = brute_force(table, contacts)
        assert (int(chosen["pre_id"][0]), int(chosen["post_id"][0])) == expected


def test_the_order_of_the_rows_does_not_matter():
    rng = np.random.default_rng(3)
    table = sides(*[(c, s, *rng.integers(0, 99, 2)) for c in (3, 7, 9) for s in range(1, 6)])
    contacts = everything(table)
    whole = choose(table, contacts, PartnerRule(several=True))
    for _ in range(3):
        a, b = rng.permutation(table["id"].size), rng.permutation(contacts["id"].size)
        mixed = choose(
            {k: v[a] for k, v in table.items()}, {k: v[b] for k, v in contacts.items()}, PartnerRule(several=True)
        )
        for one, two in zip(whole, mixed, strict=True):
            assert all(np.array_equal(one[name], two[name]) for name in one)


def test_tables_that_do_not_belong_together_are_refused():
    with pytest.raises(DataError, match=r"'sides' has rows about cleft 7, table 'cleft_sums' has none"):
        choose(sides((7, 1, 0, 0)), touching(), ids=[3, 9])
    with pytest.raises(DataError, match="two rows about cleft 3 and segment 1"):
        choose(sides((3, 1, 0, 0), (3, 1, 0, 0)), touching(), ids=[3])


def test_position_is_the_fragments_point_nearest_to_the_roots_centroid():
    shape = (9, 20, 40)
    table = sides((1, 10, 0, 0, 1), (1, 11, 0, 0, 3), (1, 12, 0, 0, 2))
    # the root {10, 11, 12} has its centroid at x = (0 + 3 * 8 + 2 * 12) / 6 = 8
    at = {"z": [0, 0, 0], "y": [0, 0, 0], "x": [0, 24, 24]}
    table |= {axis: np.array(values) for axis, values in at.items()}
    table["point"] = np.array([1, 6, 13], np.uint64)  # x = 0, 5, 12
    rows = grouped(table, np.array([1], np.uint64), "sides", "segment")
    cleft = np.zeros(3, np.int64)
    found = nearest_rows(cleft, np.array([10, 0, 12], np.uint64), rows, np.full(3, 10, np.uint64), (shape, SIZE))
    assert found.tolist() == [1, -1, -1]
    found = nearest_rows(cleft, np.array([10, 11, 12], np.uint64), rows, rows[0]["segment"], (shape, SIZE))
    assert found.tolist() == [0, 1, 2]
    table["point"] = np.array([1, 5, 13], np.uint64)  # 4 and 12 are equally near to 8: the smaller voxel id
    rows = grouped(table, np.array([1], np.uint64), "sides", "segment")
    assert nearest_rows(cleft[:1], np.array([10], np.uint64), rows, np.full(3, 10, np.uint64), (shape, SIZE)) == [1]


def test_duplicates_chain_within_a_pair_of_partners_only():
    pre = np.array([1, 1, 1, 2, 1, 0, 0], np.uint64)
    post = np.array([5, 5, 5, 5, 6, 5, 5], np.uint64)
    at = np.zeros((7, 3))
    at[:, 2] = [0, 90, 180, 90, 90, 90, 90]
    assert chains(pre, post, at, 100.0).tolist() == [0, 0, 0, 3, 4, 5, 6]
    assert chains(pre, post, at, 89.0).tolist() == [0, 1, 2, 3, 4, 5, 6]
    group = np.array([0, 0, 0, 3])
    assert keepers(group, np.array([5, 9, 9, 1]), np.array([4, 8, 2, 1], np.uint64)).tolist() == [2, 2, 2, 3]


def test_duplicates_against_all_pairs():
    rng = np.random.default_rng(4)
    pre, post = (rng.integers(0, 3, 60).astype(np.uint64) for _ in range(2))
    at = rng.uniform(0, 100, (60, 3))
    near = (np.linalg.norm(at[:, None] - at[None], axis=2) <= 30) & (pre[:, None] == pre) & (post[:, None] == post)
    near &= ((pre > 0) & (post > 0))[:, None]
    near |= np.eye(60, dtype=bool)
    while not np.array_equal(near, wider := (near.astype(int) @ near) > 0):
        near = wider
    np.testing.assert_array_equal(chains(pre, post, at, 30.0), near.argmax(axis=1))


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
    assert [found[name].tolist() for name in ("pre_id", "post_id", "n", "size_voxels")] == [
        [1, 2],
        [2, 1],
        [2, 1],
        [40, 20],
    ]
