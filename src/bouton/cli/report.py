"""``bouton report``: one page about a run."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import typer

from bouton.cli.choices import RunName, RunsFolder, find_run


def command(
    run: RunName,
    runs: RunsFolder = Path("runs"),
    open_: bool = typer.Option(False, "--open", help="Open the report in the browser."),
) -> None:
    """Write the report of a run: what ran, how long, pictures, scores, synapses, failures. One HTML file.

    Examples:

      bouton report runs/demo

      bouton report runs/demo --open

    Works at any time: on a run that goes on, that failed, or that is done. Links lead to places in the viewer:
    keep `bouton view runs/demo` open.
    """
    from bouton.report import write_report

    page = write_report(find_run(run, runs))
    typer.echo(f"Report: {page}")
    if open_:
        webbrowser.open(page.resolve().as_uri())
