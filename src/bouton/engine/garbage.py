"""What lies in a run folder and nothing refers to: old results, leftovers of killed writers, folders of probes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from bouton.engine.control import holder
from bouton.engine.ledger import LEDGER
from bouton.engine.outputs import is_temporary
from bouton.engine.plan_file import PROBE_FOLDER
from bouton.engine.run import guarded
from bouton.errors import BoutonError
from bouton.volume.files import disk_errors
from bouton.volume.objects import ObjectPath
from bouton.volume.run_folder import open_run

REMOVED = ".tmp-gc-"
MARKS = (LEDGER, "step.json")
"""What a folder of a step's results holds; nothing else is ever taken for one."""


@dataclass(frozen=True)
class Garbage:
    """One file or folder that nothing refers to."""

    path: Path
    reason: str
    size_bytes: int
    files: int


def find_garbage(folder: Path, present: Collection[str]) -> list[Garbage]:
    """Return what nothing in a run folder refers to.

    Parameters
    ----------
    folder : Path
        The run folder.
    present : collection of str
        Folders of results (``step/key``) that the workflow refers to; those of ``run.json`` are kept anyway, and so is
        what another run in the same place reads.
    """
    folder = folder.resolve()
    kept = {*present, *(step.folder for step in open_run(folder).steps.values())}
    read = _read_by_others(folder)
    found = []
    for results in _results(folder):
        name = results.relative_to(folder).as_posix()
        if name in kept or any(path.is_relative_to(results) for path in read):
            found += _leftovers(results)
        else:
            found.append(_garbage(results, "results that no step of the workflow refers to"))
    found += [_garbage(path, "a temporary file") for path in _temporary(folder)]
    probe = folder / PROBE_FOLDER
    if probe.is_dir() and not any(_is_held(each) for each in probe.iterdir()):
        found.append(_garbage(probe, "measurements of bouton plan --probe"))
    return sorted(found, key=lambda each: each.path)


def remove_garbage(folder: Path, present: Callable[[], Collection[str]]) -> list[Garbage]:
    """Find and remove what nothing in a run folder refers to, and return it. ``present``: as :func:`find_garbage`.

    Raises
    ------
    RunError
        A process works on the run.
    """
    with guarded(folder):
        # found only now: before, a run could have begun that uses it
        garbage = find_garbage(folder, present())
        for each in garbage:
            if each.path.is_dir():
                # half of a removed result must not be taken for one
                doomed = each.path.with_name(f"{REMOVED}{each.path.name.removeprefix(REMOVED)}")
                each.path.rename(doomed)
                _remove_stored(folder, each.path)
                shutil.rmtree(doomed)
            else:
                each.path.unlink(missing_ok=True)
            _remove_empty(each.path.parent, folder.resolve())
    return garbage


def _remove_stored(folder: Path, results: Path) -> None:
    """Remove what a folder of results, or what an interrupted removal left of one, has in the store of its run."""
    data = open_run(folder).data
    name = results.relative_to(folder.resolve())
    stored = data / name.parent.as_posix() / name.name.removeprefix(REMOVED)
    if data == folder.resolve() or len(name.parts) != len(("step", "key")):
        return
    with disk_errors(stored):
        if isinstance(stored, ObjectPath):
            stored.remove_below()
        elif stored.is_dir():
            shutil.rmtree(stored)


def _results(folder: Path) -> Iterator[Path]:
    """Yield the folders of results in a run folder, sorted."""
    for step in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
        for path in sorted(step.iterdir()):
            if path.is_dir() and not path.name.startswith(".") and any((path / name).is_file() for name in MARKS):
                yield path


def _temporary(folder: Path) -> Iterator[Path]:
    """Yield the temporary files and folders of a run folder and of its steps' folders."""
    yield from (path for path in folder.iterdir() if is_temporary(path.name))
    steps = {results.parent for results in _results(folder)}
    for step in (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
        # a removal that was killed can have left a step without any other results
        names = (path for path in step.iterdir() if step in steps or path.name.startswith(REMOVED))
        yield from (path for path in names if is_temporary(path.name))


def _leftovers(results: Path) -> Iterator[Garbage]:
    for base, folders, files in os.walk(results):
        for name in [name for name in folders if is_temporary(name)]:
            folders.remove(name)
            yield _garbage(Path(base) / name, "of a writer that was killed")
        for name in files:
            if is_temporary(name):
                yield _garbage(Path(base) / name, "of a writer that was killed")


def _read_by_others(folder: Path) -> list[Path]:
    """Return what the runs beside this one read as data."""
    found = []
    for other in folder.parent.glob("*/run.json"):
        if other.parent != folder:
            try:
                sources = open_run(other.parent).sources
            except BoutonError:
                continue
            found += [Path(source["path"]).resolve() for source in sources.values() if "://" not in source["path"]]
    return found


def _is_held(probe: Path) -> bool:
    found = holder(probe) if probe.is_dir() else None
    return found is not None and found.alive is not False


def _garbage(path: Path, reason: str) -> Garbage:
    sizes = list(file_sizes(path))
    return Garbage(path, reason, sum(sizes), len(sizes))


def file_sizes(path: Path) -> Iterator[int]:
    """Yield the size in bytes of a file, or of every file in a folder."""
    if not path.is_dir():
        yield path.lstat().st_size
        return
    for base, _, names in os.walk(path):
        for name in names:
            try:
                yield os.lstat(os.path.join(base, name)).st_size
            except FileNotFoundError:
                # a coordinator at work has just renamed it
                continue


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root and folder.is_relative_to(root) and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
