"""``bouton convert``: any volume into OME-Zarr or precomputed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from bouton.cli.choices import size_option, voxels_option


class _Speed(ProgressColumn):
    """Voxels a second."""

    def render(self, task: Task) -> Text:
        """Return the speed as text."""
        return Text(speed_text(task.completed / task.elapsed if task.elapsed else 0.0))


def speed_text(voxels_per_s: float) -> str:
    """Return ``12.3 Mvoxel/s``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if voxels_per_s >= size:
            return f"{voxels_per_s / size:.1f} {unit}voxel/s"
    return f"{voxels_per_s:.0f} voxel/s"


def command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="File or folder of the volume, s3://... or gs://...")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder, s3://... or gs://...; must not exist.")],
    dataset: Annotated[str | None, typer.Option(help="Array inside an HDF5 file, a zarr or an N5 group.")] = None,
    voxel_size_nm: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="In nm; must agree with what the file says.")
    ] = None,
    format: Annotated[str, typer.Option(help="omezarr (every chunk with a checksum) or precomputed.")] = "omezarr",
    kind: Annotated[
        str | None, typer.Option(help="image, probability, affinities, labels or mask. Default: by the dtype.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="Such as uint8. A value that does not fit is an error.")] = None,
    white: Annotated[
        float | None, typer.Option(help="With --dtype: the value that becomes the largest integer; 0 stays 0.")
    ] = None,
    chunk_zyx: Annotated[str, typer.Option(metavar="Z,Y,X", help="What one read decodes.")] = "64,64,64",
    levels: Annotated[int, typer.Option(help="Resolutions to write, the full one included.")] = 1,
    absent: Annotated[
        str, typer.Option(help="error, or zero: for sources whose writer leaves out empty chunks.")
    ] = "error",
) -> None:
    """Copy a volume into OME-Zarr or Neuroglancer precomputed, block by block.

    Reads OME-Zarr, zarr, precomputed, N5, HDF5, TIFF, folders of TIFF or PNG sections, and .npy. OUT appears when all
    of it is written; a killed conversion leaves no OUT, and the same command starts anew.

    \b
    bouton convert sections/ em.zarr --voxel-size-nm 40,4,4
    bouton convert volume.h5 em.zarr --dataset volumes/raw --levels 4
    bouton convert volume.h5 ids.zarr --dataset volumes/labels/neuron_ids
    bouton convert em.zarr em.precomputed --format precomputed
    bouton convert em.zarr s3://bucket/em.zarr
    bouton convert probability.h5 p.zarr --dataset main --kind probability --dtype uint8 --white 1
    """
    from bouton.volume.convert import ConvertOptions, convert_volume, plan_levels
    from bouton.volume.open import open_volume
    from bouton.volume.places import place

    chunk = voxels_option(chunk_zyx, "--chunk-zyx") or (64, 64, 64)
    options = ConvertOptions(format, kind, dtype, white, chunk, levels)
    volume = open_volume(source, dataset, size_option(voxel_size_nm), absent)
    layouts = plan_levels(volume, options)
    new = place(out)
    typer.echo(
        f"{volume.name}: {volume.dtype} {_times(volume.shape)} -> {new}: {layouts[0].dtype}, kind {layouts[0].kind}, "
        f"voxel {_times(volume.voxel_size_nm or ())} nm (z, y, x), {len(layouts)} level(s)"
    )
    console = Console(stderr=True)
    columns = (TextColumn("converting"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), _Speed())
    # In a file of errors a bar is noise.
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        total = sum(layout.shape_zyx[0] * layout.shape_zyx[1] * layout.shape_zyx[2] for layout in layouts)
        task = bar.add_task("convert", total=total)
        convert_volume(volume, new, options, lambda voxels: bar.advance(task, voxels))
    typer.echo(f"written: {new}")


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
