"""The dashboard over HTTP: what it says of real runs, of hostile words and of damaged files."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import fake_run
from bouton.engine import run_workflow
from bouton.geometry import Box
from bouton.report import write_report
from bouton.server.app import make_app
from bouton.server.dashboard import ASSETS, PAGE
from bouton.server.events import KEPT_EVENTS, EventIndex, event_stream
from engine.flows import SHAPE, shapes_flow, trouble_flow
from serving import serving

BASE = "http://127.0.0.1:8765"
HOSTILE = "</script><img src=x onerror=alert(1)>\r\nid: 0\n\ndata: {}"


def client_of(folder: Path) -> TestClient:
    return TestClient(make_app(folder), base_url=BASE, follow_redirects=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    summary = run_workflow(shapes_flow(), tmp_path_factory.mktemp("runs"), executor="serial")
    return client_of(summary.folder)


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    flow = trouble_flow(how="raise", at=(4, 5, 0))
    summary = run_workflow(flow, tmp_path_factory.mktemp("runs"), executor="serial", retries=1)
    assert summary.state == "failed"
    return client_of(summary.folder)


def level_of(client: TestClient, step: str, part: str, level: int = 0) -> dict:
    levels = client.get(f"/dashboard/maps/{step}.json").json()["levels"]
    return next(one for one in levels if (one["part"], one["level"]) == (part, level))


def covered(flat: list[int]) -> list[int]:
    """Return the numbers in a flat list of half-open runs."""
    return [number for a, b in zip(flat[::2], flat[1::2], strict=True) for number in range(a, b)]


def test_the_page_loads_nothing_from_elsewhere(whole: TestClient) -> None:
    page = whole.get("/dashboard")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
    assert "style=" not in page.text and "onclick" not in page.text and "http://" not in page.text
    for name, kind in ASSETS.items():
        answer = whole.get(f"/dashboard/{name}")
        assert answer.headers["content-type"].startswith(kind)
        assert "://" not in answer.text and "innerHTML" not in answer.text


def test_every_file_of_the_page_is_handed_out_and_no_other(whole: TestClient) -> None:
    assert {path.name for path in PAGE.iterdir()} == {*ASSETS, "dashboard.html.jinja"}
    for name in ("dashboard.html.jinja", "..%2fapp.py", "..%2F..%2Ferrors.py", "nothing.js"):
        assert whole.get(f"/dashboard/{name}").status_code == 404


def test_numbers_of_a_finished_run(whole: TestClient) -> None:
    state = whole.get("/dashboard/state.json").json()
    assert state["state"] == "done"
    assert [step["state"] for step in state["steps"]] == ["complete", "complete"]
    assert all(step["done"] == step["tasks"] for step in state["steps"])
    kinds = [event["event"] for event in state["recent"]]
    assert (kinds[0], kinds[-1]) == ("RunStarted", "RunFinished") and "TasksDone" not in kinds
    told = sum(tasks for rows in state["rates"].values() for _, tasks, _ in rows)
    assert told == sum(step["tasks"] for step in state["steps"])


def test_maps_of_all_shapes_cover_all_tasks(whole: TestClient) -> None:
    counts: dict[str, list[list[int]]] = {}
    for step in whole.get("/dashboard/state.json").json()["steps"]:
        tasks = 0
        for level in whole.get(f"/dashboard/maps/{step['name']}.json").json()["levels"]:
            nz, ny, nx = level["counts_zyx"]
            assert covered(level["done"]) == list(range(nz * ny * nx))
            assert level["reused"] == level["failed"] == level["blocked"] == []
            counts.setdefault(level["shape"], []).append(level["counts_zyx"])
            tasks += nz * ny * nx
        assert tasks == step["done"]
    assert set(counts) == {"block", "merge", "object", "chain", "whole"}
    assert [3, 2, 2] in counts["block"]
    assert counts["merge"][:3] == [[3, 2, 2], [2, 1, 1], [1, 1, 1]]
    assert counts["chain"] == [[3, 1, 1]]


def test_copied_blocks_are_reused_ones(tmp_path: Path) -> None:
    run_workflow(shapes_flow(bounds=Box((0, 0, 0), (8, 10, 9))), tmp_path, executor="serial")
    summary = run_workflow(shapes_flow(), tmp_path, executor="serial")
    level = level_of(client_of(summary.folder), "source", "draw")
    # two planes of four blocks lie whole in the smaller box
    assert covered(level["reused"]) == list(range(8))
    assert covered(level["done"]) == list(range(12))


def test_numbers_of_tasks_count_from_the_lowest_block_of_the_bounds(tmp_path: Path) -> None:
    bounds = Box((4, 5, 0), SHAPE)
    summary = run_workflow(shapes_flow(bounds=bounds), tmp_path, executor="serial")
    level = level_of(client_of(summary.folder), "source", "draw")
    assert (level["first_zyx"], level["counts_zyx"]) == ([1, 1, 0], [2, 1, 2])
    assert level["bounds_zyx"] == [[4, 5, 0], list(SHAPE)]
    assert covered(level["done"]) == [0, 1, 2, 3]


def test_failed_and_blocked_blocks_are_where_they_are(troubled: TestClient) -> None:
    states = {step["name"]: step["state"] for step in troubled.get("/dashboard/state.json").json()["steps"]}
    assert (states["source"], states["trouble"]) == ("complete", "quarantined")
    values = troubled.get("/dashboard/maps/trouble.json").json()
    level = values["levels"][0]
    # block 1-1-0 of 3 x 2 x 2
    assert covered(level["failed"]) == [6]
    assert covered(level["done"]) == [number for number in range(12) if number != 6]
    (failure,) = values["failures"]
    assert (failure["task"], failure["box_zyx"]) == ("1-1-0", "4:8,5:10,0:6")
    assert "a poison block" in failure["error"]


def test_tries_of_a_block(troubled: TestClient) -> None:
    query = {"step": "trouble", "part": "copy", "task": "1-1-0"}
    found = troubled.get("/dashboard/task.json", params=query).json()
    assert found["attempts"] and "a poison block" in found["attempts"][0]["error"]
    assert "misbehave" in found["attempts"][-1]["traceback"]
    good = troubled.get("/dashboard/task.json", params={**query, "task": "0-0-0"}).json()
    assert good["attempts"] == [] and good["files"][0]["size_bytes"] > 0


@pytest.mark.parametrize("path", ["maps/nothing.json", "maps/...json", "task.json?step=nothing&part=a&task=b"])
def test_no_such_step(whole: TestClient, path: str) -> None:
    answer = whole.get(f"/dashboard/{path}")
    assert answer.status_code == 404
    assert answer.json()["message"]


def test_a_name_with_markup_stays_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "<b>&\"'x"
    fake_run.whole_run(folder)
    page = client_of(folder).get("/dashboard").text
    assert "<b>&\"'x" not in page and "&lt;b&gt;" in page


def test_a_run_written_by_hand_without_ledgers_or_events(tmp_path: Path) -> None:
    client = client_of(fake_run.whole_run(tmp_path / "demo").folder)
    state = client.get("/dashboard/state.json").json()
    assert state["offset"] == 0 and state["recent"] == []
    assert client.get(f"/dashboard/maps/{state['steps'][0]['name']}.json").json()["levels"] == []


def test_a_step_whose_stage_is_gone_is_shown_all_the_same(tmp_path: Path) -> None:
    summary = run_workflow(shapes_flow(), tmp_path, executor="serial")
    before = client_of(summary.folder).get("/dashboard/maps/source.json").json()
    step = next(summary.folder.glob("source/*/step.json"))
    values = json.loads(step.read_text())
    step.write_text(json.dumps(values | {"stage_name": str(tmp_path / "moved.py")}))
    assert client_of(summary.folder).get("/dashboard/maps/source.json").json() == before


def event(name: str, **values: object) -> bytes:
    return json.dumps({"event": name, "time": 1000.5, **values}).encode() + b"\n"


def test_an_index_reads_each_line_once_and_starts_again_with_another_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    index = EventIndex(tmp_path)
    assert index.current().offset == 0
    path.write_bytes(event("RunStarted", run="a") + event("TasksDone", step="s", part="p", tasks=3, voxels=7)[:-5])
    assert index.current().recent[-1]["run"] == "a"
    assert index.rates == {}
    with open(path, "ab") as handle:
        handle.write(event("TasksDone")[-5:] + event("TasksDone", step="s", part="p", tasks=2, voxels=5))
    assert index.current().rates == {"s": {1000: [2, 5]}} or index.rates == {"s": {1000: [5, 12]}}
    assert index.current().offset == path.stat().st_size
    path.unlink()
    path.write_bytes(event("RunStarted", run="b"))
    assert [values["run"] for values in index.current().recent] == ["b"]


def test_an_index_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = [event("TaskRetried", step="s", time=t) for t in range(3000)]
    lines += [event("TasksDone", step="s", tasks=1, voxels=1, time=t) for t in range(3000)]
    path.write_bytes(b"".join(lines))
    index = EventIndex(tmp_path).current()
    assert len(index.recent) == KEPT_EVENTS
    assert len(index.rates["s"]) <= 602 and max(index.rates["s"]) == 2999


@pytest.mark.parametrize(
    "bad", [b"\n", b"null\n", b"[1]\n", b'{"event": [1]}\n', b'{"event": "TasksDone", "tasks": "x"}\n']
)
def test_lines_that_are_no_events_are_passed_over(tmp_path: Path, bad: bytes) -> None:
    (tmp_path / "events.jsonl").write_bytes(
        bad + b"\xff\xfe{\n" + event("RunFinished", state="done") + b'{"event": "Ru'
    )
    index = EventIndex(tmp_path).current()
    assert index.finished["state"] == "done"
    assert index.offset == (tmp_path / "events.jsonl").stat().st_size - len(b'{"event": "Ru')


async def messages(path: Path, place: int, count: int) -> list[str]:
    """Return the first messages of a stream after its greeting."""
    stream = event_stream(path, place, threading.Event())
    assert (await anext(stream)).startswith("retry:")
    found = [await asyncio.wait_for(anext(stream), 20) for _ in range(count)]
    await stream.aclose()
    return found


def test_a_message_is_one_however_hostile_its_words(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(event("TaskFailed", step=HOSTILE, error=HOSTILE) + b'{"event": "TasksDone", "tas')
    (text,) = asyncio.run(messages(path, 0, 1))
    head, data, *rest = text.split("\n")
    assert head == f"id: {len(event('TaskFailed', step=HOSTILE, error=HOSTILE))}"
    assert json.loads(data.removeprefix("data: "))[0]["error"] == HOSTILE
    assert rest == ["", ""] and "\r" not in text


def test_a_shorter_file_resets_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(event("RunStarted", run="b"))
    first, second = asyncio.run(messages(path, 10**6, 2))
    assert "event: reset" in first
    assert json.loads(second.split("data: ")[1])[0]["run"] == "b"


def test_a_quiet_stream_shows_signs_of_life_and_ends_when_told(tmp_path: Path) -> None:
    async def all_of_it() -> list[str]:
        ending = threading.Event()
        found = []
        async for text in event_stream(tmp_path / "events.jsonl", 0, ending):
            found.append(text)
            if len(found) == 2:
                ending.set()
        return found

    assert asyncio.run(asyncio.wait_for(all_of_it(), 20)) == ["retry: 1000\n\n", ": here\n\n"]


def read_stream(url: str, headers: dict[str, str], lines: int) -> Iterator[tuple[int, list[dict]]]:
    """Yield (place, events) of the first messages of a stream."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        place = -1
        while lines:
            line = answer.readline().decode()
            if line.startswith("id: "):
                place = int(line[4:])
            if line.startswith("data: "):
                yield place, json.loads(line[6:])
                lines -= 1


def test_who_comes_back_loses_nothing(tmp_path: Path) -> None:
    folder = fake_run.whole_run(tmp_path / "demo").folder
    path = folder / "events.jsonl"
    path.write_bytes(event("RunStarted", run="demo"))
    with serving(make_app(folder)) as url:
        stream = f"{url}/dashboard/events?after=0"
        ((place, events),) = read_stream(stream, {}, 1)
        assert [one["event"] for one in events] == ["RunStarted"]
        with open(path, "ab") as handle:
            handle.write(event("StepStarted", step="a") + event("StepStarted", step="b"))
        # a browser's header goes before the address, with which it first came
        ((place, events),) = read_stream(stream, {"Last-Event-ID": str(place)}, 1)
        assert [one["step"] for one in events] == ["a", "b"]
        assert place == path.stat().st_size
        for bad in ("x", "-1", "9" * 5000, "٣"):
            ((_, events),) = read_stream(stream, {"Last-Event-ID": bad.encode().decode("latin-1")}, 1)
            assert len(events) == 3


def test_the_stream_follows_a_run_while_it_goes_on(tmp_path: Path) -> None:
    flow = shapes_flow()
    run_workflow(flow, tmp_path, executor="serial")
    folder = tmp_path / flow.name
    with serving(make_app(folder)) as url:
        place = json.load(urllib.request.urlopen(f"{url}/dashboard/state.json", timeout=20))["offset"]
        second = threading.Timer(0.5, run_workflow, [flow, tmp_path, "serial"])
        second.start()
        told: list[str] = []
        end = time.monotonic() + 30
        while "RunFinished" not in told:
            assert time.monotonic() < end, told
            ((place, events),) = read_stream(f"{url}/dashboard/events?after={place}", {}, 1)
            told += [one["event"] for one in events]
        second.join()
    assert told == ["RunStarted", "StepReused", "StepReused", "RunFinished"]


def test_a_damaged_ledger_is_told(tmp_path: Path) -> None:
    summary = run_workflow(shapes_flow(), tmp_path, executor="serial")
    path = next(summary.folder.glob("source/*/ledger.sqlite"))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    client = client_of(summary.folder)
    answer = client.get("/dashboard/maps/source.json")
    assert answer.status_code == 404
    assert "ledger" in answer.json()["message"]
    states = {step["name"]: step["state"] for step in client.get("/dashboard/state.json").json()["steps"]}
    assert states == {"source": "failed", "smooth": "complete"}


def test_the_report_leads_to_the_dashboard(tmp_path: Path) -> None:
    folder = fake_run.whole_run(tmp_path / "demo").folder
    write_report(folder)
    assert 'href="/dashboard"' in client_of(folder).get("/report").text
