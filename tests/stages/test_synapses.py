"""Stages synapse_sides and synapses on a toy with a known answer, whatever the blocks; and connectome from it."""

import networkx as nx
import numpy as np
import pytest

from bouton.errors import SpecError
from bouton.stages import connectome, synapse_sides, synapses
from harness import assert_same, run_stage, sort_rows

SIZE = (30.0, 10.0, 10.0)
SHAPE = (6, 24, 40)
BLOCKS = [(6, 24, 40), (2, 7, 11), (5, 13, 17), (1, 24, 5)]
OFFSET = 1_000_000


def toy():
    """Four cells in quadrants of y and x; cleft A between upper left -> lower left, B lower right -> upper right."""
    segmentation = np.zeros(SHAPE, np.uint64)
    segmentation[:, :12, :20], segmentation[:, :12, 20:] = OFFSET + 1, OFFSET + 2
    segmentation[:, 12:, :20], segmentation[:, 12:, 20:] = OFFSET + 3, OFFSET + 4
    clefts, evidence = np.zeros(SHAPE, np.uint64), np.zeros((4, *SHAPE), np.uint8)
    clefts[1:5, 11:13, 5:12], clefts[2:4, 11:13, 25:32] = 5, 9
    evidence[0][clefts == 5], evidence[0][clefts == 9] = 204, 102
    evidence[1, :, 4:12, 4:13], evidence[2, :, 12:20, 4:13] = 200, 200
    evidence[2, :, 4:12, 24:33], evidence[1, :, 12:20, 24:33] = 200, 200
    evidence[3][clefts == 5] = 255
    return {"clefts": clefts, "segmentation": segmentation, "synapse_evidence": evidence}


TABLES = ["sides", "cleft_sums", "touching", "synapses", "assignments"]


def pipeline(inputs, block, reach_nm=100.0, params=None, **more):
    """Return the tables of both stages."""
    found = run_stage(synapse_sides.STAGE, synapse_sides.Params(reach_nm), inputs, block, SIZE, **more)
    found = {name: sort_rows(found[name]) for name in ("sides", "cleft_sums", "touching")}
    return found | assign(found, params)


def assign(tables, params=None, **more):
    inputs = {name: tables[name] for name in ("sides", "cleft_sums", "touching")} | more
    return run_stage(synapses.STAGE, params or synapses.Params(), inputs, (1, 1, 1), SIZE, shape=SHAPE)


def run(block, params=None, **more):
    return pipeline(toy(), block, 40.0, params, **more)["synapses"]


def test_the_toy_by_hand():
    table = run(SHAPE)
    assert table["id"].tolist() == [5, 9]
    assert table["pre_id"].tolist() == [OFFSET + 1, OFFSET + 4]
    assert table["post_id"].tolist() == [OFFSET + 3, OFFSET + 2]
    assert table["size_voxels"].tolist() == [4 * 2 * 7, 2 * 2 * 7]
    assert table["type"].tolist() == ["excitatory", "inhibitory"]
    np.testing.assert_allclose(table["score"], [0.8, 0.4])
    # Cleft 5 covers voxels 1:5, 11:13, 5:12: its centre is at 3.0, 12.0, 8.5 voxels.
    np.testing.assert_allclose([table[f"{a}_nm"][0] for a in "zyx"], [90.0, 120.0, 85.0])
    assert table["pre_y_nm"][0] < 120 < table["post_y_nm"][0]
    assert table["pre_y_nm"][1] > 120 > table["post_y_nm"][1]


@pytest.mark.parametrize("block", BLOCKS[1:])
def test_blocks_do_not_show(block):
    assert_same({"synapses": run(SHAPE)}, {"synapses": run(block, seed=2)}, ["synapses"])


def random_case(seed):
    rng = np.random.default_rng(seed)
    blobs = np.kron(rng.integers(1, 6, (3, 6, 10)), np.ones((2, 4, 4))).astype(np.uint64)
    clefts = np.zeros(SHAPE, np.uint64)
    for i in range(8):
        z, y, x = (int(rng.integers(0, n - 3)) for n in SHAPE)
        clefts[z : z + 2, y : y + 2, x : x + 3] = 100 - i
    evidence = rng.integers(0, 256, (4, *SHAPE)).astype(np.uint8)
    blobs[rng.random(SHAPE) < 0.2] = 0
    return {"clefts": clefts, "segmentation": blobs, "synapse_evidence": evidence}


@pytest.mark.parametrize("block", BLOCKS[1:])
def test_random_volumes_are_the_same_for_every_block_shape(block):
    for seed in range(2):
        inputs, params = random_case(seed), synapses.Params(unsure=0.05, posts="several")
        whole = pipeline(inputs, SHAPE, 50.0, params)
        parts = pipeline(inputs, block, 50.0, params, seed=seed)
        assert_same(whole, parts, TABLES)
        graph = [run_connectome(found["synapses"])["connectome"] for found in (whole, parts)]
        assert_same({"connectome": graph[0]}, {"connectome": graph[1]}, ["connectome"])


def run_connectome(table, params=None, folder=None):
    stage = connectome.STAGE
    if folder is None:
        stage = without_files(stage)
    return run_stage(
        stage, params or connectome.Params(), {"synapses": table}, (1, 1, 1), shape=(1, 1, 1), folder=folder
    )


def without_files(stage):
    from dataclasses import replace

    return replace(stage, parts=(replace(stage.parts[0], files=()),))


def test_positions_lie_in_the_partners():
    inputs = random_case(3)
    table = pipeline(inputs, (3, 11, 13))["synapses"]
    assert len(table["id"]) >= 5
    for side in ("pre", "post"):
        at = tuple(np.floor(table[f"{side}_{a}_nm"] / s).astype(int) for a, s in zip("zyx", SIZE, strict=True))
        np.testing.assert_array_equal(inputs["segmentation"][at], table[f"{side}_id"])


def test_clefts_without_any_segment_stay_with_their_centre():
    inputs = toy()
    inputs["segmentation"] = np.zeros(SHAPE, np.uint32)
    table = pipeline(inputs, (4, 9, 9))["synapses"]
    assert table["pre_id"].tolist() == table["post_id"].tolist() == [0, 0]
    np.testing.assert_array_equal(table["pre_x_nm"], table["x_nm"])
    assert run_connectome(table)["connectome"]["n"].size == 0


def test_no_cleft_no_synapse(tmp_path):
    inputs = toy()
    inputs["clefts"][:] = 0
    table = pipeline(inputs, (4, 9, 9))["synapses"]
    assert all(values.size == 0 for values in table.values())
    found = run_connectome(table, folder=tmp_path)
    assert found["connectome"]["pre_id"].size == 0
    assert nx.read_graphml(tmp_path / "exports" / "connectome.graphml").number_of_nodes() == 0


def test_unsure_types_are_unknown():
    inputs = toy()
    inputs["synapse_evidence"][3][inputs["clefts"] == 9] = 120
    table = pipeline(inputs, SHAPE, params=synapses.Params(unsure=0.1))["synapses"]
    assert table["type"].tolist() == ["excitatory", "unknown"]


def test_exports_hold_the_connectome(tmp_path):
    table = run(SHAPE)
    found = run_connectome(table, folder=tmp_path)["connectome"]
    assert found["n"].tolist() == [1, 1]
    graph = nx.read_graphml(tmp_path / "exports" / "connectome.graphml")
    assert graph.edges[str(OFFSET + 1), str(OFFSET + 3)] == {"n": 1, "size_voxels": 56}
    lines = (tmp_path / "exports" / "connectome.csv").read_text().splitlines()
    assert lines == [
        "pre_id,post_id,n,size_voxels",
        f"{OFFSET + 1},{OFFSET + 3},1,56",
        f"{OFFSET + 4},{OFFSET + 2},1,28",
    ]
    assert (tmp_path / "exports" / "synapses.csv").read_text().count("\n") == 3


def test_weak_synapses_and_connections_can_be_left_out():
    table = run(SHAPE)
    assert run_connectome(table, connectome.Params(min_score=0.5))["connectome"]["pre_id"].tolist() == [OFFSET + 1]
    assert run_connectome(table, connectome.Params(min_synapses=2))["connectome"]["pre_id"].size == 0


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (synapse_sides.Params, {"reach_nm": -1.0}),
        (synapse_sides.Params, {"reach_nm": float("nan")}),
        (synapses.Params, {"unsure": 0.6}),
        (synapses.Params, {"threshold": 1.5}),
        (synapses.Params, {"min_post_score": -0.1}),
        (synapses.Params, {"min_contact_nm2": -1.0}),
        (synapses.Params, {"merge_nm": float("inf")}),
        (synapses.Params, {"posts": "two"}),
        (synapses.Params, {"without_contact": "yes"}),
        (connectome.Params, {"min_score": 2.0}),
        (connectome.Params, {"min_synapses": 0}),
    ],
)
def test_bad_parameters_are_named(kind, bad):
    with pytest.raises(SpecError, match=next(iter(bad))):
        kind(**bad)
