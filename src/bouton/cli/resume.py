"""``bouton resume``: go on with a run that was paused, cancelled, or lost its process."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bouton.cli import run as run_verb
from bouton.cli.choices import Json, RunName, RunsFolder, Workers, find_run
from bouton.cli.cluster_option import ClusterOption, ExecutorOption
from bouton.cli.detach import refuse_held, start_detached
from bouton.cli.recorded import changed_steps
from bouton.cli.results import short
from bouton.cli.run_options import RunOptions, read_options
from bouton.engine.event_file import NAME, events_named, last_start
from bouton.errors import SpecError
from bouton.volume.run_folder import open_run

Detach = Annotated[bool, typer.Option("--detach", help="Go on without this terminal; see bouton attach.")]


def command(
    run: RunName,
    runs: RunsFolder = Path("runs"),
    workers: Workers = None,
    executor: ExecutorOption = None,
    cluster: ClusterOption = None,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Go on with a run: the same workflow with the options that it was started with. Finished blocks are kept.

    Blocks that failed on every try are tried again. --executor or --cluster replace what it was started with. A
    workflow that was changed since is not resumed but run: bouton run computes what the change concerns. The exit
    status is that of bouton run: 75 if it is paused or cancelled again.

    \b
    bouton pause demo
    bouton resume demo
    bouton resume demo --detach --workers 4
    bouton resume demo --executor processes       (after a cluster refused its jobs)
    """
    folder = find_run(run, runs)
    refuse_held(folder)
    words = list(unchanged_options(folder).arguments)
    if executor or cluster:
        words = [word for word in words if not word.startswith(("--executor=", "--cluster="))]
    given = {"--workers": workers, "--executor": executor, "--cluster": cluster}
    more = [f"{option}={value}" for option, value in given.items() if value]
    start_again(folder, [*words, *more], detach, as_json)


def unchanged_options(folder: Path) -> RunOptions:
    """Return the options that a run was started with, if its workflow is what it was.

    Raises
    ------
    SpecError
        A step has another key now, or the file cannot be read.
    DataError
        Nothing tells how it was started.
    """
    options = read_options(folder)
    _refuse_elsewhere(folder, options)
    file = Path(str(options.values.get("workflow", "")))
    # a bundle does not change; run compares its checksums
    changed = changed_steps(folder, open_run(folder)) if file.suffix in (".yaml", ".yml") else []
    if changed:
        raise SpecError(
            f"the workflow, a model or a stage was changed since: {'; '.join(changed)}", where=short(file),
            expected="what the run was made from",
            fix=f"bouton run {shlex.join(options.arguments)} computes what the change concerns",
        )  # fmt: skip
    return options


def _refuse_elsewhere(folder: Path, options: RunOptions) -> None:
    """Raise a SpecError where the recorded options lead to another folder: this one was moved or copied."""
    path = folder / NAME
    begun = events_named(path, ("RunStarted",), last_start(path))
    place = begun[-1].get("folder") if begun else None
    if place is not None and Path(str(place)) != folder.resolve():
        raise SpecError(
            f"the run was begun in {place}: its options lead there", where=short(folder),
            expected="a run folder where it was begun",
            fix=f"bouton run {shlex.join(options.arguments)} --runs {short(folder.parent)} --name {folder.name}",
        )  # fmt: skip


def start_again(folder: Path, arguments: Sequence[str], detach: bool, as_json: bool) -> None:
    """Start ``bouton run`` with recorded arguments, here or in a session of its own."""
    if detach:
        start_detached(folder, arguments)
        return
    app = typer.Typer(add_completion=False)
    app.command()(run_verb.command)
    status = app([*arguments, *(["--json"] if as_json else [])], prog_name="bouton run", standalone_mode=False)
    if status:
        raise typer.Exit(status)
