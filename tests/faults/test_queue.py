"""Messages between coordinator and workers that are doubled, reordered, late, lost or cut; workers given up early."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bouton.engine import run_workflow, verify_run
from bouton.engine.events import TasksDone
from bouton.errors import BoutonError
from bouton.volume.run_folder import open_run
from engine.flows import checksums, shapes_flow, trouble_flow

leases = pytest.importorskip("bouton.engine.leases", reason="leases come with the frontier")
from faults.unreliable import Habits, Unreliable  # noqa: E402

HABITS = {
    "doubled": Habits(doubled=0.5),
    "lost": Habits(lost=0.3),
    "late": Habits(late=0.4),
    "zombie": Habits(zombie=0.3),
    "all": Habits(doubled=0.3, lost=0.2, late=0.3, zombie=0.2),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return checksums(run_workflow(shapes_flow(), tmp_path_factory.mktemp("runs"), "serial").folder)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("habit", HABITS)
def test_messages_that_misbehave_change_nothing(
    tmp_path: Path, undisturbed: dict[str, str], habit: str, seed: int
) -> None:
    executor, events = Unreliable(seed, HABITS[habit]), []
    summary = run_workflow(shapes_flow(), tmp_path, executor, subscribers=[events.append])
    assert summary.state == "done" and not summary.failures
    assert checksums(summary.folder) == undisturbed
    assert not verify_run(summary.folder).damages
    met = executor.met if habit == "all" else {habit: executor.met[habit]}
    assert all(met.values()), executor.met
    # no task is counted twice
    counted: dict[tuple[str, str], int] = {}
    for event in events:
        if isinstance(event, TasksDone):
            counted[event.step, event.part] = counted.get((event.step, event.part), 0) + event.tasks
    assert sum(counted.values()) == sum(step.counts["done"] for step in summary.steps.values())


def test_a_poison_block_is_no_endless_loop(tmp_path: Path) -> None:
    """Its tries are counted although the queue doubles and loses messages; the rest is done."""
    executor = Unreliable(3, Habits(doubled=0.5, late=0.2))
    summary = run_workflow(trouble_flow(how="raise", at=(4, 0, 6)), tmp_path, executor, retries=2)
    assert [failure.task for failure in summary.failures] == ["1-0-1"]
    assert summary.steps["trouble"].counts["failed"] == 1


def test_what_stands_under_a_final_name_is_adopted_or_removed_and_never_trusted(
    tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    """Files that a dead writer left: equal bytes are taken, others are a conflict and go."""
    folder = run_workflow(shapes_flow(), tmp_path / "whole", "serial").folder
    left = run_workflow(shapes_flow(), tmp_path / "left", "serial").folder
    for name, entry in open_run(folder).steps.items():
        root = left / entry.folder
        for suffix in ("", "-wal", "-shm"):
            (root / f"ledger.sqlite{suffix}").unlink(missing_ok=True)
        files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "zarr.json"]
        for path in np.random.default_rng(len(name)).choice(files, len(files) // 2, replace=False):
            path.write_bytes(b"other" + path.read_bytes())
    summary = run_workflow(shapes_flow(), tmp_path / "left", "processes", 2)
    assert summary.state == "done"
    assert checksums(left) == undisturbed


def test_a_truncated_message_is_told_in_a_line(tmp_path: Path) -> None:
    """Half a batch is refused when its columns are read; nothing else of the ledger is lost."""

    class Cutting(Unreliable):
        def _carried(self, reports: list) -> list:
            return [
                report
                if report.batch is None
                else replace(report, batch=replace(report.batch, columns=report.batch.columns[:-20]))
                for report in reports
            ]

    said = ""
    try:
        run_workflow(shapes_flow(), tmp_path, Cutting(1, Habits()))
        run_workflow(shapes_flow(), tmp_path, "serial")
        said = "; ".join(str(damage) for damage in verify_run(tmp_path / "toy").damages)
    except BoutonError as error:
        said = str(error)
    assert said and "\n" not in said
