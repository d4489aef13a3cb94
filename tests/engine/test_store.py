"""A run keeps its place in a store, and nobody else writes there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bouton.engine.store import MARK, NAME, RunStore, open_store
from bouton.errors import DataError, SpecError
from bouton.spec import Choices, Workflow, load_workflow
from bouton.volume.places import place

pytest.importorskip("moto", reason="the S3 server of the dev extra is not installed")

from object_server import KEYS, Fault, faulty, s3_server

FLOW = "grid: {shape_zyx: [8, 8, 8], voxel_size_nm: [4, 4, 4]}\nsteps:\n  volume: {stage: phantom}\n"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server("bucket") as url:
        yield url


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server}.items():
        monkeypatch.setenv(name, value)
    name = request.node.name.partition("[")[0]
    return f"s3://bucket/{name}" if request.param == "s3" else str(tmp_path / "store")


def _flow(folder: Path, store: str = "") -> Workflow:
    (folder / "flow.yaml").write_text(FLOW)
    return load_workflow(folder / "flow.yaml", Choices(overrides=[f"store={store}"] if store else []))


def _run_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def test_a_run_keeps_its_place(store: str, tmp_path: Path) -> None:
    folder = _run_folder(tmp_path / "runs" / "a")
    first = open_store(_flow(tmp_path, store), folder)
    assert first.data == f"{store}/a" and first.keeps_conditions
    assert open_store(_flow(tmp_path, store), folder) == first
    assert open_store(_flow(tmp_path), folder) == first
    moved = folder.rename(tmp_path / "a")
    assert open_store(_flow(tmp_path, store), moved) == first
    with pytest.raises(SpecError, match=f"data where they are: {store}/a"):
        open_store(_flow(tmp_path, f"{store}/other"), moved)
    assert [path.name for path in (place(store) / "a").iterdir()] == [MARK]


def test_two_runs_of_one_name_do_not_share_a_place(store: str, tmp_path: Path) -> None:
    open_store(_flow(tmp_path, store), _run_folder(tmp_path / "mine" / "a"))
    with pytest.raises(SpecError, match="another run of that name"):
        open_store(_flow(tmp_path, store), _run_folder(tmp_path / "yours" / "a"))
    open_store(_flow(tmp_path, store), _run_folder(tmp_path / "yours" / "b"))


def test_a_run_without_a_store(tmp_path: Path) -> None:
    folder = _run_folder(tmp_path / "a")
    assert open_store(_flow(tmp_path), folder) == RunStore()
    assert list(folder.iterdir()) == []


def test_a_run_with_results_in_its_folder_keeps_them_there(store: str, tmp_path: Path) -> None:
    folder = _run_folder(tmp_path / "a")
    _run_folder(folder / "step" / "key")
    (folder / "step" / "key" / "ledger.sqlite").write_bytes(b"")
    with pytest.raises(SpecError, match="data where they are"):
        open_store(_flow(tmp_path, store), folder)


def test_rights_are_looked_at_before_a_run(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty(server) as proxy:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        folder = _run_folder(tmp_path / "a")
        with pytest.raises(DataError, match="NoSuchBucket"):
            open_store(_flow(tmp_path, "s3://nobucket/x"), folder)
        proxy.faults.append(Fault("PUT", "readonly", 403, "AccessDenied", times=99))
        with pytest.raises(DataError, match=r"AccessDenied.*credentials"):
            open_store(_flow(tmp_path, "s3://bucket/readonly"), folder)
    assert list(folder.iterdir()) == []


def test_a_damaged_note_is_told(tmp_path: Path) -> None:
    folder = _run_folder(tmp_path / "a")
    (folder / NAME).write_text("{")
    with pytest.raises(DataError, match="damaged"):
        open_store(_flow(tmp_path), folder)
