"""``bouton gc``: remove what no workflow refers to."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bouton.cli.choices import Json, RunsFolder, complete_runs, find_run
from bouton.cli.progress import count, human
from bouton.cli.recorded import present_keys
from bouton.cli.results import short
from bouton.engine.control import holder
from bouton.engine.garbage import Garbage, find_garbage, remove_garbage
from bouton.errors import BoutonError, RunError, SpecError

Runs = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="A run, or a folder of runs; default: --runs.", autocompletion=complete_runs),
]
File = Annotated[
    Path | None, typer.Option("--workflow", metavar="FILE", help="Workflow of a run that does not say which it is.")
]


@dataclass(frozen=True)
class Found:
    """What one run folder holds that nothing refers to; ``problem`` says why that is not known or must stay."""

    folder: Path
    garbage: tuple[Garbage, ...]
    problem: str = ""


def command(
    run: Runs = None,
    runs: RunsFolder = Path("runs"),
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without this, only show it.")] = False,
    workflow: File = None,
    as_json: Json = False,
) -> None:
    """Show what no workflow refers to, with sizes; with --delete remove it. Nothing else ever goes.

    That is: results under keys that the run's workflow file has no longer (kept: those of the whole file, with and
    without the last --set and --bounds-zyx, and what a run beside it reads as data), temporary files of writers that
    were killed, and measurements of bouton plan --probe. A run that a process works on is left alone.

    \b
    bouton gc
    bouton gc demo
    bouton gc demo --delete
    """
    folders = _folders(run, runs)
    found = [_look(folder, workflow, delete) for folder in folders]
    if as_json:
        sys.stdout.write(json.dumps({"deleted": delete, "runs": [_values(each) for each in found]}) + "\n")
    else:
        _show(Console(), found, delete)
    if len(found) == 1 and found[0].problem:
        raise SpecError(found[0].problem, where=short(folders[0]))


def _folders(run: str | None, runs: Path) -> list[Path]:
    root = Path(run) if run else runs
    if (root / "run.json").is_file() or not root.is_dir():
        return [find_run(str(root), runs)]
    folders = sorted(path.parent for path in root.glob("*/run.json"))
    # a run's name wins over a folder of the same name here
    return [find_run(run, runs)] if run and not folders else folders


def _look(folder: Path, workflow: Path | None, delete: bool) -> Found:
    user = holder(folder)
    if user and user.alive is not False:
        return Found(folder, (), f"left alone: {user} works on it, or may")
    try:
        if delete:
            return Found(folder, tuple(remove_garbage(folder, lambda: present_keys(folder, workflow))))
        return Found(folder, tuple(find_garbage(folder, present_keys(folder, workflow))))
    except RunError as error:
        return Found(folder, (), f"left alone: {error}")
    except BoutonError as error:
        return Found(folder, (), f"left alone, for what its workflow refers to is not known: {error}")


def _values(found: Found) -> dict[str, Any]:
    garbage = [{**vars(each), "path": str(each.path)} for each in found.garbage]
    return {"run": str(found.folder), "problem": found.problem, "garbage": garbage}


def _show(console: Console, found: list[Found], deleted: bool) -> None:
    garbage = [each for run in found for each in run.garbage]
    if garbage:
        table = Table()
        for name in ("removed" if deleted else "nothing refers to", "why", "files", "size"):
            table.add_column(name, justify="right" if name in ("files", "size") else "left", overflow="fold")
        for each in garbage:
            table.add_row(short(each.path), each.reason, str(each.files), f"{human(each.size_bytes)}B")
        console.print(table)
    for run in found:
        if run.problem and len(found) > 1:
            console.print(f"{short(run.folder)}: {run.problem}", soft_wrap=True, highlight=False)
    size = f"{count(sum(each.files for each in garbage), 'file')}, {human(sum(each.size_bytes for each in garbage))}B"
    if not garbage:
        console.print("nothing to remove")
    elif deleted:
        console.print(f"[green]removed[/green] {size}", highlight=False)
    else:
        console.print(f"{size}; nothing was removed, --delete removes it", highlight=False)
