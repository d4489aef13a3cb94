"""``bouton import-synapses``: synapses from any file into bouton's table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bouton.cli.choices import size_option
from bouton.errors import DataError, SpecError
from bouton.volume import TableData, write_table
from bouton.volume.synapse_columns import SYNAPSE_COLUMNS, TARGETS, TYPES, place_nm


def command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A .nml, .zip, .csv or .parquet file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New .parquet file; must not exist.")],
    voxel_size_nm: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="In nm; a CAVE table in CSV needs it, an NML file must agree.")
    ] = None,
) -> None:
    """Read synapses from webKnossos, CAVE or a spreadsheet, check every row, and write bouton's table.

    Examples:

      bouton import-synapses traced.nml truth.parquet --voxel-size-nm 40,4,4

      bouton import-synapses query.csv truth.parquet --voxel-size-nm 40,4,4

      bouton import-synapses places.csv truth.parquet

    NML: trees of three nodes with comments pre, cleft, post. CAVE: pre_pt_position and others, voxels x, y, z. Other
    tables: columns z_nm, y_nm, x_nm in nm; id, pre_id, post_id, pre_z_nm ... post_x_nm, size_voxels, score, type and
    target where there are any. OUT serves as --truth-synapses of bouton evaluate, and as data of a workflow:
    data: {truth: {path: truth.parquet}}.
    """
    from bouton.volume.synapse_tables import read_synapse_file

    if out.suffix != ".parquet":
        raise SpecError(f"OUT {out}", expected="a name that ends in .parquet", fix=f"{out.with_suffix('.parquet')}")
    if out.exists():
        raise DataError("exists already", where=str(out), expected="a new name", fix="remove it or choose another name")
    table, left_out = read_synapse_file(source, size_option(voxel_size_nm))
    write_table(out, table, SYNAPSE_COLUMNS)
    told = [*_told(table), *([f"  left out: {', '.join(left_out)}"] if left_out else [])]
    typer.echo("\n".join([*told, f"written: {out}"]))


def _told(table: TableData) -> list[str]:
    """Return what a person should look at: counts, and what is not known or strange."""
    lines = [f"{len(table['id']):,} synapses"]
    for name, words in (("type", TYPES), ("target", TARGETS)):
        counts = [f"{int((table[name] == word).sum()):,} {word}" for word in words if (table[name] == word).any()]
        lines.append(f"  {name}: {', '.join(counts)}")
    for side in ("pre", "post"):
        unknown = int((table[f"{side}_id"] == 0).sum())
        lost = int(np.isnan(place_nm(table, side)).any(axis=1).sum())
        if unknown or lost:
            lines.append(f"  {side}: {unknown:,} without a segment, {lost:,} without a place")
    same = (table["pre_id"] == table["post_id"]) & (table["pre_id"] > 0)
    if same.any():
        lines.append(
            f"  {int(same.sum()):,} from a segment to itself, such as synapse {table['id'][same][0]}: look at them"
        )
    return lines
