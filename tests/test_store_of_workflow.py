"""``store:`` of a workflow file, and data sources in object stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bouton.errors import DataError, SpecError
from bouton.spec import Choices, Workflow, load_workflow
from bouton.volume import create_volume, write_table

FLOW = """
name: flow
grid: {shape_zyx: [8, 8, 8], voxel_size_nm: [4, 4, 4]}
steps:
  volume: {stage: phantom}
"""


def _load(folder: Path, text: str, *overrides: str) -> Workflow:
    file = folder / "flow.yaml"
    file.write_text(text)
    return load_workflow(file, Choices(overrides=overrides))


def test_the_store_is_a_place_and_no_part_of_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _load(tmp_path, FLOW)
    assert plain.store == ""
    monkeypatch.setenv("BUCKET", "lab")
    for written, meant in {
        "s3://bucket/a/": "s3://bucket/a",
        "gs://${BUCKET}/a": "gs://lab/a",
        "file:///data/x": "/data/x",
        "here": str(tmp_path / "here"),
    }.items():
        flow = _load(tmp_path, FLOW + f"store: {written}\n")
        assert flow.store == meant
        assert [step.key for step in flow.steps] == [step.key for step in plain.steps]
    assert _load(tmp_path, FLOW, "store=s3://bucket/b").store == "s3://bucket/b"


@pytest.mark.parametrize("store", ["ftp://a/b", "s3://", "s3://Bad_Bucket/x"])
def test_a_bad_store_is_told_with_its_line(tmp_path: Path, store: str) -> None:
    with pytest.raises(SpecError, match=r"flow\.yaml:6: .* is no place"):
        _load(tmp_path, FLOW + f"store: {store}\n")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    pytest.importorskip("moto", reason="the S3 server of the dev extra is not installed")
    from object_server import s3_server

    with s3_server("bucket") as url:
        yield url


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    from object_server import KEYS

    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server}.items():
        monkeypatch.setenv(name, value)
    return "s3://bucket"


SOURCES = """
data:
  affinities: {path: %s/a.zarr}
  rows: {path: %s/rows.parquet}
steps:
  fragments: {stage: fragments, reads: {affinities: affinities}}
"""


def test_sources_in_a_store(tmp_path: Path, bucket: str) -> None:
    def fill(seed: int) -> None:
        write_table(f"{bucket}/rows.parquet", {"a": np.arange(seed)}, {"a": "int64"})

    new = {"shape_zyx": (8, 8, 8), "dtype": "uint8", "voxel_size_nm": (4, 4, 4), "block_zyx": (8, 8, 8)}
    volume = create_volume(f"{bucket}/a.zarr", **new, channels=3, kind="affinities")
    volume.write(volume.box, np.zeros((3, 8, 8, 8), np.uint8))
    fill(3)
    text = SOURCES % (bucket, bucket)
    flow = _load(tmp_path, text)
    assert flow.shape == (8, 8, 8) and flow.voxel_size_nm == (4, 4, 4)
    before = flow.sources["rows"].fingerprint
    assert _load(tmp_path, text).sources["rows"].fingerprint == before
    fill(4)
    assert _load(tmp_path, text).sources["rows"].fingerprint != before


def test_a_missing_source_in_a_store(tmp_path: Path, bucket: str) -> None:
    with pytest.raises(DataError, match=r"s3://bucket/none/a\.zarr: no volume there"):
        _load(tmp_path, SOURCES % (f"{bucket}/none", f"{bucket}/none"))
    with pytest.raises(DataError, match="no such file"):
        _load(tmp_path, SOURCES % (bucket, f"{bucket}/none"))
