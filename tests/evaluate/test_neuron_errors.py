"""Lists of split and merge errors: counted by hand, by brute force, and whatever the blocks."""

import numpy as np
import pytest

from bouton.evaluate.contingency import Contingency, count_pairs
from bouton.evaluate.error_sums import (
    CONTACT_COLUMNS,
    PART_COLUMNS,
    add_sums,
    contacts,
    contingency,
    part_sums,
    swapped,
)
from bouton.evaluate.neuron_errors import (
    ERROR_COLUMNS,
    add_places,
    merge_errors,
    split_errors,
)
from bouton.evaluate.partition import variation_of_information
from bouton.geometry import Box, Grid, voxel_ids

SIZE = (30.0, 10.0, 10.0)


def measured(truth, seg, block=None):
    """Sums over blocks of parts, and contacts of splits and of merges."""
    truth, seg = truth.astype(np.uint64), seg.astype(np.uint64)
    bounds = Box.of_shape(truth.shape)
    grid = Grid(bounds, block or truth.shape)
    found = []
    for index in grid:
        core = grid.core(index)
        box = core.grow((1, 1, 1)) & bounds
        t, s = (np.ascontiguousarray(array[box.slices]) for array in (truth, seg))
        inner = [np.ascontiguousarray(array[core.slices]) for array in (truth, seg)]
        sums = part_sums(*inner, core, truth.shape)
        found.append((sums, contacts(t, s, core, box, truth.shape), contacts(s, t, core, box, truth.shape)))
    columns = (PART_COLUMNS, CONTACT_COLUMNS, CONTACT_COLUMNS)
    return [add_sums(tables, kinds) for tables, kinds in zip(zip(*found, strict=True), columns, strict=True)]


def errors(truth, seg, listed=1000):
    parts, splits, merges = measured(truth, seg)
    bounds, shape = Box.of_shape(truth.shape), truth.shape
    arrays = truth.astype(np.uint64), seg.astype(np.uint64)
    found = []
    for which, touching, order in ((split_errors, splits, (0, 1)), (merge_errors, merges, (1, 0))):
        rows = which(parts if which is split_errors else swapped(parts), touching, listed)
        read = lambda box, order=order: tuple(arrays[i][box.slices] for i in order)  # noqa: E731
        found.append(add_places(rows, read, bounds, shape, SIZE))
    return found


def tissue(seed, shape=(6, 9, 10)):
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 5, (3, 3, 3)), np.ones((4, 4, 4), int))[tuple(slice(n) for n in shape)]
    seg = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, 7, shape))
    ids = rng.integers(1, 2**63, 8).astype(np.uint64)
    ids[0] = 0
    return ids[truth], ids[seg]


def test_a_neuron_cut_in_three_by_hand():
    truth, seg = np.ones((1, 4, 10), np.uint64), np.ones((1, 4, 10), np.uint64)
    seg[:, :, 5:8], seg[:, :, 8:] = 2, 3
    splits, merges = errors(truth, seg)
    assert len(merges["object"]) == 0
    assert splits["part"].tolist() == [2, 3]
    assert splits["voxels"].tolist() == [12, 8]
    assert splits["share"].tolist() == [0.3, 0.2]
    assert splits["parts"].tolist() == [3, 3]
    assert splits["largest"].tolist() == [1, 1]
    # 2 meets 1 and 3, of which 1 is the larger; 3 meets 2.
    assert splits["neighbour"].tolist() == [1, 2]
    assert splits["faces"].tolist() == [4, 4]
    # Upper voxels at x = 5 and x = 8; the mean y is 1.5, of the nearest two the first counts.
    assert splits["x_voxel"].tolist() == [5, 8]
    assert splits["y_voxel"].tolist() == [1, 1]
    assert splits["x_nm"].tolist() == [55.0, 85.0]
    assert splits["z_nm"].tolist() == [15.0, 15.0]


def test_a_film_with_many_faces_is_not_the_place():
    truth, seg = np.ones((1, 6, 30), np.uint64), np.ones((1, 6, 30), np.uint64)
    seg[:, :, 20:], seg[:, 5, :] = 2, 3
    splits, _ = errors(truth, seg)
    row = splits["part"].tolist().index(2)
    # 2 shares 10 faces with the film 3, five with the body 1.
    assert (splits["neighbour"][row], splits["faces"][row], splits["x_voxel"][row]) == (1, 5, 20)


def test_two_neurons_in_a_segment_by_hand():
    truth, seg = np.full((3, 4, 4), 7, np.uint64), np.full((3, 4, 4), 5, np.uint64)
    truth[2] = 8
    splits, merges = errors(truth, seg)
    assert len(splits["object"]) == 0
    assert (merges["object"].tolist(), merges["part"].tolist()) == ([5], [8])
    assert (merges["largest"].tolist(), merges["neighbour"].tolist(), merges["faces"].tolist()) == ([7], [7], [16])
    assert (merges["z_voxel"].tolist(), merges["voxels"].tolist()) == ([2], [16])
    assert merges["share"].tolist() == [pytest.approx(1 / 3)]


def test_bits_are_what_correcting_the_error_gains():
    truth, seg = tissue(1)
    splits, merges = errors(truth, seg)
    assert len(splits["object"]) > 10 and len(merges["object"]) > 10
    table = count_pairs(truth, seg)
    before = variation_of_information(table)
    for i in range(len(splits["object"])):
        joined = table.segment.copy()
        at = (table.truth == splits["object"][i]) & (table.segment == splits["part"][i])
        joined[at] = splits["largest"][i]
        # The pair may occur twice now: in terms of voxels it is one row.
        keys, rows = np.unique(np.stack([table.truth, joined], axis=1), axis=0, return_inverse=True)
        after = Contingency(keys[:, 0], keys[:, 1], np.bincount(rows.ravel(), table.count).astype(np.int64))
        assert splits["bits"][i] == pytest.approx(before.split - variation_of_information(after).split, abs=1e-9)
    for i in range(len(merges["object"])):
        cut = table.segment.copy()
        cut[(table.segment == merges["object"][i]) & (table.truth == merges["part"][i])] = 2**64 - 1
        after = Contingency(table.truth, cut, table.count)
        assert merges["bits"][i] == pytest.approx(before.merge - variation_of_information(after).merge, abs=1e-9)


def test_every_error_is_listed_worst_first_and_the_list_is_cut():
    truth, seg = tissue(2)
    splits, merges = errors(truth, seg)
    pairs = {(int(t), int(s)) for t, s in zip(truth.ravel(), seg.ravel(), strict=True) if t}
    largest = {int(o): int(m) for o, m in zip(splits["object"], splits["largest"], strict=True)}
    named = {*zip(splits["object"].tolist(), splits["part"].tolist(), strict=True)}
    assert named == {(t, s) for t, s in pairs if s and largest.get(t) != s and len([1 for a, b in pairs if a == t]) > 1}
    assert (np.diff(splits["bits"]) <= 0).all() and (np.diff(merges["bits"]) <= 0).all()
    for rows in (splits, merges):
        assert list(rows) == list(ERROR_COLUMNS)
        assert {name: values.dtype.name for name, values in rows.items()} == ERROR_COLUMNS
    few = errors(truth, seg, 5)[0]
    assert {name: values[:5].tolist() for name, values in splits.items()} == {k: v.tolist() for k, v in few.items()}


def faces(objects, parts, own, a, b):
    """Upper voxels of the faces between two parts of an object, one by one."""
    found = []
    for p in np.ndindex(*objects.shape):
        for axis in range(3):
            q = tuple(v - (i == axis) for i, v in enumerate(p))
            if min(q) >= 0 and objects[p] == own == objects[q] and {int(parts[p]), int(parts[q])} == {int(a), int(b)}:
                found.append(p)
    return np.array(found)


@pytest.mark.parametrize("seed", [3, 4])
def test_places_and_neighbours_against_brute_force(seed):
    truth, seg = tissue(seed)
    for rows, objects, parts in zip(errors(truth, seg), (truth, seg), (seg, truth), strict=True):
        assert (rows["faces"] > 0).any()
        for i in range(len(rows["object"])):
            own, part = rows["object"][i], rows["part"][i]
            others = {int(v) for v in np.unique(parts[objects == own])} - {int(part), 0}
            counts = {b: len(faces(objects, parts, own, part, b)) for b in others}
            sizes = {b: ((objects == own) & (parts == b)).sum() for b in others if counts[b]}
            best = min(sizes, key=lambda b: (-sizes[b], -counts[b], b), default=0)
            touches = best != 0
            assert rows["faces"][i] == counts.get(best, 0)
            assert rows["neighbour"][i] == (best if touches else 0)
            at = faces(objects, parts, own, part, best) if touches else np.argwhere((objects == own) & (parts == part))
            away = np.sqrt((((at - at.mean(axis=0)) * SIZE) ** 2).sum(axis=1))
            place = np.array([rows[f"{axis}_voxel"][i] for axis in "zyx"])
            assert np.sqrt((((place - at.mean(axis=0)) * SIZE) ** 2).sum()) == pytest.approx(away.min())
            assert (at == place).all(axis=1).any()


@pytest.mark.parametrize("block", [(1, 1, 1), (2, 3, 4), (6, 9, 3), (5, 9, 10)])
def test_sums_do_not_depend_on_blocks(block):
    truth, seg = tissue(5)
    for whole, blocked in zip(measured(truth, seg), measured(truth, seg, block), strict=True):
        assert len(whole["object"]) > 5
        for name in whole:
            np.testing.assert_array_equal(whole[name], blocked[name])


def test_sums_against_brute_force():
    truth, seg = tissue(6)
    parts = measured(truth, seg)[0]
    ids = voxel_ids(Box.of_shape(truth.shape), truth.shape)
    for row in zip(*parts.values(), strict=True):
        at = (truth == row[0]) & (seg == row[1])
        assert row[2] == at.sum()
        assert list(row[3:6]) == np.argwhere(at).sum(axis=0).tolist()
        assert row[6] == ids[at].min()
    table, expected = contingency(parts), count_pairs(truth, seg)
    assert np.array_equal(table.truth, expected.truth) and np.array_equal(table.count, expected.count)


def test_a_piece_that_touches_nothing_and_whose_mean_is_far_from_it():
    """A ring with its mean in the middle of another neuron: no voxel within reach, so the first in order."""
    truth = np.full((1, 200, 200), 2, np.uint64)
    truth[:, 3:197, 3:197] = 1
    truth[:, 5:195, 5:195] = 2
    truth[:, 40:45, 40:140] = 1
    seg = np.full(truth.shape, 4, np.uint64)
    seg[truth == 1] = 9
    seg[:, 40:45, 40:140][truth[:, 40:45, 40:140] == 1] = 8
    ring = 4 * 194 * 2 - 16
    splits, merges = errors(truth, seg)
    assert (splits["part"].tolist(), splits["voxels"].tolist()) == ([8], [500])
    assert (splits["faces"].tolist(), splits["neighbour"].tolist()) == ([0], [0])
    # The middle of a bar of 5 x 100: y 42, x 89 or 90 (the mean is 89.5).
    assert [splits[f"{axis}_voxel"][0] for axis in "zyx"] == [0, 42, 89]
    assert len(merges["object"]) == 0
    seg[:, 40:45, 40:140], truth[:, 40:45, 40:140] = 4, 2
    truth[:, 40:190, 40:60] = 1
    seg[:, 40:190, 40:60] = 8
    splits, _ = errors(truth, seg)
    assert (splits["part"].tolist(), splits["voxels"].tolist()) == ([9], [ring])
    assert [splits[f"{axis}_voxel"][0] for axis in "zyx"] == [0, 3, 3]


def test_unsegmented_voxels_are_no_piece():
    truth, seg = np.ones((1, 2, 9), np.uint64), np.zeros((1, 2, 9), np.uint64)
    seg[:, :, :2], seg[:, :, 7:8] = 5, 6
    splits, merges = errors(truth, seg)
    assert (splits["part"].tolist(), splits["largest"].tolist(), splits["parts"].tolist()) == ([6], [5], [2])
    assert splits["share"].tolist() == [pytest.approx(2 / 18)]
    assert len(merges["object"]) == 0


@pytest.mark.parametrize("value", [0, 3])
def test_nothing_wrong_gives_empty_lists(value):
    labels = np.full((2, 3, 4), value, np.uint64)
    for rows in errors(labels, labels):
        assert all(len(values) == 0 for values in rows.values())
        assert {name: values.dtype.name for name, values in rows.items()} == ERROR_COLUMNS
