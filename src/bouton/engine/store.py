"""Where a run keeps the data of its steps: in its folder, or in a store that many machines reach.

A run keeps the place that it began with (``store.json`` in its folder), and the place knows its run (``run-of.json`` in
the store): so two runs of one name never write to one place, and a run that is taken up without naming its store
finds it. Ledger, events and report lie in the run folder, always.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from bouton.errors import DataError, SpecError
from bouton.spec import Workflow
from bouton.volume import publish, write_bytes
from bouton.volume.files import disk_errors
from bouton.volume.objects import ObjectPath
from bouton.volume.places import Place, place

NAME = "store.json"
MARK = "run-of.json"


@dataclass(frozen=True)
class RunStore:
    """A run's place in a store.

    Attributes
    ----------
    data : str
        The place, as text: ``<store>/<run>``; empty for the run folder itself.
    owner : str
        What the place knows the run by.
    keeps_conditions : bool
        Whether the store itself refuses to overwrite what is there.
    """

    data: str = ""
    owner: str = ""
    keeps_conditions: bool = True


def open_store(workflow: Workflow, run_folder: Path) -> RunStore:
    """Return where the data of a run's steps go, after a look whether they can.

    Raises
    ------
    SpecError
        The run keeps its data elsewhere, or another run has the place.
    DataError
        Nobody can write there: no bucket, no rights, no server.
    """
    begun = _begun(run_folder)
    wanted = str(place(workflow.store) / run_folder.name) if workflow.store else ""
    if (wanted and begun and begun.data != wanted) or (wanted and begun is None and _has_results(run_folder)):
        raise SpecError(
            f"store {workflow.store}", where=f"run {run_folder.name}",
            expected=f"the run's data where they are: {begun.data if begun else run_folder}",
            fix="--name another-run, or leave the store out",
        )  # fmt: skip
    if not wanted and begun is None:
        return RunStore()
    store = begun or RunStore(wanted, uuid.uuid4().hex)
    data = place(store.data)
    checked = RunStore(store.data, store.owner, _can_be_written(data))
    # First what we go by, then the mark: a kill between the two leaves nothing that stands in our way.
    if checked != begun:
        write_bytes(run_folder / NAME, json.dumps(asdict(checked), indent=1).encode())
    _mark(data, checked, run_folder)
    return checked


def begun_store(run_folder: Path) -> RunStore:
    """Return the place that a run began with, the run folder itself if it has no other."""
    return _begun(run_folder) or RunStore()


def _begun(run_folder: Path) -> RunStore | None:
    path = run_folder / NAME
    if not path.is_file():
        return None
    try:
        return RunStore(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise DataError("damaged", where=str(path), expected="what bouton run wrote", fix="restore it") from error


def _has_results(run_folder: Path) -> bool:
    return any(run_folder.glob("*/*/ledger.sqlite"))


def _can_be_written(data: Place) -> bool:
    with disk_errors(data):
        if isinstance(data, ObjectPath):
            return (data / ".look").keeps_conditions()
        data.mkdir(parents=True, exist_ok=True)
    return True


def _mark(data: Place, store: RunStore, run_folder: Path) -> None:
    """Write into the place whose it is, unless it is another's."""
    mark = json.dumps({"owner": store.owner}).encode()
    if not publish(data / MARK, mark):
        raise SpecError(
            f"{data} holds the data of another run of that name", where=f"run {run_folder}",
            expected="a place of its own for each run", fix="--name another-run, or another store",
        )  # fmt: skip
