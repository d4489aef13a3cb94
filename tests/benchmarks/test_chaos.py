"""The benchmark of chaos: what it counts is what happened, and a few kills and damages by itself."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import chaos  # noqa: E402
import chaos_damage  # noqa: E402
import chaos_run  # noqa: E402

# Left there, benchmarks/engine.py would hide the tests' own folder of that name.
sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("kind", chaos_damage.KINDS)
def test_a_damage_changes_the_file(tmp_path: Path, kind: str) -> None:
    (tmp_path / "step" / "table").mkdir(parents=True)
    for seed in range(20):
        path, other = (tmp_path / "step" / "table" / name for name in ("a.parquet", "b.parquet"))
        path.write_bytes(b"first")
        other.write_bytes(b"second")
        assert chaos_damage.KINDS[kind](path, random.Random(seed))
        assert not path.exists() or path.read_bytes() != b"first"
        path.unlink(missing_ok=True)


def test_equal_files_are_no_swap(tmp_path: Path) -> None:
    (tmp_path / "step" / "table").mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "step" / "table" / name).write_bytes(b"same")
    assert not chaos_damage.swap(tmp_path / "step" / "table" / "a", random.Random(0))


def test_time_in_blocks_counts_those_that_were_killed(tmp_path: Path) -> None:
    """Worker 7 ends a block of 2 s and is killed 1.5 s into the next one; worker 8 ends one of 3 s."""
    place = chaos_run.Place(tmp_path)
    (tmp_path / "deaths").mkdir()
    (tmp_path / "deaths" / "7").write_text("13.5")
    lines = ["differences a 7 10", "differences b 8 10", "end a 7 12", "differences c 7 12", "end b 8 13"]
    place.marks.write_text("\n".join(lines) + "\n")
    assert chaos.block_seconds(place) == pytest.approx(2 + 1.5 + 3)


def test_repeated_and_broken_commits_are_counted(tmp_path: Path) -> None:
    place = chaos_run.Place(tmp_path)
    lines = ["differences a 7 1", "differences b 7 2", "differences a 8 3", "differences c 8 4", "differences c 9 5"]
    place.marks.write_text("\n".join(lines) + "\n")
    kills = chaos.Kills(random.Random(0))
    kills._judge(place, [(2, {"differences a"})])
    assert (kills.recomputed, kills.broken_commits) == (2, 1)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--kills", "9"], ["--corruption", "20"]])
def test_it_runs(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "chaos.py", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
