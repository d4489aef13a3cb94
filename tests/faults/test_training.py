"""A training that is killed, asked to stop, cut short on disk or started twice: the same weights, or a clear word."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bouton.cli.train import command
from bouton.errors import DataError, RunError
from cli.training_box import run_verb, weights, write_box

# the process does to itself, before update 31 (counted from 0) begins, what a machine would do to it
KILLED = """
import os, signal, sys
from bouton.cli.main import main
from bouton.learn.train import Trainer
update = Trainer.update
def interrupted(self):
    if self.step == 31:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    return update(self)
Trainer.update = interrupted
main(["train", *sys.argv[2:]])
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_box(tmp_path_factory.mktemp("box"))


@pytest.fixture(scope="module")
def whole(box: Path) -> bytes:
    run_verb(command, box, "--out", box.parent / "whole")
    return weights(box.parent / "whole")


def killed(box: Path, out: Path, name: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", KILLED, name, str(box), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment, check=False)


@pytest.mark.parametrize(("name", "status", "begins"), [("SIGKILL", -9, 30), ("SIGTERM", 143, 32), ("SIGINT", 130, 32)])
def test_killed_at_step_31_and_resumed(
    box: Path, whole: bytes, tmp_path: Path, name: str, status: int, begins: int
) -> None:
    done = killed(box, tmp_path, name)
    assert done.returncode == status, done.stderr
    if name != "SIGKILL":
        assert f"{name} after step 32: saved; the same command goes on from there" in done.stdout
    assert weights(tmp_path) != whole
    assert f"from step {begins}" in run_verb(command, box, "--out", tmp_path)
    assert weights(tmp_path) == whole


def test_a_second_signal_ends_at_once() -> None:
    code = """
import os, signal
from bouton.cli.train import stop_signals
with stop_signals() as asked:
    os.kill(os.getpid(), signal.SIGTERM)
    assert asked.number == signal.SIGTERM
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGTERM and "still here" not in done.stdout


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_checkpoint_costs_one_generation(box: Path, whole: bytes, tmp_path: Path, damage: str) -> None:
    run_verb(command, box, "--out", tmp_path, "--set", "training.steps=40")
    path = tmp_path / "tiny" / "checkpoint.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"cut": data[: len(data) // 2], "changed": data, "empty": b""}[damage])
    # the learning rate falls towards the end: 40 of 40 steps are not 40 of 50, so begin anew from 30 of them
    said = run_verb(command, box, "--out", tmp_path, "--set", "training.steps=40")
    assert "checkpoint.safetensors: " in said and "going on from the one before it" in said and "from step 30" in said


def test_without_a_whole_checkpoint_it_does_not_begin_anew_by_itself(box: Path, tmp_path: Path) -> None:
    run_verb(command, box, "--out", tmp_path, "--set", "training.steps=20")
    for name in ("checkpoint.safetensors", "checkpoint.previous.safetensors"):
        (tmp_path / "tiny" / name).write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"cannot resume.*delete the checkpoint"):
        run_verb(command, box, "--out", tmp_path)


def test_killed_between_the_two_renames(box: Path, whole: bytes, tmp_path: Path) -> None:
    shutil.copytree(box.parent / "whole", tmp_path / "out")
    folder = tmp_path / "out" / "tiny"
    (folder / "checkpoint.safetensors").rename(folder / "checkpoint.next.safetensors")
    assert "from step 40" in run_verb(command, box, "--out", tmp_path / "out")
    assert weights(tmp_path / "out") == whole


def test_another_training_file_is_refused(box: Path, whole: bytes) -> None:
    with pytest.raises(DataError, match=r"training\.learning_rate was 0\.001, the training file says 0\.002.*start:"):
        run_verb(command, box, "--out", box.parent / "whole", "--set", "training.learning_rate=0.002")
    with pytest.raises(DataError, match=r"data was "):
        run_verb(command, box, "--out", box.parent / "whole", "--set", "data=[{seeds: [1], shape_zyx: [4, 16, 16]}]")
    assert "finished" in run_verb(command, box, "--out", box.parent / "whole", "--set", "description=other")


def test_a_second_training_in_one_folder_is_refused(box: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    with (folder / "lock").open("a+") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.write(json.dumps({"host": "here", "pid": 4711, "command": "bouton train", "started": "today"}))
        handle.flush()
        with pytest.raises(RunError, match=r"training is being worked on by process 4711.*--out"):
            run_verb(command, box, "--out", tmp_path)


def test_a_full_disk_leaves_the_checkpoints(box: Path, tmp_path: Path) -> None:
    import resource

    run_verb(command, box, "--out", tmp_path, "--set", "training.steps=20")
    folder = tmp_path / "tiny"
    before = (folder / "checkpoint.safetensors").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # files may not grow beyond 20 kB: the log can be written, a checkpoint cannot
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(DataError):
            run_verb(command, box, "--out", tmp_path, "--set", "training.steps=30")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (folder / "checkpoint.safetensors").read_bytes() == before
    assert "from step 20" in run_verb(command, box, "--out", tmp_path, "--set", "training.steps=30")
