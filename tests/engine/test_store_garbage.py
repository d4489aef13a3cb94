"""gc of a run whose data lie in a store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bouton.engine.garbage import REMOVED, remove_garbage
from bouton.volume import write_bytes
from bouton.volume.places import place

pytest.importorskip("moto", reason="the S3 server of the dev extra is not installed")

from object_server import KEYS, s3_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server("bucket") as url:
        yield url


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_what_is_removed_goes_from_the_store_too(
    kind: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server}.items():
        monkeypatch.setenv(name, value)
    data = place("s3://bucket/gc/a" if kind == "s3" else tmp_path / "store" / "a")
    run = tmp_path / "runs" / "a"
    record = {
        "workflow": "a", "shape_zyx": [1, 1, 1], "voxel_size_nm": [1, 1, 1], "sources": {}, "steps": [],
        "store": str(data),
    }  # fmt: skip
    write_bytes(run / "run.json", json.dumps(record).encode())
    for key in ("kept", "old", f"{REMOVED}torn"):
        write_bytes(run / "step" / key / "ledger.sqlite", b"")
    for key in ("kept", "old", "torn", "older"):
        write_bytes(data / "step" / key / "layer" / "zarr.json", b"{}")
    remove_garbage(run, lambda: ["step/kept"])
    assert sorted(path.name for path in (run / "step").iterdir()) == ["kept"]
    assert sorted(path.name for path in (data / "step").iterdir()) == ["kept", "older"]
