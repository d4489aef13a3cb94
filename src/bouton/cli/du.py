"""``bouton du``: what the bytes of a run are."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bouton.cli.choices import Json, RunName, RunsFolder, find_run
from bouton.cli.progress import human
from bouton.cli.results import short
from bouton.engine.garbage import file_sizes
from bouton.engine.ledger import LEDGER, Ledger
from bouton.geometry import Box
from bouton.volume.run_folder import Run, RunStep, open_run


@dataclass(frozen=True)
class Use:
    """Bytes of one thing in a run folder.

    Attributes
    ----------
    step, name, kind : str
        ``kind`` is layer, table, files, ledger, private (what a step keeps for itself), older (results under another
        key) or other. ``step`` is empty where it belongs to none.
    size_bytes, files : int
    raw_bytes : int
        Of a finished layer: what its voxels would take uncompressed; else 0.
    """

    step: str
    name: str
    kind: str
    size_bytes: int
    files: int
    raw_bytes: int = 0

    @property
    def ratio(self) -> float | None:
        """How many times smaller a layer is than its voxels uncompressed."""
        return self.raw_bytes / self.size_bytes if self.raw_bytes and self.size_bytes else None


def command(run: RunName, runs: RunsFolder = Path("runs"), as_json: Json = False) -> None:
    """Show what the bytes of a run are: every step's layers, tables and ledger, older results, and all else.

    The ratio of a layer is the size of its voxels uncompressed to its size on disk.

    \b
    bouton du demo
    bouton du demo --json
    """
    opened = open_run(find_run(run, runs))
    uses = list(_uses(opened))
    if as_json:
        values = [asdict(use) | {"ratio": use.ratio} for use in uses]
        total = sum(use.size_bytes for use in uses)
        sys.stdout.write(json.dumps({"run": str(opened.folder), "size_bytes": total, "uses": values}) + "\n")
    else:
        _show(Console(), opened, uses)


def _uses(run: Run) -> Iterator[Use]:
    for step in run.steps.values():
        yield from _uses_of_step(run, step)
        if str(run.data) != str(run.folder):
            yield from _stored(run, step)
        for older in sorted(path for path in _folders(run.folder / step.name) if path.name != step.key):
            yield _use(older, step.name, older.name, "older")
    for path in sorted(run.folder.iterdir()):
        if path.name in run.steps:
            continue
        results = any((each / "step.json").is_file() for each in _folders(path))
        yield _use(path, "", path.name, "older" if results else "other")


def _uses_of_step(run: Run, step: RunStep) -> Iterator[Use]:
    root = run.folder / step.folder
    if not root.is_dir():
        return
    known = {Path(output["path"]).name: (name, output) for name, output in step.outputs.items()}
    rest: dict[str, list[Path]] = {"ledger": [], "private": []}
    for path in sorted(root.iterdir()):
        if path.name in known:
            name, output = known[path.name]
            raw = _raw_bytes(step, output) if output["type"] == "layer" and step.state == "done" else 0
            yield _use(path, step.name, name, output["type"], raw)
        else:
            rest["ledger" if path.name.startswith(LEDGER) else "private"].append(path)
    for kind, paths in rest.items():
        sizes = [size for path in paths for size in file_sizes(path)]
        yield Use(step.name, "", kind, sum(sizes), len(sizes))


def _stored(run: Run, step: RunStep) -> Iterator[Use]:
    """Yield what a step has in the store of its run, as its ledger tells: a store is not counted object by object."""
    path = run.folder / step.folder / LEDGER
    if not path.is_file():
        return
    known = {Path(output["path"]).name: (name, output) for name, output in step.outputs.items()}
    sizes: dict[str, list[int]] = {}
    with Ledger(path, readonly=True) as ledger:
        for row in ledger.outputs():
            sizes.setdefault(row.file.path.partition("/")[0], []).append(row.file.size_bytes)
    for top, found in sorted(sizes.items()):
        name, output = known.get(top, ("", {"type": "private"}))
        raw = _raw_bytes(step, output) if output["type"] == "layer" and step.state == "done" else 0
        yield Use(step.name, name, output["type"], sum(found), len(found), raw)


def _raw_bytes(step: RunStep, output: Mapping[str, Any]) -> int:
    return Box.parse(step.bounds_zyx).voxels * np.dtype(output["dtype"]).itemsize * (output["channels"] or 1)


def _folders(path: Path) -> list[Path]:
    return [each for each in path.iterdir() if each.is_dir()] if path.is_dir() else []


def _use(path: Path, step: str, name: str, kind: str, raw_bytes: int = 0) -> Use:
    sizes = list(file_sizes(path))
    return Use(step, name, kind, sum(sizes), len(sizes), raw_bytes)


def _show(console: Console, run: Run, uses: list[Use]) -> None:
    table = Table(title=f"{short(run.folder)}: {human(sum(use.size_bytes for use in uses))}B")
    for name in ("step", "", "kind", "files", "size", "ratio"):
        table.add_column(name, justify="right" if name in ("files", "size", "ratio") else "left", overflow="fold")
    last = None
    for use in uses:
        if not use.files:
            continue
        size = f"{human(use.size_bytes)}B"
        ratio = "" if use.ratio is None else f"{use.ratio:.1f}"
        table.add_row((use.step or "run") if use.step != last else "", use.name, use.kind, str(use.files), size, ratio)
        last = use.step
    console.print(table)
    if str(run.data) != str(run.folder):
        console.print(
            f"layers and tables lie in {run.data}; sizes as the ledgers tell", soft_wrap=True, highlight=False
        )
    older = sum(use.size_bytes for use in uses if use.kind == "older")
    if older:
        text = f"{human(older)}B are results under other keys; bouton gc {run.folder.name} shows"
        console.print(f"{text} which of them no workflow refers to", soft_wrap=True, highlight=False)
