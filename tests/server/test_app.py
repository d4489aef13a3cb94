"""The web service: what it hands out, and what it must not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import unquote

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

import fake_run
from bouton.errors import BoutonError, DataError, RunError, SpecError
from bouton.report import write_report
from bouton.segment.components import relabel
from bouton.segment.history import MERGE_COLUMNS, cut
from bouton.server.app import make_app
from bouton.server.cuts import Shown
from bouton.server.serve import reserve_port
from bouton.volume.mapping import write_mapping
from bouton.volume.run_folder import open_run

BASE = "http://127.0.0.1:8765"
CHUNK = "0-32_0-32_0-10"
HERE = "z_nm=1&y_nm=1&x_nm=1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "demo"
    fake_run.whole_run(folder)
    write_report(folder)
    (folder.parent / "secret.txt").write_text("secret words")
    os.symlink(folder.parent / "secret.txt", folder / "link.txt")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> TestClient:
    return TestClient(make_app(folder), base_url=BASE, follow_redirects=False)


def state_in(answer: httpx.Response) -> dict:
    page, _, state = answer.headers["location"].partition("#!")
    assert answer.status_code == 307
    assert page == "/v/app/"
    return json.loads(unquote(state))


def test_root_leads_to_the_viewer(client: TestClient) -> None:
    state = state_in(client.get("/"))
    assert state == client.get("/state.json").json()
    for layer in state["layers"]:
        url = layer["source"].removeprefix("precomputed://")
        assert client.get(f"{url}/info").status_code == 200


def test_place(client: TestClient) -> None:
    state = state_in(client.get("/at?z_nm=315&y_nm=705&x_nm=85&id=1099511627779&id=18446744073709551615&run=demo"))
    assert state["position"] == [8.5, 70.5, 10.5]
    final = next(layer for layer in state["layers"] if layer["name"] == "segmentation")
    assert final["segments"] == ["1099511627779", "18446744073709551615"]


def test_a_link_switches_on_the_layers_it_names(client: TestClient) -> None:
    def shown(query: str) -> dict[str, bool]:
        layers = state_in(client.get(f"/at?{HERE}{query}"))["layers"]
        return {layer["name"]: layer["visible"] for layer in layers if layer["type"] != "annotation"}

    hidden = next(name for name, visible in shown("").items() if not visible)
    assert [name for name, visible in shown(f"&layer={hidden}").items() if visible] == [hidden]


def test_a_link_draws_a_box_and_hides_what_was_found(client: TestClient) -> None:
    layers = state_in(client.get(f"/at?{HERE}&layer=tissue&box=2:8,10:40,20:60&lines=0"))["layers"]
    assert [layer["name"] for layer in layers if layer.get("visible", True)] == ["tissue", "box"]
    assert layers[-1]["annotations"][0]["pointB"] == [60, 40, 8]
    assert client.get(f"/at?{HERE}&box=2:8").status_code == 404


@pytest.mark.parametrize(
    "query", ["", "z_nm=1&y_nm=2", "z_nm=nan&y_nm=1&x_nm=1", f"{HERE}&id=x", f"{HERE}&id=-1", f"{HERE}&id={2**64}"]
)
def test_no_place(client: TestClient, query: str) -> None:
    assert client.get(f"/at?{query}").status_code == 422


def test_link_of_another_run(client: TestClient) -> None:
    answer = client.get("/at?z_nm=1&y_nm=1&x_nm=1&run=other<b>")
    assert answer.status_code == 409
    assert "bouton view" in answer.text
    assert answer.headers["content-type"].startswith("text/plain")


def test_client_files(client: TestClient) -> None:
    page = client.get("/v/app/")
    assert page.status_code == 200
    assert "neuroglancer" in page.text
    script = next(part for part in page.text.split('"') if part.startswith("main."))
    assert client.get(f"/v/app/{script}").headers["content-type"].startswith("text/javascript")
    assert client.post("/state/app", content="{}").json() == {"g": "1"}


def test_chunks(client: TestClient) -> None:
    data = client.get(f"/data/steps/segmentation.segmentation/full/{CHUNK}").content
    expected = fake_run.cells()[:10, :32, :32]
    assert (np.frombuffer(data, "<u8").reshape(expected.shape) == expected).all()
    data = client.get(f"/data/steps/affinities.affinities/full/{CHUNK}").content
    assert (
        np.frombuffer(data, "u1").reshape(3, 10, 32, 32) == fake_run.edges(fake_run.cells())[:, :10, :32, :32]
    ).all()


def test_lost_chunk_is_an_error_that_says_so(tmp_path: Path) -> None:
    run = fake_run.FakeRun(tmp_path / "demo")
    step = run.step("segmentation", "segmentation", state="failed")
    run.layer(step, "segmentation", "labels", fake_run.cells(), skip=((0, 0, 0),))
    run.save()
    client = TestClient(make_app(run.folder), base_url=BASE)
    answer = client.get(f"/data/steps/segmentation.segmentation/full/{CHUNK}")
    assert answer.status_code == 404
    assert answer.json()["message"]
    assert client.get("/data/steps/segmentation.segmentation/full/32-64_0-32_0-10").status_code == 200


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_run.with_history(tmp_path_factory.mktemp("runs") / "cuts").folder


def labels_at(client: TestClient, layer: str) -> np.ndarray:
    url = f"/data/{layer}/full/32-64_0-32_0-10"
    parts = [np.frombuffer(client.get(url.replace("32-64", at)).content, "<u8") for at in ("32-64", "64-96")]
    return np.concatenate([part.reshape(10, 32, 32) for part in parts], axis=2)


def test_cut_is_made_on_the_way(history: Path) -> None:
    client = TestClient(make_app(history), base_url=BASE, follow_redirects=False)
    whole = fake_run.cells()[:10, :32, 32:96]
    pieces = labels_at(client, "steps/fragments.fragments")
    assert np.array_equal(labels_at(client, "cuts/0.2"), whole)
    assert np.array_equal(labels_at(client, "cuts/1.0"), pieces)
    run = open_run(history)
    found = labels_at(client, "cuts/0.6")
    assert np.array_equal(found, relabel(pieces, *cut(run.table("agglomeration.merges"), 0.6)))
    assert not np.array_equal(found, whole) and not np.array_equal(found, pieces)
    info = client.get("/data/cuts/0.6/info").json()
    assert (info["type"], info["data_type"]) == ("segmentation", "uint64")
    assert info["scales"] == client.get("/data/steps/fragments.fragments/info").json()["scales"]


def test_mapping_is_a_further_layer(history: Path, tmp_path: Path) -> None:
    ids, roots = cut(open_run(history).table("agglomeration.merges"), 0.6)
    write_mapping(tmp_path / "segmentation.parquet", ids, roots)
    write_mapping(tmp_path / "mine.parquet", ids[:3], np.zeros(3, np.uint64))
    shown = Shown((0.6,), (tmp_path / "segmentation.parquet", tmp_path / "mine.parquet"))
    client = TestClient(make_app(history, shown), base_url=BASE, follow_redirects=False)
    state = state_in(client.get(f"/at?{HERE}&id={ids[0]}&id={roots[0]}&id=7"))
    labels = {layer["name"]: layer for layer in state["layers"] if layer["type"] == "segmentation"}
    assert list(labels) == ["fragments", "segmentation", "segmentation mapping", "mine", "cut 0.6"]
    assert [name for name, layer in labels.items() if layer["visible"]] == ["cut 0.6"]
    assert state["selectedLayer"]["layer"] == "cut 0.6"
    # What was selected in the run's own segments is selected by its segment in the cut.
    assert labels["cut 0.6"]["segments"] == [str(roots[0]), "7"]
    assert labels["segmentation"]["segments"] == [str(ids[0]), str(roots[0]), "7"]
    for layer in labels.values():
        assert client.get(layer["source"].removeprefix("precomputed://") + "/info").status_code == 200
    assert np.array_equal(labels_at(client, "mappings/segmentation"), labels_at(client, "cuts/0.6"))
    assert state == json.loads(json.dumps(state))


def test_other_thresholds_by_address(history: Path) -> None:
    client = TestClient(make_app(history), base_url=BASE, follow_redirects=False)
    state = state_in(client.get("/cut?threshold=0.5&threshold=0.7"))
    assert [layer["name"] for layer in state["layers"]][-2:] == ["cut 0.5", "cut 0.7"]
    assert "cut" not in json.dumps(client.get("/state.json").json()["layers"])
    for query in ("", "threshold=2", "threshold=x", "threshold=nan"):
        assert client.get(f"/cut?{query}").status_code == 422
    below = client.get("/cut?threshold=0.1")
    assert below.status_code == 404 and "where the merge history ends" in below.json()["message"]
    for path in ("cuts/x", "cuts/0.1", "mappings/none", "mappings/..%2f..%2frun", "cut/0.5"):
        assert client.get(f"/data/{path}/info").status_code == 404
        assert client.get(f"/data/{path}/full/{CHUNK}").status_code == 404


def test_cuts_follow_a_run_that_goes_on(tmp_path: Path) -> None:
    run = fake_run.with_history(tmp_path / "demo")
    client = TestClient(make_app(run.folder, Shown((0.2,))), base_url=BASE)
    assert np.array_equal(labels_at(client, "cuts/0.2"), fake_run.cells()[:10, :32, 32:96])
    for step in run.steps[:2]:
        new = run.folder / step["folder"].replace("cafe", "beef")
        (run.folder / step["folder"]).rename(new)
        step["folder"] = str(new.relative_to(run.folder))
        for output in step["outputs"].values():
            output["path"] = output["path"].replace("cafe", "beef")
    merges = open_run(run.save()).table("agglomeration.merges")
    short = {name: values[:1] for name, values in merges.items()}
    run.table(run.steps[1], "merges", short, MERGE_COLUMNS)
    os.utime(run.save() / "run.json", ns=(1, 1))
    pieces = labels_at(client, "steps/fragments.fragments")
    found = labels_at(client, "cuts/0.2")
    assert np.array_equal(found, relabel(pieces, *cut(short, 0.2)))
    assert not np.array_equal(found, fake_run.cells()[:10, :32, 32:96])


def test_mappings_that_do_not_fit(history: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("a.parquet", "b/a.parquet"):
        write_mapping(tmp_path / name, np.array([5, 2**40 + 1], np.uint64), np.array([1, 1], np.uint64))
    cases = [
        (Shown(files=(tmp_path / "a.parquet",)), "1 of 2 ids, such as 5, are no fragments"),
        (Shown(files=(tmp_path / "a.parquet", tmp_path / "b/a.parquet")), "two mappings called a"),
        (Shown(files=(tmp_path / "none.parquet",)), "no such file"),
        (Shown(thresholds=(0.1,)), "where the merge history ends"),
        (Shown(thresholds=(0.5,), step="fragments"), "holds no merge history"),
    ]
    for shown, words in cases:
        with pytest.raises(BoutonError, match=words):
            make_app(history, shown)
    bare = fake_run.FakeRun(tmp_path / "bare").save()
    with pytest.raises(SpecError, match="no step holds a merge history"):
        make_app(bare, Shown(thresholds=(0.5,)))


def test_report_links_stay_on_this_server(client: TestClient) -> None:
    answer = client.get("/report")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert 'href="/at?z_nm=' in answer.text
    assert "http://127.0.0.1:8765/at?" not in answer.text


def test_no_report_yet(tmp_path: Path) -> None:
    run = fake_run.FakeRun(tmp_path / "demo")
    run.save()
    answer = TestClient(make_app(run.folder), base_url=BASE).get("/report")
    assert answer.status_code == 404
    assert "bouton report" in answer.json()["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/data/steps/../../run.json",
        "/data/steps/..%2f..%2frun.json/info",
        "/data/steps/%2e%2e/info",
        "/data/steps/%2e%2e%2f%2e%2e%2fsecret.txt/full/x",
        "/data/other/image/info",
        "/data/sources/..%2fsecret.txt/info",
        "/v/app/../../../run.json",
        "/v/app/%2e%2e/%2e%2e/%2e%2e/__init__.py",
        "/v/app/..%2f..%2f..%2f__init__.py",
        "/v/app//etc/passwd",
        "/report/../link.txt",
        "/link.txt",
        "/run.json",
        "/data",
        "/data/",
        "/data/steps/",
        "/v/",
        "/docs",
        "/openapi.json",
    ],
)
def test_nothing_else_is_handed_out(folder: Path, path: str) -> None:
    """Raw paths, as no browser but any attacker would send them."""
    import asyncio

    async def answer() -> tuple[int, bytes]:
        sent: list = []

        async def send(message: dict) -> None:
            sent.append(message)

        async def receive() -> dict:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1:8765")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8765),
        }
        await make_app(folder)(scope, receive, send)
        return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])

    status, body = asyncio.run(answer())
    assert status == 404
    assert b"secret words" not in body
    assert b"root:" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(client: TestClient, method: str) -> None:
    for path in ("/", "/report", "/state.json", "/data/steps/segmentation.segmentation/info"):
        assert client.request(method, path).status_code == 405


def test_other_sites_cannot_read_through_a_name_of_theirs(client: TestClient) -> None:
    """A page elsewhere whose name resolves to this machine (DNS rebinding)."""
    assert client.get("/state.json", headers={"host": "evil.example:8765"}).status_code == 400
    assert (
        "access-control-allow-origin"
        not in client.get("/state.json", headers={"origin": "http://evil.example"}).headers
    )


def test_run_that_goes_on_is_read_again(tmp_path: Path) -> None:
    run = fake_run.FakeRun(tmp_path / "demo")
    folder = run.save()
    client = TestClient(make_app(folder), base_url=BASE)
    assert client.get("/state.json").json()["layers"] == []
    run.layer(run.step("image", "phantom"), "image", "image", fake_run.picture(fake_run.cells()))
    run.save()
    os.utime(folder / "run.json", ns=(1, 1))
    assert [layer["name"] for layer in client.get("/state.json").json()["layers"]] == ["image"]


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run here"):
        make_app(tmp_path)


def test_port_in_use() -> None:
    with reserve_port(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=f"port {port} .* in use") as caught:
            reserve_port(port)
        assert f"--port {port + 1}" in str(caught.value)
        assert taken.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("port", [-1, 70000])
def test_no_port(port: int) -> None:
    with pytest.raises(SpecError, match="cannot be used"):
        reserve_port(port)
