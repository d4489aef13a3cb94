"""Clefts, synapses, connectome and their scores on a phantom, from evidence as a perfect network would give it."""

import numpy as np
import pytest
from scipy import ndimage

from bouton.geometry import Box
from bouton.phantom import PhantomParams, generate
from bouton.stages import clefts, evaluate_synapses, synapse_sides, synapses
from harness import assert_same, run_stage

SIZE = (30.0, 10.0, 10.0)
SHAPE = (48, 256, 256)


@pytest.fixture(scope="module")
def phantom():
    return generate(Box.of_shape(SHAPE), PhantomParams(seed=11, voxel_size_nm=SIZE))


@pytest.fixture(scope="module")
def evidence(phantom):
    found = np.zeros((4, *SHAPE), np.uint8)
    found[0][phantom.clefts != 0] = 255
    rows = phantom.synapses
    for number, synapse in enumerate(rows["id"]):
        cleft = phantom.clefts == synapse
        if not cleft.any():
            continue
        (place,) = ndimage.find_objects(cleft.astype(np.uint8))
        near = tuple(slice(max(0, s.start - 11), s.stop + 11) for s in place)
        beside = ndimage.distance_transform_edt(~cleft[near], sampling=SIZE) <= 100
        for channel, side in ((1, "pre_id"), (2, "post_id")):
            found[channel][near][beside & (phantom.neuron_ids[near] == rows[side][number])] = 255
        found[3][cleft] = 255 * (rows["type"][number] == "excitatory")
    return found


def pipeline(phantom, evidence, block):
    found = run_stage(clefts.STAGE, clefts.Params(), {"synapse_evidence": evidence}, block, SIZE)
    inputs = {"clefts": found["clefts"], "segmentation": phantom.neuron_ids, "synapse_evidence": evidence}
    found |= run_stage(synapse_sides.STAGE, synapse_sides.Params(), inputs, block, SIZE)
    tables = {name: found[name] for name in ("sides", "cleft_sums", "touching")}
    return found | run_stage(synapses.STAGE, synapses.Params(), tables, (1, 1, 1), SIZE, shape=SHAPE)


@pytest.fixture(scope="module")
def whole(phantom, evidence):
    return pipeline(phantom, evidence, SHAPE)


@pytest.mark.parametrize("block", [(24, 128, 128), (17, 101, 67)])
def test_blocks_do_not_show(phantom, evidence, whole, block):
    assert len(whole["synapses"]["id"]) >= 5
    assert_same(whole, pipeline(phantom, evidence, block), ["clefts", "cleft_sizes", "synapses"])


def test_perfect_evidence_gives_perfect_scores(phantom, whole):
    inputs = {"synapses": whole["synapses"], "truth_synapses": phantom.synapses, "truth": phantom.neuron_ids}
    scores = run_stage(evaluate_synapses.STAGE, evaluate_synapses.Params(), inputs, SHAPE, SIZE)["scores"]
    values = dict(zip(scores["metric"], scores["value"], strict=True))
    assert values["synapse_tp"] >= 5
    for name in ("synapse_f1", "synapse_type_f1", "partners_right", "polarity_right", "type_right"):
        assert values[name] == 1.0, name


def test_swapped_evidence_swaps_the_partners(phantom, evidence, whole):
    swapped = pipeline(phantom, evidence[[0, 2, 1, 3]], SHAPE)["synapses"]
    # A cleft cut by the border, whose synapse is centred outside, has no evidence beside it.
    told = np.isin(phantom.clefts[whole["clefts"] != 0], phantom.synapses["id"])
    told = np.isin(swapped["id"], whole["clefts"][whole["clefts"] != 0][told])
    assert told.sum() >= 5
    np.testing.assert_array_equal(swapped["pre_id"][told], whole["synapses"]["post_id"][told])
    np.testing.assert_array_equal(swapped["post_id"][told], whole["synapses"]["pre_id"][told])
