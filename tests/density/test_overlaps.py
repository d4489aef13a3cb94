"""Voxels of labels in blocks and their surrounds, and sums of labels, against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from bouton.density.centroids import centroid_voxels, label_sums
from bouton.density.grid import AnalysisGrid
from bouton.density.overlaps import overlaps, split_overlaps
from bouton.geometry import Box

SHAPE = (12, 20, 41)
WHOLE = Box.of_shape(SHAPE)


def volume(seed, dtype=np.uint64):
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, dtype)
    for each in range(1, 60):
        at, size = [rng.integers(0, n) for n in SHAPE], rng.integers(1, 6, 3)
        labels[tuple(slice(a, a + s) for a, s in zip(at, size, strict=True))] = each
    return labels


@pytest.mark.parametrize("pad", [(0, 0, 0), (2, 3, 1), (5, 9, 12)])
@pytest.mark.parametrize("dtype", [np.uint64, np.uint8])
def test_rows_are_those_of_brute_force(pad, dtype):
    labels, mask = volume(0, dtype), (np.random.default_rng(1).random(SHAPE) < 0.1).astype(np.uint16) * 256
    grid = AnalysisGrid((1, 4, 2), (3, 5, 8), (3, 2, 4), pad)
    core = Box((1, 2, 3), (11, 19, 40))
    found = overlaps(labels[core.slices], mask[core.slices], grid, core)
    rows = set()
    for number, index in enumerate(np.ndindex(*grid.counts)):
        start = np.array(grid.start) + np.array(index) * grid.block
        own = Box(tuple(start.tolist()), tuple((start + grid.block).tolist()))
        inside, around = labels[(own & core).slices], labels[(own.grow(pad) & core).slices]
        covered = mask[(own & core).slices] > 0
        for each in set(np.unique(around).tolist()) - {0}:
            hit = np.sum((inside == each) & covered)
            rows.add((number, each, int(np.sum(inside == each)), int(np.sum(around == each)), int(hit)))
    assert len(found["id"]) == len(rows) > 20
    assert set(zip(*(values.tolist() for values in found.values()), strict=True)) == rows


def test_half_of_the_voxels_is_not_more_than_half():
    labels = np.zeros((1, 1, 12), np.uint64)
    labels[0, 0, 2:6], labels[0, 0, 6:9] = 5, 6  # 2 of 4 voxels in block 0, 2 in block 1; 2 of 3 in block 1
    grid = AnalysisGrid((0, 0, 0), (1, 1, 4), (1, 1, 2), (0, 0, 4))
    rows = overlaps(labels, None, grid, Box.of_shape(labels.shape))
    counts, rest = split_overlaps([rows], grid, Box((0, 0, -4), (1, 1, 12)))
    assert counts["block"].tolist() == [1]
    assert counts["total"].tolist() == [1]
    assert not rest["id"].size


def test_what_a_box_does_not_hold_waits():
    labels = volume(3)
    grid = AnalysisGrid((2, 2, 2), (3, 5, 8), (2, 3, 4), (1, 1, 1))
    boxes = [Box((0, 0, 0), (12, 20, 17)), Box((0, 0, 17), (12, 20, 41))]
    tables = [overlaps(labels[box.slices], None, grid, box) for box in boxes]
    left, open_left = split_overlaps([tables[0]], grid, boxes[0])
    right, open_right = split_overlaps([tables[1]], grid, boxes[1])
    rest, nothing = split_overlaps([open_left, open_right], grid, WHOLE)
    every, _ = split_overlaps([overlaps(labels, None, grid, WHOLE)], grid, WHOLE)
    assert not nothing["id"].size
    assert left["block"].size
    assert rest["block"].size
    parts = sorted(
        zip(*(np.concatenate([p[name] for p in (left, right, rest)]).tolist() for name in every), strict=True)
    )
    assert parts == sorted(zip(*(values.tolist() for values in every.values()), strict=True))


@pytest.mark.parametrize("dtype", [np.uint64, np.uint32, np.uint8])
def test_centroids_are_means(dtype):
    labels = volume(5, dtype)
    sums = label_sums(labels[2:, 3:, 1:], (2, 3, 1))
    labels[:2], labels[:, :3], labels[:, :, :1] = 0, 0, 0
    assert sums["id"].tolist() == sorted(set(np.unique(labels).tolist()) - {0})
    for each, place in zip(sums["id"], centroid_voxels(sums), strict=True):
        mean = np.mean(np.nonzero(labels == each), axis=1) + 0.5
        assert place.tolist() == np.floor(mean).astype(int).tolist()


def test_a_centroid_between_two_voxels_lies_in_the_upper_one():
    assert centroid_voxels(label_sums(np.full((1, 1, 2), 7, np.uint32), (4, 0, 10))).tolist() == [[4, 0, 11]]
