"""Workflows whose data lie in S3 or Google Cloud Storage, run and looked at by the verbs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bouton.geometry import Box
from bouton.volume import create_volume, part_file, read_table, write_table
from bouton.volume.places import place
from bouton.volume.run_folder import open_run
from cli.operating import TOYS, bouton
from engine.flows import checksums

pytest.importorskip("moto", reason="the S3 server of the dev extra is not installed")

from object_server import KEYS, gcs_server, s3_server

SHAPE = (12, 10, 9)
STAGE = '''
"""Adds up voxels and the rows over each block."""
from dataclasses import dataclass

import numpy as np

from bouton.stage import BlockPart, BlockTask, Layer, Output, Stage, Table


@dataclass(frozen=True)
class Params:
    """None."""


def run(task: BlockTask) -> Output:
    values = task.volumes["image"].read(task.core).astype(np.uint16)
    rows = task.table("rows", over=task.core)["value"]
    return Output({"summed": values + np.uint16(rows.sum())})


STAGE = Stage(
    version=1, params=Params, reads={"image": Layer("uint8"), "rows": Table({"value": "int64"})}, writes=("summed",),
    parts=(BlockPart("add", run, {"summed": Layer("uint16")}),),
)
'''
FLOW = """\
name: {name}
block_zyx: [4, 5, 6]
data:
  image: {{path: {root}/em.zarr}}
  rows: {{path: {root}/rows.parquet}}
steps:
  sums: {{stage: sums.py, reads: {{image: image, rows: rows}}}}
  smooth: {{stage: {toys}/smooth.py, reads: {{image: sums}}}}
"""


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    with s3_server("bucket") as s3:
        found = {**KEYS, "AWS_ENDPOINT_URL": s3}
        try:
            import gcp_storage_emulator  # noqa: F401
        except ImportError:
            yield found
            return
        with gcs_server("bucket") as gcs:
            yield {**found, "TENSORSTORE_GCS_HTTP_URL": gcs}


def _fill(root: str, values: np.ndarray) -> None:
    """Write the sources: voxels, and a table in two parts that tell their boxes."""
    volume = create_volume(
        f"{root}/em.zarr", shape_zyx=SHAPE, dtype="uint8", voxel_size_nm=(30, 10, 10), block_zyx=(4, 4, 4), kind="image"
    )
    volume.write(volume.box, values)
    for value, z in ((100, 0), (1000, 8)):
        file = part_file(f"part{z}", Box((z, 0, 0), (z + 4, 10, 9)))
        write_table(f"{root}/rows.parquet/{file}", {"value": np.array([value])}, {"value": "int64"})
    file = part_file("between", Box((4, 0, 0), (8, 10, 9)))
    write_table(f"{root}/rows.parquet/{file}", {"value": np.array([10])}, {"value": "int64"})


@pytest.mark.parametrize("executor", ["serial", "processes"])
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_workflow_over_data_in_a_store(
    scheme: str,
    executor: str,
    servers: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if scheme == "gs" and "TENSORSTORE_GCS_HTTP_URL" not in servers:
        pytest.skip("gcp-storage-emulator is not installed")
    for name, value in servers.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    root, values = f"{scheme}://bucket/{executor}", np.random.default_rng(0).integers(0, 250, SHAPE).astype(np.uint8)
    Path("sums.py").write_text(STAGE)
    for name, where in (("there", root), ("here", str(tmp_path / "data"))):
        _fill(where, values)
        Path(f"{name}.yaml").write_text(FLOW.format(name=name, root=where, toys=TOYS))
        assert bouton("plan", f"{name}.yaml") == 0
        chosen = ("--executor", executor, "--workers", "2") if name == "there" else ("--executor", "serial")
        assert bouton("run", f"{name}.yaml", *chosen) == 0
    assert checksums(tmp_path / "runs/there") == checksums(tmp_path / "runs/here")
    expected = values + np.repeat(np.array([100, 10, 1000], np.uint16), 4)[:, None, None]
    np.testing.assert_array_equal(open_run("runs/there").volume("sums")[...], expected)
    inputs = json.loads(next(Path("runs/there/sums").glob("*/step.json")).read_text())["inputs"]
    assert {name: given["path"] for name, given in inputs.items()} == {
        "image": f"{root}/em.zarr", "rows": f"{root}/rows.parquet",
    }  # fmt: skip
    for verb in ("verify", "report", "resume", "status"):
        assert bouton(verb, "there") == 0
    assert not list(tmp_path.rglob(f"{scheme}:*")), "a URL was taken for a path"
    # A source that went is told by its URL; what lies beside it stays.
    place(f"{root}/em.zarr").remove_below()
    capsys.readouterr()
    assert bouton("run", "there.yaml", "--name", "again") == 3
    assert f"{root}/em.zarr" in capsys.readouterr().err
    assert read_table(f"{root}/rows.parquet")["value"].tolist() == [10, 100, 1000]
