"""``bouton import-mask`` as a user types it, and the way of candidates to people and back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bouton import BoutonError, open_volume
from bouton.cli.convert import command as convert
from bouton.cli.import_mask import command
from bouton.volume import create_volume
from cli.calling import call

SHAPE, SIZE = (12, 40, 50), (40.0, 8.0, 8.0)


@pytest.fixture
def em(tmp_path: Path) -> Path:
    made = create_volume(tmp_path / "em.zarr", shape_zyx=SHAPE, dtype="uint8", voxel_size_nm=SIZE, block_zyx=SHAPE,
                         kind="image")  # fmt: skip
    made.write(made.box, np.ones(SHAPE, np.uint8))
    return tmp_path / "em.zarr"


@pytest.fixture
def painted() -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    found[:, :10], found[3:5, 20:] = 1, 2
    return found


def test_a_stack_becomes_a_mask(tmp_path: Path, em: Path, painted: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "m.tif", painted)
    said = call(command, tmp_path / "m.tif", tmp_path / "mask.zarr", "--like", em, "--classes", "2")
    share = (painted == 2).mean()
    assert f"{(painted == 2).sum():,} of 24,000 voxels of 40 x 8 x 8 nm (z, y, x) are masked: {share:.2%}" in said
    made = open_volume(tmp_path / "mask.zarr")
    assert made.dtype == np.uint8 and made.voxel_size_nm == SIZE
    np.testing.assert_array_equal(made[...], painted == 2)


def test_classes_are_told(tmp_path: Path, em: Path, painted: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "m.tif", painted)
    said = call(command, tmp_path / "m.tif", tmp_path / "c.zarr", "--like", em, "--keep-classes", "--classes", "2,9")
    assert f"class 2: {(painted == 2).mean():.2%}" in said and "class 9: none" in said and "(labels, uint8)" in said
    np.testing.assert_array_equal(open_volume(tmp_path / "c.zarr")[...], np.where(painted == 2, 2, 0))
    said = call(command, tmp_path / "m.tif", tmp_path / "m.tif", tmp_path / "d.zarr", "--like", em, "--as", "3,4")
    assert "class 3: 33.3" in said and "class 4: none" in said
    tifffile.imwrite(tmp_path / "all.tif", painted + 1)
    assert "--classes chooses others" in call(command, tmp_path / "all.tif", tmp_path / "e.zarr", "--like", em)
    assert "nothing: look at IN" in call(command, tmp_path / "m.tif", tmp_path / "f.zarr", "--like", em, "--classes", 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--classes", "a"], "--classes 'a'; expected whole numbers"),
        (["--as", "3,4"], r"--as 3,4 for 1 file\(s\); expected one class for each IN"),
        (["--as", "3", "--keep-classes"], "with --keep-classes"),
        (["--threshold", "2"], "threshold 2; expected above 0, at most 1"),
        (["--invert", "--keep-classes"], "--invert with classes"),
        (["--axes", "xyz"], "12 x 40 x 50|50 x 40 x 12"),
        (["--dataset", "a"], "none: this format holds one array"),
        (["--voxel-size-nm", "40,8,4"], "40 x 8 x 4 nm"),
        (["--fallback", "{em}"], "expected an annotation of webKnossos"),
    ],
)
def test_bad_options_leave_nothing(
    tmp_path: Path, em: Path, painted: np.ndarray, arguments: list[str], message: str
) -> None:  # fmt: skip
    tifffile.imwrite(tmp_path / "m.tif", painted)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BoutonError, match=message):
        call(command, tmp_path / "m.tif", tmp_path / "o", "--like", em, *(a.format(em=em) for a in arguments))
    assert sorted(tmp_path.iterdir()) == before


def test_damage_in_the_midst_leaves_nothing(tmp_path: Path, em: Path, painted: np.ndarray) -> None:
    p = painted.astype(np.float32)
    np.save(tmp_path / "p.npy", p)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BoutonError, match="probabilities from 0 to 2"):
        call(command, tmp_path / "p.npy", tmp_path / "o", "--like", em, "--threshold", "0.5")
    assert sorted(tmp_path.iterdir()) == before


def test_candidates_go_to_people_and_come_back(tmp_path: Path, em: Path, painted: np.ndarray) -> None:
    """As docs/masks.md tells: candidates -> precomputed, corrected there -> import-mask keeps every class."""
    candidates = tmp_path / "candidates.zarr"
    made = create_volume(candidates, shape_zyx=SHAPE, dtype="uint8", voxel_size_nm=SIZE, block_zyx=SHAPE, kind="labels")
    made.write(made.box, painted)
    call(convert, candidates, tmp_path / "pre", "--format", "precomputed", "--kind", "labels")
    out = tmp_path / "mask.zarr"
    call(command, tmp_path / "pre", out, "--like", em, "--keep-classes", "--classes", "1,2")
    np.testing.assert_array_equal(open_volume(out)[...], painted)
    assert open_volume(out).dtype == np.uint8


def test_a_killed_import_leaves_no_mask(tmp_path: Path) -> None:
    shape = (64, 1024, 1024)
    made = create_volume(tmp_path / "em.zarr", shape_zyx=shape, dtype="uint8", voxel_size_nm=SIZE, block_zyx=shape,
                         kind="image")  # fmt: skip
    np.save(tmp_path / "m.npy", np.random.default_rng(0).integers(0, 2, shape, dtype=np.uint8))
    made.write(made.box, np.ones(shape, np.uint8))
    words = ["import-mask", tmp_path / "m.npy", tmp_path / "o.zarr", "--like", tmp_path / "em.zarr", "--levels", "4"]
    run = [sys.executable, "-m", "bouton", *map(str, words)]
    process = subprocess.Popen(run, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while process.poll() is None and not any("o.zarr" in path.name for path in tmp_path.iterdir()):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    if process.wait() == -signal.SIGKILL:
        assert not (tmp_path / "o.zarr").exists()
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
    np.testing.assert_array_equal(open_volume(tmp_path / "o.zarr")[...], np.load(tmp_path / "m.npy"))
