"""Chunks and metadata that are not what was written: a read fails and names the file, or ``verify`` finds it."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bouton.engine import repair_run, run_workflow, verify_run
from bouton.errors import BoutonError, DataError, RunError
from bouton.volume.run_folder import open_run
from engine.flows import checksums, shapes_flow

SHARD = "image/0/c/1/1/0"
OTHER = "image/0/c/0/1/0"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_workflow(shapes_flow(), tmp_path_factory.mktemp("finished"), "serial").folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "toy")


def source(folder: Path) -> Path:
    return folder / open_run(folder).steps["source"].folder


def image(folder: Path) -> np.ndarray:
    return open_run(folder).volume("source")[...]


def crc32c(data: bytes) -> int:
    """Return the Castagnoli checksum, bit by bit (RFC 3720, appendix B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def test_the_checksum_is_the_published_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def check_found_and_repaired(folder: Path, before: dict[str, str], whole: np.ndarray) -> None:
    """A read of the damaged image fails or gives the original voxels; verify finds the damage, repair mends it."""
    said, found = "", whole
    try:
        found = image(folder)
    except BoutonError as error:
        said = str(error)
    assert np.array_equal(found, whole) and "\n" not in said
    assert verify_run(folder).damages
    repair_run(folder, executor="serial")
    assert checksums(folder) == before
    assert np.array_equal(image(folder), whole)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.99])
def test_a_truncated_chunk(folder: Path, kept: float) -> None:
    before, whole = checksums(folder), image(folder)
    path = source(folder) / SHARD
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match="1/1/0"):
        image(folder)
    check_found_and_repaired(folder, before, whole)


def test_no_flipped_bit_of_a_chunk_goes_unnoticed(folder: Path) -> None:
    """Every byte of a shard, one bit each: a read fails, or gives the very voxels that were written."""
    path, whole = source(folder) / SHARD, image(folder)
    content = path.read_bytes()
    silent = 0
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        try:
            silent += not np.array_equal(image(folder), whole)
        except DataError:
            continue
    assert silent == 0


def test_swapped_chunks_are_found_by_verify(folder: Path) -> None:
    """Each has a valid checksum of its own: only the ledger knows that they stand in each other's place."""
    before, whole = checksums(folder), image(folder)
    one, other = source(folder) / SHARD, source(folder) / OTHER
    one.rename(one.with_name("x"))
    other.rename(one)
    one.with_name("x").rename(other)
    assert {(damage.task, damage.found[:7]) for damage in verify_run(folder).damages} == {
        ("1-1-0", "changed"),
        ("0-1-0", "changed"),
    }
    repair_run(folder, executor="serial")
    assert checksums(folder) == before and np.array_equal(image(folder), whole)


def test_a_chunk_in_place_of_another_is_found_by_verify(folder: Path) -> None:
    before = checksums(folder)
    shutil.copyfile(source(folder) / OTHER, source(folder) / SHARD)
    assert [damage.task for damage in verify_run(folder).damages] == ["1-1-0"]
    repair_run(folder, executor="serial")
    assert checksums(folder) == before


def rewrite_index(path: Path, offset: int, size: int) -> None:
    """Let the first entry of a shard's index say something else, with a right checksum of the index."""
    content = path.read_bytes()
    entries = next(n for n in range(1, len(content) // 16 + 1) if index_is_right(content, n))
    index = bytearray(content[-16 * entries - 4 : -4])
    index[:16] = struct.pack("<QQ", offset, size)
    path.write_bytes(content[: -16 * entries - 4] + bytes(index) + struct.pack("<I", crc32c(bytes(index))))


def index_is_right(content: bytes, entries: int) -> bool:
    return crc32c(content[-16 * entries - 4 : -4]) == struct.unpack("<I", content[-4:])[0]


@pytest.mark.parametrize(
    ("offset", "size"),
    [(10**6, 40), (2**63, 40), (2**64 - 17, 16), (0, 2**62), (0, 0), (3, 40), (2**64 - 1, 2**64 - 1)],
)
def test_a_shard_s_index_that_points_elsewhere(folder: Path, offset: int, size: int) -> None:
    before, whole = checksums(folder), image(folder)
    rewrite_index(source(folder) / SHARD, offset, size)
    with pytest.raises(DataError, match="1/1/0"):
        image(folder)
    check_found_and_repaired(folder, before, whole)


def change(key: str, value: object) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        metadata = json.loads(path.read_text())
        metadata[key] = value
        path.write_text(json.dumps(metadata))

    return apply


def keep(share: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


METADATA = {
    "another dtype": change("data_type", "uint16"),
    "another shape": change("shape", [12, 10, 18]),
    "no shape": change("shape", None),
    "negative shape": change("shape", [-12, 10, 9]),
    "huge shape": change("shape", [2**62, 2**62, 2**62]),
    "other kind of node": change("node_type", "group"),
    "other version": change("zarr_format", 99),
    "unknown codec": change("codecs", [{"name": "rot13"}]),
    "half": keep(0.5),
    "empty": keep(0.0),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe{}"),
    "a list": lambda path: path.write_text("[]"),
    "deep": lambda path: path.write_text("[" * 100_000),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_that_are_not_those_of_the_layer(folder: Path, name: str) -> None:
    before, whole = checksums(folder), image(folder)
    METADATA[name](source(folder) / "image" / "0" / "zarr.json")
    check_found_and_repaired(folder, before, whole)


@pytest.mark.parametrize("shape", ["[12,10,8]", "[12,50,9]", "[92,10,9]"])
def test_metadata_are_compared_before_blocks_trust_them(folder: Path, shape: str) -> None:
    """A run that goes on finds metadata of the same length that say something else, and writes them again."""
    before, path = checksums(folder), source(folder) / "image" / "0" / "zarr.json"
    text = path.read_text()
    compact = text.replace(" ", "").replace("\n", "")
    changed = compact.replace("[12,10,9]", shape)
    assert changed != compact
    path.write_text(changed.ljust(len(text)))
    assert run_workflow(shapes_flow(), folder.parent, "serial", retries=0).state == "done"
    assert checksums(folder) == before


def test_orphans_do_not_count_as_results(folder: Path) -> None:
    """What a killed writer left, and files that no step wrote, are no part of any layer or table."""
    before, whole = checksums(folder), image(folder)
    step = source(folder)
    for name in ("image/0/c/1/1/.0.abcd.partial", "image/0/c/1/1/0.__lock", "_voxels/.tmp-0-0-0.parquet"):
        (step / name).write_bytes(b"half")
    assert np.array_equal(image(folder), whole)
    assert not verify_run(folder).damages
    assert checksums(run_workflow(shapes_flow(), folder.parent, "serial").folder) == before


def test_names_differ_by_more_than_their_case(finished: Path) -> None:
    """On a file system that does not tell case, no two files of a run are one."""
    names = [path.relative_to(finished).as_posix() for path in finished.rglob("*")]
    assert len({name.casefold() for name in names}) == len(names)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return a function that mounts, or mounts anew, a small disk with options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(options: str) -> Path:
        again = ["-o", f"remount,{options}"] if mounted else ["-t", "tmpfs", "-o", options]
        done = subprocess.run(["mount", *again, "tmpfs", str(folder)], capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip("needs the right to mount a tmpfs (root)")
        mounted.append(True)
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(("option", "first", "step"), [("size", 100, 60), ("nr_inodes", 20, 15)])
def test_a_disk_that_grows_until_the_run_fits(
    disk: Callable[[str], Path], finished: Path, option: str, first: int, step: int
) -> None:
    """Blocks or inodes run out again and again; each time the run pauses with a word, and nothing torn is left."""
    unit, said = "k" if option == "size" else "", []
    for room in range(first, first + 60 * step, step):
        folder = disk(f"{option}={room}{unit}")
        try:
            run_workflow(shapes_flow(), folder, "serial").raise_if_failed()
            break
        except (RunError, DataError) as error:
            said.append(str(error))
    assert len(said) >= 3 and all("disk" in text and "free" in text for text in said), said
    assert checksums(folder / "toy") == checksums(finished)
    assert not verify_run(folder / "toy").damages


def test_a_disk_that_becomes_read_only(disk: Callable[[str], Path], finished: Path) -> None:
    folder = disk("size=4m")
    run_workflow(shapes_flow(factor=5), folder, "serial")
    disk("size=4m,ro")
    with pytest.raises(RunError, match="read-only"):
        run_workflow(shapes_flow(), folder, "serial")
    disk("size=4m,rw")
    assert checksums(run_workflow(shapes_flow(), folder, "serial").folder) == checksums(finished)
