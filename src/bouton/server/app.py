"""One process on loopback: Neuroglancer's own client, the data of one run, its report.

The server reads; nothing on the disk changes through it. It hands out no files by path: volumes and tables are found
by the names in ``run.json`` and re-encoded, the client's files come from the installed ``neuroglancer`` wheel.
The wheel's client is the one for Python servers: its page must lie under ``/v/TOKEN/`` and it holds ``/events/TOKEN``
open.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import threading
from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.staticfiles import StaticFiles

from bouton.errors import DataError, RunError, SpecError
from bouton.geometry import Box
from bouton.report.links import DEFAULT_ORIGIN
from bouton.server.cuts import Cuts, MappedVolume, Shown, cut_ref, mapped_layer
from bouton.server.dashboard import add_dashboard
from bouton.view import MappedLayer, Place, SynapseLines, chunk_bytes, neuroglancer_state, volume_info
from bouton.volume import Volume
from bouton.volume.run_folder import Run, open_run
from bouton.volume.run_layers import RunLayer, run_layers, run_tables

_ID = Annotated[int, Field(ge=0, lt=2**64)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Threshold = Annotated[float, Field(ge=0, le=1)]
TOKEN = "app"
LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]
LOOKS_BETWEEN_SIGNS = 60
SECONDS_BETWEEN_LOOKS = 0.25
CUT_GROUPS = ("cut:", "mapping:")
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class _Where(BaseModel):
    """A link's place: nm, segments to select, layers to switch on, the run that it is about, a box to draw."""

    z_nm: _Finite
    y_nm: _Finite
    x_nm: _Finite
    id: tuple[_ID, ...] = ()
    layer: tuple[str, ...] = ()
    run: str = ""
    box: str = ""
    lines: bool = True

    def place(self) -> Place:
        """Return what the viewer is told."""
        box = Box.parse(self.box) if self.box else None
        return Place((self.z_nm, self.y_nm, self.x_nm), self.id, self.layer, box, self.lines)


class OpenRun:
    """A run that is read again when ``run.json`` has changed: a viewer may stay open while the run goes on."""

    def __init__(self, folder: Path, shown: Shown) -> None:
        self.folder = folder
        self.cuts = Cuts(shown)
        self._stamp = -1
        self._load()

    def current(self) -> OpenRun:
        """Return self, up to date."""
        stamp = (self.folder / "run.json").stat().st_mtime_ns
        if stamp != self._stamp:
            self._load()
        return self

    def state(self, origin: str, place: Place, cuts: Sequence[str]) -> dict:
        """Return the viewer's state with these cuts."""
        mapped = [MappedLayer(self.layer(ref), self.cuts.mapping(self.run, ref).of(place.ids)) for ref in cuts]
        return neuroglancer_state(self.run, origin, place, mapped)

    def has_layer(self, ref: str) -> bool:
        """Whether ``ref`` is a layer or a cut, not a table."""
        return ref in self.layers or ref.startswith(CUT_GROUPS)

    def readable(self, ref: str) -> Volume | MappedVolume:
        """Return what holds the layer ``ref``."""
        if not ref.startswith(CUT_GROUPS):
            return self.volume(ref)
        mapping = self.cuts.mapping(self.run, ref)
        return MappedVolume(self.volume(self.cuts.source(self.run)), mapping)

    def layer(self, ref: str) -> RunLayer:
        """Return the layer ``ref``; DataError where there is none."""
        if ref.startswith(CUT_GROUPS):
            self.cuts.mapping(self.run, ref)
            return mapped_layer(self.layer(self.cuts.source(self.run)), ref)
        if ref not in self.layers:
            raise DataError(f"no layer {ref!r} in run {self.folder.name}", expected=f"one of {', '.join(self.layers)}")
        return self.layers[ref]

    def _load(self) -> None:
        run = open_run(self.folder)
        self._stamp = (self.folder / "run.json").stat().st_mtime_ns
        self.run: Run = run
        self.layers = {layer.ref: layer for layer in run_layers(run)}
        self.table_refs = {table.ref for table in run_tables(run)}
        self.volume = lru_cache(maxsize=64)(run.volume)
        self.lines = lru_cache(maxsize=8)(self._read_lines)

    def _read_lines(self, ref: str) -> SynapseLines:
        if ref not in self.table_refs:
            raise DataError(f"no layer or table {ref!r} in run {self.folder.name}")
        return SynapseLines.of(self.run, ref)


def client_folder() -> Path:
    """Return the folder with Neuroglancer's client; DataError where the wheel has none."""
    spec = importlib.util.find_spec("neuroglancer")
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        folder = Path(place) / "static" / "client"
        if (folder / "index.html").is_file():
            return folder
    raise DataError("Neuroglancer's client is not installed", fix="pip install 'neuroglancer>=2.41'")


def make_app(run_folder: Path, shown: Shown = Shown()) -> FastAPI:
    """Return the application that shows one run.

    Parameters
    ----------
    run_folder : Path
        Folder with ``run.json``.
    shown : Shown, optional
        Cuts and mappings to show as further layers; they are made here, so that what is wrong with them is told here.

    Returns
    -------
    FastAPI
        ``state.ending`` is an event: set, it ends the streams that viewers hold open.

    Raises
    ------
    DataError
        There is no run, or no viewer client; or a cut cannot be made.
    """
    app = FastAPI(title="bouton", version=version("bouton"), docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK)
    app.state.ending = threading.Event()
    app.state.open_run = opened = OpenRun(Path(run_folder), shown)
    for ref in shown.refs:
        opened.cuts.mapping(opened.run, ref)
    app.add_exception_handler(DataError, _not_found)
    app.add_exception_handler(SpecError, _not_found)
    app.add_exception_handler(RunError, _not_found)
    _add_pages(app)
    add_dashboard(app, opened.folder, app.state.ending)
    _add_data(app)
    _add_client(app)
    return app


def _add_pages(app: FastAPI) -> None:
    opened: OpenRun = app.state.open_run

    def state(request: Request, place: Place, cuts: Sequence[str] = opened.cuts.shown.refs) -> dict:
        return opened.current().state(f"http://{request.headers['host']}", place, cuts)

    @app.get("/")
    def root(request: Request) -> Response:
        return _to_viewer(state(request, Place()))

    @app.get("/at")
    def at(request: Request, where: Annotated[_Where, Query()]) -> Response:
        name = opened.current().run.folder.name
        if where.run and where.run != name:
            text = f"This viewer shows run {name!r}; the link belongs to run {where.run!r}. Stop it and open that one:"
            return PlainTextResponse(f"{text} bouton view {opened.folder.parent / where.run}\n", status_code=409)
        return _to_viewer(state(request, where.place()))

    @app.get("/cut")
    def cut(request: Request, threshold: Annotated[tuple[_Threshold, ...], Query(min_length=1)]) -> Response:
        return _to_viewer(state(request, Place(), [cut_ref(at) for at in threshold]))

    @app.get("/state.json")
    def state_json(request: Request) -> Response:
        return JSONResponse(state(request, Place()))

    @app.get("/report")
    def report(request: Request) -> Response:
        page = opened.folder / "report" / "index.html"
        if not page.is_file():
            raise DataError("this run has no report yet", fix=f"bouton report {opened.folder}")
        text = page.read_text(encoding="utf-8").replace(f"{DEFAULT_ORIGIN}/at?", "/at?")
        text = text.replace(f"{DEFAULT_ORIGIN}/dashboard", "/dashboard")
        return HTMLResponse(text, headers={"Content-Security-Policy": _REPORT_POLICY})


def _add_data(app: FastAPI) -> None:
    opened: OpenRun = app.state.open_run

    @app.get("/data/{group}/{name}/info")
    def info(group: str, name: str) -> Response:
        ref = _ref(group, name)
        now = opened.current()
        if now.has_layer(ref):
            return JSONResponse(volume_info(now.run, now.layer(ref)))
        return JSONResponse(now.lines(ref).info())

    @app.get("/data/{group}/{name}/full/{chunk}")
    def chunk(group: str, name: str, chunk: str) -> Response:
        now = opened.current()
        layer = now.layer(_ref(group, name))
        content = chunk_bytes(now.readable(layer.ref), layer, chunk)
        return Response(content, media_type="application/octet-stream", headers={"Cache-Control": "no-cache"})

    @app.get("/data/{group}/{name}/{key}/{part}")
    def part(group: str, name: str, key: str, part: str) -> Response:
        content = opened.current().lines(_ref(group, name)).part(key, part)
        return Response(content, media_type="application/octet-stream", headers={"Cache-Control": "no-cache"})


def _add_client(app: FastAPI) -> None:
    @app.get(f"/events/{TOKEN}")
    async def events() -> Response:
        return StreamingResponse(_signs_of_life(app.state.ending), media_type="text/event-stream")

    @app.post(f"/state/{TOKEN}")
    async def keep_state() -> Response:
        return JSONResponse({"g": "1"})

    @app.post(f"/action/{TOKEN}")
    async def action() -> Response:
        return JSONResponse({})

    app.mount(f"/v/{TOKEN}", StaticFiles(directory=client_folder(), html=True))


async def _signs_of_life(ending: threading.Event) -> AsyncIterator[str]:
    while True:
        yield ": here\n\n"
        for _ in range(LOOKS_BETWEEN_SIGNS):
            if ending.is_set():
                return
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)


def _ref(group: str, name: str) -> str:
    if group == "sources":
        return f"data:{name}"
    if group == "steps":
        return name
    if f"{group[:-1]}:" in CUT_GROUPS:
        return f"{group[:-1]}:{name}"
    raise DataError(
        f"no data {group}/{name}", expected="sources/NAME, steps/STEP.OUTPUT, cuts/THRESHOLD or mappings/NAME"
    )


def _to_viewer(state: dict) -> Response:
    return RedirectResponse(f"/v/{TOKEN}/#!{quote(json.dumps(state), safe='')}", status_code=307)


async def _not_found(request: Request, error: Exception) -> Response:
    return JSONResponse({"message": str(error), "code": 404}, status_code=404)
