"""A full disk and a read-only one: the run pauses, nothing half-written counts, the same command goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.flows import checksums, flow, step

from bouton.engine import run_workflow, verify_run
from bouton.errors import RunError
from bouton.spec import Workflow
from bouton.volume.run_folder import open_run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a small tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def workflow() -> Workflow:
    source = step("source", {}, {})
    return flow(source, step("smooth", {}, {"image": source}))


@pytest.mark.parametrize(("executor", "workers"), [("serial", 1), ("processes", 2)])
@pytest.mark.parametrize("free_bytes", [150_000, 220_000, 300_000, 400_000])
def test_a_full_disk_pauses_the_run(
    small_disk: Path, tmp_path: Path, executor: str, workers: int, free_bytes: int
) -> None:
    if executor == "processes" and free_bytes != 220_000:
        pytest.skip("one size is enough here")
    undisturbed = checksums(run_workflow(workflow(), tmp_path / "runs", "serial").folder)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes((1 << 20) - free_bytes))
    with pytest.raises(RunError, match=r"full.*run the same command again") as caught:
        run_workflow(workflow(), small_disk, executor, workers)
    assert caught.value.exit_code == 4
    ballast.unlink()
    summary = run_workflow(workflow(), small_disk, executor, workers)
    assert summary.state == "done"
    assert checksums(summary.folder) == undisturbed
    assert not verify_run(summary.folder).damages
    assert open_run(summary.folder).info["state"] == "done"
