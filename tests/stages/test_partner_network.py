"""Stage partner_network: one patch a cleft, whatever the ranges of ids; evidence replaced, all else left."""

import dataclasses

import numpy as np
import pytest

from bouton.errors import SpecError
from bouton.geometry import Box
from bouton.learn.info import Architecture, ModelInfo
from bouton.learn.network import build_network
from bouton.stages import partner_network
from bouton.stages.partner_network import Params, patch_box
from harness import assert_same, run_stage
from tiny_model import write_model

SIZE = (30.0, 10.0, 10.0)
SHAPE = (12, 40, 50)
NETWORK = Architecture((4, 6), ((3, 3, 3), (3, 3, 3)), ((1, 2, 2),), (1, 3, 3), outputs=2, inputs=2)
INFO = ModelInfo(NETWORK, {"partners": 2}, SIZE, (8, 16, 16), (0, 0, 0), 128.0, 48.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    weights = build_network(NETWORK, 2).state_dict()
    weights["exit.weight"] = weights["exit.weight"] * 100
    return str(write_model(tmp_path_factory.mktemp("model") / "partners", INFO, weights))


def case():
    """Return volumes with seven clefts between blocks of segments, and the tables of what lies beside them."""
    rng = np.random.default_rng(4)
    segmentation = np.kron(rng.integers(1, 9, (3, 5, 5)), np.ones((4, 8, 10), int)).astype(np.uint64)
    clefts = np.zeros(SHAPE, np.uint64)
    for number, (z, y, x) in enumerate(rng.integers(0, (10, 36, 44), (7, 3)).tolist(), start=1):
        clefts[z : z + 2, y : y + 3, x : x + 5] = number * 11
    image = rng.integers(0, 256, SHAPE).astype(np.uint8)
    ids = np.unique(clefts[clefts != 0])
    at = [np.nonzero(clefts == i) for i in ids]
    sums = {"id": ids, "voxels": np.array([len(a[0]) for a in at])}
    sums |= {axis: np.array([a[n].sum() for a in at]) for n, axis in enumerate("zyx")}
    pairs = [(i, s) for i, a in zip(ids, at, strict=True) for s in np.unique(segmentation[a])]
    sides = {"id": np.array([p[0] for p in pairs], np.uint64), "segment": np.array([p[1] for p in pairs], np.uint64)}
    sides |= {name: rng.integers(5, 90, len(pairs)) for name in ("voxels", "z", "y", "x", "pre", "post")}
    sides["point"] = rng.integers(1, 999, len(pairs)).astype(np.uint64)
    return {"image": image, "clefts": clefts, "segmentation": segmentation}, {"sides": sides, "cleft_sums": sums}


def run(model, ids_per_task=256, tables=None, **params):
    volumes, made = case()
    stage = partner_network.STAGE
    part = dataclasses.replace(stage.parts[0], ids_per_task=ids_per_task)
    stage = dataclasses.replace(stage, parts=(part,))
    inputs = volumes | (tables or made)
    return run_stage(stage, Params(model=model, **params), inputs, SHAPE, SIZE)["sides"]


def test_only_the_evidence_changes(model):
    before, after = case()[1]["sides"], run(model)
    for name in ("id", "segment", "voxels", "z", "y", "x", "point"):
        np.testing.assert_array_equal(after[name], before[name])
    assert (after["pre"] != before["pre"]).any() and (after["post"] != before["post"]).any()
    for name in ("pre", "post"):
        assert (after[name] >= 0).all() and (after[name] <= 255 * after["voxels"]).all() and after[name].max() > 0


@pytest.mark.parametrize("ids_per_task", [1, 2, 5])
def test_ranges_of_ids_do_not_show(model, ids_per_task):
    assert_same({"sides": run(model)}, {"sides": run(model, ids_per_task)}, ["sides"])


def test_neither_does_the_order_of_rows(model):
    tables = case()[1]
    order = np.random.default_rng(1).permutation(len(tables["sides"]["id"]))
    tables["sides"] = {name: values[order] for name, values in tables["sides"].items()}
    assert_same({"sides": run(model)}, {"sides": run(model, tables=tables)}, ["sides"])


def test_a_cleft_without_sides(model):
    tables = case()[1]
    keep = tables["sides"]["id"] != 22
    tables["sides"] = {name: values[keep] for name, values in tables["sides"].items()}
    whole = run(model)
    expected = {name: values[whole["id"] != 22] for name, values in whole.items()}
    assert_same({"sides": expected}, {"sides": run(model, tables=tables)}, ["sides"])


def test_patches_lie_within_the_bounds():
    bounds = Box((4, 10, 10), (16, 50, 60))
    assert patch_box([10, 30, 30], (8, 16, 16), bounds) == Box((6, 22, 22), (14, 38, 38))
    assert patch_box([4, 49, 12], (8, 16, 16), bounds) == Box((4, 34, 10), (12, 50, 26))
    assert patch_box([10, 30, 30], (20, 16, 16), bounds) == Box((4, 22, 22), (16, 38, 38))


def test_bad_input(model):
    with pytest.raises(SpecError, match="partner network"):
        partner_network.STAGE.files(Params(model="affinity-fib25"))
    with pytest.raises(SpecError, match="no model"):
        partner_network.STAGE.files(Params(model="absent"))
    with pytest.raises(SpecError, match="reach_nm"):
        Params(reach_nm=-1)
    with pytest.raises(SpecError, match="int8"):
        Params(runtime="openvino", precision="int8")
    volumes, tables = case()
    with pytest.raises(SpecError, match="30 x 10 x 10"):
        run_stage(partner_network.STAGE, Params(model=model), volumes | tables, SHAPE, (40.0, 4.0, 4.0))


def test_openvino_agrees(model):
    pytest.importorskip("openvino", reason="runs it with OpenVINO")
    torch, openvino = run(model), run(model, runtime="openvino")
    for name in ("pre", "post"):
        assert np.abs(torch[name] - openvino[name]).max() <= torch["voxels"].max()


def test_predict_refuses_it(model):
    from bouton.stages import predict

    with pytest.raises(SpecError, match="partner_network"):
        predict.STAGE.layers(predict.Params(model=model))
