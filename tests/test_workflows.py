"""Every shipped workflow runs, through the command line, on a small box."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bouton.cli.main import main
from bouton.volume.run_folder import open_run

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("BOUTON_DATA", ROOT.parent / "shared" / "data"))
SMALL = {
    "demo": "0:32,0:96,0:96",
    "datasets": "0:24,0:80,0:80",
    "densities": "0:45,0:45,30:75",
    "fib25": "100:140,0:64,0:64",
}
RUN_OF = {"datasets": "datasets-wide"}
RESULT_OF = {"densities": "uniformity"}
TYPES = {"predicted": "0:24,0:80,0:80", "somata": "40:90,0:50,0:80", "truth": "0:40,0:48,0:48"}


def bouton(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bouton", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, **environment})


def test_every_workflow_has_a_small_box() -> None:
    assert {path.stem for path in (ROOT / "workflows").glob("*.yaml")} == set(SMALL)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_runs_on_a_small_box_and_reuses_it(name: str, tmp_path: Path) -> None:
    if name == "fib25" and not (DATA / "fib25_ts2" / "volume.h5").is_file():
        pytest.skip(f"no fib25_ts2 in {DATA}; set BOUTON_DATA")
    run = ("run", str(ROOT / "workflows" / f"{name}.yaml"), "--bounds-zyx", SMALL[name], "--runs", str(tmp_path))
    first = bouton(*run, BOUTON_DATA=str(DATA))
    assert first.returncode == 0, first.stderr
    folder = tmp_path / RUN_OF.get(name, name)
    assert (folder / "report" / "index.html").is_file()
    result = Path(bouton("path", str(folder), RESULT_OF.get(name, "segmentation")).stdout.strip())
    before = {path: path.stat().st_mtime_ns for path in [result, *result.rglob("*")]}
    again = bouton(*run, BOUTON_DATA=str(DATA))
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in [result, *result.rglob("*")]} == before


def test_every_workflow_of_types_has_a_small_box() -> None:
    assert {path.stem for path in (ROOT / "workflows" / "types").glob("*.yaml")} == set(TYPES)


@pytest.mark.parametrize("name", sorted(TYPES))
def test_workflows_of_types_measure_synapses(name: str, tmp_path: Path) -> None:
    path = ROOT / "workflows" / "types" / f"{name}.yaml"
    box = ["--bounds-zyx", TYPES[name], "--runs", str(tmp_path), "--workers", "1", "--executor", "serial"]
    with pytest.raises(SystemExit) as ended:
        main(["run", str(path), *box])
    assert not ended.value.code
    features = open_run(tmp_path / f"types-{name}").table("types.features")
    assert np.isfinite(features["neck_um2"]).sum() >= 1


def test_absent_data_says_how_to_get_it(tmp_path: Path) -> None:
    result = bouton("run", str(ROOT / "workflows" / "fib25.yaml"), "--runs", str(tmp_path), BOUTON_DATA="/nowhere")
    assert result.returncode == 3
    assert "neuroproof_examples" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
