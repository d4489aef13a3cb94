"""``bouton check-bundle``: what a bundle holds, looked at before it is believed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bouton.cli.choices import Json
from bouton.engine.bundle import Manifest
from bouton.engine.bundle.repeat import open_bundle
from bouton.engine.environment import differences, environment

Bundle = Annotated[Path, typer.Argument(metavar="FILE.zip", help="What bouton export-run wrote.")]


def command(bundle: Bundle, as_json: Json = False) -> None:
    """Check every file of a bundle against its checksum; show its steps, sources, models, and the code in it.

    Nothing of it runs and nothing is unpacked.

    \b
    bouton check-bundle demo.crate.zip
    """
    manifest, files = open_bundle(bundle)
    if as_json:
        sys.stdout.write(json.dumps(manifest.model_dump(mode="json")) + "\n")
        return
    console = Console()
    console.print(
        f"run {escape(manifest.run)}, {escape(manifest.state)}, {escape(manifest.finished or manifest.started)}"
    )
    console.print(_steps(manifest))
    for line in _lines(manifest):
        console.print(escape(line), soft_wrap=True, highlight=False)
    console.print(f"[green]whole[/green] {files} files: every checksum is right")


def _steps(manifest: Manifest) -> Table:
    table = Table()
    for name in ("step", "stage", "model", "bounds (z,y,x)", "state", "files"):
        table.add_column(name, overflow="fold", justify="right" if name == "files" else "left")
    for step in manifest.steps:
        row = (step.name, step.stage, step.model or "-", step.bounds_zyx, step.state, str(step.files_count))
        table.add_row(*(escape(text) for text in row))
    return table


def _lines(manifest: Manifest) -> list[str]:
    lines = [f"source {name}: {source.path}" for name, source in manifest.sources.items()]
    lines += [f"code, which runs with --trust-stages only: {name}" for name in manifest.stage_files]
    latest = manifest.environments[-1] if manifest.environments else {}
    lines += [f"{name}: then {then}, here {now}" for name, then, now in differences(latest, environment())]
    return lines
