"""Stage synapse_types: features and answers are the same whatever the blocks; what is missing is told."""

from dataclasses import replace

import numpy as np
import pytest

from bouton.errors import DataError, SpecError
from bouton.geometry import Box, Grid
from bouton.phantom import PhantomParams, generate
from bouton.stage import BlockTask
from bouton.stages import synapse_types
from bouton.stages.synapse_types import STAGE, Params
from bouton.synapse.shape_features import FEATURES, NEEDS
from harness import ArrayVolume, assert_same, run_stage

SIZE = (30.0, 10.0, 10.0)
SHAPE = (40, 150, 150)
NONE = Params(model="none", reach_nm=450.0)


@pytest.fixture(scope="module")
def tissue():
    made = generate(Box.of_shape(SHAPE), PhantomParams(seed=3, voxel_size_nm=SIZE))
    evidence = np.zeros((4, *SHAPE), np.uint8)
    evidence[0][made.clefts > 0] = 255
    good = made.synapses["id"][made.synapses["type"] == "excitatory"]
    evidence[3][np.isin(made.clefts, good)] = 255
    return {
        "synapses": made.synapses, "segmentation": made.neuron_ids, "vesicles": made.vesicles,
        "mitochondria": made.mitochondria, "tissue": made.tissue, "synapse_evidence": evidence,
    }  # fmt: skip


def run(inputs, block=SHAPE, params=NONE, **more):
    return run_stage(STAGE, params, inputs, block, SIZE, **more)


def test_features_of_a_phantom(tissue):
    found = run(tissue)
    features, synapses = found["features"], found["synapses"]
    assert list(features) == ["id", *FEATURES]
    np.testing.assert_array_equal(features["id"], np.sort(tissue["synapses"]["id"]))
    inside = ~np.isnan(features["neck_um2"])
    assert inside.sum() >= 2
    # vesicles stand in the axon, not in what it meets
    assert np.all(features["vesicles_near"][inside] > 0.05)
    good = tissue["synapses"]["type"] == "excitatory"
    seen = inside & (features["cleft_mean"] > 0)
    np.testing.assert_allclose(features["excitatory"][seen], good[seen].astype(float))
    assert set(synapses["type"]) == set(synapses["target"]) == {"unknown"}
    np.testing.assert_array_equal(synapses["cleft_id"], synapses["id"])
    assert np.isnan(synapses["p_spine"]).all()


@pytest.mark.parametrize("block", [(11, 64, 150), (40, 40, 33), (7, 29, 31)])
def test_blocks_do_not_show(tissue, block):
    one, other = run(tissue), run(tissue, block, seed=3)
    assert_same(one, other, ["synapses", "features"])
    odd = replace(NONE, spacing_nm=25.0)
    assert_same(run(tissue, params=odd), run(tissue, block, params=odd), ["features"])


def test_rows_in_any_order_and_twice(tissue):
    table = tissue["synapses"]
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(table["id"])), 2))
    other = run(tissue | {"synapses": {name: values[order] for name, values in table.items()}}, (20, 70, 64))
    one = run(tissue)
    assert_same(one, other, ["features"])
    np.testing.assert_array_equal(other["synapses"]["id"], table["id"][order])
    # of two rows of one id the first is measured, also where that lies in another block
    changed = {name: np.concatenate([values, values[:1]]) for name, values in table.items()}
    for side in ("pre", "post"):
        changed[f"{side}_id"][-1] = table[f"{side}_id"][1]
        for axis in "zyx":
            changed[f"{side}_{axis}_nm"][-1] = table[f"{side}_{axis}_nm"][1]
    assert_same(one, run(tissue | {"synapses": changed}, (20, 70, 64)), ["features"])


class Watched(ArrayVolume):
    """A volume that notes what is read of it."""

    def __init__(self, array):
        super().__init__(array)
        self.boxes = []

    def read(self, box):
        assert not box.is_empty
        self.boxes.append(box)
        return super().read(box)


def test_a_block_reads_each_layer_once_and_no_further_than_its_halo(tissue):
    part, bounds = STAGE.parts[0], Box.of_shape(SHAPE)
    table = {name: values.copy() for name, values in tissue["synapses"].items()}
    # partners that no patch reaches: nothing is needed of their layers
    table["pre_x_nm"][:] = 1e6
    volumes = {name: Watched(values) for name, values in tissue.items() if name != "synapses"}
    common = {"params": NONE, "bounds": bounds, "shape": SHAPE, "voxel_size_nm": SIZE, "volumes": volumes}
    common |= {"table": lambda name, over=None: table, "given": frozenset(volumes)}
    measured = 0
    for index in (grid := Grid(bounds, (20, 50, 50))):
        task = BlockTask(**common, core=grid.core(index), halo=part.halo(NONE, SIZE))
        found = len(part.run(task).tables["_measured"]["id"])
        for volume in volumes.values():
            assert len(volume.boxes) == (1 if found else 0)
            assert all(task.box().contains(box) for box in volume.boxes)
            volume.boxes.clear()
        measured += found
    assert measured == len(tissue["synapses"]["id"])


def test_masks_and_probabilities_say_the_same(tissue):
    soma = np.zeros((3, *SHAPE), np.uint8)
    soma[2] = (tissue["tissue"] & 4 > 0) * np.uint8(200)
    more = {"vesicles": tissue["vesicles"][None] * np.uint8(255), "tissue": soma}
    assert_same(run(tissue), run(tissue | more), ["features"])


def test_what_lies_beyond_the_bounds_changes_nothing(tissue):
    bounds = Box((2, 10, 0), (38, 150, 130))
    spoilt = tissue["segmentation"].copy()
    spoilt[:, :, 130:] = 77
    one, other = (run(tissue | {"segmentation": s}, bounds=bounds) for s in (tissue["segmentation"], spoilt))
    assert_same(one, other, ["synapses", "features"])


def test_without_layers_their_features_are_unknown(tissue):
    found = run({name: tissue[name] for name in ("synapses", "segmentation")})["features"]
    assert all(np.isnan(found[name]).all() for name in NEEDS)
    known = [name for name in FEATURES if name not in NEEDS]
    assert all(np.isfinite(found[name]).any() for name in known)
    plain = run(tissue | {"synapse_evidence": tissue["synapse_evidence"][:1]})["features"]
    assert np.isnan(plain["excitatory"]).all() and np.isfinite(plain["cleft_mean"]).any()


def test_no_synapses(tissue):
    none = {name: values[:0] for name, values in tissue["synapses"].items()}
    found = run(tissue | {"synapses": none})
    assert found["synapses"]["id"].size == found["features"]["id"].size == 0


def test_lonely_and_lost_synapses_are_unknown(tissue):
    table = {name: values.copy() for name, values in tissue["synapses"].items()}
    table["post_id"][0], table["pre_id"][1] = 0, 0
    table["post_x_nm"][2] = np.nan
    found = run(tissue | {"synapses": table})["features"]
    order = np.argsort(table["id"])
    place = {int(row): n for n, row in enumerate(order)}
    assert np.isnan(found["neck_um2"][[place[0], place[2]]]).all()
    assert np.isnan(found["volume_pre_um3"][place[1]])


def test_another_segmentation_is_told(tissue):
    with pytest.raises(DataError, match="postsynaptic segment"):
        run(tissue | {"segmentation": tissue["segmentation"] + np.uint64(1)})


@pytest.mark.parametrize("bad", [{"reach_nm": 10.0}, {"spacing_nm": 1.0}, {"least_probability": 1.5}])
def test_bad_parameters_are_named(bad):
    with pytest.raises(SpecError, match=next(iter(bad))):
        Params(**bad)


def test_an_unknown_model_is_told():
    with pytest.raises(SpecError, match="synapse-types-fly"):
        STAGE.files(Params(model="synapse-types-fly"))
    assert STAGE.files(NONE) == ()


def test_names_of_sure_rows_only():
    found = np.array([[0.9, 0.1], [0.45, 0.55], [np.nan, np.nan], [0.5, 0.5]])
    assert synapse_types._names(found, ("a", "b"), 0.5).tolist() == ["a", "b", "unknown", "a"]
    assert synapse_types._names(found, ("a", "b"), 0.6).tolist() == ["a", "unknown", "unknown", "unknown"]


def test_the_shipped_model_goes_with_the_defaults_and_its_features_exist():
    model = synapse_types._model(Params())
    assert set(model.features) <= set(FEATURES)
    assert model.card.questions["type"].classes == ("excitatory", "inhibitory")
    assert model.card.questions["target"].classes == ("spine", "shaft", "soma")
    assert "phantoms only" in model.card.limits
    used = {use: {each.name for each in model.card.data if each.use == use} for use in ("train", "calibrate", "test")}
    assert not used["train"] & used["calibrate"] and not (used["train"] | used["calibrate"]) & used["test"]


def test_the_shipped_model_decides_on_a_phantom_and_refuses_a_missing_layer(tissue):
    params = Params()
    vesicles, mitochondria = (tissue[name][None] * np.uint8(255) for name in ("vesicles", "mitochondria"))
    found = run(tissue | {"vesicles": vesicles, "mitochondria": mitochondria}, params=params)["synapses"]
    known = found["target"] != "unknown"
    assert known.sum() >= 2
    total = found["p_spine"] + found["p_shaft"] + found["p_soma"]
    np.testing.assert_allclose(total[np.isfinite(total)], 1.0)
    with pytest.raises(SpecError, match="vesicles is not given"):
        run({name: values for name, values in tissue.items() if name != "vesicles"}, params=params)
    with pytest.raises(SpecError, match="synapse_evidence has one channel"):
        run(tissue | {"synapse_evidence": tissue["synapse_evidence"][:1]}, params=params)
