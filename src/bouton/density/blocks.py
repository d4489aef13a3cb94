"""Counts of synapses in blocks of tissue, each with the volume in which they could be counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bouton.errors import DataError

NM_PER_UM = 1000.0


@dataclass(frozen=True)
class DensityBlocks:
    """Blocks of a grid that take part in an analysis.

    Attributes
    ----------
    counts : int64 (n,)
        Synapses of each block, at least 0.
    exposure_um3 : float64 (n,)
        Volume of each in which synapses could be counted, above 0.
    index : int64 (n, 3)
        Place of each in the grid, z, y, x. Neighbours differ by 1 along one axis.
    centre_um : float64 (n, 3)
        Centres, z, y, x.
    size_um : (z, y, x)
        Size of a block.
    """

    counts: np.ndarray
    exposure_um3: np.ndarray
    index: np.ndarray
    centre_um: np.ndarray
    size_um: tuple[float, float, float]

    def __post_init__(self) -> None:
        counts, exposure = np.asarray(self.counts), np.asarray(self.exposure_um3)
        if counts.size and counts.min() < 0:
            raise DataError(f"a block with {counts.min()} synapses", expected="counts of at least 0")
        if exposure.size and not (exposure.min() > 0 and np.isfinite(exposure).all()):
            raise DataError(f"a block with {exposure.min()} um3", expected="volumes above 0", fix="leave it out")

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def rate(self) -> float:
        """Synapses per um3 over all blocks; nan without blocks."""
        return float(self.counts.sum() / self.exposure_um3.sum()) if len(self) else float("nan")

    @property
    def density_um3(self) -> np.ndarray:
        """Synapses per um3 of each block, float64 (n,)."""
        return self.counts / self.exposure_um3

    @property
    def expected(self) -> np.ndarray:
        """Synapses of each block if all had the same density, float64 (n,)."""
        return self.rate * self.exposure_um3

    def only(self, kept: np.ndarray) -> DensityBlocks:
        """Return the blocks of a mask, bool (n,)."""
        rows = (self.counts[kept], self.exposure_um3[kept], self.index[kept], self.centre_um[kept])
        return DensityBlocks(*rows, self.size_um)


def kept_rows(table: Mapping[str, np.ndarray], max_masked_share: float) -> np.ndarray:
    """Return which rows of a table of densities take part: something is exposed and not too much masked, bool (n,)."""
    return (table["exposed_um3"] > 0) & (table["masked_share"] <= max_masked_share)


def density_blocks(table: Mapping[str, np.ndarray], max_masked_share: float = 0.75) -> DensityBlocks:
    """Return the blocks of a table with ``bouton.volume.density_columns.DENSITY_COLUMNS`` that take part.

    Raises
    ------
    DataError
        A count is negative.
    """
    if len(table["synapses"]) and table["synapses"].min() < 0:
        raise DataError(f"a block with {table['synapses'].min()} synapses", expected="counts of at least 0")
    kept = kept_rows(table, max_masked_share)
    centre = np.stack([table[f"{axis}_nm"] for axis in "zyx"], axis=1).astype(np.float64) / NM_PER_UM
    index = np.stack([table[f"block_{axis}"] for axis in "zyx"], axis=1).astype(np.int64)
    return DensityBlocks(
        np.asarray(table["synapses"], np.int64)[kept], np.asarray(table["exposed_um3"], np.float64)[kept],
        index[kept], centre[kept], block_size_um(table),
    )  # fmt: skip


def block_size_um(table: Mapping[str, np.ndarray]) -> tuple[float, float, float]:
    """Return the size of a block in um, z, y, x, of a table of densities; nan without blocks."""
    z, y, x = (_length_um(table[f"{axis}_start"], table[f"{axis}_stop"], table[f"{axis}_nm"]) for axis in "zyx")
    return z, y, x


def _length_um(start: np.ndarray, stop: np.ndarray, centre_nm: np.ndarray) -> float:
    if not len(start):
        return float("nan")
    # The centre of a block lies (start + stop) / 2 voxels from the origin.
    voxel_nm = np.median(2 * np.asarray(centre_nm, np.float64) / (start + stop))
    return float(np.median(stop - start) * voxel_nm / NM_PER_UM)
