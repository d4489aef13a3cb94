"""The stage ``phantom``: blocks do not show, and equal the kernel's answer for the whole."""

from __future__ import annotations

import numpy as np
import pytest

from bouton import SpecError
from bouton.geometry import Box
from bouton.phantom import PhantomParams, TissueParams, generate
from bouton.stage import BlockTask
from bouton.stages.phantom import STAGE

SHAPE, SIZE = (24, 120, 150), (30.0, 10.0, 10.0)


def _task(core: Box) -> BlockTask:
    return BlockTask(TissueParams(seed=3), Box.of_shape(SHAPE), SHAPE, SIZE, {}, lambda name: {}, core)


def test_a_block_is_a_cutout_of_the_whole() -> None:
    whole = generate(Box.of_shape(SHAPE), PhantomParams(seed=3, voxel_size_nm=SIZE))
    core = Box((7, 30, 101), (24, 120, 150))
    found = STAGE.parts[0].run(_task(core))
    for name in STAGE.layers(TissueParams()):
        assert np.array_equal(found.layers[name], getattr(whole, name)[core.slices]), name


def test_rows_are_merged_in_order_of_id() -> None:
    from harness import assert_same, run_stage

    one = run_stage(STAGE, TissueParams(seed=3), {}, SHAPE, SIZE, shape=SHAPE)
    many = run_stage(STAGE, TissueParams(seed=3), {}, (13, 64, 70), SIZE, shape=SHAPE)
    assert_same(one, many, list(STAGE.writes))
    ids = one["synapses"]["id"]
    assert len(ids) >= 1
    assert np.all(np.diff(ids.astype(np.int64)) > 0)


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(SpecError, match="defect"):
        TissueParams(defects=("hole",))
