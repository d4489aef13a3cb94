"""The blocks do not matter: fragments, agglomeration and segmentation are the same bits for every block shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bouton.geometry import Box
from bouton.stages import fragments
from harness import assert_same, run_stage
from segment import oracle

BLOCKS = [(3, 4, 5), (1, 7, 7), (2, 3, 1), (7, 1, 3), (5, 5, 2), (1, 1, 1)]


def tissue(seed, shape, smooth=1.0):
    """Smooth random affinities with many ties, plateaus of 0 and of 255."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(3, *shape)), (0.0, smooth, smooth, smooth))
    scaled = 128 + 90 * noise / max(noise.std(), 1e-9)
    return (np.clip(np.round(scaled / 8) * 8, 0, 255)).astype(np.uint8)


cases = {
    "seed": st.integers(0, 10**6),
    "shape": st.tuples(st.integers(1, 8), st.integers(1, 9), st.integers(1, 9)),
    "block": st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6)),
    "smooth": st.sampled_from([0.0, 0.7, 1.5]),
}


@settings(max_examples=40, deadline=None)
@given(**cases)
def test_fragments(seed, shape, block, smooth):
    affinities = tissue(seed, shape, smooth)
    params = fragments.Params(low=0.3, high=0.9)
    blocked = run_stage(fragments.STAGE, params, {"affinities": affinities}, block, seed=seed)["fragments"]
    np.testing.assert_array_equal(blocked, oracle.fragments(affinities, 0.3, 0.9))


@pytest.mark.parametrize("block", BLOCKS)
def test_fragments_of_a_box_inside_the_data(block):
    affinities = tissue(4, (8, 9, 10))
    bounds = Box((1, 2, 3), (8, 8, 10))
    run = {"bounds": bounds, "seed": 1}
    whole = run_stage(fragments.STAGE, fragments.Params(), {"affinities": affinities}, (16, 16, 16), **run)
    blocked = run_stage(fragments.STAGE, fragments.Params(), {"affinities": affinities}, block, **run)
    assert whole["fragments"].any()
    assert_same(whole, blocked, ["fragments"])
