"""Files and folders under names that must not exist: races, equal and other bytes, order of the system calls."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.volume import create_volume, publish, publish_folder, write_table

_ROUNDS = 200


def test_publish_adopts_equal_bytes_and_never_changes_others(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file"
    assert publish(path, b"one")
    before = path.stat()
    assert publish(path, b"one")
    assert not publish(path, b"two")
    assert not publish(path, b"one and more")
    assert not publish(path, b"")
    after = path.stat()
    assert path.read_bytes() == b"one"
    assert (after.st_ino, after.st_mtime_ns, after.st_nlink) == (before.st_ino, before.st_mtime_ns, 1)
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_publish_refuses_bad_places(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(DataError, match="folder: "):
        publish(tmp_path / "folder", b"new")
    with pytest.raises(DataError, match="file/below: "):
        publish(tmp_path / "file" / "below", b"new")
    if os.geteuid():
        (tmp_path / "folder").chmod(0o500)
        with pytest.raises(DataError, match="Permission denied"):
            publish(tmp_path / "folder" / "file", b"new")
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["file", "folder"]


_RACER = """
import sys
from pathlib import Path
from bouton.volume import publish

folder, me = Path(sys.argv[1]), sys.argv[2]
for line in sys.stdin:
    number = line.strip()
    print(int(publish(folder / number, f"{me} {number} ".encode() * 2000)), flush=True)
"""


def test_of_two_processes_exactly_one_wins(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACER, str(tmp_path / "race"), str(me)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for me in (0, 1)
    ]  # fmt: skip
    winners = set()
    for number in range(_ROUNDS):
        for racer in racers if number % 2 else reversed(racers):
            assert racer.stdin is not None
            racer.stdin.write(f"{number}\n")
            racer.stdin.flush()
        won = [int(racer.stdout.readline()) for racer in racers]  # type: ignore[union-attr]
        assert sorted(won) == [0, 1]
        winners.add(won.index(1))
        assert (tmp_path / "race" / str(number)).read_bytes() == f"{won.index(1)} {number} ".encode() * 2000
    assert winners == {0, 1}
    for racer in racers:
        racer.communicate()
        assert racer.returncode == 0
    assert len(list((tmp_path / "race").iterdir())) == _ROUNDS


def _calls_of(code: str, folder: Path) -> list[str]:
    """Return the system calls about durability that a Python program makes below ``folder``, by name and paths."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: the order of the system calls cannot be seen")
    names = "trace=fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat,mkdir,statx,getdents64"
    log = folder.parent / "calls"
    command = [strace, "-f", "-y", "-s", "512", "-e", names, "-o", str(log), sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr.lower():
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    lines = [re.sub(r"^\d+ +", "", line) for line in log.read_text().splitlines() if str(folder) in line]
    calls = [line for line in lines if not line.startswith("statx") or "AT_STATX_FORCE_SYNC" in line]
    return [re.sub(r"\.[0-9a-f]{8}\.partial", ".partial", call) for call in calls]


def test_publish_is_durable_before_it_is_named_and_named_before_it_returns(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    code = f"from bouton.volume import publish; publish({str(folder / 'new' / 'file')!r}, b'x')"
    shown = [call.replace(str(tmp_path), "") for call in _calls_of(code, folder)]
    order = [re.match(r"(\w+)", call)[1] for call in shown]  # type: ignore[index]
    assert order == ["mkdir", "mkdir", "fsync", "fsync", "link", "unlink", "fsync"]
    data, named = shown[-4], shown[-3]
    assert "/d/new/.file.partial>" in data
    assert '"/d/new/.file.partial", "/d/new/file"' in named
    assert "/d/new>" in shown[-1]


def test_publish_folder_adopts_equal_files_and_never_changes_others(tmp_path: Path) -> None:
    final = tmp_path / "made" / "final"
    for content, expected in ((b"a", True), (b"a", True), (b"b", False)):
        temporary = tmp_path / "temporary"
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "file").write_bytes(content)
        assert publish_folder(temporary, final) is expected
    assert (final / "deep" / "file").read_bytes() == b"a"
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(DataError, match="file: Not a directory"):
        publish_folder(tmp_path / "temporary", tmp_path / "file")


def test_publish_folder_is_durable_before_it_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    (folder / "temporary" / "deep").mkdir(parents=True)
    (folder / "temporary" / "deep" / "file").write_bytes(b"x")
    code = (
        "from pathlib import Path; from bouton.volume import publish_folder; "
        f"publish_folder(Path({str(folder / 'temporary')!r}), Path({str(folder / 'final')!r}))"
    )
    shown = [call.replace(str(folder), "") for call in _calls_of(code, folder)]
    before = "".join(shown[: next(i for i, call in enumerate(shown) if call.startswith("rename"))])
    assert all(f"<{name}>" in before for name in ("/temporary", "/temporary/deep", "/temporary/deep/file"))
    assert shown[-1].startswith("fsync")


def test_a_listing_of_parts_asks_the_server_first(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    for part in ("t-0", "t-1"):
        write_table(folder / f"{part}.parquet", {"id": np.arange(3)}, {"id": "int64"})
    calls = _calls_of(f"from bouton.volume import read_table; read_table({str(folder)!r})", folder)
    names = [call.partition("(")[0] for call in calls]
    assert names[0] == "statx" and "getdents64" in names


def test_a_missing_chunk_is_believed_after_the_server_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "d" / "v.zarr"
    create_volume(path, shape_zyx=(8, 8, 8), dtype="uint8", voxel_size_nm=(4, 4, 4), block_zyx=(8, 8, 8), kind="image")
    code = (
        "from bouton.errors import DataError\nfrom bouton.volume import open_volume\n"
        f"try:\n    open_volume({str(path)!r})[...]\nexcept DataError as error:\n    assert 'missing' in str(error)"
    )
    shown = [call.replace(str(path), "") for call in _calls_of(code, tmp_path / "d")]
    assert [re.findall('"([^"]*)"', call)[0] for call in shown] == ["", "/0", "/0/c", "/0/c/0", "/0/c/0/0"]


def test_a_rename_that_was_sent_twice_is_one(tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    assert publish_folder(tmp_path / "temporary", tmp_path / "final")
    with pytest.raises(DataError, match="no such file"):
        publish_folder(tmp_path / "temporary", tmp_path / "other")
