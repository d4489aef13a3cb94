"""Region graph and sizes: against brute force, and added up over blocks."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.geometry import Box, Grid
from bouton.segment import region_graph as rg
from harness import assert_same
from segment import oracle


def random_volume(seed, shape, labels):
    rng = np.random.default_rng(seed)
    affinities = rng.integers(0, 256, (3, *shape)).astype(np.uint8)
    ids = np.concatenate([[0], rng.integers(1, 2**63, labels, dtype=np.uint64)]).astype(np.uint64)
    return affinities, ids[rng.integers(0, len(ids), shape)]


@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 9, 9), (7, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("count", [1, 3, 200])
def test_edges_equal_brute_force(shape, count):
    affinities, labels = random_volume(3, shape, count)
    found = rg.region_graph(labels, affinities, Box.of_shape(shape))
    expected = oracle.region_graph(affinities, labels)
    rows = [*zip(*(found[name].tolist() for name in rg.EDGE_COLUMNS), strict=True)]
    assert rows == [(*pair, *expected[pair]) for pair in sorted(expected)]


def test_a_table_that_must_grow():
    rng = np.random.default_rng(5)
    labels = np.arange(1, 30**3 + 1, dtype=np.uint64).reshape(30, 30, 30)
    affinities = rng.integers(0, 256, (3, 30, 30, 30)).astype(np.uint8)
    found = rg.region_graph(labels, affinities, Box.of_shape(labels.shape))
    assert len(found["a"]) == 3 * 29 * 30 * 30
    assert found["affinity_sum"].sum() == sum(int(affinities[c].take(range(1, 30), axis=c).sum()) for c in range(3))
    assert len(rg.fragment_sizes(labels, Box.of_shape(labels.shape))["id"]) == 30**3


def test_sizes_equal_brute_force():
    _, labels = random_volume(4, (5, 6, 7), 12)
    box = Box((10, 20, 30), (15, 26, 37))
    found = rg.fragment_sizes(labels, box)
    assert found["id"].tolist() == sorted(set(labels[labels != 0].tolist()))
    for row, label in enumerate(found["id"]):
        place = np.argwhere(labels == label) + box.start
        assert found["voxels"][row] == len(place)
        assert [found[f"{axis}_start"][row] for axis in "zyx"] == place.min(axis=0).tolist()
        assert [found[f"{axis}_stop"][row] for axis in "zyx"] == (place.max(axis=0) + 1).tolist()


@pytest.mark.parametrize("block", [(2, 3, 4), (1, 6, 7), (5, 1, 1)])
def test_blocks_add_up(block):
    affinities, labels = random_volume(6, (5, 6, 7), 9)
    whole = Box.of_shape(labels.shape)
    graphs, sizes = [], []
    for index in Grid(whole, block):
        core = Grid(whole, block).core(index)
        box = core.grow((1, 1, 1)) & whole
        inside = affinities[(slice(None), *core.slices)]
        graphs.append(rg.region_graph(labels[box.slices], inside, core.within(box)))
        sizes.append(rg.fragment_sizes(labels[core.slices], core))
    expected = {"edges": rg.region_graph(labels, affinities, whole), "sizes": rg.fragment_sizes(labels, whole)}
    assert_same({"edges": rg.add_edges(graphs), "sizes": rg.add_sizes(sizes[::-1])}, expected, ["edges", "sizes"])


def test_faces_of_the_bounds_do_not_freeze():
    labels = np.array([[[1, 2, 3, 4]]], np.uint64)
    sizes = rg.fragment_sizes(labels, Box((0, 0, 4), (1, 1, 8)))
    bounds = Box((0, 0, 0), (1, 1, 12))
    assert rg.touches_face(sizes, Box((0, 0, 4), (1, 1, 8)), bounds).tolist() == [True, False, False, True]
    assert rg.touches_face(sizes, Box((0, 0, 0), (1, 1, 8)), bounds).tolist() == [False, False, False, True]
    assert rg.touches_face(sizes, bounds, bounds).tolist() == [False] * 4


def test_affinities_must_be_uint8():
    with pytest.raises(DataError, match="float32"):
        rg.region_graph(np.zeros((2, 2, 2), np.uint64), np.zeros((3, 2, 2, 2), np.float32), Box.of_shape((2, 2, 2)))


def test_narrow_labels_give_the_same_rows():
    affinities, labels = random_volume(8, (6, 7, 8), 30)
    narrow = np.searchsorted(np.unique(labels), labels)
    whole = Box.of_shape(labels.shape)
    expected = rg.region_graph(narrow.astype(np.uint64), affinities, whole)
    assert_same({"edges": rg.region_graph(narrow.astype(np.uint32), affinities, whole)}, {"edges": expected}, ["edges"])


def test_one_fragment_with_thousands_of_neighbours():
    labels = np.arange(2, 2 + 9 * 40 * 40, dtype=np.uint64).reshape(9, 40, 40)
    np.random.default_rng(1).shuffle(labels.ravel())
    labels[::2] = 1
    affinities = np.full((3, *labels.shape), 7, np.uint8)
    found = rg.region_graph(labels, affinities, Box.of_shape(labels.shape))
    expected = oracle.region_graph(affinities, labels)
    assert np.count_nonzero(found["a"] == 1) == 4 * 40 * 40
    assert list(zip(found["a"].tolist(), found["b"].tolist(), strict=True)) == sorted(expected)


def test_a_long_contact_is_counted_exactly():
    labels = np.ones((2, 300, 300), np.uint64)
    labels[1] = 2
    affinities = np.random.default_rng(2).integers(0, 255, (3, *labels.shape)).astype(np.uint8)
    found = rg.region_graph(labels, affinities, Box.of_shape(labels.shape))
    between = affinities[0, 1]
    row = [int(found[name][0]) for name in ("affinity_sum", "affinity_count", "affinity_max")]
    assert row == [int(between.sum()), 90000, int(between.max())]
