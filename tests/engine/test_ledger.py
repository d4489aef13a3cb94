"""The ledger: what is taken off it, and what a kill between two writes leaves."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from bouton.engine import run_workflow
from bouton.engine.leases import Done, pack, without
from bouton.engine.ledger import Ledger
from bouton.engine.tasks import TaskGrid
from bouton.volume.run_folder import open_run
from engine.flows import checksums, shapes_flow

GRID = TaskGrid("part", "block", 0, (0, 0, 0), (1, 1, 8))


def test_a_forgotten_task_is_not_found_again(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.set_grids([GRID])
        with ledger.transaction():
            ledger.commit("part", 0, pack([Done(number) for number in range(4)]))
        assert ledger.find("part", "0-0-1") is not None
        ledger.forget([("part", "0-0-1")])
        assert ledger.find("part", "0-0-1") is None
        ledger.forget([("part", f"0-0-{x}") for x in range(8)])
        with ledger.transaction():
            ledger.commit("part", 0, pack([Done(6)]))
        assert ledger.find("part", "0-0-6") is not None
        assert ledger.done_runs("part").tolist() == [[6, 7]]


def test_a_node_of_a_folded_merge_goes_with_all_nodes_at_once(tmp_path: Path) -> None:
    """A kill right after one write must not leave a node to be computed from children whose tables are gone."""
    folder = run_workflow(shapes_flow(), tmp_path, "serial").folder
    before = checksums(folder)
    run = open_run(folder)
    (run.path("smooth.nodes") / "merge-level1-0-0-0_0-8_0-10_0-9.parquet").unlink()
    with Ledger(folder / run.steps["smooth"].folder / "ledger.sqlite") as ledger:
        ledger.forget([("merge", "level1-0-0-0")])
    summary = run_workflow(shapes_flow(), tmp_path, "serial")
    assert summary.state == "done"
    assert checksums(folder) == before


def test_many_tasks_leave_a_batch_in_linear_time() -> None:
    count = 16_000
    batch = pack([Done(number) for number in range(count)])
    began = time.process_time()
    left = without(batch, np.arange(0, count, 2))
    assert time.process_time() - began < 1
    assert left is not None
    assert left.numbers.tolist() == list(range(1, count, 2))
