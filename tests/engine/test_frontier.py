"""What may run when: against what each task really reads, block by block, and what a front keeps of finished planes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bouton.engine.context import make_context
from bouton.engine.dependencies import PartFront, Source, fronts_of
from bouton.engine.frontier import BAD, DONE, PENDING, Front
from bouton.engine.tasks import TaskGrid, task_grids
from bouton.geometry import Box
from engine.flows import SHAPE, flow, step

REACH = 2


def test_a_front_keeps_nothing_of_finished_planes() -> None:
    front = Front(TaskGrid("part", "block", 0, (0, 0, 0), (300, 3, 3)))
    while front.left:
        tasks, _ = front.take(5)
        front.mark(tasks, DONE)
        assert len(front._planes) + len(front._ready) + len(front._full) <= 6
    assert front.is_settled


def opened(block_of_source, block, bounds_of_source, bounds) -> tuple[list[PartFront], list[PartFront]]:
    source = step("source", {}, {}, bounds_of_source, block_of_source)
    smooth = step("smooth", {"reach": REACH}, {"image": source}, bounds, block)
    work = flow(source, smooth)
    contexts = [make_context(work, each, Path("runs")) for each in (source, smooth)]
    first = fronts_of(contexts[0], source.stage.parts, source.params, {})
    parts = smooth.stage.parts
    second = fronts_of(contexts[1], parts, smooth.params, {"image": Source("image", first)})
    for pf in second:
        if pf.part.name == "label":
            # As many objects as the coordinator would count once the table is there.
            (pf.front.grid,) = task_grids(contexts[1], pf.part, 250)
    return first, second


def is_done(pf: PartFront, box: Box) -> bool:
    """Whether every block of a front that shares a voxel with a box is done."""
    numbers = [n for n in range(len(pf.front.grid)) if not (pf.front.grid.box(n) & box).is_empty]
    return bool(pf.front.is_done(np.array(numbers, np.int64)).all())


def check(pf: PartFront, number: int, first: list[PartFront], second: list[PartFront]) -> None:
    """Check that all that a task reads is there."""
    named = {(each.part.name, each.level): each for each in second}
    box, name = pf.front.grid.box(number), pf.part.name
    merges = [each for each in second if each.part.name == "merge"]
    if name == "smooth":
        whole = Box(pf.blocks.bounds.start, pf.blocks.bounds.stop)
        assert is_done(first[0], box.grow((REACH, 0, 0)) & whole)
    elif name == "merge":
        assert is_done(named["merge", pf.level - 1] if pf.level else named["smooth", 0], box)
    elif name == "profile":
        assert is_done(named["smooth", 0], box)
        if number:
            assert is_done(pf, pf.front.grid.box(number - 1))
    elif name != "draw":
        assert all(each.front.is_settled for each in merges)
        if name == "finish":
            assert all(each.front.is_settled for each in second if each is not pf)


INNER = Box((1, 2, 3), (11, 9, 8))
SMALL = Box((3, 3, 4), (9, 8, 7))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bounds", [(None, None), (INNER, INNER), (None, INNER), (INNER, SMALL)])
@pytest.mark.parametrize(
    "blocks", [((4, 5, 6), (4, 5, 6)), ((3, 4, 2), (5, 3, 4)), ((5, 3, 4), (2, 5, 3)), (SHAPE, (1, 3, 3))]
)
def test_nothing_runs_before_what_it_reads_and_everything_runs(blocks, bounds, seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = opened(*blocks, *bounds)
    fronts = first + second
    out: list[tuple[PartFront, int]] = []
    while not all(pf.front.is_settled for pf in fronts):
        for at in random.permutation(len(fronts)):
            tasks, hopeless = fronts[at].front.take(int(random.integers(1, 4)))
            assert not len(hopeless)
            for number in tasks.tolist():
                check(fronts[at], number, first, second)
                out.append((fronts[at], number))
        assert out, "nothing can run, but not all is done"
        for at in sorted(random.permutation(len(out))[: random.integers(1, 5)], reverse=True):
            pf, number = out.pop(at)
            # Now and then one comes back undone.
            pf.front.mark(np.array([number]), PENDING if random.random() < 0.2 else DONE)


@pytest.mark.parametrize("bounds", [(None, None), (INNER, SMALL)])
def test_what_reads_a_bad_block_is_hopeless_and_nothing_else(bounds) -> None:
    first, second = opened((3, 4, 2), (5, 3, 4), *bounds)
    fronts = first + second
    poison = 7
    ran: set[tuple[str, int, int]] = set()
    for _ in range(400):
        for pf in fronts:
            tasks, _ = pf.front.take(1 << 20)
            for number in tasks.tolist():
                is_bad = pf is first[0] and number == poison
                pf.front.mark(np.array([number]), BAD if is_bad else DONE)
                ran.add((pf.part.name, pf.level, number))
    assert all(pf.front.is_settled for pf in fronts)
    bad_box, smooth = first[0].front.grid.box(poison), second[0]
    whole = smooth.blocks.bounds
    for number in range(len(smooth.front.grid)):
        reads = smooth.front.grid.box(number).grow((REACH, 0, 0)) & whole
        assert (("smooth", 0, number) in ran) == (reads & bad_box).is_empty
