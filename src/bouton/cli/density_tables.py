"""Tables of synapse densities that the command line names: those of runs, of groups of runs, and files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bouton.cli.choices import find_run
from bouton.cli.datasets import find_group
from bouton.errors import DataError, SpecError
from bouton.volume import TableData, read_table
from bouton.volume.density_columns import (
    BLOCK_COLUMNS,
    CENTRE_COLUMNS,
    DENSITY_COLUMNS,
    START_COLUMNS,
    STOP_COLUMNS,
)
from bouton.volume.run_folder import Run, open_run
from bouton.volume.run_layers import run_tables

OUTPUT = "densities"
WHOLE = tuple(name for name, kind in DENSITY_COLUMNS.items() if kind == "int64")
SHARES = ("masked_share",)
SIGNED = frozenset((*BLOCK_COLUMNS, *START_COLUMNS, *STOP_COLUMNS, *CENTRE_COLUMNS))
"""Numbers that may be below 0."""
STATES = {"pending": "not finished", "blocked": "blocked by a step that failed", "failed": "not finished: tasks failed"}


@dataclass(frozen=True)
class Densities:
    """One table of densities.

    Attributes
    ----------
    name : str
        Of the dataset, run or file.
    where : str
        What errors call it.
    table : TableData
        ``DENSITY_COLUMNS``.
    params : mapping
        Parameters of the step that made it; empty for a file.
    run : Run or None
    step : str
        The step that made it; empty for a file.
    """

    name: str
    where: str
    table: TableData
    params: Mapping[str, Any] = field(default_factory=dict)
    run: Run | None = None
    step: str = ""


def open_densities(name: str, runs: Path, step: str | None = None) -> list[Densities]:
    """Return the tables that a name on the command line stands for: one, or one for each dataset of a group.

    Raises
    ------
    SpecError
        There is no such run or step.
    DataError
        It holds no densities, or not the columns of such a table.
    """
    path = Path(name)
    if path.suffix == ".parquet" and not any((folder / "run.json").is_file() for folder in (path, runs / name)):
        return [Densities(path.stem, name, checked(read_table(path), name))]
    group = find_group(name, runs)
    if group is None:
        return [run_densities(open_run(find_run(name, runs)), step)]
    found = [(member.name, group.open(member)) for member in group.members]
    missing = [dataset for dataset, run in found if run is None]
    if missing:
        raise DataError(f"dataset {missing[0]} was not run yet", where=name, fix="bouton run its workflow first")
    return [run_densities(run, step, dataset) for dataset, run in found if run is not None]


def run_densities(run: Run, step: str | None = None, name: str = "") -> Densities:
    """Return the densities of a run; of one step where there are several."""
    tables = [table for table in run_tables(run) if table.output == OUTPUT and step in (None, table.step)]
    where = f"run {run.folder.name}"
    if not tables:
        not_finished(run, step or "")
        raise DataError(
            f"no table of densities{f' of a step {step}' if step else ''}", where=where,
            expected="a finished step of the stage densities", fix="add one to the workflow and run it",
        )  # fmt: skip
    if len(tables) > 1:
        steps = ", ".join(table.step for table in tables)
        raise SpecError(
            f"{len(tables)} tables of densities", where=where, expected=f"one of {steps}", fix="--step STEP"
        )
    chosen = tables[0]
    table = checked(run.table(chosen.ref), where)
    return Densities(name or run.folder.name, where, table, run.steps[chosen.step].params, run, chosen.step)


def finite(value: float) -> float | None:
    """Return a number as JSON holds it: None for one that is not available."""
    return float(value) if math.isfinite(value) else None


def outliers_of(densities: Densities) -> TableData | None:
    """Return the outlier blocks that a step of the run found in these densities; None where none did, or several."""
    run = densities.run
    if run is None:
        return None
    refs = (densities.step, f"{densities.step}.{OUTPUT}")
    tables = [t for t in run_tables(run) if t.output == "outliers" and run.steps[t.step].reads.get(OUTPUT) in refs]
    return run.table(tables[0].ref) if len(tables) == 1 else None


def not_finished(run: Run, step: str = "") -> None:
    """Refuse a run that has a step of the stage densities, but one that is not done.

    Parameters
    ----------
    run : Run
    step : str
        Look at this step alone; empty: at all of them.

    Raises
    ------
    DataError
        It tells what the step waits for.
    """
    made = [one for one in run.steps.values() if one.stage == OUTPUT and step in ("", one.name)]
    waiting = [one for one in made if one.state != "done"]
    if waiting and len(waiting) == len(made):
        first, folder = waiting[0], run.folder
        again = f"bouton status {folder} tells why; bouton retry {folder} {first.name} --quarantined tries again"
        fix = again if first.state == "failed" else f"bouton status {folder}; bouton run WORKFLOW again goes on"
        raise DataError(
            f"step {first.name} is {STATES.get(first.state, first.state)}", where=f"run {folder.name}",
            expected="a finished step of the stage densities", fix=fix,
        )  # fmt: skip


def checked(table: TableData, where: str) -> TableData:
    """Return a table that has the columns of densities, and in them what can be true.

    Raises
    ------
    DataError
        A column is missing or holds something else, a number cannot be, a block stands in two rows, or there are none.
    """
    missing = [name for name in DENSITY_COLUMNS if name not in table]
    if missing:
        raise DataError(
            f"no column {missing[0]}", where=where, expected=f"a table of densities: {', '.join(DENSITY_COLUMNS)}"
        )
    for name, kind in DENSITY_COLUMNS.items():
        if kind != "str" and table[name].dtype.kind not in "iuf":
            held = "text" if table[name].dtype.kind in "OU" else str(table[name].dtype)
            raise DataError(f"column {name} holds {held}", where=where, expected=kind, fix="write it as numbers")
    if not len(table["synapses"]):
        raise DataError("a table of densities without blocks", where=where, fix="bouton run with larger bounds")
    for name in (*WHOLE, *CENTRE_COLUMNS, "exposed_um3", *SHARES):
        _check_numbers(table, name, where)
    _check_once(table, where)
    return table | {name: table[name].astype(np.int64) for name in WHOLE}


def _check_numbers(table: TableData, name: str, where: str) -> None:
    values = table[name]
    bad = ~np.isfinite(values)
    if name not in SIGNED:
        bad |= values < 0
    if name in WHOLE:
        bad |= values != np.floor(values)
    if name in SHARES:
        bad |= values > 1
    if bad.any():
        row = int(bad.argmax())
        kind = "a whole number" if name in WHOLE else "a share" if name in SHARES else "a finite number"
        raise DataError(
            f"{values[row]:g} {name} of block {_block(table, row)}", where=f"{where}, row {row + 1}",
            expected=kind + ("" if name in SIGNED else " from 0 to 1" if name in SHARES else " of at least 0"),
            fix="correct the row, or leave it out",
        )  # fmt: skip


def _check_once(table: TableData, where: str) -> None:
    """Refuse a block in two rows: it would count twice."""
    index = np.stack([table[name] for name in BLOCK_COLUMNS], axis=1)
    order = np.lexsort(tuple(index[:, axis] for axis in (2, 1, 0)))
    same = (index[order][1:] == index[order][:-1]).all(axis=1)
    if same.any():
        first, second = (int(order[same.argmax() + step]) for step in (0, 1))
        raise DataError(
            f"block {_block(table, first)} in rows {first + 1} and {second + 1}", where=where,
            expected="a row a block", fix="leave the copies out",
        )  # fmt: skip


def _block(table: TableData, row: int) -> str:
    return "({})".format(", ".join(f"{table[name][row]:g}" for name in BLOCK_COLUMNS))
