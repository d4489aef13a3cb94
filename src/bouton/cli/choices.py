"""Options that several verbs share, and how they become a workflow."""

from __future__ import annotations

import difflib
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from bouton.errors import BoutonError, SpecError
from bouton.geometry import NM, ZYX, Box
from bouton.spec import Choices, Workflow, load_workflow, workflow_datasets
from bouton.volume.run_folder import RunStep, open_run
from bouton.volume.run_group import is_group, open_group
from bouton.workflow_file import check_run_name

N = TypeVar("N", int, float)
NAMED = 12
"""This many runs an error lists."""


def _workflow_files(incomplete: str) -> list[str]:
    folder = Path(incomplete).parent if "/" in incomplete else Path()
    found = [path for path in [*folder.glob("*.yaml"), *folder.glob("workflows/*.yaml")] if folder.is_dir()]
    return sorted(str(path) for path in found if str(path).startswith(incomplete))


def _steps_of_workflow(context: typer.Context, incomplete: str) -> list[str]:

    try:
        path = Path(context.params["workflow"])
        first = next(iter(workflow_datasets(path)), None)
        steps = load_workflow(path, Choices(dataset=first)).steps
    except (BoutonError, KeyError, TypeError):
        return []
    return [step.name for step in steps if step.name.startswith(incomplete)]


def _runs_folder(context: typer.Context) -> Path:
    return Path(context.params.get("runs") or "runs")


def complete_runs(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of runs that begin like this; their folders, where that begins like one."""
    folders = [path.parent for path in _runs_folder(context).glob("*/run.json")]
    known = sorted(str(path) if "/" in incomplete else path.name for path in folders)
    return [name for name in known if name.startswith(incomplete)]


def _steps_of_run(context: typer.Context) -> list[RunStep]:
    try:
        run = open_run(find_run(context.params["run"], _runs_folder(context)))
    except (BoutonError, KeyError, TypeError):
        return []
    return list(run.steps.values())


def complete_steps(context: typer.Context, incomplete: str) -> list[str]:
    """Return the steps of the run on the command line that begin like this."""
    return [step.name for step in _steps_of_run(context) if step.name.startswith(incomplete)]


def complete_blocks(context: typer.Context, incomplete: str) -> list[str]:
    """Return the quarantined tasks of the step on the command line that begin like this."""
    steps = [step for step in _steps_of_run(context) if step.name == context.params.get("step")]
    failed = [str(failure["task"]) for step in steps for failure in step.failures]
    return [task for task in failed if task.startswith(incomplete)]


def _results(context: typer.Context, incomplete: str) -> list[str]:
    steps = _steps_of_run(context)
    names = [name for step in steps for name in [step.name, *(f"{step.name}.{o}" for o in step.outputs)]]
    return [name for name in names if name.startswith(incomplete)]


WorkflowFile = Annotated[
    Path, typer.Argument(metavar="WORKFLOW", help="The workflow file (.yaml).", autocompletion=_workflow_files)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=V", help="Override a value of the workflow; may be given several times."),
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="STEP", help="Run only what this step needs.", autocompletion=_steps_of_workflow),
]
BoundsZYX = Annotated[
    str | None, typer.Option("--bounds-zyx", metavar="Z0:Z1,Y0:Y1,X0:X1", help="Run on this box of voxels only.")
]
BlockZYX = Annotated[
    str | None, typer.Option("--block-zyx", metavar="Z,Y,X", help="Compute block of every step, in voxels.")
]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="Where the data of the steps go: s3://..., gs://... or a folder; default: the run's."),
]
RunsFolder = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where run folders lie.")]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's folder, or its name.", autocompletion=complete_runs)
]
Result = Annotated[
    str, typer.Argument(metavar="STEP[.OUTPUT]", help="A step, or one of its outputs.", autocompletion=_results)
]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Worker processes; default: one a core.")]
Json = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON.")]


def store_override(store: str | None) -> list[str]:
    """Return ``--store`` as the override it is; a folder is meant from here, not from the workflow's file."""
    return [f"store={store if '://' in store else Path(store).absolute()}"] if store else []


def read_workflow(path: Path, choices: Choices, name: str | None = None) -> Workflow:
    """Return the workflow with the command line's choices, under another name where one is given.

    Raises
    ------
    SpecError
        The name is none for a folder.
    """
    workflow = load_workflow(path, choices)
    if name is None:
        return workflow
    return replace(workflow, name=check_run_name(name, "--name"))


def make_choices(overrides: list[str] | None, bounds: str | None, block: str | None, until: str | None) -> Choices:
    """Return what the command line chose."""
    box = Box.parse(bounds) if bounds else None
    return Choices(overrides=tuple(overrides or ()), bounds=box, block=voxels_option(block, "--block-zyx"), until=until)


def size_option(text: str | None) -> NM | None:
    """Return what ``--voxel-size-nm`` says, like ``40,4,4``.

    Raises
    ------
    SpecError
        These are not three positive numbers.
    """
    found = None if text is None else _three(text, float)
    if text is not None and (found is None or not (min(found) > 0 and math.isfinite(sum(found)))):
        fix = "--voxel-size-nm 40,4,4"
        raise SpecError(f"--voxel-size-nm {text!r}", expected="three positive numbers z,y,x", fix=fix)
    return found


def voxels_option(text: str | None, option: str, least: int = 1, like: str = "32,64,64") -> ZYX | None:
    """Return voxels like ``32,64,64``.

    Raises
    ------
    SpecError
        These are not three whole numbers, or one is below ``least``.
    """
    found = None if text is None else _three(text, int)
    if text is not None and (found is None or min(found) < least):
        wanted = f"three whole numbers z,y,x, each at least {least}"
        raise SpecError(f"{option} {text!r}", expected=wanted, fix=f"{option} {like}")
    return found


def _three(text: str, number: type[N]) -> tuple[N, N, N] | None:
    try:
        z, y, x = (number(part) for part in text.split(","))
    except ValueError:
        return None
    return z, y, x


def find_run(run: str, runs: Path) -> Path:
    """Return a run's folder from its path or name.

    Raises
    ------
    SpecError
        There is none.
    """
    for folder in (Path(run), runs / run):
        if (folder / "run.json").is_file():
            return folder
    _refuse_group(run, runs)
    known = sorted(path.parent.name for path in runs.glob("*/run.json"))
    close = difflib.get_close_matches(run, known, n=1)
    fix = f"did you mean {close[0]}?" if close else "bouton run WORKFLOW makes one; --runs DIR says where they lie"
    more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    names = f"{', '.join(known[:NAMED])}{more}" or "none yet"
    raise SpecError(f"no run {run!r}", expected=f"a run folder, or one of {names}", fix=fix)


def _refuse_group(run: str, runs: Path) -> None:
    for folder in (Path(run), runs / run):
        if is_group(folder):
            names = [member.run for member in open_group(folder).members]
            raise SpecError(
                f"{run!r} has {len(names)} datasets", expected=f"one of the runs {', '.join(names)}",
                fix=f"bouton status {run} tells how far they are",
            )  # fmt: skip


def cores() -> int:
    """Return the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
