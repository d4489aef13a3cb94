"""Picture of docs/synapse-files.md: a million synapses in Neuroglancer, from a folder of shards; needs Chromium.

python docs/synapse_files_figure.py
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "tests"), str(HERE.parent / "benchmarks")]

from synapses_formats import SHAPE, SIZE, synapses  # noqa: E402

import chromium  # noqa: E402
import fake_run  # noqa: E402
from bouton.server.app import TOKEN, make_app  # noqa: E402
from bouton.server.serve import reserve_port  # noqa: E402
from bouton.view.annotation_files import write_annotations  # noqa: E402
from bouton.view.annotations import SynapseLines  # noqa: E402
from bouton.view.neuroglancer import LINE_SHADER  # noqa: E402

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
# Width of the view, um: all of the data, a corner of it, some synapses.
VIEWS = (140, 30, 6)
WIDTH, GAP, WAIT_S = 420, 8, 15


class Counted:
    """Counts the bytes of lines that are handed out."""

    def __init__(self, app) -> None:
        self.app, self.bytes = app, 0

    async def __call__(self, scope, receive, send) -> None:
        """Answer one request."""

        async def counted(message) -> None:
            if message["type"] == "http.response.body" and "/lines/" in scope["path"]:
                self.bytes += len(message.get("body", b""))
            await send(message)

        await self.app(scope, receive, counted)


def state(origin: str, width_um: float) -> dict:
    """Return a viewer that shows the lines alone."""
    layer = {"type": "annotation", "name": "synapses", "source": f"precomputed://{origin}/lines"}
    shader = LINE_SHADER.replace("setEndpointMarkerSize(3.0, 9.0)", "setEndpointMarkerSize(2.0, 5.0)")
    return {
        "dimensions": {axis: [size * 1e-9, "m"] for axis, size in zip("xyz", (4, 4, 40), strict=True)},
        "position": [12500, 12500, 1250],
        "projectionScale": width_um * 1000 / 4,
        "projectionOrientation": [0.25, 0.35, 0.05, 0.9],
        "layers": [layer | {"shader": shader, "linkedSegmentationLayer": {}}],
        "layout": "3d",
        "showAxisLines": False,
    }


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        write_annotations(Path(folder) / "lines", SynapseLines(synapses(ROWS), SHAPE, SIZE))
        files = StaticFiles(directory=Path(folder) / "lines")
        viewer = make_app(fake_run.whole_run(Path(folder) / "run").folder)
        app = Counted(Starlette(routes=[Mount("/lines", files), Mount("/", viewer)]))
        listener = reserve_port(0)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        pictures = [shot(app, origin, width) for width in VIEWS]
        server.should_exit = True
        thread.join(20)
    whole = Image.new(
        "RGB", (sum(one.width for one in pictures) + 8 * (len(pictures) - 1), pictures[0].height), "white"
    )
    for number, one in enumerate(pictures):
        whole.paste(one, (number * (one.width + 8), 0))
    whole.save(HERE / "images" / "synapse_lines.png", optimize=True)


def shot(app: Counted, origin: str, width_um: float) -> Image.Image:
    """Return the view, and print what it took."""
    start = time.monotonic()
    with chromium.Page() as page:
        address = f"{origin}/v/{TOKEN}/#!{quote(json.dumps(state(origin, width_um)))}"
        # Its client drops a layer now and then while it restores its state; see tests/server/test_browser.py.
        while "reading 'length'" in page.evaluate("document.body.innerText") or page.evaluate("!window.viewer"):
            start, app.bytes = time.monotonic(), 0
            page.open("about:blank")
            page.open(address)
            page.wait_for("typeof viewer !== 'undefined' && viewer.isReady()")
        ready = time.monotonic() - start
        time.sleep(WAIT_S)
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    print(f"{width_um} um: ready after {ready:.1f} s, {app.bytes / 1e6:.2f} MB of lines after {WAIT_S} s more")
    side = min(picture.width, picture.height - 60)
    left = (picture.width - side) // 2
    return picture.crop((left, picture.height - side, left + side, picture.height)).resize((WIDTH, WIDTH))


if __name__ == "__main__":
    main()
