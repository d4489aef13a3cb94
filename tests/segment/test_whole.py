"""The in-memory pipeline: what the stages give, and what it takes in memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from bouton.errors import DataError, SpecError
from bouton.segment.components import relabel
from bouton.segment.history import cut
from bouton.segment.whole import WholeParams, merge_history
from bouton.stages import agglomeration, fragments, segmentation
from harness import assert_same, run_stage


def tissue(seed, shape, smooth=0.8):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(3, *shape)), (0.0, smooth, smooth, smooth))
    return np.clip(np.round((128 + 90 * noise / noise.std()) / 8) * 8, 0, 255).astype(np.uint8)


def by_b(table):
    order = np.argsort(table["b"])
    return {name: values[order] for name, values in table.items()}


@pytest.mark.parametrize("min_size_voxels", [0, 6])
@pytest.mark.parametrize("block", [(16, 16, 16), (4, 5, 3)])
def test_equals_the_stages(block, min_size_voxels):
    affinities = tissue(5, (9, 11, 10))
    params = WholeParams(low=0.3, high=0.9, min_size_voxels=min_size_voxels)
    labels, merges = merge_history(affinities, params)
    inputs = {"affinities": affinities}
    found = run_stage(fragments.STAGE, fragments.Params(params.low, params.high), inputs, block)
    inputs["fragments"] = found["fragments"]
    agglomerate = agglomeration.Params(
        floor=params.floor, min_size_voxels=min_size_voxels, small_affinity=params.small_affinity
    )
    found |= run_stage(agglomeration.STAGE, agglomerate, inputs, block)
    np.testing.assert_array_equal(labels, found["fragments"])
    assert len(merges["a"]) > 10
    assert_same({"merges": merges}, {"merges": by_b(found["merges"])}, ["merges"])
    inputs = {"fragments": found["fragments"], "merges": found["merges"], "fragment_sizes": found["fragment_sizes"]}
    inputs = {name: inputs[name] for name in segmentation.STAGE.reads}
    segments = run_stage(segmentation.STAGE, segmentation.Params(threshold=0.5), inputs, block)["segmentation"]
    np.testing.assert_array_equal(relabel(labels, *cut(merges, 0.5)), segments)


@pytest.mark.parametrize("value", [0, 255])
def test_constant_affinities(value):
    labels, merges = merge_history(np.full((3, 4, 5, 6), value, np.uint8))
    assert (labels == (1 if value else 0)).all()
    assert not len(merges["a"])


def test_memory_beside_the_affinities():
    affinities = np.full((3, 128, 128, 128), 255, np.uint8)
    merge_history(affinities[:, :4])
    tracemalloc.start()
    merge_history(affinities)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 4 bytes a voxel for the labels; a few planes and tables of fixed size
    assert peak < 4 * affinities[0].size + 2**21


@pytest.mark.parametrize("bad", [{"low": 0.9, "high": 0.5}, {"floor": -1.0}, {"small_affinity": 2.0}])
def test_parameters_out_of_range(bad):
    with pytest.raises(SpecError):
        merge_history(np.zeros((3, 2, 2, 2), np.uint8), WholeParams(**bad))


def test_affinities_must_be_uint8():
    with pytest.raises(DataError, match="uint8"):
        merge_history(np.zeros((3, 2, 2, 2), np.float32))
