"""Google Cloud Storage through TensorStore's driver, against an emulator on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.volume import checksum, create_volume, fingerprint, open_volume, publish, write_bytes
from bouton.volume.objects import ObjectPath
from bouton.volume.places import Place

pytest.importorskip("gcp_storage_emulator", reason="the emulator of the dev extra is not installed")

from object_server import Fault, Proxy, be_impatient, faulty, gcs_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with gcs_server("bucket") as url:
        yield url


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    be_impatient(monkeypatch)
    monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "any")
    with faulty(server) as proxy:
        monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", proxy.url)
        yield proxy


@pytest.fixture
def root(proxy: Proxy, request: pytest.FixtureRequest) -> ObjectPath:
    return ObjectPath.parse(f"gs://bucket/{request.node.name.replace('[', '-').strip(']')}")


def _volume(path: Place) -> np.ndarray:
    array = np.random.default_rng(0).integers(0, 1000, (20, 24, 16)).astype(np.uint64)
    volume = create_volume(
        path, shape_zyx=array.shape, dtype=np.uint64, voxel_size_nm=(40, 4, 4), block_zyx=(8, 8, 8), kind="labels"
    )
    volume.write(volume.box, array)
    return array


def test_volumes_have_the_bytes_that_they_have_on_disk(root: ObjectPath, tmp_path: Path) -> None:
    array = _volume(root / "v.zarr")
    _volume(tmp_path / "v.zarr")
    assert checksum(root / "v.zarr") == checksum(tmp_path / "v.zarr")
    np.testing.assert_array_equal(open_volume(str(root / "v.zarr"))[...], array)
    assert fingerprint(root / "v.zarr") == fingerprint(root / "v.zarr")


def test_objects(root: ObjectPath) -> None:
    path = root / "a"
    assert not path.exists()
    write_bytes(path, b"one")
    before = path.generation()
    write_bytes(path, b"two")
    assert path.generation() != before
    assert path.read_bytes() == b"two"
    assert list(root.iterdir()) == [path]
    path.unlink()
    with pytest.raises(FileNotFoundError):
        path.unlink()


def test_publish_looks_first_where_the_store_ignores_conditions(root: ObjectPath) -> None:
    assert not (root / "look").keeps_conditions()
    assert publish(root / "object", b"one")
    assert publish(root / "object", b"one")
    assert not publish(root / "object", b"two")
    assert (root / "object").read_bytes() == b"one"


def test_a_refused_condition_is_a_conflict(proxy: Proxy, root: ObjectPath) -> None:
    """The emulator ignores the condition, so the proxy refuses in its place, as the service is documented to."""
    assert publish(root / "object", b"one")
    looks = Fault("GET", "object", 404)
    proxy.faults += [looks, Fault("POST", "ifGenerationMatch=0", 412, "conditionNotMet")]
    assert not publish(root / "object", b"two")
    assert looks.times == 0
    assert [seen[2] for seen in proxy.seen if seen[0] == "POST"][-1] == 412
    assert (root / "object").read_bytes() == b"one"


@pytest.mark.parametrize("status", [429, 500, 503, 0])
def test_passing_refusals_are_tried_again(proxy: Proxy, root: ObjectPath, status: int) -> None:
    proxy.faults += [Fault("POST", "bucket", status, times=3), Fault("GET", "bucket", status, times=3)]
    assert publish(root / "object", b"one")
    assert (root / "object").read_bytes() == b"one"
    assert [seen[2] for seen in proxy.seen if seen[0] == "POST"] == [status] * 3 + [200]


def test_refused_credentials_are_told_at_once(proxy: Proxy, root: ObjectPath) -> None:
    proxy.faults.append(Fault("POST", "bucket", 403, times=99))
    with pytest.raises(DataError, match=r"credentials"):
        write_bytes(root / "object", b"one")
    assert len([seen for seen in proxy.seen if seen[0] == "POST"]) == 1
