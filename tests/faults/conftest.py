"""A small disk, to be filled; a folder to work in; checks of what the command line says."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from faults.command_line import AFFINITIES, Call, execute, flow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs (root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def runs() -> Iterator[Path]:
    """A folder for runs, to be made, on a disk in memory if there is one: thousands of fsyncs."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder) / "runs"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, its name with a space and no ASCII, that holds affinities and a workflow for them."""
    place = tmp_path / "Größe 1"
    place.mkdir()
    monkeypatch.chdir(place)
    np.save("aff.npy", AFFINITIES)
    flow()
    return place


@pytest.fixture
def good(capsys: pytest.CaptureFixture[str]) -> Call:
    """Check that a command ends well and without a word on stderr."""

    def check(*words: object) -> None:
        assert execute(*words) == 0, capsys.readouterr().err
        assert capsys.readouterr().err == ""

    return check


@pytest.fixture
def bad_line(capsys: pytest.CaptureFixture[str]) -> Call:
    """Check the exit status of a command, and that one line on stderr holds these pieces."""

    def check(status: int, pieces: list[str], *words: object) -> None:
        assert execute(*words) == status
        error = capsys.readouterr().err
        assert error.startswith("bouton: "), error
        assert error.count("\n") == 1, error
        assert error.endswith("\n")
        for piece in pieces:
            assert piece in error, f"{piece!r} is not in {error!r}"

    return check


@pytest.fixture
def bad(bad_line: Call) -> Call:
    """Check as ``bad_line`` does, and that the line says what was expected, and the way out."""
    return lambda status, pieces, *words: bad_line(status, [*pieces, "; expected ", "; way out: "], *words)
