"""Work of tasks: separable sums against one block after another, faces counted by hand; the hand-out of ranges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bouton.engine.context import make_context, planned_halo_of
from bouton.engine.schedule import makespan
from bouton.engine.tasks import task_grids
from bouton.engine.work import LISTED, core_of, waves_of_work, work_of
from bouton.geometry import Box
from engine.flows import SHAPE, flow, step


def context_and_parts(block=(4, 5, 6), bounds=None, reach=2):
    source = step("source", {}, {}, bounds, block)
    smooth = step("smooth", {"reach": reach}, {"image": source}, bounds, block)
    work = flow(source, smooth)
    return make_context(work, smooth, Path("runs")), {part.name: part for part in smooth.stage.parts}, smooth.params


@pytest.mark.parametrize("block", [(4, 5, 6), (5, 4, 2), (12, 10, 9), (1, 1, 1)])
@pytest.mark.parametrize("bounds", [None, Box((3, 2, 1), (11, 9, 8))])
def test_blocks_together_are_their_grown_boxes(block, bounds) -> None:
    context, parts, params = context_and_parts(block, bounds)
    part = parts["smooth"]
    (wave,) = waves_of_work(context, part, params)
    grid, halo = context.grid(part), planned_halo_of(part, params, context.voxel_size_nm)
    every = [(grid.core(index).grow(halo) & context.bounds).voxels for index in grid]
    assert wave.count == len(every)
    assert wave.total == pytest.approx(sum(every))
    assert wave.works.tolist() == [float(n) for n in every]


def test_many_blocks_have_the_same_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    context, parts, params = context_and_parts((1, 1, 1))
    exact = waves_of_work(context, parts["smooth"], params)[0].total
    monkeypatch.setattr("bouton.engine.work.LISTED", 100)
    (wave,) = waves_of_work(context, parts["smooth"], params)
    assert (wave.count, len(wave.works)) == (1080, 100)
    assert wave.total == pytest.approx(exact)
    assert LISTED > 100


def test_nodes_of_a_merge_count_their_childrens_faces() -> None:
    context, parts, params = context_and_parts()
    leaves, middle, root = waves_of_work(context, parts["merge"], params)
    assert (leaves.count, middle.count, root.count) == (12, 2, 1)
    assert leaves.total == 12 * 10 * 9
    # under the first node: blocks of 4 x 5 x 6 and 4 x 5 x 3 voxels, two of each twice (in y), twice (in z)
    large, small = 2 * (4 * 5 + 5 * 6 + 4 * 6), 2 * (4 * 5 + 5 * 3 + 4 * 3)
    assert middle.works.tolist() == [4.0 * (large + small), 2.0 * (large + small)]
    assert root.works.tolist() == [2.0 * (8 * 10 + 10 * 9 + 8 * 9) + 2.0 * (4 * 10 + 10 * 9 + 4 * 9)]


def test_every_tasks_work_is_that_of_its_wave() -> None:
    context, parts, params = context_and_parts()
    for name in ("smooth", "merge", "above", "profile"):
        found = waves_of_work(context, parts[name], params)
        names = [grid.name(i) for grid in task_grids(context, parts[name]) for i in range(len(grid))]
        works = [work_of(context, parts[name], params, task) for task in names]
        assert [work for _, work in works] == [float(w) for wave in found for w in wave.works]
    assert core_of(context, parts["merge"], "level1-0-0-0") == Box((0, 0, 0), (8, 10, 9))
    assert core_of(context, parts["finish"], "whole") == Box.of_shape(SHAPE)


def test_objects_come_in_ranges() -> None:
    context, parts, params = context_and_parts()
    (wave,) = waves_of_work(context, parts["label"], params, 250)
    assert (wave.count, wave.works.tolist()) == (3, [100.0, 100.0, 50.0])


def test_hand_out_of_leases_counted_by_hand() -> None:
    assert makespan(np.array([3.0, 1.0, 1.0, 1.0]), 1) == 6
    assert makespan(np.array([3.0, 1.0, 1.0, 1.0]), 2) == 3
    assert makespan(np.array([1.0, 1.0, 1.0]), 2) == 2
    assert makespan(np.array([1.0, 1.0]), 8) == 1
    assert makespan(np.zeros(0), 2) == 0
    # Tasks longer than a lease go out one at a time: four long ones at the end are two for each worker.
    assert makespan(np.array([1.0] * 60 + [10.0] * 4), 2) == 30 + 20
    # 64 tasks of 0.1 s go out 5 at a time (half a second), fewer when less than 20 are left.
    assert makespan(np.full(64, 0.1), 2) == pytest.approx(3.2)


def test_many_tasks_are_not_simulated_but_come_near() -> None:
    random = np.random.default_rng(1)
    lengths = random.uniform(0.5, 1.5, 4000)
    assert makespan(lengths[:400], 7, 4000) == pytest.approx(makespan(lengths, 7), rel=0.05)
