"""Durable writes, checksums, fingerprints, tables, and the partial folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.volume import checksum, fingerprint, read_table, write_bytes, write_table
from bouton.volume.files import natural_key, partial_folder

COLUMNS = {"id": "uint64", "z_nm": "float64", "type": "str", "count": "int64", "good": "bool"}


def _table(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    return {
        "id": rng.integers(0, np.iinfo(np.uint64).max, n, dtype=np.uint64, endpoint=True),
        "z_nm": rng.normal(size=n),
        "type": np.array([["excitatory", "inhibitory", ""][i] for i in rng.integers(0, 3, n)], dtype=object),
        "count": rng.integers(-5, 5, n),
        "good": rng.integers(0, 2, n).astype(bool),
    }


def test_write_bytes_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_write_bytes_failure_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder: "):
        write_bytes(tmp_path / "folder", b"new")
    with pytest.raises(DataError, match="file/below: "):
        write_bytes(tmp_path / "file" / "below", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]


def test_checksum(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "a").write_bytes(b"abc")
    (tmp_path / "d" / "e" / "b").write_bytes(b"")
    # b2sum -l 256 of "abc"
    assert checksum(tmp_path / "d" / "a") == "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319"
    before = checksum(tmp_path / "d")
    os.utime(tmp_path / "d" / "a", (0, 0))
    (tmp_path / "d" / "a.__lock").write_bytes(b"x")
    assert checksum(tmp_path / "d") == before
    (tmp_path / "d" / "e" / "b").rename(tmp_path / "d" / "e" / "c")
    assert checksum(tmp_path / "d") != before
    with pytest.raises(DataError, match="no such file"):
        checksum(tmp_path / "nothing")


def test_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    before = fingerprint(file)
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert fingerprint(file) != before
    with pytest.raises(DataError, match="no such file"):
        fingerprint(tmp_path / "nothing")


def test_natural_order() -> None:
    names = ["s10", "s9", "s1", "a2b10", "a2b9", "10-0-2", "9-11-0", "9-2-0"]
    assert sorted(names, key=natural_key) == ["9-2-0", "9-11-0", "10-0-2", "a2b9", "a2b10", "s1", "s9", "s10"]


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_table_round_trip(rows: int, tmp_path: Path) -> None:
    table = _table(rows)
    write_table(tmp_path / "t.parquet", table, COLUMNS)
    found = read_table(tmp_path / "t.parquet")
    assert list(found) == list(COLUMNS)
    for name, dtype in COLUMNS.items():
        assert found[name].dtype == (object if dtype == "str" else np.dtype(dtype))
        assert np.array_equal(found[name], table[name])
    write_table(tmp_path / "again.parquet", table, COLUMNS)
    assert checksum(tmp_path / "again.parquet") == checksum(tmp_path / "t.parquet")


def test_table_parts_come_in_natural_order(tmp_path: Path) -> None:
    for name, ids in (("0-10-0", [4]), ("0-9-0", [2, 3]), ("0-2-0", [])):
        columns = {"id": np.array(ids, dtype=np.uint64), "type": np.array(["x"] * len(ids), dtype=object)}
        write_table(tmp_path / f"{name}.parquet", columns, {"id": "uint64", "type": "str"})
    (tmp_path / ".0-3-0.parquet.abc.partial").write_bytes(b"half")
    found = read_table(tmp_path)
    assert found["id"].tolist() == [2, 3, 4]
    assert found["id"].dtype == np.uint64
    write_table(tmp_path / "1-0-0.parquet", {"other": np.zeros(1)}, {"other": "float64"})
    with pytest.raises(DataError, match="parts with columns"):
        read_table(tmp_path)


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        ({"a": np.zeros(2)}, {"b": "float64"}, r"columns \['a'\]; expected \['b'\]"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, {"a": "float64", "b": "float64"}, "different lengths"),
        ({"a": np.array([1.0])}, {"a": "uint64"}, "float64 values that uint64 cannot hold"),
        ({"a": np.array([-1])}, {"a": "uint64"}, "int64 values that uint64 cannot hold"),
        ({"a": np.array([300])}, {"a": "uint8"}, "int64 values that uint8 cannot hold"),
        ({"a": np.zeros((2, 2))}, {"a": "float64"}, "expected one dimension"),
    ],
)
def test_table_refuses(table: dict, columns: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        write_table(tmp_path / "t.parquet", table, columns)
    assert not (tmp_path / "t.parquet").exists()


def test_table_narrows_what_fits(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", {"a": np.array([0, 255])}, {"a": "uint8"})
    assert read_table(tmp_path / "t.parquet")["a"].dtype == np.uint8


def test_damaged_tables(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, _table(1000), COLUMNS)
    raw = path.read_bytes()
    for bad in (raw[: len(raw) // 2], b"", b"hello", raw[:2000] + bytes([raw[2000] ^ 1]) + raw[2001:]):
        path.write_bytes(bad)
        with pytest.raises(DataError, match="damaged or no table"):
            read_table(path)
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "nothing.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.parquet file"):
        read_table(tmp_path / "empty")


def _fail_half_way(folder: Path) -> None:
    (folder / "a").write_text("a")
    raise DataError("half way")


def test_partial_folder(tmp_path: Path) -> None:
    final = tmp_path / "out"
    with pytest.raises(DataError), partial_folder(final) as folder:
        _fail_half_way(folder)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".out.partial" / "left").mkdir(parents=True)
    with partial_folder(final) as folder:
        with pytest.raises(DataError, match="another process is writing it"), partial_folder(final):
            pass
        assert list(folder.iterdir()) == []
        (folder / "a").write_text("a")
        assert not final.exists()
    assert [file.name for file in tmp_path.rglob("*")] == ["out", "a"]
    with pytest.raises(DataError, match="exists already"), partial_folder(final):
        pass


def test_import_is_quick_and_light() -> None:
    code = "import sys, bouton.volume; print([m for m in ('h5py', 'tifffile', 'torch', 'numba') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_sorted() -> None:
    import bouton.volume

    assert bouton.volume.__all__ == sorted(bouton.volume.__all__)
    assert all(hasattr(bouton.volume, name) for name in bouton.volume.__all__)
