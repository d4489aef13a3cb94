"""Stage synapse_sides: its sums against brute force, its optional inputs; partners after another agglomeration."""

from fractions import Fraction

import numpy as np
import pytest

from bouton.errors import DataError, SpecError
from bouton.segment.components import relabel
from bouton.segment.history import BY_MEAN, MERGE_COLUMNS, cut
from bouton.stages import synapse_sides, synapses
from harness import assert_same, run_stage, sort_rows

SIZE = (30.0, 10.0, 10.0)
SHAPE = (6, 24, 40)
FAR = 2**63
TABLES = ["sides", "cleft_sums", "touching"]


def case(seed, far=FAR):
    """Fragments of 2 x 4 x 4 voxels with background in between, clefts in several pieces; ids near 2^63."""
    rng = np.random.default_rng(seed)
    names = np.arange(180, dtype=np.uint64) + np.uint64(far)
    fragments = np.kron(names.reshape(3, 6, 10), np.ones((2, 4, 4), np.uint64))
    fragments[rng.random(SHAPE) < 0.1] = 0
    clefts = np.zeros(SHAPE, np.uint64)
    for i in range(10):
        z, y, x = (int(rng.integers(0, n - 4)) for n in SHAPE)
        clefts[z : z + 2, y : y + 2, x : x + 4] = far + 50 - i % 7  # three clefts lie in two places
    evidence = rng.integers(0, 256, (4, *SHAPE)).astype(np.uint8)
    return {"clefts": clefts, "segmentation": fragments, "synapse_evidence": evidence}


def sides(inputs, block=SHAPE, reach_nm=40.0, **more):
    found = run_stage(synapse_sides.STAGE, synapse_sides.Params(reach_nm), inputs, block, SIZE, **more)
    return {name: sort_rows(found[name]) for name in TABLES}


def assign(tables, params=None, **more):
    inputs = {name: tables[name] for name in TABLES} | more
    return run_stage(synapses.STAGE, params or synapses.Params(), inputs, (1, 1, 1), SIZE, shape=SHAPE)


def brute_force_owner(clefts, reach_nm):
    at, owner = np.argwhere(clefts), np.zeros(clefts.shape, np.uint64)
    for q in np.ndindex(clefts.shape):
        squared = (((at - q) * np.array(SIZE)) ** 2).sum(1)
        near = at[(squared == squared.min()) & (squared <= reach_nm**2)]
        if len(near):
            owner[q] = min(clefts[tuple(p)] for p in near)
    return owner


def test_every_table_against_brute_force():
    inputs = case(1)
    owner, fragments, evidence = (
        brute_force_owner(inputs["clefts"], 40.0), inputs["segmentation"], inputs["synapse_evidence"].astype(int),
    )  # fmt: skip
    found = sides(inputs, (2, 7, 11))
    rows = list(zip(*[found["sides"][name].tolist() for name in found["sides"]], strict=True))
    keys = {(int(a), int(b)) for a, b in zip(owner[owner != 0], fragments[owner != 0], strict=True) if b}
    assert [row[:2] for row in rows] == sorted(keys)
    for cleft, segment, voxels, *sums, pre, post, point in rows:
        at = np.argwhere((owner == np.uint64(cleft)) & (fragments == np.uint64(segment)))
        assert (voxels, sums) == (len(at), at.sum(0).tolist())
        assert (pre, post) == tuple(evidence[c][tuple(at[:, k] for k in range(3))].sum() for c in (1, 2))
        exact = [
            sum((Fraction(int(p[k])) - Fraction(sums[k], voxels)) ** 2 * int(SIZE[k]) ** 2 for k in range(3))
            for p in at
        ]
        nearest = {int(np.ravel_multi_index(p, SHAPE)) + 1 for p, d in zip(at, exact, strict=True) if d == min(exact)}
        assert point in nearest
    expected = {}
    for axis in range(3):
        low = tuple(slice(None, -1) if k == axis else slice(None) for k in range(3))
        high = tuple(slice(1, None) if k == axis else slice(None) for k in range(3))
        for o, p, a, b in zip(*[v.ravel().tolist() for v in (owner[low], owner[high], fragments[low], fragments[high])],
                              strict=True):  # fmt: skip
            if o == p and o and a and b and a != b:
                expected.setdefault((o, min(a, b), max(a, b)), [0, 0, 0])[axis] += 1
    touching = list(zip(*[found["touching"][name].tolist() for name in found["touching"]], strict=True))
    assert [(row[:3], list(row[3:])) for row in touching] == sorted(expected.items())
    for cleft, voxels, z, _, x, inside, excitatory in zip(
        *[v.tolist() for v in found["cleft_sums"].values()], strict=True
    ):
        at = np.nonzero(inputs["clefts"] == np.uint64(cleft))
        assert (voxels, z, x) == (at[0].size, at[0].sum(), at[2].sum())
        assert (inside, excitatory) == (evidence[0][at].sum(), evidence[3][at].sum())


@pytest.mark.parametrize("block", [(2, 7, 11), (5, 13, 17), (1, 24, 5), (6, 3, 40)])
def test_blocks_do_not_show_even_where_a_cleft_lies_in_two_places(block):
    for seed in range(2):
        inputs = case(seed)
        assert_same(sides(inputs), sides(inputs, block, seed=seed), TABLES)


def test_the_rows_of_a_cleft_stand_together_sorted_by_segment():
    found = run_stage(synapse_sides.STAGE, synapse_sides.Params(40.0), case(2), (2, 7, 11), SIZE)["sides"]
    starts = np.flatnonzero(np.append(True, found["id"][1:] != found["id"][:-1]))
    assert len(starts) == len(np.unique(found["id"]))
    assert all(np.all(part[1:] > part[:-1]) for part in np.split(found["segment"], starts[1:]))


def merges(seed):
    """A history over the fragments of :func:`case`: each joins a smaller one at some mean affinity."""
    rng = np.random.default_rng(seed)
    ids = np.arange(1, 180)
    rows = {name: np.zeros(ids.size, dtype) for name, dtype in MERGE_COLUMNS.items()}
    rows["b"] = ids.astype(np.uint64) + np.uint64(FAR)
    rows["a"] = np.array([rng.integers(max(0, i - 11), i) for i in ids], np.uint64) + np.uint64(FAR)
    rows["affinity_sum"], rows["affinity_count"] = rng.integers(0, 256, ids.size), np.ones(ids.size, np.int64)
    rows["affinity_quantile"][:] = BY_MEAN
    rows["score"] = rows["affinity_sum"] / 255
    return rows


@pytest.mark.parametrize("posts", ["one", "several"])
def test_merging_tables_is_merging_voxels(posts):
    inputs, history = case(3), merges(4)
    if posts == "several":
        inputs["clefts"][inputs["clefts"] != 0] -= np.uint64(FAR)
    fragments = sides(inputs, (2, 7, 11))
    answers = set()
    for threshold in (0.0, 0.3, 0.6, 0.9, 1.0):
        params = synapses.Params(threshold=threshold, posts=posts, min_post_score=0.02)
        merged = relabel(inputs["segmentation"], *cut(history, threshold))
        voxels = sides(inputs | {"segmentation": merged})
        one, two = assign(fragments, params, merges=history), assign(voxels, params)
        assert_same(one, two, ["assignments"])
        same = [name for name in one["synapses"] if not name.startswith(("pre_", "post_")) or name.endswith("_id")]
        for name in same:
            np.testing.assert_array_equal(one["synapses"][name], two["synapses"][name], err_msg=name)
        answers.add(tuple(one["synapses"]["pre_id"].tolist()))
        for side in ("pre", "post"):
            at = [one["synapses"][f"{side}_{axis}_nm"] // size for axis, size in zip("zyx", SIZE, strict=True)]
            at, known = tuple(v.astype(int) for v in at), one["synapses"][f"{side}_id"] != 0
            np.testing.assert_array_equal(merged[at][known], one["synapses"][f"{side}_id"][known])
            np.testing.assert_array_equal(inputs["segmentation"][at][known], one["synapses"][f"{side}_fragment"][known])
    assert len(answers) >= 3, "thresholds that change nothing prove little"


def test_a_threshold_below_the_floor_is_refused():
    history = merges(4) | {"floor": np.full(179, 0.4)}
    with pytest.raises(SpecError, match=r"at least 0\.4"):
        assign(sides(case(3)), synapses.Params(threshold=0.3), merges=history)


def simple():
    """Two cells side by side with a cleft between; vesicles in the right one."""
    segmentation = np.full(SHAPE, 7, np.uint64)
    segmentation[:, :, 20:] = 8
    clefts, vesicles = np.zeros(SHAPE, np.uint64), np.zeros(SHAPE, np.uint8)
    clefts[2:4, 8:16, 19:21] = 5
    vesicles[:, 8:16, 22:24] = 200
    return {"clefts": clefts, "segmentation": segmentation, "vesicles": vesicles}


@pytest.mark.parametrize("channels", [True, False])
def test_vesicles_alone_tell_the_polarity(channels):
    inputs = simple()
    if channels:
        inputs["vesicles"] = inputs["vesicles"][None]
    table = assign(sides(inputs))["synapses"]
    assert (table["pre_id"].tolist(), table["post_id"].tolist()) == ([8], [7])
    assert table["type"].tolist() == ["unknown"]
    assert table["score"].tolist() == [1.0]


def test_a_forest_gives_a_score_but_no_type():
    inputs = simple() | {"synapse_evidence": np.full((1, *SHAPE), 51, np.uint8)}
    table = assign(sides(inputs))["synapses"]
    np.testing.assert_allclose(table["score"], 0.2)
    assert table["type"].tolist() == ["unknown"]
    del inputs["vesicles"]
    found = assign(sides(inputs))
    assert {*found["synapses"]["pre_id"].tolist(), *found["synapses"]["post_id"].tolist()} == {7, 8}
    assert found["synapses"]["partner_score"][0] <= 0.25


def test_a_cleft_inside_one_segment_has_one_partner():
    inputs = simple()
    inputs["segmentation"][:] = 9
    found = assign(sides(inputs))
    assert found["synapses"]["pre_id"].tolist() == [9]
    assert found["synapses"]["post_id"].tolist() == [0]
    assert found["synapses"]["partner_score"].tolist() == [0.0]
    assert [values.tolist() for values in found["assignments"].values()] == [[5], [9], [0], [0.0], [0], [True]]


def test_further_posts_get_ids_of_their_own_and_too_large_clefts_are_refused():
    inputs = case(5, far=1000)
    params = synapses.Params(posts="several", min_post_score=0.0)
    table = assign(sides(inputs), params)["synapses"]
    assert len(np.unique(table["id"])) == len(table["id"]) > len(np.unique(table["cleft_id"]))
    assert np.all(np.diff(table["id"].astype(object)) > 0)
    np.testing.assert_array_equal(table["id"] & np.uint64(2**56 - 1), table["cleft_id"])
    with pytest.raises(DataError, match=r"expected ids below 2\^56 where posts = several"):
        assign(sides(case(5)), params)


def test_duplicates_become_one():
    inputs = simple()
    inputs["clefts"][2:4, 8:16, 19:21] = 0
    inputs["clefts"][2:4, 2:6, 19:21], inputs["clefts"][2:4, 8:16, 19:21] = 3, 5
    inputs["synapse_evidence"] = np.full((4, *SHAPE), 102, np.uint8)
    inputs["synapse_evidence"][:, :, :7] = 204
    inputs["synapse_evidence"][1, ..., 20:] = inputs["synapse_evidence"][2, ..., :20] = 0
    tables = sides(inputs)
    apart, one = assign(tables), assign(tables, synapses.Params(merge_nm=80.0))
    assert apart["synapses"]["id"].tolist() == [3, 5]
    assert apart["merged_synapses"]["id"].size == 0
    table = one["synapses"]
    assert table["id"].tolist() == [5]
    assert table["size_voxels"].tolist() == [16 + 32]
    np.testing.assert_allclose(table["y_nm"], (16 * 40 + 32 * 120) / 48)
    np.testing.assert_allclose(table["score"], 0.8)
    assert [v.tolist() for v in one["merged_synapses"].values()] == [[3], [5]]
    assert assign(tables, synapses.Params(merge_nm=79.0))["synapses"]["id"].tolist() == [3, 5]
