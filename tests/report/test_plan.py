"""The report's comparison of plan and truth, from a plan written by hand."""

from __future__ import annotations

import json
from pathlib import Path

from bouton.report.page import write_report
from bouton.report.plan import plan_and_truth
from bouton.volume.run_folder import open_run
from fake_run import FakeRun


def end(value: float) -> dict[str, float]:
    return {"value": value, "low": 0.9 * value, "high": 1.1 * value}


def planned_run(folder: Path, seconds: float = 10.0, **more) -> Path:
    run = FakeRun(folder)
    step = run.step("fragments", "fragments")
    other = run.step("later", "fragments", state="pending")
    found = {"seconds": end(seconds), "worker_bytes": end(500e6), "size_bytes": end(4e6)}
    steps = [{"key": step["key"], "forecast": found}, {"key": other["key"], "forecast": found}]
    steps += [{"key": "another", "forecast": found}, {"key": "unknown", "forecast": None}]
    run.save()
    (folder / "plan.json").write_text(json.dumps({"workers": 2, "ran_with_workers": 2, "steps": steps} | more))
    return folder


def test_ratios_are_measured_over_planned(tmp_path: Path) -> None:
    # the fake step took 12.5 s, 250 MB and 4 MB
    found = plan_and_truth(open_run(planned_run(tmp_path)))
    (row,) = found.rows
    assert (row.seconds.ratio, row.seconds.is_far, row.seconds.is_outside) == ("1.25", True, True)
    assert (row.memory.ratio, row.memory.is_far) == ("0.50", True)
    assert (row.size.ratio, row.size.is_far, row.size.is_outside) == ("1.00", False, False)
    assert (found.total.planned, found.total.measured) == ("10.0 s", "12.5 s")
    assert found.note == ""


def test_flags_begin_at_twenty_percent(tmp_path: Path) -> None:
    found = plan_and_truth(open_run(planned_run(tmp_path, 12.5 / 1.19)))
    assert not found.rows[0].seconds.is_far
    assert found.rows[0].seconds.is_outside


def test_other_workers_make_it_unfair(tmp_path: Path) -> None:
    found = plan_and_truth(open_run(planned_run(tmp_path, ran_with_workers=8)))
    assert "Planned for 2 workers, ran with 8" in found.note


def test_the_page_shows_it(tmp_path: Path) -> None:
    page = write_report(planned_run(tmp_path / "a")).read_text()
    assert "Plan and truth" in page
    assert '<span class="tag blocked" title="90 %: 9.0 s to 11.0 s">1.25</span>' in page
    (tmp_path / "a" / "plan.json").unlink()
    assert "Plan and truth" not in write_report(tmp_path / "a").read_text()


def test_a_damaged_plan_is_named_and_the_rest_shown(tmp_path: Path) -> None:
    folder = planned_run(tmp_path)
    for text in ("{", "[]", '{"steps": [{}]}'):
        (folder / "plan.json").write_text(text)
        assert "plan.json is damaged" in write_report(folder).read_text()
