"""Centre lines of bodies whose lines are known: a tube, a Y, a ring, neighbours, anisotropic voxels."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from bouton.evaluate.centrelines import LineRule, centre_lines
from bouton.evaluate.skeletons import SKELETON_COLUMNS, overlap


def distance_to(points, a, b):
    """From each grid point to the segment a-b."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    t = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    return np.linalg.norm(points - (a + t[:, None] * (b - a)), axis=1)


def draw(shape, capsules, size=(10.0, 10.0, 10.0)):
    """Labels of capsules (id, a, b, radius), nm."""
    points = (np.indices(shape).reshape(3, -1) + 0.5).T * size
    labels = np.zeros(len(points), np.uint64)
    for number, a, b, radius in capsules:
        labels[distance_to(points, a, b) <= radius] = number
    return labels.reshape(shape)


def place(table):
    return np.stack([table[f"{axis}_nm"] for axis in "zyx"], axis=1)


def degrees(table):
    """Neighbours of every node."""
    rows = np.arange(len(table["node"]))
    row_of = {(s, n): i for s, n, i in zip(table["skeleton"].tolist(), table["node"].tolist(), rows, strict=True)}
    child = np.flatnonzero(table["parent"] >= 0)
    parent = [row_of[table["skeleton"][i].item(), table["parent"][i].item()] for i in child]
    return np.bincount(np.append(child, parent).astype(int), minlength=len(rows))


def length(table):
    return overlap(table, np.ones(len(table["node"]), np.uint64)).length_nm


def check_inside(table, labels, size=(10.0, 10.0, 10.0), origin=(0, 0, 0)):
    voxel = np.floor(place(table) / size).astype(int) - origin
    assert np.array_equal(labels[tuple(voxel[:, i] for i in range(3))], table["skeleton"])


def test_a_tube_is_a_line_in_its_middle():
    a, b = (200, 200, 200), (200, 200, 1800)
    labels = draw((40, 40, 200), [(7, a, b, 80)])
    table = centre_lines(labels, (10, 10, 10))
    assert list(table) == list(SKELETON_COLUMNS)
    assert {name: values.dtype.name for name, values in table.items()} == SKELETON_COLUMNS
    check_inside(table, labels)
    assert sorted(degrees(table))[:3] == [1, 1, 2]
    assert degrees(table).max() == 2
    # 1,600 nm and a radius of 80 nm at both ends
    assert 1600 <= length(table)[0] <= 1760 * 1.06
    assert np.median(distance_to(place(table), a, b)) <= 15
    assert distance_to(place(table), a, b).max() <= 80


def test_a_y_has_one_fork_and_three_ends():
    fork = (200, 600, 1000)
    ends = [(200, 600, 150), (200, 150, 1800), (200, 1050, 1800)]
    labels = draw((40, 120, 200), [(3, fork, end, 70) for end in ends])
    table = centre_lines(labels, (10, 10, 10))
    check_inside(table, labels)
    found = degrees(table)
    assert (found == 1).sum() == 3
    assert (found == 3).sum() == 1
    assert np.linalg.norm(place(table)[found == 3][0] - fork) < 150
    true = sum(np.linalg.norm(np.subtract(fork, end)) for end in ends)
    assert true * 0.98 <= length(table)[0] <= (true + 3 * 70) * 1.08


def test_a_ring_becomes_a_tree_that_goes_round():
    angles = np.linspace(0, 2 * np.pi, 41)
    points = [(150, 800 + 500 * np.sin(t), 800 + 500 * np.cos(t)) for t in angles]
    labels = draw((30, 160, 160), [(9, a, b, 60) for a, b in pairwise(points)])
    table = centre_lines(labels, (10, 10, 10))
    check_inside(table, labels)
    # one tree: an edge less than nodes; overlap() refuses rings
    assert (table["parent"] < 0).sum() == 1
    # all the way round but for what one end covers of the other
    assert 2 * np.pi * 500 * 0.85 <= length(table)[0] <= 2 * np.pi * 500 * 1.08


def test_neighbours_pieces_and_places():
    # two tubes that touch, and a second piece of the first one; far from the origin
    capsules = [(1, (100, 100, 100), (100, 100, 900), 60), (2, (100, 220, 100), (100, 220, 900), 60)]
    labels = draw((20, 100, 100), [*capsules, (1, (100, 800, 100), (100, 800, 900), 60)])
    table = centre_lines(labels, (10, 10, 10), (50, 60, 70))
    check_inside(table, labels, origin=(50, 60, 70))
    assert np.unique(table["skeleton"]).tolist() == [1, 2]
    assert [(table["parent"][table["skeleton"] == s] < 0).sum() for s in (1, 2)] == [2, 1]
    assert length(table) == pytest.approx([2 * 920, 920], rel=0.1)
    again = centre_lines(labels, (10, 10, 10), (50, 60, 70))
    assert all(np.array_equal(table[name], again[name]) for name in table)


def test_anisotropic_voxels():
    size = (40.0, 8.0, 8.0)
    a, b = (400, 400, 300), (1600, 400, 1500)
    labels = draw((50, 100, 220), [(5, a, b, 90)], size)
    table = centre_lines(labels, size)
    check_inside(table, labels, size)
    assert degrees(table).max() == 2
    true = np.linalg.norm(np.subtract(b, a))
    assert true <= length(table)[0] <= (true + 180) * 1.08
    assert np.median(distance_to(place(table), a, b)) <= 25


def test_thin_and_short_things():
    labels = np.zeros((20, 20, 60), np.uint64)
    labels[10, 10, 5:55] = 4
    labels[2:4, 2:4, 2:4] = 5
    everything = LineRule(margin_nm=0)
    table = centre_lines(labels, (10, 10, 10), rule=everything)
    assert np.unique(table["skeleton"]).tolist() == [4]
    assert length(table)[0] == pytest.approx(490, abs=60)
    finer = LineRule(step_nm=10, margin_nm=0, shortest_nm=0)
    assert np.unique(centre_lines(labels, (10, 10, 10), rule=finer)["skeleton"]).size == 2
    # nothing here is as deep as the default margin
    assert len(centre_lines(labels, (10, 10, 10))["node"]) == 0
    assert len(centre_lines(np.zeros((4, 4, 4), np.uint64), (10, 10, 10))["node"]) == 0
    # one neuron that fills everything
    assert len(centre_lines(np.ones((20, 20, 40), np.uint64), (10, 10, 10), rule=everything)["node"]) > 1


def test_nodes_keep_the_margin_and_thin_necks_come_apart():
    ball, other = (200, 200, 300), (200, 200, 1100)
    labels = draw((40, 40, 140), [(6, ball, (*ball[:2], 500), 100), (6, (*other[:2], 900), other, 100)])
    labels[20, 20, :] = np.where(labels[20, 20, :] == 0, 6, labels[20, 20, :])
    labels[:, :, :20] = labels[:, :, 120:] = 0
    one = centre_lines(labels, (10, 10, 10), rule=LineRule(margin_nm=0))
    two = centre_lines(labels, (10, 10, 10), rule=LineRule(margin_nm=30))
    assert [(table["parent"] < 0).sum() for table in (one, two)] == [1, 2]
    deep = distance_transform_edt(labels != 0, sampling=10)
    voxel = (place(two) // 10).astype(int)
    assert deep[voxel[:, 0], voxel[:, 1], voxel[:, 2]].min() >= 30
