"""The report's curve over thresholds, from a run whose merge history is known."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import fake_run
from bouton.cli.report import history_curves, report_with_curves
from bouton.segment.history import cut
from bouton.volume.run_folder import open_run


def test_curve_counts_segments_at_every_threshold(tmp_path: Path) -> None:
    folder = fake_run.with_history(tmp_path / "demo").folder
    run = open_run(folder)
    (curve,), problems = history_curves(run)
    assert not problems
    merges, fragments = run.table("agglomeration.merges"), run.table("agglomeration.fragment_sizes")["id"]
    assert curve.columns["threshold"][0] == 0.2 and curve.columns["threshold"][-1] == 1.0
    for threshold, segments in zip(curve.columns["threshold"], curve.columns["segments"], strict=True):
        assert segments == len(fragments) - len(cut(merges, float(threshold))[0])
    assert set(np.unique(curve.columns["largest_voxels"])) <= {1, 2}
    at = int(np.flatnonzero(curve.columns["threshold"] == 0.6)[0])
    assert curve.used == [0.6]
    assert curve.facts["segments at 0.6"] == str(curve.columns["segments"][at])


def test_report_shows_it(tmp_path: Path) -> None:
    folder = fake_run.with_history(tmp_path / "demo").folder
    text = report_with_curves(folder).read_text(encoding="utf-8")
    assert "Thresholds: agglomeration" in text
    assert f"bouton cut {folder} --threshold T" in text
    assert "Results that cannot be read" not in text


def test_damage_is_told_and_the_report_is_written(tmp_path: Path) -> None:
    folder = fake_run.with_history(tmp_path / "demo").folder
    os.truncate(open_run(folder).path("agglomeration.merges"), 100)
    text = report_with_curves(folder).read_text(encoding="utf-8")
    assert "Thresholds:" not in text
    assert "Results that cannot be read" in text and "merges" in text
