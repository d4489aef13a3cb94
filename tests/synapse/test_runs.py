"""Components by runs: against scipy, at every width around a stripe, and what is summed, painted and bridged."""

import numpy as np
import pytest
from scipy import ndimage

from bouton.geometry import Box, voxel_ids
from bouton.synapse.runs import (
    border_voxels,
    bridge,
    keep_values,
    label_runs,
    links,
    near_border,
    paint,
    places,
    sum_parts,
)

RANK = {6: 1, 18: 2, 26: 3}


def noise(shape, density, seed=0):
    values = np.random.default_rng(seed).integers(1, 256, shape, np.uint8)
    return np.where(np.random.default_rng(seed + 1).random(shape) < density, np.maximum(values, 100), values // 3)


def by_first_voxel(mask, structure):
    labels, count = ndimage.label(mask, structure)
    first = np.zeros(count + 1, np.uint64)
    for label in range(1, count + 1):
        first[label] = np.flatnonzero(labels == label)[0] + 1
    return first[labels]


def label(values, connectivity=6, box=None, shape=None, **more):
    box = box or Box.of_shape(values.shape)
    return label_runs(values, 100, links(connectivity, **more), box, shape or values.shape)


@pytest.mark.parametrize("width", [1, 2, 63, 64, 65, 127, 128, 129, 200])
@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 0.9, 1.0])
def test_labels_equal_scipy_at_every_width(width, density):
    values = noise((3, 4, width), density)
    runs = label(values)
    np.testing.assert_array_equal(
        paint(runs, runs.labels, values, 100), by_first_voxel(values >= 100, ndimage.generate_binary_structure(3, 1))
    )


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("lowest", [1, 100, 255])
def test_labels_equal_scipy_for_each_neighbourhood(connectivity, lowest):
    values = noise((6, 9, 70), 0.12, seed=connectivity)
    values[values == 100] = 255
    runs = label_runs(values, lowest, links(connectivity), Box.of_shape(values.shape), values.shape)
    structure = ndimage.generate_binary_structure(3, RANK[connectivity])
    np.testing.assert_array_equal(paint(runs, runs.labels, values, lowest), by_first_voxel(values >= lowest, structure))


def test_sections_apart():
    values = noise((5, 8, 9), 0.4)
    runs = label(values, 26, flat=True)
    found = paint(runs, runs.labels, values, 100)
    structure = ndimage.generate_binary_structure(3, 3)
    structure[[0, 2]] = False
    np.testing.assert_array_equal(found, by_first_voxel(values >= 100, structure))


def test_gaps_of_sections():
    values = np.zeros((6, 1, 3), np.uint8)
    values[[0, 3], 0, 1] = 200
    values[5, 0, 2] = 200
    for gap, count in ((0, 3), (1, 3), (2, 2), (4, 2)):
        assert len(set(label(values, gap_sections=gap).labels)) == count


def test_an_array_that_is_not_contiguous():
    values = noise((4, 10, 90), 0.3)
    part = values[1:, 2:9, 5:80]
    np.testing.assert_array_equal(label(part).labels, label(part.copy()).labels)


def test_sums_equal_brute_force():
    values, box, shape = noise((4, 6, 80), 0.25), Box((7, 8, 9), (11, 14, 89)), (40, 50, 1000)
    runs = label(values, 18, box, shape)
    parts, labels, ids = sum_parts(runs, values, 100, box, shape), paint(runs, runs.labels, values, 100), None
    ids = voxel_ids(box, shape)
    assert parts["root"].tolist() == sorted(set(labels[labels > 0].tolist()))
    for i, root in enumerate(parts["root"]):
        z, y, x = np.nonzero(labels == root)
        assert parts["component"][i] == root == parts["first"][i] == ids[labels == root].min()
        sums = [len(z), (z + 7).sum(), (y + 8).sum(), (x + 9).sum(), values[labels == root].max()]
        assert [parts[name][i] for name in ("voxels", "z", "y", "x", "peak")] == sums
        assert (parts["low_z"][i], parts["high_z"][i]) == (z.min() + 7, z.max() + 7)


@pytest.mark.parametrize("reach", [(1, 1, 1), (3, 1, 1), (0, 1, 1)])
def test_borders_equal_brute_force(reach):
    bounds, shape, box = Box((0, 0, 0), (9, 40, 90)), (9, 50, 90), Box((4, 10, 0), (8, 20, 70))
    values = noise(box.shape, 0.2)
    runs = label(values, 6, box, shape)
    found = border_voxels(runs, reach, box, bounds, shape)
    z, y, x = np.nonzero(values >= 100)
    # the box begins where the bounds do along x, and ends one voxel before them along z
    near = (z < reach[0]) | (z >= 4 - reach[0]) | (y < 1) | (y >= 9) | (x >= 69)
    ids, labels = voxel_ids(box, shape)[z, y, x], paint(runs, runs.labels, values, 100)[z, y, x]
    assert dict(zip(found["voxel"].tolist(), found["root"].tolist(), strict=True)) == dict(
        zip(ids[near].tolist(), labels[near].tolist(), strict=True)
    )
    np.testing.assert_array_equal(near_border(ids, reach, box, bounds, shape), near)
    np.testing.assert_array_equal(np.stack(places(ids, shape)), np.stack([z + 4, y + 10, x]))


@pytest.mark.parametrize("gap_nm", [10.0, 19.0, 20.0, 44.0, 60.0, 130.0])
def test_bridges_equal_the_distance_transform(gap_nm):
    values, size = noise((7, 14, 70), 0.01), (30.0, 10.0, 6.0)
    found = bridge(values, 100, gap_nm, size)
    distance = ndimage.distance_transform_edt(values < 100, sampling=size)
    np.testing.assert_array_equal(found > 0, distance <= gap_nm / 2 + 1e-6)


def test_values_of_deleted_runs_go():
    values = noise((2, 3, 70), 0.2)
    runs = label(values)
    kept = runs.labels % 2 == 0
    labels = paint(runs, runs.labels, values, 100)
    np.testing.assert_array_equal(
        keep_values(runs, kept, values), np.where((labels > 0) & (labels % 2 == 0), values, 0)
    )
