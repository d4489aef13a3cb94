"""The runs of a workflow file with several datasets: ``RUNS/WORKFLOW/datasets.json`` names them, in the file's order.

Every dataset has a run folder of its own beside that one, ``RUNS/WORKFLOW-DATASET``.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from bouton.errors import DataError
from bouton.volume.files import write_bytes
from bouton.volume.run_folder import Run, open_run

NAME = "datasets.json"


@dataclass(frozen=True)
class GroupMember:
    """One dataset: its name, the name of its run folder, and why it could not be run, where it could not."""

    name: str
    run: str
    error: str = ""


@dataclass(frozen=True)
class RunGroup:
    """The datasets of one workflow file. ``folder`` holds their comparison; the run folders lie beside it."""

    folder: Path
    name: str
    workflow_file: str
    members: tuple[GroupMember, ...]

    def run_folder(self, member: GroupMember) -> Path:
        """Return where the run of a dataset lies, or will."""
        return self.folder.parent / member.run

    def open(self, member: GroupMember) -> Run | None:
        """Return the run of a dataset; None where it did not start yet."""
        folder = self.run_folder(member)
        return open_run(folder) if (folder / "run.json").is_file() else None

    def write(self) -> None:
        """Write ``datasets.json`` durably."""
        values = {
            "workflow": self.name,
            "workflow_file": self.workflow_file,
            "datasets": [dataclasses.asdict(member) for member in self.members],
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self.folder / NAME, json.dumps(values, indent=1).encode())


def is_group(folder: Path) -> bool:
    """Return whether a folder holds the comparison of several datasets."""
    return (folder / NAME).is_file()


def open_group(folder: str | Path) -> RunGroup:
    """Open the folder of a workflow with several datasets.

    Raises
    ------
    DataError
        There is no ``datasets.json``, or it is damaged.
    """
    folder = Path(folder).resolve()
    path = folder / NAME
    try:
        values = json.loads(path.read_bytes())
        members = tuple(GroupMember(str(m["name"]), str(m["run"]), str(m["error"])) for m in values["datasets"])
        return RunGroup(folder, str(values["workflow"]), str(values["workflow_file"]), members)
    except OSError:
        raise DataError(
            "no datasets here", where=str(folder), expected=f"a folder with {NAME}", fix="bouton run WORKFLOW"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{NAME} is damaged: {type(error).__name__}: {error}", where=str(path), expected="what bouton run wrote",
            fix="bouton run with the same workflow writes it anew",
        ) from error  # fmt: skip
