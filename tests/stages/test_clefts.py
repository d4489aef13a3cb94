"""Stage clefts: exact, whatever the blocks."""

import numpy as np
import pytest
from scipy import ndimage

from bouton.errors import SpecError
from bouton.geometry import Box
from bouton.stages.clefts import STAGE, Params
from harness import assert_same, run_stage

SHAPE = (11, 17, 19)
SIZE = (30.0, 10.0, 10.0)
BLOCKS = [(11, 17, 19), (3, 5, 7), (4, 17, 6), (11, 2, 13), (1, 7, 3)]


def evidence(seed):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random((4, *SHAPE)), (0, 0.7, 1.2, 1.2))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (smooth * 255).astype(np.uint8)


def run(params, block, case=0, **more):
    return run_stage(STAGE, params, {"synapse_evidence": evidence(case)}, block, SIZE, **more)


def expected(cleft, low, high, min_voxels):
    """The definition over the whole volume."""
    labels, n = ndimage.label(cleft >= low)
    out = np.zeros(cleft.shape, np.uint64)
    for i in range(1, n + 1):
        inside = labels == i
        if cleft[inside].max() >= high and inside.sum() >= min_voxels:
            out[inside] = np.flatnonzero(inside)[0] + 1
    return out


@pytest.mark.parametrize("block", BLOCKS)
def test_equals_the_definition_for_every_block_shape(block):
    params = Params(low=165 / 255, high=205 / 255, min_volume_nm3=5 * 3000.0)
    for seed in range(3):
        found = run(params, block, seed, seed=seed)
        answer = expected(evidence(seed)[0], 165, 205, 5)
        assert len(np.unique(answer)) > 3, "the case must have clefts"
        np.testing.assert_array_equal(found["clefts"], answer)
        ids, sizes = np.unique(answer[answer != 0], return_counts=True)
        np.testing.assert_array_equal(found["cleft_sizes"]["id"], ids)
        np.testing.assert_array_equal(found["cleft_sizes"]["size_voxels"], sizes)


@pytest.mark.parametrize("block", BLOCKS[1:])
def test_gaps_are_bridged_alike_for_every_block_shape(block):
    params = Params(low=0.6, high=0.7, min_volume_nm3=0.0, gap_nm=40.0)
    whole, parts = run(params, SHAPE), run(params, block, seed=1)
    plain = run(Params(low=0.6, high=0.6, min_volume_nm3=0.0), SHAPE)
    assert 1 < len(whole["cleft_sizes"]["id"]) < len(plain["cleft_sizes"]["id"])
    assert_same(whole, parts, ["clefts", "cleft_sizes"])


def test_a_gap_is_bridged_only_if_narrow_and_stays_empty():
    volume = np.zeros((4, 1, 1, 30), np.uint8)
    volume[0, 0, 0, [2, 3, 6, 7, 20]] = 255
    found = run_stage(STAGE, Params(min_volume_nm3=0.0, gap_nm=30.0), {"synapse_evidence": volume}, (1, 1, 4), SIZE)
    assert found["clefts"].ravel().nonzero()[0].tolist() == [2, 3, 6, 7, 20]
    assert found["cleft_sizes"]["id"].tolist() == [3, 21]
    assert found["cleft_sizes"]["size_voxels"].tolist() == [4, 1]


def test_bounds_cut_clefts_and_ids_stay_global():
    bounds = Box((2, 3, 4), (9, 15, 18))
    params = Params(low=0.55, high=0.55, min_volume_nm3=0.0)
    found = run(params, (4, 5, 6), bounds=bounds)
    inside = np.zeros(SHAPE, np.uint8)
    inside[bounds.slices] = evidence(0)[0][bounds.slices]
    np.testing.assert_array_equal(found["clefts"], expected(inside, 141, 141, 1))


def test_nothing_found_is_an_empty_table():
    found = run_stage(STAGE, Params(), {"synapse_evidence": np.zeros((4, 5, 6, 7), np.uint8)}, (2, 3, 4), SIZE)
    assert found["cleft_sizes"]["id"].size == 0
    assert not found["clefts"].any()


@pytest.mark.parametrize("bad", [{"low": 0.0}, {"low": 0.8, "high": 0.7}, {"high": 1.1}, {"gap_nm": -1.0}])
def test_bad_parameters_are_named(bad):
    with pytest.raises(SpecError, match=next(iter(bad))):
        Params(**bad)
