"""A small training: cells of dark membranes, a training file, and how tests run it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from typer import Typer
from typer.testing import CliRunner

from bouton.errors import BoutonError

PLAN = """
name: tiny
voxel_size_nm: [30, 10, 10]
network: {widths: [4, 6], kernels: [[1, 3, 3], [3, 3, 3]], pools: [[1, 2, 2]]}
data:
  - {path: em.h5, image: raw, labels: ids, box_zyx: "0:8,0:32,0:32"}
validation:
  - {path: em.h5, image: raw, labels: ids, box_zyx: "8:12,0:32,0:32"}
patch_zyx: [4, 16, 16]
erode_zyx: [0, 1, 1]
training: {steps: 50, warmup_steps: 2}
prediction: {tile_zyx: [4, 16, 16], overlap_zyx: [0, 4, 4]}
validate_every: 1000
checkpoint_every: 10
"""


def write_box(folder: Path) -> Path:
    """Write image, labels and a mask into ``em.h5`` of a folder, and a training file; return its path."""
    rng = np.random.default_rng(0)
    z, y, x = np.meshgrid(np.arange(12), np.arange(32), np.arange(32), indexing="ij")
    ids = (1 + (z // 6) * 16 + (y // 8) * 4 + x // 8).astype(np.uint64)
    image = np.where((y % 8 == 7) | (x % 8 == 7), 60, 180) + rng.integers(-20, 20, ids.shape)
    with h5py.File(folder / "em.h5", "w") as file:
        file["raw"] = image.astype(np.uint8)
        file["ids"] = ids
        file["known"] = ((x < 20) & (z != 3)).astype(np.uint8)
        file["clefts"] = ((y % 8 == 7) & (x < 16)).astype(np.uint8)
        for name in ("raw", "ids", "known", "clefts"):
            file[name].attrs["resolution"] = [30.0, 10.0, 10.0]
    path = folder / "tiny.yaml"
    path.write_text(PLAN)
    return path


def run_verb(command, *words: str) -> str:
    """Run a verb and return what it printed; its errors are raised."""
    app = Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, BoutonError):
        raise result.exception
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    return result.output


def weights(folder: Path) -> bytes:
    """Return the weights of the model of a training ``tiny`` in a folder."""
    return (folder / "tiny" / "tiny" / "weights.safetensors").read_bytes()
