"""Wishes to a coordinator, and who it is: over files that are whole, torn or missing; locks are really held."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from bouton.engine.control import ask, asked, choose_again, forget, holder, take_choice, this_process
from bouton.errors import RunError

HOLD = """
import fcntl, sys, time
handle = open(sys.argv[1], "ab")
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_wish_arrives_and_is_taken_back(tmp_path: Path) -> None:
    assert asked(tmp_path) == ""
    ask(tmp_path, "pause")
    assert asked(tmp_path) == "pause"
    ask(tmp_path, "cancel")
    assert asked(tmp_path) == "cancel"
    forget(tmp_path)
    forget(tmp_path)
    assert asked(tmp_path) == ""


@pytest.mark.parametrize("text", ["", "{", "[]", '"pause"', '{"ask": 3}', '{"ask": ["pause"]}', '{"ask": "stop"}'])
def test_half_a_wish_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "control.json").write_text(text)
    assert asked(tmp_path) == ""


def test_unknown_wishes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected pause or cancel"):
        ask(tmp_path, "stop")
    assert not list(tmp_path.iterdir())


def test_the_holder_lives_as_long_as_its_process(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    lock = tmp_path / "lock"
    lock.write_bytes(this_process())
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    found = holder(tmp_path)
    assert found is not None
    assert (found.alive, found.pid, found.host) == (True, os.getpid(), platform.node())
    assert f"process {os.getpid()} on {platform.node()}" in str(found)
    child.kill()
    child.communicate()
    found = holder(tmp_path)
    assert found is not None
    assert found.alive is False


def test_asking_who_holds_a_lock_does_not_take_it(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(this_process())
    holder(tmp_path)
    with open(tmp_path / "lock", "ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_holder_elsewhere_is_told_and_not_guessed(tmp_path: Path) -> None:
    values = json.loads(this_process()) | {"host": "another-host", "started": "1999-01-01T00:00:00+00:00"}
    (tmp_path / "lock").write_text(json.dumps(values))
    found = holder(tmp_path)
    assert found is not None
    assert found.alive is None
    assert "on another-host since 1999" in str(found)


@pytest.mark.parametrize("text", ["", "17", '{"host": "a", "pid": "', '{"host": "a"}'])
def test_a_torn_lock_says_unknown(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    found = holder(tmp_path)
    assert found is not None
    assert (found.alive, str(found)) == (False, "process unknown")


def test_a_choice_is_taken_once(tmp_path: Path) -> None:
    assert take_choice(tmp_path) is None
    choose_again(tmp_path, [("b", "copy", "1-0-0"), ("a", "copy", "1-0-0")])
    assert take_choice(tmp_path) == {("a", "copy", "1-0-0"), ("b", "copy", "1-0-0")}
    assert take_choice(tmp_path) is None
    (tmp_path / "retry.json").write_text('{"again": [["a", "copy"]]}')
    assert take_choice(tmp_path) is None
    assert not list(tmp_path.iterdir())
