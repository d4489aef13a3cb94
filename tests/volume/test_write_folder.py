"""A folder is written whole or not at all, also where it stands already."""

from __future__ import annotations

from pathlib import Path

import pytest

from bouton.errors import DataError
from bouton.volume import files, write_folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_written_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "m"
    write_folder(folder, {"a": b"1", "b": b"2"})
    assert content(folder) == {"a": b"1", "b": b"2"}
    write_folder(folder, {"a": b"3"})
    assert content(folder) == {"a": b"3"}
    assert [path.name for path in folder.parent.iterdir()] == ["m"]


def test_two_steps_where_names_cannot_be_swapped(tmp_path: Path) -> None:
    folder, new, old = (tmp_path / name for name in ("m", "new", "old"))
    for place, text in ((folder, "1"), (new, "2")):
        place.mkdir()
        (place / "a").write_text(text)
    assert not files._swapped(new, tmp_path / "nothing")
    files._replace_folder(new, tmp_path / "other", old)
    assert content(tmp_path / "other") == {"a": b"2"}
    assert files._swapped(tmp_path / "other", folder)
    assert content(folder) == {"a": b"2"}


def test_a_failed_write_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    write_folder(folder, {"a": b"1"})
    with pytest.raises(DataError):
        write_folder(folder, {"a": b"2", "no/such/folder": b"3"})
    assert content(folder) == {"a": b"1"}
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("mine")
    with pytest.raises(DataError):
        write_folder(tmp_path / "m", {"a": b"1"})
    assert (tmp_path / "m").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
