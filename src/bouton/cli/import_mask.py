"""``bouton import-mask``: painted masks of unusable tissue into a layer of bouton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bouton.cli.choices import size_option
from bouton.errors import SpecError

if TYPE_CHECKING:
    from bouton.volume.mask_values import MaskValues
    from bouton.volume.masks import MaskVolume


def command(
    sources: Annotated[list[Path], typer.Argument(metavar="IN...", help="Painted files; a mask is what any says.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New OME-Zarr folder; must not exist.")],
    like: Annotated[Path, typer.Option(help="The volume that the mask is for: the grid that OUT gets.")],
    like_dataset: Annotated[str | None, typer.Option(help="Array inside of --like.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Array inside of IN: exported_data, or a layer's name.")] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="A,B", help="Values that are mask; channels, from 1. Default: all above 0.")
    ] = None,
    keep_classes: Annotated[bool, typer.Option("--keep-classes", help="Keep the values: a layer of labels.")] = False,
    as_classes: Annotated[
        str | None, typer.Option("--as", metavar="A,B", help="The class that each IN gives; OUT is a layer of labels.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="IN are probabilities: mask is what reaches this, above 0 up to 1.")
    ] = None,
    invert: Annotated[bool, typer.Option("--invert", help="IN say what is usable: the rest is mask.")] = False,
    axes: Annotated[str | None, typer.Option(help="Order of the axes of IN where it does not say, as xyz.")] = None,
    voxel_size_nm: Annotated[
        str | None, typer.Option(metavar="Z,Y,X", help="Of IN, in nm, where it does not say.")
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="IN has coarser or finer voxels, by whole factors: the nearest is taken.")
    ] = False,
    fallback: Annotated[
        Path | None, typer.Option(help="The layer that a webKnossos annotation was begun on; fills what is unpainted.")
    ] = None,
    absent: Annotated[str, typer.Option(help="error, or zero: IN leaves out empty chunks.")] = "error",
    levels: Annotated[int, typer.Option(help="Resolutions to write, the full one included.")] = 1,
) -> None:
    """Read painted masks, check that they lie on the volume's grid, and write them as a layer for bouton.

    Reads exports of ilastik (HDF5: simple segmentation or probabilities), TIFF stacks, zipped volume annotations of
    webKnossos, precomputed and all else that bouton opens, block by block. OUT appears when all of it is written.

    Examples:

      bouton import-mask vessels.h5 mask.zarr --like em.zarr --dataset exported_data --classes 2

      bouton import-mask probabilities.h5 mask.zarr --like em.zarr --threshold 0.5 --classes 2,3

      bouton import-mask vessels.tif somata.tif classes.zarr --like em.zarr --as 3,4

      bouton import-mask annotation.zip mask.zarr --like em.zarr --fallback candidates.zarr --keep-classes

      bouton import-mask coarse.zarr mask.zarr --like em.zarr --resample
    """
    from bouton.volume.convert import ConvertOptions, convert_volume
    from bouton.volume.masks import MaskReading, open_masks
    from bouton.volume.open import open_volume
    from bouton.volume.places import place

    values = _values(len(sources), classes, threshold, keep_classes, as_classes)
    base = open_volume(fallback) if fallback is not None else None
    reading = MaskReading(dataset, size_option(voxel_size_nm), axes, absent, resample, base)
    volume = open_masks(sources, open_volume(like, like_dataset), reading, values, invert)
    kind = "labels" if values[0].keep else "mask"
    options = ConvertOptions(kind=kind, dtype=volume.dtype.name, levels=levels)
    convert_volume(volume, place(out), options)
    typer.echo("\n".join([*_told(volume, values), f"written: {place(out)} ({kind}, {volume.dtype})"]))


def _values(
    files: int, classes: str | None, threshold: float | None, keep: bool, as_classes: str | None
) -> list[MaskValues]:
    from bouton.volume.mask_values import MaskValues

    common = MaskValues(_numbers(classes, "--classes") if classes else (), threshold, keep)
    if as_classes is None:
        return [common] * files
    numbers = _numbers(as_classes, "--as")
    if len(numbers) != files or keep:
        raise SpecError(
            f"--as {as_classes} for {files} file(s)" + (" with --keep-classes" if keep else ""),
            expected="one class for each IN, or --keep-classes", fix="--as 3,4 for two files",
        )  # fmt: skip
    return [replace(common, keep=True, as_class=number) for number in numbers]


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SpecError(f"{option} {text!r}", expected="whole numbers", fix=f"{option} 1,3") from None


def _told(volume: MaskVolume, values: Sequence[MaskValues]) -> list[str]:
    """Return how much is masked, by class, and what a person should look at."""
    voxels, masked = volume.box.voxels, sum(volume.counts.values())
    size = " x ".join(f"{n:g}" for n in volume.voxel_size_nm or ())
    lines = [f"{masked:,} of {voxels:,} voxels of {size} nm (z, y, x) are masked: {masked / voxels:.2%}"]
    if values[0].keep:
        lines += [f"  class {n}: {count / voxels:.2%}" for n, count in sorted(volume.counts.items())[:20]]
        wanted = {each.as_class or 0 for each in values} | {n for each in values for n in each.classes}
        if values[0].as_class is not None:
            wanted -= {n for each in values for n in each.classes}
        lines += [f"  class {n}: none" for n in sorted(wanted - {0} - set(volume.counts))]
    if masked == voxels:
        lines.append("  all of it: where the tissue has a class of its own, as in ilastik, --classes chooses others")
    if masked == 0:
        lines.append("  nothing: look at IN, --classes and --threshold")
    return lines
