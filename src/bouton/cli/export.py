"""``bouton export``: the synapses of a run as a file for other programs."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bouton.cli.choices import RunName, RunsFolder, find_run
from bouton.errors import DataError, SpecError
from bouton.geometry import Box
from bouton.volume import TableData, write_csv, write_table
from bouton.volume.run_folder import Run, open_run
from bouton.volume.run_layers import RunTable, run_tables
from bouton.volume.synapse_columns import POSITION_COLUMNS, SYNAPSE_COLUMNS, absent, place_nm

TABLE = "synapses"
TRUTH_STAGES = ("phantom",)


class Format(StrEnum):
    """What ``--to`` takes."""

    nml = "nml"
    precomputed = "precomputed"
    cave = "cave"
    csv = "csv"
    parquet = "parquet"


SUFFIXES = {
    Format.nml: (".nml",),
    Format.precomputed: ("",),
    Format.cave: (".parquet", ".csv"),
    Format.csv: (".csv",),
    Format.parquet: (".parquet",),
}


def command(
    run: RunName,
    to: Annotated[Format, typer.Option(help="What to write.", show_default=False)],
    step: Annotated[
        str | None, typer.Option(metavar="STEP[.OUTPUT]", help="Default: the run's last step that finds synapses.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File or folder to write; must not exist. Default: RUN-STEP and a suffix, here.")
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="Leave out synapses with a lower score.")] = None,
    bounds_zyx: Annotated[
        str | None, typer.Option(metavar="Z0:Z1,Y0:Y1,X0:X1", help="Only clefts with their centre in this box, voxels.")
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="With --to nml: a group of trees for each value, such as type.")
    ] = None,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Write the synapses of a run for webKnossos, Neuroglancer, CAVE, a spreadsheet, or bouton itself.

    Examples:

      bouton export runs/demo --to nml --group-by type

      bouton export runs/demo --to precomputed --out /data/www/synapses

      bouton export runs/demo --to cave --out synapses.csv --min-score 0.5

      bouton export runs/demo --to csv --step tissue.synapses --bounds-zyx 0:40,0:200,0:200

    nml: three nodes a synapse (pre, cleft, post), to be dragged into webKnossos; bouton import-synapses reads it back.
    precomputed: a folder of line annotations; put it on any web server and open precomputed://https://... in
    Neuroglancer. cave: CAVE's table of synapses (.parquet or .csv), places in voxels x, y, z. csv and parquet: all
    columns of the table; parquet serves as truth of bouton evaluate and as data of a workflow.
    """
    opened = open_run(find_run(run, runs))
    table_of = _table(opened, step)
    path = _out(out, to, f"{opened.folder.name}-{table_of.step}")
    if group_by is not None and to is not Format.nml:
        raise SpecError(f"--group-by {group_by} with --to {to.value}", expected="--to nml", fix="leave --group-by out")
    table = _with_places(opened.table(table_of.ref), opened.path(table_of.ref))
    kept = _kept(table, opened, min_score, Box.parse(bounds_zyx) if bounds_zyx else None)
    _check_group(table, group_by)
    chosen = {name: values[kept] for name, values in table.items()}
    _WRITERS[to](path, chosen, opened, group_by)
    size = ", ".join(f"{value:g}" for value in opened.voxel_size_nm)
    typer.echo(
        f"{int(kept.sum()):,} of {len(kept):,} synapses of {table_of.ref}, voxels of {size} nm (z, y, x)\n"
        f"written: {path} ({to.value})"
    )


def _table(run: Run, ref: str | None) -> RunTable:
    """Return the table that ``--step`` names, else that of the last step that finds synapses."""
    tables = run_tables(run)
    if ref is not None:
        run.path(ref)
        step, _, output = ref.partition(".")
        named = [table for table in tables if table.step == step and table.output == (output or TABLE)]
        if not named:
            raise SpecError(
                f"no finished table {ref}", where=f"run {run.name}",
                expected=f"one of {', '.join(table.ref for table in tables) or 'none yet'}", fix="bouton status RUN",
            )  # fmt: skip
        return named[0]
    found = [table for table in tables if table.output == TABLE and table.stage not in TRUTH_STAGES]
    if not found:
        truth = [table.ref for table in tables if table.output == TABLE]
        raise SpecError(
            "no finished step finds synapses", where=f"run {run.name}", expected="a step of stage synapses",
            fix=f"--step {truth[0]} for the true ones" if truth else "bouton run with such a step",
        )  # fmt: skip
    return found[-1]


def _with_places(table: TableData, path: Path) -> TableData:
    """Return the table with every column that formats need; what is not there is not known."""
    missing = [name for name in ("id", "z_nm", "y_nm", "x_nm", "pre_id", "post_id") if name not in table]
    if missing:
        raise DataError(f"no column {missing[0]}", where=str(path), expected="a table of synapses", fix="--step STEP")
    rows = len(table["id"])
    return table | {name: absent(name, rows) for name in POSITION_COLUMNS if name not in table}


def _kept(table: TableData, run: Run, min_score: float | None, box: Box | None) -> np.ndarray:
    kept = np.ones(len(table["id"]), dtype=bool)
    if min_score is not None:
        if "score" not in table:
            raise SpecError("--min-score for a table without scores", expected="a column score", fix="leave it out")
        kept &= table["score"] >= min_score
    if box is not None:
        voxels = place_nm(table, "cleft") / np.array(run.voxel_size_nm)
        kept &= ((voxels >= box.start) & (voxels < box.stop)).all(axis=1)
    return kept


def _check_group(table: TableData, group_by: str | None) -> None:
    if group_by is not None and group_by not in table:
        raise SpecError(f"--group-by {group_by}", expected=f"one of {', '.join(table)}", fix="--group-by type")


def _out(out: Path | None, to: Format, name: str) -> Path:
    suffixes = SUFFIXES[to]
    path = Path(f"{name}-lines" if to is Format.precomputed else f"{name}{suffixes[0]}") if out is None else out
    if to is not Format.precomputed and path.suffix not in suffixes:
        raise SpecError(f"--out {path} with --to {to.value}", expected=f"a name that ends in {' or '.join(suffixes)}")
    if path.exists():
        raise DataError(
            "exists already", where=str(path), expected="a new name", fix="remove it or give another with --out"
        )
    return path


def _write_nml(path: Path, table: TableData, run: Run, group_by: str | None) -> None:
    from bouton.volume.synapse_nml import write_synapse_nml

    write_synapse_nml(path, table, run.voxel_size_nm, group_by, run.name)


def _write_precomputed(path: Path, table: TableData, run: Run, _: str | None) -> None:
    from bouton.view.annotation_files import write_annotations
    from bouton.view.annotations import SynapseLines

    write_annotations(path, SynapseLines(table, run.shape, run.voxel_size_nm))


def _write_cave(path: Path, table: TableData, run: Run, _: str | None) -> None:
    from bouton.volume.synapse_tables import write_cave_table

    write_cave_table(path, table, run.voxel_size_nm)


def _write_csv(path: Path, table: TableData, _: Run, __: str | None) -> None:
    write_csv(path, table)


def _write_parquet(path: Path, table: TableData, _: Run, __: str | None) -> None:
    rows = len(table["id"])
    whole = {name: absent(name, rows) for name in SYNAPSE_COLUMNS} | table
    kinds = {name: "str" if values.dtype.kind in "OU" else values.dtype.name for name, values in whole.items()}
    write_table(path, whole, kinds)


_WRITERS: dict[Format, Callable[[Path, TableData, Run, str | None], None]] = {
    Format.nml: _write_nml,
    Format.precomputed: _write_precomputed,
    Format.cave: _write_cave,
    Format.csv: _write_csv,
    Format.parquet: _write_parquet,
}
