"""One suite over all executors: the same bytes, the same reaction to tasks that misbehave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bouton.engine import run_workflow
from bouton.engine.events import TaskRetried
from bouton.errors import RunError
from engine.flows import checksums, shapes_flow, trouble_flow
from engine.on_dask import OnDask, start_grid_engine, start_loopback, start_slurm
from engine.shuffled import Shuffled

Executor = str | Shuffled | OnDask
ON_DASK = [OnDask("dask", start_loopback), OnDask("slurm", start_slurm), OnDask("sge", start_grid_engine)]
EXECUTORS = [
    ("serial", 1),
    ("processes", 1),
    ("processes", 2),
    (Shuffled(1), 1),
    (Shuffled(2), 1),
    (ON_DASK[0], 2),
    *(pytest.param(each, 2, marks=pytest.mark.cluster) for each in ON_DASK[1:]),
]


@pytest.fixture(scope="module", autouse=True)
def _clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    for each in ON_DASK:
        each.folder = tmp_path_factory.mktemp(each.name)
    yield
    for each in ON_DASK:
        each.end()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return checksums(run_workflow(shapes_flow(), tmp_path_factory.mktemp("runs"), "serial").folder)


@pytest.mark.parametrize(("executor", "workers"), EXECUTORS)
def test_same_bytes(tmp_path: Path, executor: Executor, workers: int, undisturbed: dict[str, str]) -> None:
    summary = run_workflow(shapes_flow(), tmp_path, executor, workers)
    summary.raise_if_failed()
    assert checksums(summary.folder) == undisturbed


@pytest.mark.parametrize(("executor", "workers"), EXECUTORS)
@pytest.mark.parametrize("how", ["raise", "exit", "shape", "dtype", "column", "column dtype", "length"])
def test_a_poison_block_is_named_and_the_rest_finishes(
    tmp_path: Path, executor: Executor, workers: int, how: str
) -> None:
    if how not in ("raise", "dtype") and (executor, workers) != ("serial", 1):
        pytest.skip("one message is enough for each executor")
    summary = run_workflow(trouble_flow(how=how, at=(4, 5, 6)), tmp_path, executor, workers, retries=1)
    assert summary.state == "failed"
    (failure,) = summary.failures
    assert (failure.step, failure.task, failure.box_zyx) == ("trouble", "1-1-1", "4:8,5:10,6:9")
    assert failure.attempts == 2
    counts = summary.steps["trouble"].counts
    # 12 blocks, one of them failed; a tree of 12 leaves has 4 levels of 12 + 2 + 1 nodes, three of them blocked.
    assert counts["failed"] == 1
    assert counts["blocked"] == 3
    smooth = summary.steps["smooth"].counts
    assert summary.steps["smooth"].state == "blocked"
    # With a halo of 2 planes all three blocks of the column read the failed one; nine of the others are done.
    assert smooth["failed"] == 0
    assert smooth["done"] >= 9
    with pytest.raises(RunError, match="1-1-1") as caught:
        summary.raise_if_failed()
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(("executor", "workers"), EXECUTORS)
def test_a_flaky_block_is_tried_again(tmp_path: Path, executor: Executor, workers: int) -> None:
    (tmp_path / "marks").mkdir()
    events: list = []
    workflow = trouble_flow(how="once-raise", at=(4, 0, 0), marks=str(tmp_path / "marks"))
    summary = run_workflow(workflow, tmp_path / "runs", executor, workers, [events.append])
    assert summary.state == "done"
    assert [event.task for event in events if isinstance(event, TaskRetried)] == ["1-0-0"]
    assert len(list((tmp_path / "marks").iterdir())) == 2
