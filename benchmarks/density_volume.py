"""A volume as large as that of the case study, simulated: its mask (an OME-Zarr) and its table of synapses.

The study's volume has 4232 x 3744 x 1239 (x, y, z) voxels of 128 x 128 x 45 nm (Bock et al. 2011,
doi:10.1038/nature09802). The tissue is a leaf within it: what lies outside is masked, and so are vessels that cross it
and somata. Synapses lie anywhere in what is unmasked, as many as are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np

from bouton.geometry import Box, Grid
from bouton.volume.ome_zarr import create_volume
from bouton.volume.tables import write_table

VOXEL_NM = (45.0, 128.0, 128.0)
STUDY = (1239, 3744, 4232)
SYNAPSES = 11_600_000
BLOCK = (333, 468, 468)
VESSELS_PER_MM2, SOMATA_PER_MM3 = 800.0, 60_000.0
COLUMNS = {"id": "uint64", "z_nm": "float64", "y_nm": "float64", "x_nm": "float64"}


@dataclass(frozen=True)
class Made:
    """What was made: the mask, the table, the voxels and the masked share."""

    mask: Path
    table: Path
    shape: tuple[int, int, int]
    masked_share: float
    synapses: int


def study_shape(part: float) -> tuple[int, int, int]:
    """Return the shape of a part (0 to 1) of the study's volume: all sections, less of them along y and x."""
    side = part**0.5
    return STUDY[0], max(111, round(STUDY[1] * side)), max(111, round(STUDY[2] * side))


def make(folder: Path, part: float = 1.0, seed: int = 1) -> Made:
    """Make the volume in ``folder``, or return what an earlier call made there."""
    shape = study_shape(part)
    stem = "_".join(str(n) for n in shape)
    mask, table, note = folder / f"mask_{stem}.zarr", folder / f"synapses_{stem}.parquet", folder / f"{stem}.npz"
    if not note.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        masked, count = _write(mask, table, shape, round(SYNAPSES * part), np.random.default_rng(seed))
        np.savez(note, masked=masked, count=count)
    with np.load(note) as known:
        return Made(mask, table, shape, float(known["masked"]), int(known["count"]))


def _write(mask: Path, table: Path, shape: tuple[int, int, int], count: int, rng: np.random.Generator) -> tuple:
    """Write mask and table; return the masked share and the number of synapses."""
    volume = create_volume(mask, shape_zyx=shape, dtype="uint8", voxel_size_nm=VOXEL_NM, block_zyx=BLOCK, kind="mask")
    things = _things(shape, rng)
    voxel_um3, masked, places = np.prod(VOXEL_NM) / 1e9, 0, []
    whole = np.prod(shape, dtype=np.float64) * voxel_um3
    for index in Grid(Box.of_shape(shape), BLOCK):
        core = Grid(Box.of_shape(shape), BLOCK).core(index)
        values = _mask_of(core, shape, things)
        volume.write(core, values)
        masked += int(values.sum())
        # Twice as many as are needed if everything were unmasked: half of the volume or more is.
        here = rng.poisson(2.2 * count / whole * values.size * voxel_um3)
        at = rng.random((here, 3)) * core.shape
        at = at[values[tuple(at.astype(np.int64).transpose())] == 0]
        places.append((at + core.start).astype(np.float64) * VOXEL_NM)
    found = np.concatenate(places)
    if len(found) < count:
        raise RuntimeError(f"{len(found)} places for {count} synapses: too much is masked")
    found = found[rng.permutation(len(found))[:count]]
    columns = {"id": np.arange(1, count + 1, dtype=np.uint64)} | dict(
        zip(list(COLUMNS)[1:], found.transpose(), strict=True)
    )
    write_table(table, columns, COLUMNS)
    return masked / np.prod(shape, dtype=np.float64), count


def _things(shape: tuple[int, int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return vessels, float64 (n, 5): y, x at z = 0, slopes, radius; and somata (m, 4): z, y, x, radius; in um."""
    high, wide, deep = (n * size / 1000 for n, size in zip(shape, VOXEL_NM, strict=True))
    n, m = round(VESSELS_PER_MM2 * wide * deep / 1e6), round(SOMATA_PER_MM3 * high * wide * deep / 1e9)
    at = rng.random((n, 2)) * (wide, deep)
    vessels = np.concatenate([at, rng.normal(0, 0.5, (n, 2)), rng.gamma(4, 0.8, (n, 1)) + 1.5], axis=1)
    somata = np.concatenate([rng.random((m, 3)) * (high, wide, deep), rng.uniform(4, 8, (m, 1))], axis=1)
    return vessels, somata


def _mask_of(core: Box, shape: tuple[int, int, int], things: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    values = np.zeros(core.shape, np.uint8)
    _outline(values, np.array(core.start), np.array(shape))
    _vessels(values, np.array(core.start), np.array(VOXEL_NM) / 1000, things[0])
    _somata(values, np.array(core.start), np.array(VOXEL_NM) / 1000, things[1])
    return values


@numba.njit(cache=True)
def _outline(values, start, shape):  # type: ignore[no-untyped-def]
    """Mask what lies outside of a leaf: an ellipse whose border waves."""
    for y in range(values.shape[1]):
        b = 2 * (y + start[1] + 0.5) / shape[1] - 1
        for x in range(values.shape[2]):
            a = 2 * (x + start[2] + 0.5) / shape[2] - 1
            limit = 0.9 + 0.06 * np.cos(7 * np.arctan2(b, a))
            if a * a + b * b > limit:
                values[:, y, x] = 1


@numba.njit(cache=True)
def _disc(values, z, middle, radius, start, size):  # type: ignore[no-untyped-def]
    """Mask a disc, middle (y, x) and radius in um, in one section."""
    low_y = max(0, int(np.floor((middle[0] - radius) / size[1])) - start[1])
    high_y = min(values.shape[1], int(np.ceil((middle[0] + radius) / size[1])) - start[1])
    low_x = max(0, int(np.floor((middle[1] - radius) / size[2])) - start[2])
    high_x = min(values.shape[2], int(np.ceil((middle[1] + radius) / size[2])) - start[2])
    for y in range(low_y, high_y):
        b = (y + start[1] + 0.5) * size[1] - middle[0]
        for x in range(low_x, high_x):
            a = (x + start[2] + 0.5) * size[2] - middle[1]
            if a * a + b * b <= radius * radius:
                values[z, y, x] = 1


@numba.njit(cache=True)
def _vessels(values, start, size, vessels):  # type: ignore[no-untyped-def]
    for z in range(values.shape[0]):
        um = (z + start[0] + 0.5) * size[0]
        for vessel in vessels:
            middle = (vessel[0] + vessel[2] * um, vessel[1] + vessel[3] * um)
            _disc(values, z, middle, vessel[4], start, size)


@numba.njit(cache=True)
def _somata(values, start, size, somata):  # type: ignore[no-untyped-def]
    for z in range(values.shape[0]):
        um = (z + start[0] + 0.5) * size[0]
        for soma in somata:
            rest = soma[3] ** 2 - (um - soma[0]) ** 2
            if rest > 0:
                _disc(values, z, (soma[1], soma[2]), np.sqrt(rest), start, size)
