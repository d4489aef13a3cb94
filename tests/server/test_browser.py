"""The unmodified Neuroglancer client in a real browser against the real service."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.types import ASGIApp, Receive, Scope, Send

import chromium
import fake_run
from bouton.server.app import make_app
from bouton.server.cuts import Shown
from bouton.server.serve import reserve_port

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.BROWSER is None, reason=chromium.WHY_NOT),
]


class Log:
    """Notes what was asked for and how it was answered."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.answers: list[tuple[str, int]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noted(message: dict) -> None:
            if message["type"] == "http.response.start":
                self.answers.append((scope["path"], message["status"]))
            await send(message)

        await self.app(scope, receive, noted)

    def wait_for(self, *parts: str, seconds: float = 60) -> None:
        """Wait until something was handed out whose path holds each of ``parts``."""
        end = time.monotonic() + seconds
        while missing := [
            part for part in parts if not any(part in path for path, code in self.answers if code == 200)
        ]:
            assert time.monotonic() < end, f"never asked for: {missing}"
            time.sleep(0.3)


@contextlib.contextmanager
def serving(app: Log) -> Iterator[str]:
    listener = reserve_port(0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def test_viewer_shows_data_and_lines(tmp_path: Path) -> None:
    log = Log(make_app(fake_run.whole_run(tmp_path / "demo").folder))
    with serving(log) as url, chromium.Page() as page:
        page.open(f"{url}/at?z_nm=315&y_nm=485&x_nm=565")
        log.wait_for("tissue.image/full/", "segmentation.segmentation/full/", "synapses.synapses/cells/")
        page.wait_for("typeof viewer !== 'undefined' && viewer.isReady()")
        time.sleep(2)
        picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        words = page.evaluate("document.body.innerText")
        layers = page.evaluate("viewer.layerManager.managedLayers.map(l => l.name)")
    failed = [answer for answer in log.answers if answer[1] >= 400 and "favicon" not in answer[0]]
    assert not failed
    assert "Disconnected" not in words
    assert "segmentation" in layers
    # The xy panel: an image under coloured segments; an empty viewer has a handful of colours.
    panel = picture[120:400, 100:550]
    assert len(np.unique(panel.reshape(-1, 3), axis=0)) > 200
    assert np.abs(panel[..., 0].astype(int) - panel[..., 1]).mean() > 10
    # The 3-D panel: lines with red ends.
    space = picture[430:740, 100:550].astype(int)
    assert ((space[..., 0] > 200) & (space[..., 1] < 110) & (space[..., 2] < 140)).any()


def test_viewer_shows_a_cut(tmp_path: Path) -> None:
    run = fake_run.with_history(tmp_path / "demo")
    log = Log(make_app(run.folder, Shown((0.2,))))
    panels = []
    with serving(log) as url, chromium.Page() as page:
        for address, group in (("", "cuts/0.2"), ("cut?threshold=1.0", "cuts/1.0")):
            page.open(f"{url}/{address}")
            log.wait_for("picture.image/full/", f"{group}/full/")
            page.wait_for("typeof viewer !== 'undefined' && viewer.isReady()")
            time.sleep(2)
            shown = page.evaluate("viewer.layerManager.managedLayers.filter(l => l.visible).map(l => l.name)")
            panels.append(np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))[120:400, 100:550])
            assert shown == ["picture", "cut 1.0" if address else "cut 0.2"]
    assert not [answer for answer in log.answers if answer[1] >= 400 and "favicon" not in answer[0]]
    # Coloured segments over the image; halves of a cell have one colour in the first cut, two in the second.
    assert all(np.abs(panel[..., 0].astype(int) - panel[..., 1]).mean() > 10 for panel in panels)
    assert (np.abs(panels[0].astype(int) - panels[1]).max(axis=-1) > 20).mean() > 0.1
