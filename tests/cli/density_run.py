"""Runs with a table of densities, written by hand, for the tests of ``bouton densities``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bouton.volume.density_columns import DENSITY_COLUMNS
from fake_run import BLOCK, SHAPE, VOXEL_SIZE_NM, FakeRun

GRID = (2, 12, 14)
SIDE = (10, 8, 8)
"""Voxels of a block: 2 x 12 x 14 of them fill the fake run's volume."""
PARAMS = {"rule": "centroid", "block_um": [0.3, 0.08, 0.08], "pad_um": [2, 2, 2], "exclusion_nm": 300.0}


def densities(seed: int = 1, mean: float = 40.0, side: tuple[int, int, int] = SIDE) -> dict[str, np.ndarray]:
    """Return a table of densities of uniform tissue, ``mean`` synapses a block; the first and last five are extreme."""
    random = np.random.default_rng(seed)
    index = np.stack(np.meshgrid(*map(np.arange, GRID), indexing="ij"), axis=-1).reshape(-1, 3)
    voxels = int(np.prod(side))
    masked = np.where(random.random(len(index)) < 0.2, voxels // 20, 0)
    volume = (voxels - masked) * np.prod(VOXEL_SIZE_NM) / 1e9
    counts = random.poisson(mean * (1 - masked / voxels))
    counts[:5], counts[-5:], masked[:5], masked[-5:] = 3, 150, 0, 0
    found: dict[str, np.ndarray] = {}
    for axis, name in enumerate("zyx"):
        found[f"block_{name}"] = index[:, axis]
        found[f"{name}_start"], found[f"{name}_stop"] = index[:, axis] * side[axis], (index[:, axis] + 1) * side[axis]
        found[f"{name}_nm"] = (index[:, axis] + 0.5) * side[axis] * VOXEL_SIZE_NM[axis]
    found |= {"voxels": np.full(len(index), voxels), "masked_voxels": masked, "exposed_voxels": voxels - masked}
    found |= {"masked_share": masked / voxels, "exposed_um3": volume, "synapses": counts, "all_synapses": counts + 1}
    found |= {"excitatory": counts // 2, "inhibitory": counts // 4}
    found |= {"spine": np.zeros_like(counts), "shaft": np.zeros_like(counts), "density_um3": counts / volume}
    found["reason"] = np.full(len(index), "", object)
    return {name: found[name] for name in DENSITY_COLUMNS}


def density_run(folder: Path, table: dict[str, np.ndarray], image: bool = True, **params: Any) -> FakeRun:
    """Return a run with an image and a table of densities, saved."""
    run = FakeRun(folder)
    if image:
        run.layer(run.step("em", "phantom"), "image", "image", np.full(SHAPE, 99, np.uint8))
    step = run.step("densities", "densities", params=PARAMS | params, block_zyx=list(BLOCK))
    run.table(step, "densities", table, DENSITY_COLUMNS)
    run.save()
    return run
