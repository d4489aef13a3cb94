"""Paths of objects, and volumes and tables on a real S3 server, also where it or the network fails."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from bouton.errors import DataError, SpecError
from bouton.geometry import Box
from bouton.volume import (
    checksum,
    create_volume,
    fingerprint,
    open_for_writing,
    open_volume,
    publish,
    publish_folder,
    read_table,
    shard_file,
    write_bytes,
    write_table,
)
from bouton.volume.convert import ConvertOptions, convert_volume
from bouton.volume.files import new_folder
from bouton.volume.objects import ObjectPath
from bouton.volume.places import place

pytest.importorskip("moto", reason="the S3 server of the dev extra is not installed")

from object_server import KEYS, Fault, Proxy, faulty, s3_place, s3_server

COLUMNS = {"id": "uint64", "name": "str"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server("bucket") as url:
        yield url


@pytest.fixture
def root(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ObjectPath:
    return ObjectPath.parse(s3_place(server, monkeypatch, request))


@pytest.fixture
def proxy(server: str, root: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with faulty(server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def _volume(path: object) -> np.ndarray:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 1000, (20, 24, 16)).astype(np.uint64)
    volume = create_volume(
        path, shape_zyx=array.shape, dtype=np.uint64, voxel_size_nm=(40, 4, 4), block_zyx=(8, 8, 8), kind="labels"
    )
    volume.write(volume.box, array)
    return array


def test_a_path_is_like_a_path() -> None:
    path = place("s3://bucket/a/b.tar.gz")
    like = PurePosixPath("/bucket/a/b.tar.gz")
    assert isinstance(path, ObjectPath)
    assert (path.name, path.suffix, path.stem) == (like.name, like.suffix, like.stem)
    assert str(path) == "s3://bucket/a/b.tar.gz"
    assert str(path.parent.parent) == "s3://bucket"
    assert path.parent / "b.tar.gz" == path == path.parent.joinpath("", "./b.tar.gz") == path.with_name("b.tar.gz")
    assert path.relative_to(path.parent.parent) == PurePosixPath("a/b.tar.gz")
    assert path.relative_to(path.parent) == PurePosixPath("b.tar.gz")
    with pytest.raises(ValueError, match="not below"):
        path.relative_to(place("s3://bucket/a/b"))  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(path)) == path
    assert len({path, path.parent / "b.tar.gz"}) == 1
    assert sorted([path, path.parent]) == [path.parent, path]


def test_places(tmp_path: Path) -> None:
    assert place("a/b") == Path("a/b")
    assert place(tmp_path) == tmp_path
    assert place("file:///a/b") == Path("/a/b")
    # What a command line's Path makes of a URL.
    assert place(Path("gs://bucket/a//b/")) == place("gs://bucket/a/b") == ObjectPath("gs", "bucket", "a/b")


@pytest.mark.parametrize("url", ["s3://", "s3:///a", "s3://BUCKET/a", "ftp://a/b", "s3://bucket/../a", "s3://b"])
def test_bad_urls(url: str) -> None:
    with pytest.raises(SpecError, match="is no place"):
        place(url)


def test_objects(root: ObjectPath) -> None:
    path = root / "a" / "b"
    assert not path.exists() and not path.is_file() and not root.is_dir()
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    write_bytes(root / "a" / "c" / "d", b"")
    write_bytes(root / "aa", b"x")
    assert path.is_file() and not path.is_dir() and (root / "a").is_dir() and not (root / "a").is_file()
    assert path.read_bytes() == b"two" == path.open().read()
    assert [str(found.relative_to(root)) for found in root.iterdir()] == ["a", "aa"]
    assert [str(found.relative_to(root)) for found in root.rglob("*")] == ["a/b", "a/c/d", "aa"]
    assert [str(found.relative_to(root)) for found in (root / "a").glob("b*")] == ["a/b"]
    path.unlink()
    path.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        path.unlink()
    with pytest.raises(FileNotFoundError):
        path.read_bytes()
    for number in range(100):
        write_bytes(root / "a" / f"{number}", b"x")
    (root / "a").remove_below()
    assert [str(found.relative_to(root)) for found in root.rglob("*")] == ["aa"]


def test_publish(root: ObjectPath, tmp_path: Path) -> None:
    path = root / "object"
    assert publish(path, b"one")
    assert publish(path, b"one")
    assert not publish(path, b"two")
    assert path.read_bytes() == b"one"
    (tmp_path / "made" / "deep").mkdir(parents=True)
    (tmp_path / "made" / "deep" / "file").write_bytes(b"x")
    assert publish_folder(tmp_path / "made", root / "folder")
    assert publish_folder(tmp_path / "made", root / "folder")
    assert checksum(root / "folder") == checksum(tmp_path / "made")
    (tmp_path / "made" / "deep" / "file").write_bytes(b"y")
    assert not publish_folder(tmp_path / "made", root / "folder")
    assert (root / "folder" / "deep" / "file").read_bytes() == b"x"


def test_of_many_writers_exactly_one_wins(root: ObjectPath) -> None:
    for number in range(8):
        won: list[int] = []
        barrier = threading.Barrier(4)

        def write(me: int, path: ObjectPath, barrier: threading.Barrier, won: list[int]) -> None:
            barrier.wait()
            if publish(path, f"{me}".encode() * 5000):
                won.append(me)

        path = root / str(number)
        threads = [threading.Thread(target=write, args=(me, path, barrier, won)) for me in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert path.read_bytes() == f"{won[0]}".encode() * 5000


def test_volumes_have_the_bytes_that_they_have_on_disk(root: ObjectPath, tmp_path: Path) -> None:
    array = _volume(root / "v.zarr")
    _volume(tmp_path / "v.zarr")
    assert checksum(root / "v.zarr") == checksum(tmp_path / "v.zarr")
    volume = open_volume(root / "v.zarr")
    np.testing.assert_array_equal(volume[...], array)
    assert volume.voxel_size_nm == (40, 4, 4)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(volume))[3:9, 2, :5], array[3:9, 2, :5])
    again = open_for_writing(str(root / "v.zarr"))
    again.write(Box((8, 8, 8), (16, 16, 16)), array[:8, :8, :8])
    np.testing.assert_array_equal(open_volume(str(root / "v.zarr"))[8:16, 8:16, 8:16], array[:8, :8, :8])
    assert shard_file(root / "v.zarr", (2, 1, 0)).is_file()


def test_a_missing_or_damaged_chunk_is_named(root: ObjectPath) -> None:
    _volume(root / "v.zarr")
    shard = shard_file(root / "v.zarr", (1, 0, 1))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"damaged chunk, box 8:16,0:8,8:16") as told:
        open_volume(root / "v.zarr")[...]
    assert str(shard) in str(told.value)
    shard.unlink()
    with pytest.raises(DataError, match=r"missing chunk, box 8:16,0:8,8:16") as told:
        open_volume(root / "v.zarr")[...]
    assert str(shard) in str(told.value)


def _copy(folder: Path, to: ObjectPath) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            write_bytes(to / file.relative_to(folder).as_posix(), file.read_bytes())


@pytest.mark.parametrize("driver", ["n5", "neuroglancer_precomputed", "zarr", "zarr3"])
def test_formats(root: ObjectPath, tmp_path: Path, driver: str) -> None:
    import tensorstore as ts

    rng = np.random.default_rng(1)
    array = rng.integers(0, 255, (12, 10, 8)).astype(np.uint8)
    path = tmp_path / "v"
    schema = {"dtype": "uint8", "domain": {"shape": [12, 10, 8]}}
    extra = {}
    if driver == "neuroglancer_precomputed":
        schema["domain"] = {"shape": [12, 10, 8, 1]}
        extra = {"scale_metadata": {"resolution": [4, 4, 40], "encoding": "raw", "chunk_size": [8, 8, 8]}}
    store = ts.open(
        {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}, "schema": schema, **extra}, create=True
    ).result()
    store[:12, :10, :8].write(array[..., None] if store.rank == 4 else array).result()
    _copy(path, root)
    size = (40, 4, 4)
    np.testing.assert_array_equal(open_volume(root, None, size)[...], open_volume(path, None, size)[...])
    assert fingerprint(root) == fingerprint(str(root))


def test_no_volume_there(root: ObjectPath) -> None:
    write_bytes(root / "v.h5", b"\x89HDF\r\n\x1a\n")
    for name in ("v.h5", "nothing"):
        with pytest.raises(DataError, match="no volume there"):
            open_volume(root / name)
    with pytest.raises(DataError, match="no such file"):
        fingerprint(root / "nothing")


def test_convert(root: ObjectPath, tmp_path: Path) -> None:
    array = _volume(root / "v.zarr")
    for format_ in ("omezarr", "precomputed"):
        options = ConvertOptions(format=format_, levels=2)
        convert_volume(open_volume(root / "v.zarr"), root / format_, options)
        convert_volume(open_volume(root / "v.zarr"), tmp_path / format_, options)
        assert checksum(root / format_) == checksum(tmp_path / format_)
        np.testing.assert_array_equal(open_volume(root / format_)[...], array)
        with pytest.raises(DataError, match="exists already"):
            convert_volume(open_volume(root / "v.zarr"), root / format_, options)
    with contextlib.suppress(KeyboardInterrupt), new_folder(root / "failed") as folder:
        write_bytes(folder / "a", b"x")
        assert (root / "failed").is_dir()
        raise KeyboardInterrupt
    assert not (root / "failed").is_dir()


def test_tables(root: ObjectPath, tmp_path: Path) -> None:
    table = {"id": np.arange(5, dtype=np.uint64), "name": np.array(list("abcde"), dtype=object)}
    for part in ("t-2", "t-10"):
        write_table(
            root / "parts" / f"{part}.parquet", {k: v[: 3 if part == "t-2" else 5] for k, v in table.items()}, COLUMNS
        )
    write_table(root / "t.parquet", table, COLUMNS)
    write_table(tmp_path / "t.parquet", table, COLUMNS)
    assert checksum(root / "t.parquet") == checksum(tmp_path / "t.parquet")
    assert list(read_table(root / "t.parquet")["name"]) == list("abcde")
    assert list(read_table(str(root / "parts"))["name"]) == list("abcabcde")
    with pytest.raises(DataError, match=r"no \.parquet file"):
        read_table(root / "none")
    write_bytes(root / "bad.parquet", b"PAR1")
    with pytest.raises(DataError, match="damaged"):
        read_table(root / "bad.parquet")


def test_a_fingerprint_tells_another_table_and_another_place(root: ObjectPath) -> None:
    table = {"id": np.arange(5, dtype=np.uint64), "name": np.array(list("abcde"), dtype=object)}
    write_table(root / "t.parquet", table, COLUMNS)
    write_table(root / "u.parquet", table, COLUMNS)
    before = fingerprint(root / "t.parquet")
    assert before != fingerprint(root / "u.parquet")
    write_table(root / "t.parquet", {**table, "id": table["id"] + 1}, COLUMNS)
    assert before != fingerprint(root / "t.parquet")


@pytest.mark.parametrize(("status", "code"), [(429, "SlowDown"), (500, "InternalError"), (503, "SlowDown"), (0, "")])
def test_passing_refusals_are_tried_again(proxy: Proxy, root: ObjectPath, status: int, code: str) -> None:
    proxy.faults += [Fault("PUT", root.key, status, code, times=3), Fault("GET", root.key, status, code, times=3)]
    assert publish(root / "object", b"one")
    assert (root / "object").read_bytes() == b"one"
    assert [seen[2] for seen in proxy.seen if seen[0] == "PUT"] == [status] * 3 + [200]


@pytest.mark.parametrize("status", [429, 500])
def test_lasting_refusals_are_told(proxy: Proxy, root: ObjectPath, status: int) -> None:
    proxy.faults.append(Fault("PUT", root.key, status, "SlowDown", times=1000))
    with pytest.raises(DataError, match="All 4 retry attempts failed") as told:
        publish(root / "object", b"one")
    assert "\n" not in str(told.value) and str(root / "object") in str(told.value)
    assert len([seen for seen in proxy.seen if seen[0] == "PUT"]) <= 6


def test_an_answer_lost_after_the_write_is_no_conflict(proxy: Proxy, root: ObjectPath) -> None:
    proxy.faults.append(Fault("PUT", root.key, -1))
    assert publish(root / "object", b"one")
    assert [seen[2] for seen in proxy.seen if seen[0] == "PUT"] == [-1, 412]


def test_a_refused_condition_is_a_conflict(proxy: Proxy, root: ObjectPath) -> None:
    assert publish(root / "object", b"one")
    # The look before the conditional write may miss a writer that is quicker: then the store's 412 counts.
    proxy.faults.append(Fault("HEAD", root.key, 404, times=2))
    assert not publish(root / "object", b"two")
    assert [seen[2] for seen in proxy.seen if seen[0] == "PUT"][-1] == 412
    assert (root / "object").read_bytes() == b"one"


def test_slow_answers_are_waited_for(proxy: Proxy, root: ObjectPath) -> None:
    proxy.faults.append(Fault("PUT", root.key, 200, wait_s=1.0))
    start = time.monotonic()
    assert publish(root / "object", b"one")
    assert time.monotonic() - start >= 1.0


def test_refused_credentials_are_told_at_once(proxy: Proxy, root: ObjectPath) -> None:
    proxy.faults += [Fault(method, root.key, 403, "AccessDenied", times=99) for method in ("PUT", "GET")]
    with pytest.raises(DataError, match=r"AccessDenied.*credentials"):
        write_bytes(root / "object", b"one")
    with pytest.raises(DataError, match=r"AccessDenied.*credentials"):
        checksum(root / "object")
    assert len([seen for seen in proxy.seen if seen[0] == "PUT"]) == 1


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (403, "AccessDenied")])
def test_a_store_out_of_reach_is_no_damage(proxy: Proxy, root: ObjectPath, status: int, code: str) -> None:
    array = _volume(root / "v.zarr")
    volume = open_volume(root / "v.zarr")
    proxy.faults.append(Fault("GET", "v.zarr/0/c/1/", status, code, times=999))
    with pytest.raises(DataError, match=f"{code}.*credentials") as told:
        volume[...]
    assert "damaged" not in str(told.value)
    np.testing.assert_array_equal(volume[:8], array[:8])
    proxy.faults[:] = [Fault("GET", "v.zarr/0/zarr.json", status, code, times=999)]
    with pytest.raises(DataError, match=f"{code}.*credentials"):
        open_volume(root / "v.zarr")
    proxy.faults[:] = [Fault("PUT", "v.zarr/0/c/1/", status, code, times=999)]
    with pytest.raises(DataError, match=f"{code}.*credentials"):
        open_for_writing(root / "v.zarr").write(volume.box, array)


def test_no_bucket_and_no_server_are_told(root: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="NoSuchBucket"):
        write_bytes("s3://nobucket/a", b"")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(DataError, match=r"Could not connect.*endpoint"):
        write_bytes(root / "a", b"")


def test_a_store_that_keeps_conditions(root: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (root / "look").keeps_conditions()
    assert not (root / "look").exists()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(OSError, match="Could not connect"):
        (root / "look").keeps_conditions()


_STALLED = """
import os, time
from bouton.volume.objects import ObjectPath
start = time.monotonic()
try:
    ObjectPath.parse("s3://bucket/a").read_bytes()
except OSError as error:
    print(round(time.monotonic() - start), error)
"""


def test_an_answer_that_stalls_is_given_up(server: str) -> None:
    """The limits are read once a process, so this needs one of its own."""
    with faulty(server) as proxy:
        proxy.faults.append(Fault("GET", "bucket", 200, wait_s=3.0, times=99))
        code = "import bouton.volume.objects as o; o.RETRIES = {'max_retries': 1, 'initial_delay': '5ms'}\n" + _STALLED
        limit = {"TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **KEYS, **limit, "AWS_ENDPOINT_URL": proxy.url},
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    assert "too slow" in done.stdout
    assert int(done.stdout.split()[0]) <= 4
