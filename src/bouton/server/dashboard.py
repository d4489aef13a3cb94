"""The live dashboard of a run: a page, what it shows as JSON, and the run's events as they happen.

The page's own script and style are files of this package; it loads nothing else. Whatever a run says (names, errors,
logs) reaches the page as JSON and is shown as text.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Annotated

import jinja2
from fastapi import FastAPI, Header, Query, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from bouton.engine.event_file import NAME
from bouton.errors import DataError
from bouton.server.dashboard_data import DashboardData
from bouton.server.events import event_stream

PAGE = Path(__file__).with_name("page")
ASSETS = {
    "dashboard.css": "text/css",
    "dashboard.js": "text/javascript",
    "maps.js": "text/javascript",
    "painting.js": "text/javascript",
    "panels.js": "text/javascript",
    "words.js": "text/javascript",
}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:"
FRESH = {"Cache-Control": "no-store"}
_MAX_PLACE = 1 << 62


def add_dashboard(app: FastAPI, folder: Path, ending: threading.Event) -> None:
    """Add the dashboard of the run in ``folder`` to a web application.

    Parameters
    ----------
    ending : threading.Event
        Set, it ends the streams that pages hold open.
    """
    state = DashboardData(folder)

    @app.get("/dashboard")
    def page() -> Response:
        headers = {"Content-Security-Policy": POLICY, **FRESH}
        return HTMLResponse(_template().render(run=folder.name, folder=str(folder)), headers=headers)

    @app.get("/dashboard/state.json")
    def summary() -> Response:
        return JSONResponse(state.summary(), headers=FRESH)

    @app.get("/dashboard/maps/{step}.json")
    def maps(step: str) -> Response:
        return JSONResponse(state.maps(step), headers=FRESH)

    @app.get("/dashboard/task.json")
    def task(step: str, part: str, task: str) -> Response:
        return JSONResponse(state.task(step, part, task), headers=FRESH)

    @app.get("/dashboard/events")
    async def events(
        after: Annotated[int, Query(ge=0, lt=_MAX_PLACE)] = 0,
        last_event_id: Annotated[str, Header()] = "",
    ) -> Response:
        seen = last_event_id if last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19 else ""
        stream = event_stream(folder / NAME, int(seen or after), ending)
        return StreamingResponse(stream, media_type="text/event-stream", headers=FRESH)

    @app.get("/dashboard/{name}")
    def asset(name: str) -> Response:
        if name not in ASSETS:
            raise DataError(f"no file {name!r} of the dashboard")
        headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        return Response((PAGE / name).read_bytes(), media_type=ASSETS[name], headers=headers)


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(PAGE)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("dashboard.html.jinja")
