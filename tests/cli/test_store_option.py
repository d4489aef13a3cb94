"""``bouton run --store``: data in a store or another folder, read by the other verbs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bouton.volume.run_folder import open_run
from cli.operating import bouton

pytest.importorskip("moto", reason="the S3 server of the dev extra is not installed")

from object_server import KEYS, s3_server

FLOW = """
grid: {shape_zyx: [16, 32, 32], voxel_size_nm: [40, 8, 8]}
block_zyx: [16, 16, 32]
steps:
  tissue: {stage: phantom}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server("bucket") as url:
        yield url


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_run_path_verify_and_view_read_through_the_store(
    kind: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    Path("flow.yaml").write_text(FLOW)
    store = "s3://bucket/cli" if kind == "s3" else "elsewhere"
    assert bouton("run", "flow.yaml", "--store", store, "--executor", "serial") == 0
    where = store if kind == "s3" else str(tmp_path / store)
    assert json.loads(Path("runs/flow/run.json").read_text())["store"] == f"{where}/flow"
    capsys.readouterr()
    assert bouton("path", "flow", "tissue") == 0
    said = capsys.readouterr().out.strip()
    assert said == str(open_run("runs/flow").path("tissue")) and said.startswith(f"{where}/flow/tissue/")
    assert bouton("verify", "flow") == 0
    assert bouton("report", "flow") == 0
    # Taken up without the option, the run finds its data.
    assert bouton("run", "flow.yaml", "--executor", "serial") == 0
    assert bouton("run", "flow.yaml", "--store", "s3://bucket/other", "--executor", "serial") == 2
    assert f"data where they are: {where}/flow" in capsys.readouterr().err
    assert bouton("run", "flow.yaml", "--store", "ftp://x/y", "--name", "b") == 2
