"""Densities as CSV in the columns, the order and the rounding of case study 2 of NeuroData.

Facts from neurodata-papers/ndpaper, spatialsynapses/get_matrix.py: blocks in voxels of a resolution level (x, y, z),
the masked share to 2 and the density to 3 decimals, density 0 where no synapse counts (even if all is masked), centres
in voxels of another level, rounded half to even.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bouton.errors import DataError
from bouton.geometry import NM, ZERO, ZYX, to_xyz
from bouton.volume.density_columns import DENSITY_COLUMNS
from bouton.volume.files import write_bytes
from bouton.volume.places import Place

PUBLISHED_COLUMNS = (
    "xstart", "ystart", "zstart", "xstop", "ystop", "zstop", "res", "total_pix", "mask_core_pix", "mask_fraction",
    "syn_count_unmasked", "density", "syn_count_total", "center_x", "center_y", "center_z", "center_res",
)  # fmt: skip


@dataclass(frozen=True)
class PublishedForm:
    """Where the voxels of a table lie in the data set that the CSV speaks of. The defaults are the study's.

    Attributes
    ----------
    resolution : int
        Level of the voxels.
    centre_resolution : int
        Level of the centres.
    centre_scale : (z, y, x)
        Voxels of that level in one of the table's.
    offset : (z, y, x)
        Added to the table's voxels: 2917 along z for the study's volume, of which a table begins at 0.
    """

    resolution: int = 5
    centre_resolution: int = 1
    centre_scale: NM = (1.0, 16.0, 16.0)
    offset: ZYX = ZERO


def write_published_csv(table: Mapping[str, np.ndarray], path: str | Place, form: PublishedForm | None = None) -> None:
    """Write a table with ``DENSITY_COLUMNS`` as CSV with :data:`PUBLISHED_COLUMNS`, a header above.

    The script wrote no header, and ended lines with CR LF; here they end with LF. Of a table that the rule ``centroid``
    made, the density is that over the exposed volume, which is less than the unmasked one.

    Raises
    ------
    DataError
        A column is missing, or the disk is full.
    """
    lost = [name for name in DENSITY_COLUMNS if name not in table]
    if lost:
        raise DataError(
            f"a table without column {lost[0]}", where=str(path), expected="the table densities of a run",
            fix="name another output, STEP.OUTPUT",
        )  # fmt: skip
    columns = published_columns(table, form or PublishedForm())
    rows = zip(*(columns[name] for name in PUBLISHED_COLUMNS), strict=True)
    lines = [",".join(PUBLISHED_COLUMNS), *(",".join(row) for row in rows)]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def published_columns(table: Mapping[str, np.ndarray], form: PublishedForm) -> dict[str, list[str]]:
    """Return the columns as texts."""
    found: dict[str, list[str]] = {}
    axes = zip(to_xyz("zyx"), to_xyz(form.offset), to_xyz(form.centre_scale), strict=True)
    for axis, offset, scale in axes:
        start, stop = table[f"{axis}_start"] + offset, table[f"{axis}_stop"] + offset
        found[f"{axis}start"], found[f"{axis}stop"] = _whole(start), _whole(stop)
        found[f"center_{axis}"] = _whole(np.round((stop + start) / 2 * scale))
    rows = len(table["synapses"])
    found["res"], found["center_res"] = [str(form.resolution)] * rows, [str(form.centre_resolution)] * rows
    names = {"voxels": "total_pix", "masked_voxels": "mask_core_pix"}
    names |= {"synapses": "syn_count_unmasked", "all_synapses": "syn_count_total"}
    found |= {published: _whole(table[name]) for name, published in names.items()}
    found["mask_fraction"] = [str(value) for value in np.round(table["masked_voxels"] / table["voxels"], 2).tolist()]
    density = np.round(table["density_um3"], 3).tolist()
    found["density"] = [str(value) if n else "0" for value, n in zip(density, table["synapses"], strict=True)]
    return found


def _whole(values: np.ndarray) -> list[str]:
    return [str(value) for value in values.astype(np.int64).tolist()]
