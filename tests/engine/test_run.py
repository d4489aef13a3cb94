"""A run: its results, what it keeps, what it computes again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bouton.engine import run_workflow
from bouton.engine.events import StepReused, TaskLost, TasksDone, to_json
from bouton.errors import RunError, SpecError
from bouton.geometry import Box
from bouton.volume import read_table
from bouton.volume.run_folder import open_run
from engine.flows import SHAPE, checksums, flow, renamed, shapes_flow, step


def expected_total(factor: int = 3, reach: int = 2) -> np.ndarray:
    ids = np.arange(1, np.prod(SHAPE) + 1, dtype=np.uint64).reshape(SHAPE)
    image = (ids * factor % 251).astype(np.uint32)
    planes = [image[max(0, z - reach) : z + reach + 1].sum(axis=0) for z in range(SHAPE[0])]
    return np.stack(planes).astype(np.uint32)


def test_five_shapes_give_the_answer_known_on_paper(tmp_path: Path) -> None:
    summary = run_workflow(shapes_flow(), tmp_path, "serial")
    assert summary.state == "done"
    run = open_run(summary.folder)
    total = expected_total()
    np.testing.assert_array_equal(run.volume("smooth").read(Box.of_shape(SHAPE)), total)
    value, count = np.unique(total, return_counts=True)
    np.testing.assert_array_equal(run.table("smooth.histogram")["value"], value)
    np.testing.assert_array_equal(run.table("smooth.histogram")["count"], count)
    # 12 blocks of 4 x 5 x 6 voxels and smaller, under nodes of 8 x 10 x 9 and 4 x 10 x 9, under the root
    every = [120, 120, 60, 60] * 3 + [720, 360, 1080]
    assert sorted(run.table("smooth.nodes")["voxels"].tolist()) == sorted(every)
    assert read_table(run.path("smooth.above") / "2-1-1.parquet")["voxels"].tolist() == [60, 360, 1080]
    names = run.table("smooth.names")
    np.testing.assert_array_equal(names["value"], value)
    assert names["name"][0] == f"value {value[0]}"
    np.testing.assert_array_equal(run.table("smooth.profile")["total"], np.cumsum(total.reshape(3, -1).sum(axis=1)))
    assert (run.path("smooth.exports") / "sums.csv").read_text() == f"total,{total.sum()}\n"
    assert dict(zip(*list(run.table("smooth.scores").values())[:2], strict=True))["total"] == total.sum()
    leftovers = [p.name for p in summary.folder.rglob("*") if p.name.startswith((".tmp", "_nodes/merge"))]
    assert leftovers == []


@pytest.mark.parametrize("block", [(12, 10, 9), (3, 3, 3), (5, 4, 2), (1, 10, 9)])
def test_the_blocks_do_not_matter(tmp_path: Path, block: tuple[int, int, int]) -> None:
    summary = run_workflow(shapes_flow(block=block), tmp_path, "serial")
    summary.raise_if_failed()
    run = open_run(summary.folder)
    np.testing.assert_array_equal(run.volume("smooth").read(Box.of_shape(SHAPE)), expected_total())
    count = np.unique(expected_total(), return_counts=True)[1]
    np.testing.assert_array_equal(run.table("smooth.histogram")["count"], count)


def test_bounds_off_the_grid_are_clipped(tmp_path: Path) -> None:
    bounds = Box((3, 2, 1), (11, 9, 8))
    run = open_run(run_workflow(shapes_flow(bounds=bounds, reach=0), tmp_path, "serial").folder)
    found = run.volume("smooth").read(bounds)
    np.testing.assert_array_equal(found, expected_total(reach=0)[bounds.slices])
    assert run.table("smooth.histogram")["count"].sum() == bounds.voxels


def test_a_second_run_computes_nothing_and_changes_no_byte(tmp_path: Path) -> None:
    folder = run_workflow(shapes_flow(), tmp_path, "serial").folder
    before = checksums(folder)
    events: list = []
    summary = run_workflow(shapes_flow(), tmp_path, "serial", subscribers=[events.append])
    assert [e.step for e in events if isinstance(e, StepReused)] == ["source", "smooth"]
    assert not [e for e in events if isinstance(e, TasksDone)]
    assert summary.state == "done"
    assert checksums(folder) == before


def computed(workflow, runs: Path) -> set[str]:
    summary = run_workflow(workflow, runs, "serial")
    return {name for name, found in summary.steps.items() if found.computed}


def test_a_changed_parameter_runs_its_step_and_what_depends_on_it(tmp_path: Path) -> None:
    assert computed(shapes_flow(), tmp_path) == {"source", "smooth"}
    assert computed(shapes_flow(reach=1), tmp_path) == {"smooth"}
    assert computed(shapes_flow(), tmp_path) == set()
    assert computed(shapes_flow(factor=5), tmp_path) == {"source", "smooth"}
    assert computed(shapes_flow(reach=1), tmp_path) == set()


def test_a_lost_file_is_computed_again_and_said(tmp_path: Path) -> None:
    folder = run_workflow(shapes_flow(), tmp_path, "serial").folder
    before = checksums(folder)
    run = open_run(folder)
    shard = run.path("smooth.total") / "0/c/1/1/0"
    shard.unlink()
    table = run.path("smooth.histogram")
    table.write_bytes(table.read_bytes()[:-7])
    events: list = []
    run_workflow(shapes_flow(), tmp_path, "serial", subscribers=[events.append])
    lost = {(e.task, e.found.split()[0]) for e in events if isinstance(e, TaskLost)}
    assert ("1-1-0", "missing") in lost
    assert len(lost) == 2
    assert sum(e.tasks for e in events if isinstance(e, TasksDone) and e.part == "smooth") == 1
    assert checksums(folder) == before


def test_what_one_box_computed_is_reused_in_a_larger_one(tmp_path: Path) -> None:
    run_workflow(shapes_flow(bounds=Box((0, 0, 0), (8, 10, 9))), tmp_path, "serial")
    summary = run_workflow(shapes_flow(), tmp_path, "serial")
    assert summary.steps["source"].counts["reused"] == 8
    # Blocks of the upper layer read two planes that the small box did not have.
    assert summary.steps["smooth"].counts["reused"] == 4
    fresh = run_workflow(renamed(shapes_flow(), "fresh"), tmp_path, "serial")
    assert checksums(summary.folder) == checksums(fresh.folder)


def test_a_damaged_ledger_of_other_bounds_costs_the_reuse_alone(tmp_path: Path) -> None:
    small = run_workflow(shapes_flow(bounds=Box((0, 0, 0), (8, 10, 9))), tmp_path, "serial")
    for ledger in small.folder.glob("*/*/ledger.sqlite"):
        ledger.write_bytes(b"no database")
    summary = run_workflow(shapes_flow(), tmp_path, "serial")
    assert summary.state == "done"
    assert summary.steps["source"].counts["reused"] == 0


def test_reuse_across_bounds_looks_at_what_was_read(tmp_path: Path) -> None:
    small = Box((0, 0, 0), (8, 10, 9))
    run_workflow(shapes_flow(factor=5, bounds=small), tmp_path, "serial")
    summary = run_workflow(shapes_flow(factor=7), tmp_path, "serial")
    assert summary.steps["source"].counts["reused"] == 0
    assert summary.steps["smooth"].counts["reused"] == 0


def test_the_run_folder_tells_everything(tmp_path: Path) -> None:
    seen: list = []
    folder = run_workflow(shapes_flow(), tmp_path, "serial", subscribers=[seen.append]).folder
    info = json.loads((folder / "run.json").read_text())
    entry = info["steps"][1]
    assert entry["name"] == "smooth"
    assert entry["state"] == "done"
    assert entry["tasks"] == entry["done"]
    assert entry["reads"] == {"image": "source.image"}
    assert next(iter(entry["outputs"])) == "total"
    assert entry["outputs"]["total"]["dtype"] == "uint32"
    assert entry["peak_bytes"] > 1 << 20
    assert info["finished"]
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == [type(event).__name__ for event in seen]
    assert json.loads(json.dumps(to_json(seen[0])))["steps"] == ["source", "smooth"]


def test_results_are_found_by_name(tmp_path: Path) -> None:
    run = open_run(run_workflow(shapes_flow(), tmp_path, "serial").folder)
    assert run.path("smooth") == run.path("smooth.total")
    with pytest.raises(SpecError, match="did you mean smooth"):
        run.path("smoth")
    with pytest.raises(SpecError, match="did you mean histogram"):
        run.path("smooth.histogramm")
    with pytest.raises(SpecError, match="expected table"):
        run.table("smooth")


def test_an_unknown_executor_and_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="serial or processes"):
        run_workflow(shapes_flow(), tmp_path, "slurm")
    with pytest.raises(SpecError, match="0 workers"):
        run_workflow(shapes_flow(), tmp_path, "processes", 0)
    with pytest.raises(SpecError, match="no step"):
        run_workflow(flow(), tmp_path, "serial")


def test_a_wrong_input_is_told_in_one_line(tmp_path: Path) -> None:
    first = step("smooth_first", {}, {"image": step("source", {}, {})})
    workflow = flow(step("source", {}, {}), first, step("smooth_second", {}, {"image": first}))
    summary = run_workflow(workflow, tmp_path, "serial", retries=0)
    with pytest.raises(RunError, match="holds uint32; expected uint8 or uint16"):
        summary.raise_if_failed()


@pytest.mark.parametrize("fails", [False, True])
def test_an_output_may_be_called_as_an_input(tmp_path: Path, fails: bool) -> None:
    source = step("source", {"factor": 3}, {})
    first = step("same_1", {"fails": fails}, {"image": source})
    second = step("same_2", {}, {"image": first})
    run = open_run(run_workflow(flow(source, first, second), tmp_path, "serial", retries=0).folder)
    states = [run.steps[name].state for name in ("source", "same_1", "same_2")]
    if fails:
        # the block that depends on the failed one is blocked, it does not fail
        assert states == ["done", "failed", "blocked"]
        assert (run.steps["same_2"].failed, run.steps["same_2"].blocked) == (0, 1)
    else:
        assert states == ["done"] * 3
        box = Box.of_shape(SHAPE)
        np.testing.assert_array_equal(run.volume("same_2").read(box), run.volume("source").read(box) + 2)
