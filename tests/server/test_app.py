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
from bouton.errors import DataError, RunError, SpecError
from bouton.report import write_report
from bouton.server.app import make_app
from bouton.server.serve import reserve_port

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
