"""``bouton view``: look at a run."""

from __future__ import annotations

from pathlib import Path

import typer

from bouton.cli.choices import RunName, RunsFolder, find_run
from bouton.report.links import DEFAULT_PORT


def command(
    run: RunName,
    runs: RunsFolder = Path("runs"),
    port: int = typer.Option(
        DEFAULT_PORT, help="Port on this machine; 0 takes any free one. The report's links use 8765."
    ),
    no_browser: bool = typer.Option(False, "--no-browser", help="Only serve; do not open a browser."),
) -> None:
    """Open a run in Neuroglancer, in the browser: image, affinities, segmentation, synapses as lines from pre to post.

    Examples:

      bouton view runs/demo

      bouton view runs/demo --port 9000 --no-browser     (from another machine: ssh -L 9000:127.0.0.1:9000 HOST)

    The links of the run's report (bouton report) open in this viewer. Only this machine can reach it. Ctrl-C ends it.
    """
    from bouton.server.serve import HOST, reserve_port, serve
    from bouton.volume.run_folder import open_run

    folder = find_run(run, runs)
    open_run(folder)
    listener = reserve_port(port)
    typer.echo(f"Viewer: http://{HOST}:{listener.getsockname()[1]}/   report: /report   Ctrl-C ends it")
    serve(folder, listener, open_browser=not no_browser)
