"""The segmentation half of ``bouton evaluate``: a mapping applied on reading, errors printed, files written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from bouton.errors import DataError
from bouton.geometry import NM, Box
from bouton.report.errors import MERGE, SPLIT, Reader, error_picture, neuron_errors
from bouton.report.pictures import png_bytes
from bouton.server.cuts import MappedVolume
from bouton.server.cuts import Mapping as FragmentMapping
from bouton.stage import VolumeReader
from bouton.stages.evaluate_segmentation import Params, evaluate_volumes
from bouton.volume import TableData, Volume, write_bytes, write_csv
from bouton.volume.mapping import read_mapping

BLOCK = (64, 256, 256)
_TITLES = {SPLIT: "Largest splits: pieces cut off from true neurons", MERGE: "Largest merges: neurons in one segment"}


@dataclass(frozen=True)
class Choices:
    """What the command line says about the evaluation; ``errors`` of each kind are shown and drawn."""

    bounds: Box
    voxel_size_nm: NM | None
    mapping: Path | None = None
    border_nm: float = 0.0
    errors: int = 10
    out: Path | None = None


def evaluate_segmentation(
    segmentation: Volume, truth: Volume, image: Volume | None, choices: Choices
) -> dict[str, TableData]:
    """Return scores, split and merge errors, and write them where ``choices.out`` says.

    Without a voxel size, places are told in voxels only.
    """
    for role, volume in (("segmentation", segmentation), ("image", image)):
        if volume is not None and volume.box != truth.box:
            _check_covers(volume, role, truth, choices.bounds)
    found = (
        MappedVolume(segmentation, FragmentMapping(*read_mapping(choices.mapping))) if choices.mapping else segmentation
    )
    params = Params(choices.border_nm, max(choices.errors, Params.errors_listed))
    size = choices.voxel_size_nm or (1.0, 1.0, 1.0)
    volumes = {"truth": truth, "segmentation": found}
    tables = evaluate_volumes(volumes, choices.bounds, size, params, BLOCK)
    if choices.voxel_size_nm is None:
        for name in ("split_errors", "merge_errors"):
            tables[name] = {column: v for column, v in tables[name].items() if not column.endswith("_nm")}
    if choices.out:
        seen = volumes if image is None else volumes | {"image": image}
        write_errors(choices.out, tables, _reader(seen), choices)
    return tables


def _check_covers(volume: Volume, role: str, truth: Volume, bounds: Box) -> None:
    """Refuse a volume of another size, unless the box to score lies in it and is not the whole truth."""
    if bounds == truth.box or not volume.box.contains(bounds):
        raise DataError(
            f"{role} covers {volume.box}, truth {truth.box}",
            where=str(volume.path),
            expected="the same voxels (z, y, x), or a box to score that lies in both",
            fix=f"--bounds-zyx {volume.box & truth.box}, if both begin at the same voxel; else cut one of them",
        )


def _reader(volumes: Mapping[str, VolumeReader]) -> Reader:
    def read(name: str, box: Box) -> np.ndarray | None:
        return volumes[name].read(box) if name in volumes else None

    return read


def pretty_errors(kind: str, rows: TableData, most: int) -> Table:
    """Return the first ``most`` errors as a table for the terminal; ``kind`` is ``split`` or ``merge``."""
    total = len(rows["bits"])
    first = ("neuron", "without segment") if kind == SPLIT else ("segment", "with neuron")
    whole = "of the neuron" if kind == SPLIT else "of the segment"
    caption = f"{min(most, total)} of {total:,} listed" if total else "none"
    pretty = Table(*first, "voxels", whole, "bits", "touches", "voxel z, y, x", title=_TITLES[kind], caption=caption)
    for error, neighbour in zip(neuron_errors(kind, rows, most), rows["neighbour"], strict=False):
        ids = (error.truth, error.segment) if kind == SPLIT else (error.segment, error.truth)
        cost = (f"{error.voxels:,}", f"{error.share:.1%}", f"{error.bits:.4g}")
        touches = str(neighbour) if neighbour else "nothing"
        pretty.add_row(*map(str, ids), *cost, touches, ", ".join(map(str, error.at)))
    return pretty


def write_errors(folder: Path, tables: Mapping[str, TableData], read: Reader, choices: Choices) -> None:
    """Write every table as CSV, and a picture of each of the first ``choices.errors`` errors of each kind."""
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table)
    size = choices.voxel_size_nm or (1.0, 1.0, 1.0)
    for kind in (SPLIT, MERGE):
        for number, error in enumerate(neuron_errors(kind, tables[f"{kind}_errors"], choices.errors), start=1):
            picture = error_picture(error, read, choices.bounds, size)
            name = f"{kind}-{number:03d}-neuron-{error.truth}-segment-{error.segment}.png"
            write_bytes(folder / name, png_bytes(picture))
