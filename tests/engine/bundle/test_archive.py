"""The zip of a bundle: its bytes, and what a reader refuses of a hostile one."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bouton.engine.bundle.archive import Archive, Limits, fact_of, is_safe_name, write_archive
from bouton.errors import DataError, SpecError

CONTENT = {"b/two.txt": b"two" * 1000, "a.txt": b"one", "empty": b""}


def zipped(*entries: tuple[zipfile.ZipInfo | str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return buffer.getvalue()


def read_all(path: Path, limits: Limits) -> dict[str, bytes]:
    with Archive(path, limits) as archive:
        return {name: archive.read(name, 1 << 30) for name in archive.entries}


def refused(tmp_path: Path, content: bytes, limits: Limits | None = None) -> str:
    """Return the error of opening a zip with this content and reading all of it."""
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_all(path, limits or Limits())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_equal_entries_give_equal_bytes_whatever_their_order_and_kind(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(CONTENT["b/two.txt"])
    one = write_archive(tmp_path / "one.zip", CONTENT)
    two = write_archive(tmp_path / "two.zip", {name: CONTENT[name] for name in sorted(CONTENT)})
    three = write_archive(tmp_path / "three.zip", CONTENT | {"b/two.txt": file})
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as a, zipfile.ZipFile(three) as c:
        assert a.namelist() == c.namelist() == ["a.txt", "b/two.txt", "empty"]
        assert {entry.date_time for entry in c.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert c.testzip() is None
    with Archive(three) as archive:
        assert {name: archive.read(name, 10_000) for name in archive.entries} == CONTENT
    assert not list(tmp_path.glob(".*"))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"mine")
    with pytest.raises(SpecError, match="exists"):
        write_archive(path, CONTENT)
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/../../x", "a//x", "./x", "a\\..\\x", "C:/x", "x\x00y", "x\ny", "", "a/.", "a.", "a ", "x" * 500],
)
def test_names_that_lead_elsewhere(name: str) -> None:
    assert not is_safe_name(name)


@pytest.mark.parametrize("name", ["a", "a/b.c", ".hidden", "a/..b", "a b/ü.txt", "folder/"])
def test_names_that_stay(name: str) -> None:
    assert is_safe_name(name)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x"])
def test_zip_slip(tmp_path: Path, name: str) -> None:
    assert "leads elsewhere" in refused(tmp_path, zipped((name, b"x")))


def test_links_and_devices(tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO):
        entry = zipfile.ZipInfo("link")
        entry.external_attr = (kind | 0o777) << 16
        assert "link or a device" in refused(tmp_path, zipped((entry, b"/etc/passwd")))


def test_the_same_name_twice_also_in_other_case(tmp_path: Path) -> None:
    assert "twice" in refused(tmp_path, zipped(("a/x", b"1"), ("A/X", b"2")))
    with pytest.warns(UserWarning, match="Duplicate"):
        content = zipped(("x", b"1"), ("x", b"2"))
    assert "twice" in refused(tmp_path, content)


def test_bombs(tmp_path: Path) -> None:
    zeros = bytes(40 << 20)
    assert "unpacks to 41,943,040 bytes" in refused(tmp_path, zipped(("zeros", zeros)))
    many = zipped(*((f"{i}", np.random.default_rng(i).bytes(1000)) for i in range(30)))
    assert "30,000 bytes unpacked" in refused(tmp_path, many, Limits(total_bytes=20_000))
    assert "30 entries" in refused(tmp_path, many, Limits(entries=20))
    assert "bytes, at most" in refused(tmp_path, many, Limits(archive_bytes=1000))


def test_a_directory_that_says_less_than_it_holds(tmp_path: Path) -> None:
    """The number of entries is a lie: zipfile goes by the directory's size, which is checked, too."""
    content = bytearray(zipped(*((f"{i:05}" + "x" * 390, b"") for i in range(11_000))))
    at = content.rfind(b"PK\x05\x06")
    content[at + 8 : at + 12] = struct.pack("<HH", 1, 1)
    assert "a directory of" in refused(tmp_path, bytes(content))


def test_a_directory_in_the_64_bit_form_hides_nothing(tmp_path: Path) -> None:
    content = zipped(("x", b"1"))
    at = content.rfind(b"PK\x05\x06")
    record = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 10**6, 10**6, at, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    assert "64-bit" in refused(tmp_path, content[:at] + record + locator + content[at:])


def test_an_entry_longer_than_it_says(tmp_path: Path) -> None:
    """The directory says 10 bytes; the stream holds 5,000: no more than 10 come out, and the checksum tells."""
    content = bytearray(zipped(("x", b"a" * 5000)))
    at = content.rfind(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 10)
    assert "damaged" in refused(tmp_path, bytes(content))


def test_encrypted_and_exotic(tmp_path: Path) -> None:
    content = bytearray(zipped(("x", b"abc")))
    content[content.rfind(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in refused(tmp_path, bytes(content))
    assert "compressed in a way" in refused(tmp_path, zipped(("x", b"abc" * 100), method=zipfile.ZIP_LZMA))


def test_no_zip_and_half_a_zip(tmp_path: Path) -> None:
    whole = write_archive(tmp_path / "w.zip", CONTENT).read_bytes()
    for content in (b"", b"PK", b"not a zip at all", whole[: len(whole) // 2], whole[:-1]):
        assert "no bundle, or a damaged one" in refused(tmp_path, content)
    with pytest.raises(DataError, match="no such file"):
        Archive(tmp_path / "nowhere.zip")


def test_a_file_that_is_another_one(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "x.zip", {"x": b"abc"})
    with Archive(path) as archive:
        assert archive.read("x", 10, fact_of(b"abc")) == b"abc"
        with pytest.raises(DataError, match="another checksum"):
            archive.read("x", 10, fact_of(b"abd"))
        with pytest.raises(DataError, match="has 3 bytes"):
            archive.read("x", 10, fact_of(b"abcd"))
        with pytest.raises(DataError, match="at most 2 are expected"):
            archive.read("x", 2)
        with pytest.raises(DataError, match="no entry 'y'"):
            archive.read("y", 2)


def test_random_damage_never_passes_for_the_content(tmp_path: Path) -> None:
    """Flip, cut or repeat bytes: every entry read is right, or there is one line of error; never another exception."""
    rng = np.random.default_rng(0)
    path = write_archive(tmp_path / "x.zip", CONTENT)
    whole = path.read_bytes()
    facts = {name: fact_of(content) for name, content in CONTENT.items()}
    refusals = []
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        if rng.random() < 0.3:
            damaged = damaged[: rng.integers(len(damaged))]
        path.write_bytes(damaged)
        try:
            with Archive(path) as archive:
                for name, fact in facts.items():
                    assert archive.read(name, 1 << 20, fact) == CONTENT[name]
        except DataError as error:
            refusals.append(str(error))
    assert len(refusals) > 200
    assert not any("\n" in text for text in refusals)
