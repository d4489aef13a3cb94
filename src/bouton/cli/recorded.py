"""The workflow that a run was made from, read anew: the file may have changed since."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bouton.cli.choices import make_choices
from bouton.cli.run_options import RunOptions, read_options
from bouton.engine.run_diff import description_of, own_changes
from bouton.errors import DataError
from bouton.spec import Choices, Step, Workflow, load_workflow
from bouton.volume.run_folder import Run, RunStep


def recorded_workflow(folder: Path) -> Workflow:
    """Return the workflow of a run with the options that it was started with.

    Raises
    ------
    SpecError, DataError
        Nothing tells how it was started, or the file or its data are wrong now.
    """
    options = read_options(folder)
    return load_workflow(_file(options), _choices(options))


def changed_steps(folder: Path, run: Run) -> list[str]:
    """Return what the workflow would compute under another key now, step by step, in words; empty if nothing."""
    now = {step.name: step for step in recorded_workflow(folder).steps}
    found = [f"step {name} is new" for name in now if name not in run.steps]
    for name, step in run.steps.items():
        if name not in now:
            found.append(f"step {name} is gone")
        elif step.key != now[name].key:
            found.append(f"step {name} has another key" + _own_reason(run, step, now[name]))
    return found


def _own_reason(run: Run, step: RunStep, now: Step) -> str:
    changes = list(own_changes(description_of(run, step), now.description))
    return f" ({', '.join(changes)})" if changes else ""


def present_keys(folder: Path, file: Path | None = None) -> set[str]:
    """Return the folders of all results that the workflow of a run refers to, relative to the run folder.

    Those of the whole file, whatever was run of it: with and without the overrides and bounds of the last start, and
    of all steps, whichever the last start ended at.

    Parameters
    ----------
    file : Path, optional
        The workflow file, where the run does not say which.
    """
    options = RunOptions({"workflow": str(file)}, ()) if file else read_options(folder)
    return {
        f"{step.name}/{step.key}"
        for choices in _all_choices(_choices(options))
        for step in load_workflow(_file(options), choices).steps
    }


def _all_choices(chosen: Choices) -> Iterator[Choices]:
    whole = replace(chosen, until=None)
    yield whole
    if whole.overrides:
        yield replace(whole, overrides=())
    if whole.bounds or whole.block:
        yield replace(whole, bounds=None, block=None)
    if whole.overrides and (whole.bounds or whole.block):
        yield Choices(dataset=whole.dataset)


def _file(options: RunOptions) -> Path:
    file = Path(str(options.values.get("workflow", "")))
    if file.suffix not in (".yaml", ".yml"):
        raise DataError(
            f"the run was not made from a workflow file but from {file}", expected="a .yaml file",
            fix="give its workflow with --workflow, or leave this run as it is",
        )  # fmt: skip
    return file


def _choices(options: RunOptions) -> Choices:
    values = options.values
    named = (values.get(name) for name in ("overrides", "bounds_zyx", "block_zyx", "until"))
    datasets = values.get("datasets") or [None]
    return replace(make_choices(*named), dataset=datasets[0])
