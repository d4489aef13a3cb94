"""Runs a workflow over and over, each time with another system call of it that goes wrong (``faulty.c``).

A program that has imported everything forks for each trial, so that a trial costs no more than its run.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

BLOCK = (6, 10, 9)
HERE = Path(__file__).parent
# as in faulty.c
WRITE, SYNC, NAME, MAKE, READ = 1, 2, 4, 8, 16
FAIL, TEAR, KILL_BEFORE, KILL_AFTER, SLOW = 0, 1, 2, 3, 4
CHANGES = WRITE | SYNC | NAME | MAKE
FOREVER = 2**40


@dataclass(frozen=True)
class Fault:
    """Which calls go wrong, and how.

    Attributes
    ----------
    at, length : int
        The first call of these ``kinds`` that goes wrong (from 1; 0: none), and how many do.
    error : int
        ``errno`` of these calls.
    mode : int
        ``FAIL``, ``TEAR`` (half of a write is made first), ``KILL_BEFORE``, ``KILL_AFTER``, ``SLOW``.
    kinds : int
        A sum of ``WRITE``, ``SYNC``, ``NAME`` (rename, link, unlink), ``MAKE`` (new files and folders), ``READ``.
    """

    at: int = 0
    length: int = 1
    error: int = 5
    mode: int = FAIL
    kinds: int = CHANGES


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: exit status (negative: signal), what it said, and how many calls were counted."""

    status: int
    said: str
    calls: int


class Trials:
    """Starts trials in the folder ``watched``; calls elsewhere never go wrong."""

    def __init__(self, library: Path, watched: Path, count: Path, **environment: str) -> None:
        count.write_bytes(bytes(48))
        with count.open("r+b") as handle:
            self._plan = mmap.mmap(handle.fileno(), 48)
        variables = {"LD_PRELOAD": str(library), "FAULT_PATH": str(watched), "FAULT_COUNT": str(count)}
        quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "faulty.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **quiet, **variables, **environment},
        )  # fmt: skip

    def run(self, fault: Fault = Fault(), **trial: Any) -> Outcome:
        """Run a trial (see :func:`main`) in which ``fault`` happens."""
        self._plan[:] = struct.pack("6q", 0, fault.at, fault.length, fault.error, fault.mode, fault.kinds)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(trial) + "\n")
        self._process.stdin.flush()
        status, said = json.loads(self._process.stdout.readline())
        return Outcome(status, said, struct.unpack_from("q", self._plan)[0])

    def close(self) -> None:
        """End the program."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def compiled(folder: Path) -> Path:
    """Return the library made from ``faulty.c``; skip where there is no compiler or no Linux."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler (cc): faulty system calls are a preloaded library")
    library = folder / "faulty.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "faulty.c"), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


def main() -> None:
    """Fork for each line on stdin: ``{"runs": folder, "executor": name, "verb": run | repair, "flow": {...}}``."""
    from bouton import volume  # noqa: F401 - imported before the fork
    from bouton.engine import repair_run, run_workflow, verify_run
    from bouton.errors import BoutonError
    from engine.flows import shapes_flow

    def work(trial: dict[str, Any]) -> None:
        runs = Path(trial["runs"])
        if trial.get("verb") == "verify":
            assert not verify_run(runs / "toy").damages
        elif trial.get("verb") == "repair":
            repair_run(runs / "toy", executor="serial")
        else:
            name = trial.get("executor", "serial")
            run_workflow(shapes_flow(block=BLOCK), runs, name, 2, retries=trial.get("retries", 2)).raise_if_failed()

    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            status, said = 0, ""
            try:
                work(json.loads(line))
            except BoutonError as error:
                status, said = error.exit_code, str(error)
            except BaseException as error:
                import traceback

                status, said = 1, traceback.format_exc() + repr(error)
            with os.fdopen(writing, "w") as pipe:
                pipe.write(said)
            os._exit(status)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(json.dumps([status, said]) + "\n")
        sys.stdout.flush()


def as_text(fault: Fault) -> str:
    """Return a fault in a line, for messages of tests."""
    return ", ".join(f"{name} {value}" for name, value in asdict(fault).items())


if __name__ == "__main__":
    main()
