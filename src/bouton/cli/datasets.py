"""Verbs over the datasets of one workflow file: which ones, one after another, and their comparison at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from bouton.cli.choices import read_workflow
from bouton.cli.results import STOPPED, STOPPED_STATUS, short
from bouton.cli.run_options import RunOptions
from bouton.dataset_entries import check_chosen
from bouton.engine import RunSummary
from bouton.errors import BoutonError, DataError, RunError
from bouton.spec import Choices, Workflow, workflow_datasets
from bouton.strict_yaml import read_document
from bouton.volume.run_group import GroupMember, RunGroup, is_group, open_group

LONGEST_ERROR = 200


def _names_of_file(context: typer.Context, incomplete: str) -> list[str]:
    try:
        names = workflow_datasets(Path(context.params["workflow"]))
    except (BoutonError, KeyError, TypeError):
        return []
    return [name for name in names if name.startswith(incomplete)]


Datasets = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="Of a file with datasets, only this one; may be given several times.",
        autocompletion=_names_of_file,
    ),
]


@dataclass(frozen=True)
class Reading:
    """The workflow of one dataset, or why its data cannot be read."""

    dataset: str
    flow: Workflow | None
    error: DataError | None = None


@dataclass(frozen=True)
class Readings:
    """What a command is about: every chosen dataset of a file, in the file's order, and the names of all of them."""

    name: str
    file: Path
    every: tuple[str, ...]
    chosen: tuple[Reading, ...]

    @property
    def flows(self) -> list[Workflow]:
        """The workflows that can be run."""
        return [reading.flow for reading in self.chosen if reading.flow is not None]

    def group(self, runs: Path) -> RunGroup:
        """Return the group of run folders, with the errors of data that cannot be read."""
        errors = {reading.dataset: str(reading.error) for reading in self.chosen if reading.error}
        members = tuple(GroupMember(name, f"{self.name}-{name}", errors.get(name, "")) for name in self.every)
        return RunGroup(Path(runs).resolve() / self.name, self.name, str(self.file.resolve()), members)


def read_datasets(path: Path, choices: Choices, name: str | None, wanted: Sequence[str] | None) -> Readings | None:
    """Return the workflows of a file's datasets, all or the wanted ones; None where the file has no ``datasets:``.

    Parameters
    ----------
    name : str, optional
        The run's name, where it is not to be the workflow's; each dataset's is added to it.

    Raises
    ------
    SpecError
        The file is wrong, for any of the datasets, or there is no such dataset.
    DataError
        The data of none of them can be read.
    """
    every = workflow_datasets(path, choices)
    for dataset in wanted or ():
        check_chosen(read_document(path), every, dataset)
    if not every:
        return None
    chosen = [_read(path, replace(choices, dataset=each), name) for each in every if not wanted or each in wanted]
    flows = [reading.flow for reading in chosen if reading.flow is not None]
    if not flows:
        raise chosen[0].error or DataError("no dataset")
    return Readings(flows[0].name.removesuffix(f"-{flows[0].dataset}"), path, every, tuple(chosen))


def _read(path: Path, choices: Choices, name: str | None) -> Reading:
    dataset = str(choices.dataset)
    try:
        return Reading(dataset, read_workflow(path, choices, None if name is None else f"{name}-{dataset}"))
    except DataError as error:
        return Reading(dataset, None, error)


class DatasetsRun:
    """Runs datasets one after another; one that fails does not stop the others.

    Parameters
    ----------
    readings : Readings
    runs : Path
        Where the run folders lie.
    as_json : bool
        Print JSON lines instead of tables.
    """

    def __init__(self, readings: Readings, runs: Path, as_json: bool) -> None:
        self.readings, self.as_json = readings, as_json
        self.console = Console(quiet=as_json)
        self.group = readings.group(runs)
        self.errors: dict[str, BoutonError] = {}

    def run(self, run_one: Callable[[Workflow], RunSummary]) -> None:
        """Run all with ``run_one``, which raises nothing for failed blocks; compare; raise what went wrong.

        Raises
        ------
        DataError
            The data of some dataset cannot be read, and nothing else went wrong.
        RunError
            Blocks failed.
        typer.Exit
            Nothing went wrong, but somebody paused or cancelled the run of a dataset.
        """
        # The report's libraries cost seconds, which no other verb that reads a file with datasets should wait for.
        from bouton.cli.comparison import show_comparison
        from bouton.report.compare import PAGE, write_comparison

        self.group = _with_older_errors(self.group, {reading.dataset for reading in self.readings.chosen})
        self.group.write()
        for reading in self.readings.chosen:
            if reading.error is not None:
                self._failed(reading.dataset, reading.error)
        flows = self.readings.flows
        for number, flow in enumerate(flows, 1):
            self.console.rule(f"{flow.dataset} ({number} of {len(flows)})", style="dim")
            self._tell("DatasetStarted", dataset=flow.dataset, number=number, of=len(flows))
            stopped = self._run(flow, run_one)
            compared = write_comparison(self.group)
            if stopped:
                # Who stops the run of one dataset stops the command: the next dataset does not begin.
                break
        if self.as_json:
            states = {row.name: row.state for row in compared.datasets}
            self._tell("Compared", path=str(self.group.folder / PAGE), datasets=states)
        show_comparison(self.console, compared, self.group)
        self._raise_if_failed()
        if flows and stopped:
            raise typer.Exit(STOPPED_STATUS)

    def _run(self, flow: Workflow, run_one: Callable[[Workflow], RunSummary]) -> bool:
        """Run one dataset; return whether somebody stopped it."""
        try:
            summary = run_one(flow)
            if summary.state in STOPPED:
                self.console.print(
                    f"[yellow]{summary.state}[/yellow]: no other dataset begins; the same command goes on"
                )
                return True
            summary.raise_if_failed()
        except BoutonError as error:
            self._failed(flow.dataset, error)
            return isinstance(error, RunError) and _is_stopped(self.group, flow.dataset)
        return False

    def _failed(self, dataset: str, error: BoutonError) -> None:
        self.errors[dataset] = error
        members = tuple(
            replace(member, error=str(error)) if member.name == dataset else member for member in self.group.members
        )
        self.group = replace(self.group, members=members)
        self.group.write()
        self.console.print(f"[red]failed[/red] {dataset}: {escape(str(error))}", soft_wrap=True, highlight=False)
        self._tell("DatasetFailed", dataset=dataset, error=str(error))

    def _tell(self, event: str, **values: Any) -> None:
        if self.as_json:
            sys.stdout.write(json.dumps({"event": event, **values}) + "\n")
            sys.stdout.flush()

    def _raise_if_failed(self) -> None:
        if not self.errors:
            return
        if len(self.readings.chosen) == 1:
            raise next(iter(self.errors.values()))
        kind = DataError if all(isinstance(error, DataError) for error in self.errors.values()) else RunError
        told = " | ".join(f"{name}: {error.found[:LONGEST_ERROR]}" for name, error in self.errors.items())
        raise kind(
            f"{len(self.errors)} of {len(self.readings.chosen)} datasets failed: {told}",
            where=short(self.group.folder),
            fix="mend the cause and run the same command again (what is finished is kept)",
        )


def _is_stopped(group: RunGroup, dataset: str) -> bool:
    member = next(member for member in group.members if member.name == dataset)
    run = group.open(member)
    return run is not None and run.info.get("state") in STOPPED


def _with_older_errors(group: RunGroup, chosen: set[str]) -> RunGroup:
    """Return the group with what an earlier command noted of the datasets that this one leaves alone."""
    try:
        older = {member.name: member.error for member in open_group(group.folder).members}
    except DataError:
        return group
    members = [m if m.name in chosen else replace(m, error=older.get(m.name, "")) for m in group.members]
    return replace(group, members=tuple(members))


def options_of_dataset(options: RunOptions, dataset: str) -> RunOptions:
    """Return the options with which one dataset is run alone: what ``bouton resume`` repeats."""
    words = [word for word in options.arguments if not word.startswith("--dataset=")]
    return RunOptions({**options.values, "datasets": [dataset]}, (*words, f"--dataset={dataset}"))


def find_group(name: str, runs: Path) -> RunGroup | None:
    """Return the datasets that a command's RUN names: by folder, name or workflow file; None where it names a run.

    Raises
    ------
    SpecError
        It is a workflow file that cannot be read.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file() and workflow_datasets(path):
        written = read_document(path).tree.get("name") or path.stem
        return open_group(runs / str(written))
    for folder in (path, runs / name):
        if is_group(folder):
            return open_group(folder)
    return None
