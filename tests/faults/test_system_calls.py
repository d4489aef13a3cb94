"""Every system call of a run that changes its disk goes wrong: a line says so, the next run ends with the same bytes.

The default suite tries some calls of each kind, ``--slow`` all of them.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.flows import checksums
from faults import faulty
from faults.faulty import CHANGES, FOREVER, MAKE, NAME, READ, SYNC, WRITE, Fault, Outcome, Trials

SAMPLE = 6
FAULTS = {
    "disk full": Fault(error=errno.ENOSPC, kinds=WRITE | MAKE, length=FOREVER),
    "disk full in the middle of a write": Fault(error=errno.ENOSPC, kinds=WRITE, length=FOREVER, mode=faulty.TEAR),
    "quota": Fault(error=errno.EDQUOT, kinds=WRITE | MAKE, length=FOREVER),
    "broken disk": Fault(error=errno.EIO, kinds=CHANGES, length=FOREVER),
    "one bad write": Fault(error=errno.EIO, kinds=WRITE, mode=faulty.TEAR),
    "read-only": Fault(error=errno.EROFS, kinds=CHANGES, length=FOREVER),
    "no inode": Fault(error=errno.ENOSPC, kinds=MAKE, length=FOREVER),
    "failed fsync": Fault(error=errno.EIO, kinds=SYNC),
    "another device": Fault(error=errno.EXDEV, kinds=NAME),
    "stale handle": Fault(error=errno.ESTALE, kinds=CHANGES | READ),
    "killed before the call": Fault(kinds=CHANGES, mode=faulty.KILL_BEFORE),
    "killed after the call": Fault(kinds=CHANGES, mode=faulty.KILL_AFTER),
}


@pytest.fixture(scope="module")
def trials(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    folder = tmp_path_factory.mktemp("faulty")
    started = Trials(faulty.compiled(folder), runs.parent, folder / "count")
    yield started
    started.close()


@pytest.fixture(scope="module")
def undisturbed(trials: Trials, runs: Path) -> dict[str, str]:
    said = trials.run(runs=str(runs))
    assert said.status == 0, said
    return checksums(runs / "toy")


def check_a_fault(trials: Trials, runs: Path, fault: Fault, undisturbed: dict[str, str]) -> Outcome:
    """Run with a fault, then without: the first ends well, in a line or by the kill; the second with the same bytes."""
    shutil.rmtree(runs, ignore_errors=True)
    met = trials.run(fault, runs=str(runs), retries=0)
    what = f"{faulty.as_text(fault)}: {met}"
    kills = fault.mode in (faulty.KILL_BEFORE, faulty.KILL_AFTER)
    assert met.status in ((-9, 0) if kills else (0, 3, 4)), what
    assert "Traceback" not in met.said and "\n" not in met.said, what
    if met.status == 0:
        assert checksums(runs / "toy") == undisturbed, what
    again = trials.run(runs=str(runs))
    assert again.status == 0, f"{what}; again: {again}"
    assert checksums(runs / "toy") == undisturbed, what
    left = [path for path in runs.rglob("*") if path.name.startswith(".") or path.name.endswith(".__lock")]
    assert not left, f"{what}: leaves {left}"
    assert trials.run(runs=str(runs), verb="verify").status == 0, what
    return met


def calls_of(trials: Trials, runs: Path, fault: Fault) -> int:
    """Return how many calls of a run could go wrong this way."""
    shutil.rmtree(runs, ignore_errors=True)
    return trials.run(replace(fault, at=0), runs=str(runs)).calls


@pytest.mark.parametrize("name", FAULTS)
def test_some_calls_go_wrong(trials: Trials, runs: Path, undisturbed: dict[str, str], name: str) -> None:
    fault = FAULTS[name]
    calls = calls_of(trials, runs, fault)
    assert calls > 20
    steps = np.random.default_rng(list(FAULTS).index(name)).integers(0, calls // SAMPLE, SAMPLE)
    places = {1, *(max(1, int(at)) for at in np.linspace(2, calls, SAMPLE).round() - steps)}
    ends = [check_a_fault(trials, runs, replace(fault, at=at), undisturbed).status for at in places]
    assert any(ends), "nothing went wrong"


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_every_call_goes_wrong(trials: Trials, runs: Path, undisturbed: dict[str, str], name: str) -> None:
    for at in range(1, calls_of(trials, runs, FAULTS[name]) + 1):
        check_a_fault(trials, runs, replace(FAULTS[name], at=at), undisturbed)


def test_a_failed_fsync_of_a_block_is_never_taken_for_done(trials: Trials, runs: Path) -> None:
    """With no second try allowed, a run that lost what it wrote may not end well."""
    calls = calls_of(trials, runs, FAULTS["failed fsync"])
    for at in np.linspace(1, calls, 8).round():
        shutil.rmtree(runs)
        met = trials.run(replace(FAULTS["failed fsync"], at=int(at)), runs=str(runs), retries=0)
        assert met.status in (3, 4), f"fsync {at} of {calls}: {met}"


def test_a_slow_disk_changes_nothing(trials: Trials, runs: Path, undisturbed: dict[str, str]) -> None:
    shutil.rmtree(runs, ignore_errors=True)
    slow = Fault(at=1, length=FOREVER, kinds=WRITE | SYNC, mode=faulty.SLOW)
    assert trials.run(slow, runs=str(runs), retries=0).status == 0
    assert checksums(runs / "toy") == undisturbed
