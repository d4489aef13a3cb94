"""The dashboard in a real browser beside a real run."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

import chromium
from bouton.engine import run_workflow
from bouton.engine.ledger import Ledger
from bouton.geometry import Box
from bouton.server.app import make_app
from engine.flows import shapes_flow, trouble_flow
from serving import Log, serving

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.BROWSER is None, reason=chromium.WHY_NOT),
]

# the colour at the middle of every cell of the map, as the browser painted it
CELLS = """(() => {
  const canvas = document.getElementById('map'), pen = canvas.getContext('2d');
  const found = [];
  for (let row = 0; row < ROWS; row++) for (let column = 0; column < COLUMNS; column++) {
    const [x, y] = [(column + 0.3) / COLUMNS * canvas.width, (row + 0.3) / ROWS * canvas.height];
    found.push([...pen.getImageData(x, y, 1, 1).data].slice(0, 3).join());
  }
  return found;
})()"""
DONE, PENDING, FAILED = "63,116,214", "228,231,238", "208,57,43"


def cells(page: chromium.Page, rows: int, columns: int) -> list[str]:
    return page.evaluate(CELLS.replace("ROWS", str(rows)).replace("COLUMNS", str(columns)))


def words(page: chromium.Page, place: str) -> str:
    return page.evaluate(f"document.querySelector('{place}').innerText")


def pick_plane(page: chromium.Page, plane: int) -> None:
    """Show one z plane, as a hand on the slider would, and wait until it is painted."""
    page.evaluate(f"plane.value = {plane}; plane.dispatchEvent(new Event('input'))")
    page.wait_for(f"document.getElementById('plane-words').innerText.startsWith('plane {plane + 1} of')")
    painted(page)


def painted(page: chromium.Page) -> None:
    """Wait for another picture or two."""
    page.evaluate("new Promise((ready) => setTimeout(ready, 400))")


def open_dashboard(page: chromium.Page, url: str, step: str) -> None:
    # what is new is not lit up: the colours of the map are those of states
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    page.open(f"{url}/dashboard#{step}")
    page.wait_for("document.getElementById('live').className === 'here'")


def test_a_run_paints_its_map_and_a_failed_block_opens(tmp_path: Path) -> None:
    flow = trouble_flow(how="raise", at=(4, 5, 0), seconds=0.4)
    started = threading.Event()

    def note(event: object) -> None:
        if type(event).__name__ == "StepStarted":
            started.set()

    run = threading.Thread(target=run_workflow, args=[flow, tmp_path, "serial", 1, [note], 0])
    run.start()
    assert started.wait(30)
    log = Log(make_app(tmp_path / flow.name))
    with serving(log) as url, chromium.Page() as page:
        open_dashboard(page, url, "trouble")
        page.wait_for("/done [1-9]/.test(document.getElementById('legend').innerText)")
        some = words(page, "#legend")
        run.join(60)
        page.wait_for("document.querySelector('#state .tag').innerText === 'failed'")
        page.wait_for("document.getElementById('legend').innerText.includes('failed 1')")
        for plane, expected in ((0, [DONE] * 4), (1, [DONE, DONE, FAILED, DONE]), (2, [DONE] * 4)):
            pick_plane(page, plane)
            assert cells(page, 2, 2) == expected
        assert "a poison block" in words(page, "#failures")
        page.evaluate("document.querySelector('#failure-rows button').click()")
        page.wait_for("document.getElementById('task').open && document.querySelector('#task pre') !== null")
        opened = words(page, "#task")
        link = page.evaluate("document.querySelector('#task a').getAttribute('href')")
        problem = words(page, "#problem")
    assert "pending" in some
    assert "1-1-0" in opened and "4:8, 5:10, 0:6" in opened and "a poison block" in opened
    # the middle of the block, voxels of 30 x 10 x 10 nm
    assert link == "/at?z_nm=180.0&y_nm=75.0&x_nm=30.0&run=toy"
    assert problem == ""
    assert not [answer for answer in log.answers if answer[1] >= 400]


def test_events_alone_paint_and_hostile_words_stay_words(tmp_path: Path) -> None:
    """Blocks of a step that began are painted from events with runs of numbers; its map is not asked for again."""
    folder = run_workflow(shapes_flow(), tmp_path, "serial").folder
    log = Log(make_app(folder))
    evil = "<img id=evil src=x onerror=alert(1)>"
    with serving(log) as url, chromium.Page() as page:
        open_dashboard(page, url, "source")
        page.wait_for("document.getElementById('legend').innerText.includes('done 12')")
        asked = [path for path, _ in log.answers].count("/dashboard/maps/source.json")
        events = [
            {"event": "TaskLost", "step": "source", "part": "draw", "task": "0-0-1", "path": evil, "found": evil},
            {"event": "TaskLost", "step": "source", "part": "draw", "task": "2-1-0", "path": "a", "found": "b"},
            {"event": "WorkerLost", "cause": evil, "error": evil, "host": evil, "pid": 3},
            {"event": evil},
        ]
        with open(folder / "events.jsonl", "a") as handle:
            handle.writelines(json.dumps(event) + "\n" for event in events)
        page.wait_for("document.getElementById('legend').innerText.includes('pending 2')")
        pick_plane(page, 0)
        assert cells(page, 2, 2) == [DONE, PENDING, DONE, DONE]
        done = {"event": "TasksDone", "step": "source", "part": "draw", "level": 0, "tasks": 2, "voxels": 9}
        with open(folder / "events.jsonl", "a") as handle:
            handle.write(json.dumps(done | {"runs": [[1, 2], [10, 11]], "reused": 0}) + "\n")
        page.wait_for("document.getElementById('legend').innerText.includes('done 12')")
        painted(page)
        assert cells(page, 2, 2) == [DONE] * 4
        assert evil in words(page, "#log")
        assert page.evaluate("document.getElementById('evil')") is None
    assert [path for path, _ in log.answers].count("/dashboard/maps/source.json") == asked


def test_the_keyboard_reaches_blocks_and_many_tabs_stay_alive(tmp_path: Path) -> None:
    folder = run_workflow(shapes_flow(), tmp_path, "serial").folder
    log = Log(make_app(folder))
    with serving(log) as url, chromium.Page() as page:
        open_dashboard(page, url, "source")
        page.wait_for("document.getElementById('legend').innerText.includes('done 12')")
        for _ in range(8):
            page.call("Target.createTarget", url=f"{url}/dashboard", background=True)
        log.wait_for_many("/dashboard/state.json", 9)
        page.evaluate("document.getElementById('map').focus()")
        for key in ("PageDown", "PageDown", "ArrowRight", "ArrowRight", "ArrowDown", "Enter"):
            page.call("Input.dispatchKeyEvent", type="keyDown", key=key)
            page.evaluate("new Promise((ready) => setTimeout(ready, 150))")
        page.wait_for("document.getElementById('task').open", 20)
        name = words(page, "#task-name")
        with open(folder / "events.jsonl", "a") as handle:
            handle.write(json.dumps({"event": "RunFinished", "state": "marked", "seconds": 1.0}) + "\n")
        page.wait_for("document.getElementById('log').innerText.includes('marked')", 20)
    # of all tabs one has a stream and tells the others
    assert [path for path, _ in log.answers].count("/dashboard/events") == 1
    assert "2-1-1" in name


def test_names_and_boxes_of_blocks_are_those_of_the_engine(tmp_path: Path) -> None:
    bounds = Box((4, 5, 0), (12, 10, 8))
    folder = run_workflow(shapes_flow(bounds=bounds), tmp_path, "serial").folder
    script = """(async () => {
      const { StepMap } = await import('/dashboard/maps.js');
      const { boxText } = await import('/dashboard/words.js');
      const map = new StepMap(await (await fetch('/dashboard/maps/smooth.json')).json(), [30, 10, 10]);
      return map.levels.flatMap((level) => Array.from({ length: level.size }, (_, task) => {
        const name = level.name(task), box = level.box(task);
        return [level.part, name, box && boxText(box), level.number(name) === task];
      }));
    })()"""
    with serving(make_app(folder)) as url, chromium.Page() as page:
        open_dashboard(page, url, "smooth")
        found = page.evaluate(script)
    assert all(same for *_, same in found)
    shown = {(part, name): box for part, name, box, _ in found}
    expected = {}
    (step,) = (folder / "smooth").glob("*/ledger.sqlite")
    with Ledger(step, readonly=True) as ledger:
        for grid in ledger.grids():
            for number in range(len(grid)):
                box = grid.box(number)
                expected[grid.part, grid.name(number)] = str(box).replace(",", ", ") if box else None
    assert shown == expected
