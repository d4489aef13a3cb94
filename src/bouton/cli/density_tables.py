"""Tables of synapse densities that the command line names: those of runs, of groups of runs, and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bouton.cli.choices import find_run
from bouton.cli.datasets import find_group
from bouton.errors import DataError, SpecError
from bouton.volume import TableData, read_table
from bouton.volume.density_columns import DENSITY_COLUMNS
from bouton.volume.run_folder import Run, open_run
from bouton.volume.run_layers import run_tables

OUTPUT = "densities"


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
    if path.suffix == ".parquet" and path.exists():
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


def outliers_of(densities: Densities) -> TableData | None:
    """Return the outlier blocks that a step of the run found in these densities; None where none did, or several."""
    run = densities.run
    if run is None:
        return None
    refs = (densities.step, f"{densities.step}.{OUTPUT}")
    tables = [t for t in run_tables(run) if t.output == "outliers" and run.steps[t.step].reads.get(OUTPUT) in refs]
    return run.table(tables[0].ref) if len(tables) == 1 else None


def checked(table: TableData, where: str) -> TableData:
    """Return a table that has the columns of densities.

    Raises
    ------
    DataError
        A column is missing, a count is negative, or there are no rows.
    """
    missing = [name for name in DENSITY_COLUMNS if name not in table]
    if missing:
        raise DataError(
            f"no column {missing[0]}", where=where, expected=f"a table of densities: {', '.join(DENSITY_COLUMNS)}"
        )
    if not len(table["synapses"]):
        raise DataError("a table of densities without blocks", where=where, fix="bouton run with larger bounds")
    for name in ("synapses", "all_synapses"):
        if table[name].min() < 0:
            raise DataError(f"a block with {table[name].min()} {name}", where=where, expected="counts of at least 0")
    return table
