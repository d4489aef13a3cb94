"""Published counts of synapses per block as tables of densities: mouse V1 of Bock et al. 2011.

The table (Upward-Spiral-Science/data, syn-density/output.csv, commit 135d683) has one row a block of 39 x 39 x 111
(x, y, z) voxels of 128 x 128 x 45 nm: centre ``cx,cy,cz`` in voxels, ``unmasked`` voxels, and the ``synapses`` that
VESICLE-RF found (Bock et al. 2011, doi:10.1038/nature09802; Gray Roncal et al. 2015, doi:10.5244/C.29.81). It does not
tell whether a synapse that touches the mask counted, so all that is unmasked is taken as exposed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bouton.errors import DataError
from bouton.volume.density_columns import BLOCK_COLUMNS, CENTRE_COLUMNS, DENSITY_COLUMNS, START_COLUMNS, STOP_COLUMNS

VOXEL_NM = (45.0, 128.0, 128.0)
BLOCK_ZYX = (111, 39, 39)
HEADER = "cx,cy,cz,unmasked,synapses"


def read_counts(path: Path) -> dict[str, np.ndarray]:
    """Return the file's rows, in C order of the blocks, as a table with ``DENSITY_COLUMNS``.

    Raises
    ------
    DataError
        The columns are others, a count is negative, or more voxels are unmasked than a block has.
    """
    with path.open() as file:
        header = file.readline().strip()
    if header != HEADER:
        raise DataError(f"columns {header}", where=str(path), expected=HEADER)
    rows = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.int64, ndmin=2)
    centres, (unmasked, synapses) = np.stack([rows[:, 2], rows[:, 1], rows[:, 0]], axis=1), rows[:, 3:].transpose()
    voxels = int(np.prod(BLOCK_ZYX))
    if len(rows) and (rows[:, 3:].min() < 0 or unmasked.max() > voxels):
        raise DataError("counts outside of their range", where=str(path), expected=f"0 to {voxels} unmasked voxels")
    order = np.lexsort((centres[:, 2], centres[:, 1], centres[:, 0]))
    return _table(centres[order], unmasked[order], synapses[order])


def _table(centres: np.ndarray, unmasked: np.ndarray, synapses: np.ndarray) -> dict[str, np.ndarray]:
    """Return the table; a centre is the voxel in the middle of a block of odd extents."""
    voxels, rows = int(np.prod(BLOCK_ZYX)), len(centres)
    starts = centres - np.array(BLOCK_ZYX) // 2
    table: dict[str, np.ndarray] = {}
    for axis, (block, start, stop, centre) in enumerate(
        zip(BLOCK_COLUMNS, START_COLUMNS, STOP_COLUMNS, CENTRE_COLUMNS, strict=True)
    ):
        lowest = starts[:, axis].min(initial=np.iinfo(np.int64).max)
        table |= {block: (starts[:, axis] - lowest) // BLOCK_ZYX[axis], start: starts[:, axis]}
        table |= {stop: starts[:, axis] + BLOCK_ZYX[axis], centre: (centres[:, axis] + 0.5) * VOXEL_NM[axis]}
    table |= {"voxels": np.full(rows, voxels), "masked_voxels": voxels - unmasked, "exposed_voxels": unmasked}
    table |= {"masked_share": 1 - unmasked / voxels, "exposed_um3": unmasked * (np.prod(VOXEL_NM) / 1e9)}
    table |= {"synapses": synapses, "all_synapses": synapses}
    table |= {name: np.zeros(rows, np.int64) for name in ("excitatory", "inhibitory", "spine", "shaft")}
    known = unmasked > 0
    density = np.divide(synapses, table["exposed_um3"], out=np.full(rows, np.nan), where=known)
    table |= {"density_um3": density, "reason": np.where(known, "", "no exposed volume").astype(object)}
    return {name: table[name] for name in DENSITY_COLUMNS}
