"""``bouton view``: look at a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bouton.cli.choices import RunName, RunsFolder, find_run, voxels_option
from bouton.errors import SpecError
from bouton.geometry import centres_nm
from bouton.report.links import DEFAULT_ORIGIN, DEFAULT_PORT, place_url
from bouton.volume.run_folder import open_run


def command(
    run: RunName,
    mapping: Annotated[
        list[Path] | None,
        typer.Option(help="Show fragments relabelled by a table that bouton cut wrote; may be given several times."),
    ] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option(help="Show the segmentation at this threshold, 0 to 1; may be given several times."),
    ] = None,
    step: Annotated[str | None, typer.Option(help="The step with the merge history, where there are several.")] = None,
    at_zyx: Annotated[str | None, typer.Option(metavar="Z,Y,X", help="Open this voxel of the run's image.")] = None,
    runs: RunsFolder = Path("runs"),
    port: int = typer.Option(
        DEFAULT_PORT, help="Port on this machine; 0 takes any free one. The report's links use 8765."
    ),
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Open the run's progress, block by block, instead of the viewer.")
    ] = False,
    no_browser: bool = typer.Option(False, "--no-browser", help="Only serve; do not open a browser."),
) -> None:
    """Open a run in Neuroglancer, in the browser: image, affinities, segmentation, synapses as lines from pre to post.

    Examples:

      bouton view runs/demo

      bouton view runs/demo --threshold 0.4 --threshold 0.6

      bouton view runs/demo --mapping cut-0.35.parquet

      bouton view runs/demo --at-zyx 40,200,120

      bouton view runs/demo --dashboard     (also while the run goes on)

      bouton view runs/demo --port 9000 --no-browser     (from another machine: ssh -L 9000:127.0.0.1:9000 HOST)

    The links of the run's report (bouton report) open in this viewer. /cut?threshold=0.35 shows another threshold;
    no volume is written for it. Only this machine can reach the viewer. Ctrl-C ends it.
    """
    from bouton.server.app import make_app
    from bouton.server.cuts import Shown
    from bouton.server.serve import HOST, reserve_port, serve

    shown = Shown(thresholds=tuple(threshold or ()), files=tuple(mapping or ()), step=step)
    folder = find_run(run, runs)
    if dashboard and at_zyx:
        raise SpecError("--dashboard and --at-zyx open different pages", expected="one of them")
    place = "dashboard" if dashboard else _place(folder, at_zyx) if at_zyx else ""
    app = make_app(folder, shown)
    listener = reserve_port(port)
    page = "Dashboard" if dashboard else "Viewer"
    others = "viewer: /" if dashboard else "dashboard: /dashboard"
    typer.echo(
        f"{page}: http://{HOST}:{listener.getsockname()[1]}/{place}   {others}   report: /report   Ctrl-C ends it"
    )
    serve(app, listener, open_browser=not no_browser, place=place)


def _place(folder: Path, at_zyx: str) -> str:
    """Return the part of the viewer's address that names a voxel's centre."""
    place = voxels_option(at_zyx, "--at-zyx", least=0, like="40,1200,800")
    run = open_run(folder)
    at_nm = centres_nm(np.array([place]), run.voxel_size_nm)[0]
    return place_url(folder.name, at_nm.tolist()).removeprefix(f"{DEFAULT_ORIGIN}/")
