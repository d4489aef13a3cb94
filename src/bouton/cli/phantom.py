"""``bouton phantom``: procedural tissue with known answers, written to disk."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bouton.cli.choices import size_option, voxels_option
from bouton.cli.convert import speed_text
from bouton.errors import DataError
from bouton.geometry import Box, Grid

if TYPE_CHECKING:
    from bouton.phantom import PhantomParams


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder; must not exist.")],
    seed: Annotated[int, typer.Option(help="Another seed is another piece of tissue.")] = 1,
    shape_zyx: Annotated[str, typer.Option(metavar="Z,Y,X", help="Voxels.")] = "96,384,384",
    voxel_size_nm: Annotated[str, typer.Option(metavar="Z,Y,X", help="In nm.")] = "30,10,10",
    block_zyx: Annotated[str, typer.Option(metavar="Z,Y,X", help="Voxels made at a time; no result changes.")] = (
        "48,192,192"
    ),
    defects: Annotated[
        str, typer.Option(help="Any of missing,fold,crack,charging,jitter, with commas between; or all.")
    ] = "",
    defect_rate: Annotated[float, typer.Option(help="Fraction of the sections that each defect strikes.")] = 0.04,
    synapses_per_um3: Annotated[float, typer.Option(help="0 to 2.")] = 1.0,
    myelin: Annotated[float, typer.Option(help="Share of thick processes that are myelinated axons, 0 to 1.")] = 0.0,
    json_lines: Annotated[bool, typer.Option("--json", help="Progress as JSON lines on stdout.")] = False,
) -> None:
    """Make a volume of phantom tissue: OME-Zarr layers image, neuron_ids, clefts and more, and synapses.parquet.

    The further layers: mitochondria, vesicles, boundaries, tissue (bits: 1 myelin, 2 glia, 4 soma), mask.

    The tissue is a pure function of seed and place: a larger shape with the same seed holds the smaller one. OUT
    appears when all of it is written.

    \b
    bouton phantom tissue
    bouton phantom tissue --seed 5 --shape-zyx 128,256,256 --voxel-size-nm 10,10,10
    bouton phantom tissue --defects missing,fold,jitter --defect-rate 0.1
    """
    from bouton.phantom import DEFECTS, SYNAPSE_COLUMNS, PhantomParams, join_rows
    from bouton.volume import write_table

    shape = voxels_option(shape_zyx, "--shape-zyx") or (96, 384, 384)
    size = size_option(voxel_size_nm) or (30.0, 10.0, 10.0)
    block = voxels_option(block_zyx, "--block-zyx") or (48, 192, 192)
    chosen = DEFECTS if defects == "all" else tuple(name for name in defects.split(",") if name)
    params = PhantomParams(
        seed=seed,
        voxel_size_nm=size,
        defects=chosen,
        defect_rate=defect_rate,
        synapses_per_um3=synapses_per_um3,
        myelin=myelin,
    )
    if out.exists():
        raise DataError("exists already", where=str(out), expected="a new folder", fix="give another, or remove it")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    grid = Grid(Box.of_shape(shape), block)
    rows = []
    with _Report(len(grid), json_lines) as report:
        for box, table in _write_blocks(partial, grid, params):
            rows.append(table)
            report.advance(box.voxels)
    table = join_rows(rows)
    write_table(partial / "synapses.parquet", table, SYNAPSE_COLUMNS)
    os.replace(partial, out)
    Console(stderr=True).print(f"{out}: {len(table['id'])} synapses", highlight=False, markup=False, soft_wrap=True)


def _write_blocks(folder: Path, grid: Grid, params: PhantomParams) -> Iterator[tuple[Box, dict[str, np.ndarray]]]:
    from bouton.phantom import generate
    from bouton.stages.phantom import STAGE
    from bouton.volume import create_volume

    volumes = {
        name: create_volume(
            folder / f"{name}.zarr",
            shape_zyx=grid.bounds.shape,
            dtype=str(layer.dtype),
            voxel_size_nm=params.voxel_size_nm,
            block_zyx=grid.block,
            kind=layer.kind,
        )
        for name, layer in STAGE.layers(params).items()
    }
    for index in grid:
        box = grid.core(index)
        made = generate(box, params)
        for name, volume in volumes.items():
            volume.write(box, getattr(made, name))
        yield box, made.synapses


class _Report:
    """A progress bar, or JSON lines."""

    def __init__(self, blocks: int, json_lines: bool) -> None:
        self.blocks, self.json_lines = blocks, json_lines
        self.done, self.voxels, self.began = 0, 0, time.monotonic()
        columns = (TextColumn("phantom"), BarColumn(), MofNCompleteColumn(), TextColumn("blocks {task.fields[speed]}"))
        console = Console(stderr=True, quiet=json_lines)
        # In a file of errors a bar is noise.
        self.bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task("phantom", total=blocks, speed="")

    def __enter__(self) -> _Report:
        self.bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.stop()

    def advance(self, voxels: int) -> None:
        """Count one block."""
        self.done, self.voxels = self.done + 1, self.voxels + voxels
        speed = self.voxels / max(1e-9, time.monotonic() - self.began)
        self.bar.update(self.task, advance=1, speed=speed_text(speed))
        if self.json_lines:
            line = {"event": "block", "done": self.done, "blocks": self.blocks, "voxels_per_s": round(speed)}
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
