"""Which cleft a voxel belongs to, against the definition."""

import numpy as np
import pytest

from bouton.geometry import Box
from bouton.synapse.ownership import owned, owners

SIZES = [(10.0, 10.0, 10.0), (30.0, 10.0, 10.0), (33.3, 7.1, 7.1)]


def brute_force(clefts, reach_nm, voxel_size_nm):
    size = np.asarray(voxel_size_nm)
    at = np.argwhere(clefts)
    owner = np.zeros(clefts.shape, np.uint64)
    for q in np.ndindex(clefts.shape):
        squared = (((at - q) * size) ** 2).sum(1)
        near = squared <= reach_nm**2 * (1 + 1e-9)
        if near.any():
            best = at[near & (squared == squared[near].min())]
            owner[q] = min(clefts[tuple(p)] for p in best)
    return owner


def scattered(seed, shape=(9, 11, 12)):
    rng = np.random.default_rng(seed)
    clefts = np.zeros(shape, np.uint64)
    for label in (7, 3, 2**63 + 5):
        z, y, x = (int(rng.integers(0, n - 3)) for n in shape)
        clefts[z : z + 2, y : y + 3, x : x + 4] = label
    return clefts


@pytest.mark.parametrize("voxel_size_nm", SIZES)
@pytest.mark.parametrize("reach_nm", [0.0, 20.0, 40.0])
def test_against_the_definition(voxel_size_nm, reach_nm):
    for seed in range(3):
        clefts = scattered(seed)
        found = owners(clefts, Box.of_shape(clefts.shape), reach_nm, voxel_size_nm)
        assert found.dtype == np.uint64
        np.testing.assert_array_equal(found, brute_force(clefts, reach_nm, voxel_size_nm))


def test_a_core_in_its_halo_sees_what_the_whole_sees():
    clefts = scattered(1)
    whole = owners(clefts, Box.of_shape(clefts.shape), 30.0, (30.0, 10.0, 10.0))
    core = Box((2, 4, 4), (6, 8, 9))
    window = core.grow((1, 3, 3)) & Box.of_shape(clefts.shape)
    part = owners(clefts[window.slices], core.within(window), 30.0, (30.0, 10.0, 10.0))
    np.testing.assert_array_equal(part, whole[core.slices])


def test_equally_near_clefts_go_to_the_smaller_id():
    clefts = np.zeros((1, 1, 5), np.uint64)
    clefts[0, 0, [0, 4]] = [9, 4]
    assert owners(clefts, Box.of_shape(clefts.shape), 50.0, (1.0, 1.0, 10.0)).ravel().tolist() == [9, 9, 4, 4, 4]


def test_voxels_at_the_reach_itself_belong():
    clefts = np.zeros((3, 3, 3), np.uint64)
    clefts[1, 1, 1] = 6
    assert np.count_nonzero(owners(clefts, Box.of_shape(clefts.shape), 10.0, (10.0, 10.0, 10.0))) == 7
    assert np.count_nonzero(owners(clefts, Box.of_shape(clefts.shape), 0.3, (0.1, 10.0, 10.0))) == 3


def test_far_apart_clefts_of_one_row_and_the_extents():
    clefts = np.zeros((2, 1, 60), np.uint64)
    clefts[0, 0, [3, 4, 40, 59]] = [5, 8, 2, 9]
    found = owned(clefts, Box((0, 0, 1), (2, 1, 60)), 30.0, (40.0, 10.0, 10.0))
    np.testing.assert_array_equal(found.owner, brute_force(clefts, 30.0, (40.0, 10.0, 10.0))[:, :, 1:])
    assert (found.first.tolist(), found.last.tolist()) == ([[0], [0]], [[59], [0]])
    assert not found.is_empty
    assert owned(clefts * np.uint64(0), Box.of_shape(clefts.shape), 30.0, (40.0, 10.0, 10.0)).is_empty
