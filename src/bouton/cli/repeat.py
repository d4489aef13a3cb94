"""``bouton run BUNDLE.zip``: what is told before a repetition and after it."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bouton.cli.results import short
from bouton.engine import RunSummary
from bouton.engine.bundle.listing import StepComparison
from bouton.engine.bundle.repeat import RepeatOptions, Repetition, is_bundle, repeat
from bouton.errors import RunError, SpecError
from bouton.workflow_file import check_run_name

Data = Annotated[
    list[str] | None, typer.Option("--data", metavar="NAME=PATH", help="Where a data source lies; may be repeated.")
]
TrustStages = Annotated[
    bool, typer.Option("--trust-stages", help="Let the private stages of a bundle run: they are code.")
]
SHOWN = 30


def data_overrides(data: list[str] | None) -> list[str]:
    """Return what ``--set`` takes for ``--data NAME=PATH``."""
    return [f"data.{name}.path={json.dumps(path)}" for name, path in parse_data(data).items()]


def parse_data(data: list[str] | None) -> dict[str, str]:
    """Return paths by the names of sources.

    Raises
    ------
    SpecError
        One is no ``NAME=PATH``.
    """
    found = {}
    for text in data or ():
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise SpecError(f"--data {text!r}", expected="NAME=PATH", fix="such as --data image=/data/em.zarr")
        found[name] = path
    return found


def open_repetition(
    path: Path, runs: Path, name: str | None, options: RepeatOptions, changed: dict[str, Any]
) -> Repetition | None:
    """Return the repetition of a bundle; None where ``path`` is a workflow file.

    Parameters
    ----------
    changed : mapping of option -> value
        Options that change a workflow: a bundle takes none of them.

    Raises
    ------
    SpecError
        One of them is given, or ``--trust-stages`` is given with a workflow file.
    """
    if not is_bundle(path):
        if options.trusts_stages:
            raise SpecError("--trust-stages without a bundle", fix="leave it out: the stages of a file are your own")
        return None
    given = [option for option, value in changed.items() if value]
    if given:
        raise SpecError(
            f"{given[0]} with a bundle", where=str(path), expected="a bundle repeats its run as it was",
            fix="unzip it and run workflow.yaml to change something",
        )  # fmt: skip
    if name is not None:
        check_run_name(name, "--name")
    return repeat(path, runs, name, options)


def show_before(repetition: Repetition, console: Console) -> None:
    """Print what differs from the run's surroundings."""
    manifest = repetition.manifest
    console.print(f"repeating run {escape(manifest.run)} of {escape(manifest.finished or manifest.started)}")
    if repetition.changes:
        table = Table(title="not as it was then")
        for name in ("what", "then", "now"):
            table.add_column(name, overflow="fold")
        for row in repetition.changes[:SHOWN]:
            table.add_row(*(escape(text) for text in row))
        console.print(table)
        more = len(repetition.changes) - SHOWN
        console.print(f"... and {more} more" if more > 0 else "results may differ in their last bits, or altogether")
    for name in repetition.unchecked:
        console.print(f"[yellow]not checked[/yellow] the bundle does not tell the content of source {escape(name)}")


def finish(repetition: Repetition, summary: RunSummary, console: Console, as_json: bool) -> None:
    """Compare a repetition that ended with its bundle and print how; one that was stopped is not compared.

    Raises
    ------
    RunError
        It is done, and a file differs, is missing, or is there beyond those of the bundle.
    """
    if summary.state not in ("done", "failed"):
        return
    found = repetition.compare(summary.folder)
    if as_json:
        values = [dataclasses.asdict(step) for step in found]
        sys.stdout.write(json.dumps({"event": "Comparison", "bundle": str(repetition.path), "steps": values}) + "\n")
    else:
        console.print(comparison_table(found))
    first = next((step.first for step in found if not step.is_same), None)
    if first is not None and summary.state == "done":
        raise _differs(repetition, found, f"the first: {first}", summary.folder)
    if first is None and not as_json:
        console.print(f"[green]equal[/green] all {sum(step.equal for step in found)} files have the bundle's checksums")


def _differs(repetition: Repetition, found: list[StepComparison], first: str, folder: Path) -> RunError:
    count = sum(step.differs + step.missing + step.extra for step in found)
    if repetition.changes:
        fix = "install the versions of the bundle, and use the same kind of machine"
    else:
        fix = "versions and machine are the same: look for what is not deterministic in this step's stage"
    return RunError(
        f"{count} files are not as in the bundle, {first}", where=short(folder),
        expected="the bytes that the run wrote", fix=fix,
    )  # fmt: skip


def comparison_table(found: list[StepComparison]) -> Table:
    """Return a row a step."""
    table = Table(title="the repetition beside the bundle")
    table.add_column("step", overflow="fold")
    for name in ("equal", "differs", "missing", "beyond"):
        table.add_column(name, justify="right")
    for step in found:
        numbers = (step.equal, step.differs, step.missing, step.extra)
        style = "green" if step.is_same else "red"
        table.add_row(f"[{style}]{escape(step.step)}[/]", *(str(number) for number in numbers))
    return table
