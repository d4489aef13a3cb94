"""Components: against scipy, across blocks, and on hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bouton.geometry import Box, Grid, voxel_ids
from bouton.segment.components import face_pairs, join, label_components, relabel


def by_first_voxel(mask):
    """scipy's components, each labelled by its first voxel's id."""
    labels, count = ndimage.label(mask)
    ids = voxel_ids(Box.of_shape(mask.shape), mask.shape)
    first = np.zeros(count + 1, np.uint64)
    for label in range(1, count + 1):
        first[label] = ids[labels == label].min()
    return first[labels]


@pytest.mark.parametrize("density", [0.0, 0.2, 0.35, 0.6, 1.0])
def test_one_block_equals_scipy(density):
    mask = np.random.default_rng(1).random((7, 9, 11)) < density
    np.testing.assert_array_equal(label_components(mask, Box.of_shape(mask.shape), mask.shape), by_first_voxel(mask))


@pytest.mark.parametrize("block", [(3, 3, 3), (1, 9, 11), (7, 1, 5), (2, 5, 1), (20, 20, 20)])
@pytest.mark.parametrize("density", [0.25, 0.35, 0.5])
def test_blocks_do_not_matter(block, density):
    mask = np.random.default_rng(2).random((7, 9, 11)) < density
    whole = Box.of_shape(mask.shape)
    labels = np.zeros(mask.shape, np.uint64)
    grid = Grid(whole, block)
    for index in grid:
        core = grid.core(index)
        labels[core.slices] = label_components(mask[core.slices], core, mask.shape)
    ids = roots = np.zeros(0, np.uint64)
    for index in grid:
        core = grid.core(index)
        box = core.grow((1, 1, 1)) & whole
        a, b = face_pairs(labels[box.slices], core.within(box))
        ids, roots = join(np.concatenate([a, ids]), np.concatenate([b, roots]))
    np.testing.assert_array_equal(relabel(labels, ids, roots), by_first_voxel(mask))


def test_ids_of_a_box_inside_a_data_set():
    mask = np.ones((2, 2, 2), bool)
    labels = label_components(mask, Box((1, 1, 1), (3, 3, 3)), (4, 5, 6))
    assert np.unique(labels).tolist() == [1 * 30 + 1 * 6 + 1 + 1]


def test_ids_beyond_the_integers_of_float64():
    shape = (2**21, 2**20, 2**20)
    box = Box((2**20, 5, 7), (2**20 + 1, 6, 10))
    mask = np.array([[[True, False, True]]])
    assert label_components(mask, box, shape).ravel().tolist() == [2**60 + 5 * 2**20 + 8, 0, 2**60 + 5 * 2**20 + 10]


def test_join_gives_the_smallest_label():
    a, b = np.array([5, 9, 7], np.uint64), np.array([9, 2, 7], np.uint64)
    ids, roots = join(a, b)
    assert ids.tolist() == [5, 9]
    assert roots.tolist() == [2, 2]


def test_join_is_associative():
    rng = np.random.default_rng(3)
    a, b = rng.integers(1, 2**60, (2, 40)).astype(np.uint64) // np.uint64(2**55) + np.uint64(2**63)
    once = join(a, b)
    first = join(a[:20], b[:20])
    twice = join(np.concatenate([a[20:], first[0]]), np.concatenate([b[20:], first[1]]))
    np.testing.assert_array_equal(once, twice)


def test_no_pairs():
    nothing = np.zeros(0, np.uint64)
    ids, roots = join(nothing, nothing)
    labels = np.array([[3, 0]], np.uint64)
    np.testing.assert_array_equal(relabel(labels, ids, roots), labels)
