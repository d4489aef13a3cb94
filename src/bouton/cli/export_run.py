"""``bouton export-run``: a run's provenance in one archive, from which it can be repeated."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from bouton.cli.choices import Json, RunName, RunsFolder, find_run
from bouton.cli.progress import count, human
from bouton.cli.report import report_with_curves
from bouton.cli.results import short
from bouton.engine.bundle import BundleOptions, Exported, export_run
from bouton.engine.bundle.crate import About

Out = Annotated[Path | None, typer.Option("--out", metavar="FILE.zip", help="Default: RUN.crate.zip.")]
WithModels = Annotated[bool, typer.Option("--with-models", help="The models themselves, not their cards alone.")]
Whole = Annotated[bool, typer.Option("--whole-sources", help="Read large sources whole for their checksums.")]
License = Annotated[str, typer.Option("--license", metavar="SPDX", help="Licence of it all, such as CC-BY-4.0.")]
Author = Annotated[str, typer.Option("--author", metavar="TEXT", help="Who ran it: Name <https://orcid.org/...>")]


def command(
    run: RunName,
    out: Out = None,
    with_models: WithModels = False,
    whole_sources: Whole = False,
    license_: License = "",
    author: Author = "",
    runs: RunsFolder = Path("runs"),
    as_json: Json = False,
) -> None:
    """Write workflow, parameters, versions, models' cards, checksums of all results and the report into one archive.

    It is an RO-Crate: archives such as Zenodo and WorkflowHub read it. The results stay where they are: the archive
    holds their checksums, and `bouton run FILE.zip` repeats the run and compares them.

    \b
    bouton export-run runs/demo
    bouton export-run demo --out paper.crate.zip --with-models --license CC-BY-4.0
    """
    folder = find_run(run, runs)
    if not (folder / "report").is_dir():
        report_with_curves(folder)
    target = out or Path(f"{folder.resolve().name}.crate.zip")
    found = export_run(folder, target, BundleOptions(with_models, whole_sources, About(license_, author)))
    if as_json:
        files = len(found.manifest.files) + 2
        values = {"path": str(found.path), "bytes": found.bytes, "files": files, "warnings": list(found.warnings)}
        sys.stdout.write(json.dumps(values) + "\n")
        return
    _show(found, Console())


def _show(found: Exported, console: Console) -> None:
    for warning in found.warnings:
        console.print(f"[yellow]note[/yellow] {escape(warning)}", soft_wrap=True)
    results = sum(step.files_count for step in found.manifest.steps)
    steps = count(len(found.manifest.steps), "step")
    console.print(f"{steps}, checksums of {count(results, 'file')}: {short(found.path)}, {human(found.bytes)}B")
    console.print(f"to repeat it: bouton run {short(found.path)}", soft_wrap=True, highlight=False)
