"""Shapes around a place: by hand on boxes and balls, and against scipy's shortest paths."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from bouton.synapse.shape_features import FEATURES, NEEDS, Patch, measure
from bouton.synapse.shape_kernels import piece_sizes, shell_counts
from bouton.synapse.shapes import contact, exits, neck_um2, radii_nm, sections_um2, spread, walk, ways_um2

SPACING = (30.0, 30.0, 30.0)
BIG = 1 << 60


def brute_walk(labels, start, reach_nm, spacing):
    """Shortest paths over the 26-neighbour graph of the voxels of the segment within reach, by scipy."""
    size = np.asarray(spacing)
    mine = np.argwhere(labels == labels[tuple(start)])
    mine = mine[(((mine - start) * size) ** 2).sum(1) <= reach_nm**2]
    number = {tuple(p): n for n, p in enumerate(mine.tolist())}
    rows, columns, lengths = [], [], []
    for p, n in number.items():
        for step in np.argwhere(np.ones((3, 3, 3))) - 1:
            other = number.get(tuple((np.array(p) + step).tolist()))
            if step.any() and other is not None:
                rows.append(n), columns.append(other), lengths.append(np.linalg.norm(step * size))
    graph = coo_array((lengths, (rows, columns)), shape=(len(mine), len(mine))).tocsr()
    far = dijkstra(graph, indices=number[tuple(start)])
    return {tuple(p): d for p, d in zip(mine.tolist(), far.tolist(), strict=True) if np.isfinite(d)}


@pytest.mark.parametrize("spacing", [(30.0, 30.0, 30.0), (40.0, 16.0, 24.0)])
def test_walks_are_shortest_paths(spacing):
    rng = np.random.default_rng(4)
    labels = np.where(rng.random((9, 14, 13)) < 0.45, BIG + 7, 3).astype(np.uint64)
    start = np.argwhere(labels == BIG + 7)[60]
    found = walk(labels, start, 170.0, spacing)
    expected = brute_walk(labels, start, 170.0, spacing)
    assert {tuple(p) for p in found.index.tolist()} == set(expected)
    np.testing.assert_allclose(found.along_nm, [expected[tuple(p)] for p in found.index.tolist()])
    flat = np.ravel_multi_index(tuple(found.index.T), labels.shape)
    assert np.all(np.diff(flat) > 0)


@pytest.mark.parametrize("spacing", [(30.0, 30.0, 30.0), (40.0, 16.0, 24.0), (8.3, 5.1, 5.1)])
@pytest.mark.parametrize("view", [False, True])
def test_a_blobs_walk_leaves_balls_and_pieces(spacing, view):
    rng = np.random.default_rng(7)
    smooth = ndimage.gaussian_filter(rng.random((26, 31, 33)), 2.0)
    labels = np.where(smooth > np.quantile(smooth, 0.6), BIG + 7, 3).astype(np.uint64)
    labels = labels[1:, :30, 2:] if view else np.ascontiguousarray(labels[1:, :30, 2:])
    start = np.argwhere(labels == BIG + 7)[900]
    reach = 9 * max(spacing)
    found = walk(labels, start, reach, spacing)
    expected = brute_walk(labels, start, reach, spacing)
    np.testing.assert_allclose(found.along_nm, [expected[tuple(p)] for p in found.index.tolist()], rtol=1e-12)
    assert len(expected) == len(found.index) > 500
    # where it goes on: a face neighbour out of the array, or of the segment and out of reach
    grown = np.pad(labels, 1, constant_values=BIG + 7)
    far = (np.stack(np.indices(grown.shape), axis=-1) - 1 - start) * spacing
    outside = (grown == BIG + 7) & ((far**2).sum(-1) > reach**2)
    outside[[0, -1]] = outside[:, [0, -1]] = outside[:, :, [0, -1]] = True
    beside = ndimage.binary_dilation(outside)[1:-1, 1:-1, 1:-1]
    np.testing.assert_array_equal(found.leaves, beside[tuple(found.index.T)])
    mask = np.zeros(labels.shape, bool)
    mask[tuple(found.index[found.leaves].T)] = True
    pieces, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    assert exits(found) == count > 1
    assert sorted(piece_sizes(np.argwhere(mask)).tolist()) == sorted(np.bincount(pieces.ravel())[1:].tolist())
    low, high = np.maximum(found.index.min(0) - 1, 0), found.index.max(0) + 2
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    ball = np.zeros(labels.shape)
    ball[part] = ndimage.distance_transform_edt(labels[part] == BIG + 7, sampling=spacing)
    np.testing.assert_allclose(radii_nm(labels, found), ball[tuple(found.index.T)], rtol=1e-12)
    shells = shell_counts(found.along_nm, 30.0, 6)
    np.testing.assert_array_equal(shells, np.histogram(found.along_nm, np.arange(7) * 30.0 - 1e-9)[0])


def test_a_rod_by_hand():
    labels = np.zeros((40, 9, 9), np.uint64)
    labels[:, 3:6, 3:6] = BIG + 1
    found = walk(labels, np.array([20, 4, 4]), 300.0, SPACING)
    assert exits(found) == 2
    assert found.volume_um3(30.0) == pytest.approx(7 * 27e-6)
    middle = (found.index == (20, 4, 4)).all(axis=1)
    assert radii_nm(labels, found)[middle] == pytest.approx(60.0)
    # 9 voxels of 30 x 30 nm across, both ways
    assert sections_um2(found, 300.0)[3] == pytest.approx(2 * 9 * 900e-6)
    assert ways_um2(found, 180.0) == pytest.approx([9 * 900e-6] * 2)
    assert ways_um2(found, 600.0) == []
    elongation, flatness = spread(found)
    assert elongation < 0.3 < 0.9 < flatness <= 1.0


def test_the_end_of_the_array_is_an_exit_and_the_end_of_the_segment_is_none():
    labels = np.zeros((20, 9, 9), np.uint64)
    labels[:15, 3:6, 3:6] = 5
    found = walk(labels, np.array([8, 4, 4]), 3000.0, SPACING)
    assert exits(found) == 1
    labels[0] = 0
    assert exits(walk(labels, np.array([8, 4, 4]), 3000.0, SPACING)) == 0


def test_contact_of_planes_and_corners():
    labels = np.full((10, 10, 10), 1, np.uint64)
    labels[:, 5:] = BIG
    frame = (np.array([4.5, 4.5, 4.5]), 1e6, SPACING)
    area, flat = contact(labels, (1, BIG), frame)
    assert area == pytest.approx(100 * 900e-6)
    assert flat == pytest.approx(1.0)
    # one voxel of background between them changes nothing, two do
    gap = labels.copy()
    gap[:, 5] = 0
    assert contact(gap, (1, BIG), frame) == pytest.approx((area, flat))
    gap[:, 6] = 0
    assert contact(gap, (1, BIG), frame) == (0.0, 0.0)
    # a voxel in the other segment is touched from all sides: no mean normal
    inside = np.full((5, 5, 5), 1, np.uint64)
    inside[2, 2, 2] = 2
    area, flat = contact(inside, (1, 2), (np.array([2.0, 2.0, 2.0]), 1e6, SPACING))
    assert (area, flat) == (0.0, 0.0)


def patch(mask: np.ndarray, **more) -> Patch:
    """A patch whose presynaptic cell lies below z = 20, the postsynaptic one (a mask) above."""
    labels = np.zeros((61, 61, 61), np.uint64)
    labels[mask] = BIG + 2
    labels[:20] = BIG + 1
    values = {
        "labels": labels, "layers": {}, "spacing_nm": SPACING, "centre": np.array([19.5, 30, 30]),
        "pre": np.array([18.0, 30, 30]), "post": np.array([21.0, 30, 30]), "pair": (BIG + 1, BIG + 2),
        "cleft_um3": 0.01,
    }  # fmt: skip
    return Patch(**(values | more))


def spine_and_shaft() -> tuple[np.ndarray, np.ndarray]:
    z, y, x = np.indices((61, 61, 61))
    head = (z - 26) ** 2 + (y - 30) ** 2 + (x - 30) ** 2 <= 36
    neck = (z >= 26) & (z < 48) & ((y - 30) ** 2 + (x - 30) ** 2 <= 2)
    trunk = (z - 52) ** 2 + (y - 30) ** 2 <= 49
    return (head | neck | trunk) & (z >= 20), ((z - 27) ** 2 + (y - 30) ** 2 <= 49) & (z >= 20)


def test_a_spine_is_small_behind_a_neck_and_a_shaft_goes_on():
    spine, shaft = (measure(patch(post), 900.0) for post in spine_and_shaft())
    assert spine["neck_um2"] < 0.02 < 0.1 < shaft["neck_um2"]
    assert spine["beyond_um2"] > 5 * spine["neck_um2"]
    assert spine["volume_450_um3"] < 0.5 * shaft["volume_450_um3"]
    assert spine["trunk_at_nm"] > 600 > shaft["trunk_at_nm"]
    assert shaft["exits"] == 2
    assert spine["second_300_um2"] == spine["second_450_um2"] == 0.0
    assert shaft["second_450_um2"] > 0.05
    assert spine["trunk_nm"] == pytest.approx(shaft["trunk_nm"], rel=0.15)


def test_missing_layers_and_partners_are_nan_and_nothing_else():
    spine, _ = spine_and_shaft()
    found = measure(patch(spine), 900.0)
    assert list(found) == list(FEATURES)
    assert {name for name, value in found.items() if np.isnan(value)} == set(NEEDS)
    lonely = measure(patch(spine, pair=(0, BIG + 2)), 900.0)
    assert np.isnan(lonely["contact_um2"]) and np.isnan(lonely["volume_pre_um3"])
    assert lonely["neck_um2"] == found["neck_um2"]
    far = measure(patch(spine, post=np.array([21.0, 5.0, 5.0])), 900.0)
    assert np.isnan(far["thickness_nm"])


def test_layers_are_shares_of_the_right_segment():
    spine, _ = spine_and_shaft()
    whole = np.ones((61, 61, 61), bool)
    evidence = np.full(whole.shape, 51, np.uint8)
    evidence[19:21, 28:33, 28:33] = 204
    layers = {"mitochondria": ~whole, "vesicles": np.indices(whole.shape)[0] < 20, "soma": whole, "cleft": evidence}
    found = measure(patch(spine, layers=layers | {"excitatory": evidence}), 900.0)
    assert (found["mitochondria_post"], found["soma_post"], found["vesicles_pre"]) == (0.0, 1.0, 1.0)
    assert found["cleft_mean"] == pytest.approx(0.8)
    assert found["excitatory"] == pytest.approx(0.8)
    dull = measure(patch(spine, layers={"cleft": evidence // 10, "excitatory": evidence}), 900.0)
    assert (dull["cleft_mean"], dull["excitatory"]) == (0.0, 0.5)


def test_a_segment_that_fills_the_patch_is_as_thick_as_that():
    labels = np.full((9, 9, 9), 4, np.uint64)
    assert radii_nm(labels, walk(labels, np.array([4, 4, 4]), 900.0, SPACING)).min() > 400
    assert neck_um2(np.array([1.0, 2.0, 3.0, 0.5, 0.7, 0.2, 0.1, 0.4, 0.9, 0.8, 0.7, 0.6, 0.05])) == (0.1, 0.9)
