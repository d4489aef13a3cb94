"""Files that are deleted, cut short or changed: named by verify, repaired to the original bytes, told by reads."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bouton.engine import repair_run, run_workflow, verify_run
from bouton.engine.context import context_from_json
from bouton.engine.ledger import Ledger
from bouton.engine.step_run import remove_tasks
from bouton.errors import DataError, RunError
from bouton.geometry import Box
from bouton.volume.run_folder import open_run
from engine.flows import checksums, shapes_flow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_workflow(shapes_flow(), tmp_path_factory.mktemp("finished"), "serial").folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "toy")


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(bytes(content))


FILES = [
    ("source", "image/0/c/1/1/0", "draw", "1-1-0", "4:8,5:10,0:6"),
    ("smooth", "total/0/c/2/0/1", "smooth", "2-0-1", "8:12,0:5,6:9"),
    ("smooth", "_histogram/0-1-1.parquet", "smooth", "0-1-1", "0:4,5:10,6:9"),
    ("smooth", "histogram.parquet", "merge", "level2-0-0-0", "0:12,0:10,0:9"),
    ("smooth", "nodes/merge-level0-0-1-1_0-4_5-10_6-9.parquet", "merge", "level0-0-1-1", "0:4,5:10,6:9"),
    ("smooth", "nodes/merge-level1-0-0-0_0-8_0-10_0-9.parquet", "merge", "level1-0-0-0", "0:8,0:10,0:9"),
    ("smooth", "names/00000001.parquet", "label", "00000001", ""),
    ("smooth", "profile/1-0-0.parquet", "profile", "1-0-0", "4:8,0:10,0:9"),
    ("smooth", "exports/deep/names.txt", "finish", "whole", "0:12,0:10,0:9"),
    ("smooth", "total/zarr.json", "", "total", ""),
    ("smooth", "total/0/zarr.json", "", "total", ""),
]


@pytest.mark.parametrize("harm", [delete, truncate, flip])
@pytest.mark.parametrize(("step", "file", "part", "task", "box"), FILES)
def test_verify_names_it_and_repair_restores_the_bytes(
    folder: Path, step: str, file: str, part: str, task: str, box: str, harm: Callable[[Path], None]
) -> None:
    before = checksums(folder)
    path = folder / open_run(folder).steps[step].folder / file
    harm(path)
    (damage,) = verify_run(folder).damages
    assert (damage.step, damage.part, damage.task, damage.box_zyx) == (step, part, task, box)
    assert damage.path.endswith(file)
    assert damage.found.startswith({delete: "missing", flip: "changed"}.get(harm, damage.found))
    others = {p: p.stat().st_mtime_ns for p in folder.rglob("c/*/*/*") if p != path}
    assert repair_run(folder, executor="serial").repaired == 1
    assert checksums(folder) == before
    assert not verify_run(folder).damages
    # A damaged table of a block is computed together with the block's voxels.
    written = [p.relative_to(p.parents[2]).as_posix() for p, when in others.items() if p.stat().st_mtime_ns != when]
    assert set(written) <= {task.replace("-", "/")}, "repair wrote blocks that were not damaged"
    assert run_workflow(shapes_flow(), folder.parent, "serial").steps["smooth"].computed == 0


def test_an_undamaged_run_is_whole(folder: Path) -> None:
    report = verify_run(folder)
    assert not report.damages
    assert report.files == len(checksums(folder))
    assert repair_run(folder, executor="serial").repaired == 0


def test_damage_upstream_is_repaired_first(folder: Path) -> None:
    before = checksums(folder)
    run = open_run(folder)
    flip(folder / run.steps["source"].folder / "image/0/c/0/0/0")
    delete(folder / run.steps["smooth"].folder / "total/0/c/0/0/0")
    assert [damage.step for damage in verify_run(folder).damages] == ["source", "smooth"]
    assert repair_run(folder, workers=2).repaired == 2
    assert checksums(folder) == before


def test_an_unfinished_step_is_left_to_the_next_run(folder: Path) -> None:
    """A paused run has steps that are begun before what they read is done: only what was done may be mended."""
    before = checksums(folder)
    run = open_run(folder)
    for step, part in (("source", "draw"), ("smooth", "smooth")):
        root = folder / run.steps[step].folder
        with Ledger(root / "ledger.sqlite") as ledger:
            remove_tasks(ledger, root, [(part, "0-0-0")])
    flip(folder / run.steps["smooth"].folder / "total/0/c/2/0/1")
    report = repair_run(folder, executor="serial")
    assert (len(report.damages), report.repaired, report.forgotten) == (1, 0, 1)
    assert not verify_run(folder).damages
    run_workflow(shapes_flow(), folder.parent, "serial").raise_if_failed()
    assert checksums(folder) == before


def test_a_changed_stage_cannot_repair(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = folder / open_run(folder).steps["source"].folder
    delete(step / "image/0/c/0/0/0")
    text = (step / "step.json").read_text().replace('"factor": 3', '"factor": 4')
    (step / "step.json").write_text(text)
    with pytest.raises(RunError, match="differ from the lost ones"):
        repair_run(folder, executor="serial")


def test_a_lost_ledger_is_damage_that_names_the_way_out(folder: Path) -> None:
    step = open_run(folder).steps["source"].folder
    (folder / step / "ledger.sqlite").write_bytes(b"no database")
    (damage,) = verify_run(folder).damages
    assert "ledger.sqlite is damaged" in str(damage)
    with pytest.raises(DataError, match="computed anew"):
        repair_run(folder, executor="serial")


def test_a_lost_record_of_a_step_is_damage_that_a_run_mends(folder: Path) -> None:
    path = folder / open_run(folder).steps["source"].folder / "step.json"
    before = path.read_bytes()
    for content in (None, before[:40]):
        path.unlink() if content is None else path.write_bytes(content)
        (damage,) = verify_run(folder).damages
        assert str(path.relative_to(folder)) in str(damage)
        with pytest.raises(DataError, match="writes it anew and keeps"):
            repair_run(folder, executor="serial")
        summary = run_workflow(shapes_flow(), folder.parent, "serial")
        assert summary.state == "done" and not any(step.computed for step in summary.steps.values())
        assert path.read_bytes() == before and not verify_run(folder).damages


def test_a_bad_chunk_of_an_input_fails_the_block_and_names_the_repair(folder: Path) -> None:
    image = folder / open_run(folder).steps["source"].folder / "image/0/c/2/0/0"
    flip(image)
    summary = run_workflow(shapes_flow(reach=0), folder.parent, "serial", retries=0)
    (failure,) = summary.failures
    assert failure.task == "2-0-0"
    assert str(image) in failure.error
    assert "bouton verify" in failure.error
    assert "--repair" in failure.error
    repair_run(folder, executor="serial")
    assert run_workflow(shapes_flow(reach=0), folder.parent, "serial").state == "done"


@pytest.mark.parametrize("level", ["level0-1-1-0", "level1-1-0-0", "level2"])
def test_a_lost_part_of_a_kept_table_is_told_by_reads(folder: Path, level: str) -> None:
    (part,) = (folder / open_run(folder).steps["smooth"].folder / "nodes").glob(f"merge-{level}*.parquet")
    assert len(open_run(folder).table("smooth.nodes")["voxels"]) == 15
    part.unlink()
    with pytest.raises(DataError, match="parts of merge are missing"):
        open_run(folder).table("smooth.nodes")


def test_step_json_must_be_whole(folder: Path) -> None:
    step = open_run(folder).steps["source"].folder
    (folder / step / "step.json").write_text("{")
    with pytest.raises(DataError, match=r"step\.json"):
        context_from_json(folder, step)


def test_a_folder_without_a_run_is_told(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="no run here"):
        open_run(tmp_path / "nothing")
    (folder / "run.json").write_text('{"steps": 3}')
    with pytest.raises(DataError, match=r"run.json is damaged"):
        open_run(folder)


def test_outside_of_the_bounds_nothing_exists(tmp_path: Path) -> None:
    folder = run_workflow(shapes_flow(bounds=Box((0, 0, 0), (4, 5, 6))), tmp_path, "serial").folder
    with pytest.raises(DataError, match="missing"):
        open_run(folder).volume("source").read(Box((4, 0, 0), (8, 5, 6)))
