"""A full disk and a killed conversion: one line, and nothing half-written is taken for a result."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.geometry import Box
from bouton.volume import create_volume, open_for_writing, open_volume, shard_file, write_bytes, write_table
from bouton.volume.convert import ConvertOptions, convert_volume

BOUTON = "import sys; from bouton.cli.main import main; main(sys.argv[1:])"


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A volume of 8 MiB that does not compress."""
    path = tmp_path / "noise.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (128, 256, 256), dtype=np.uint8))
    return path


@pytest.mark.parametrize("out", ["omezarr", "precomputed"])
def test_convert_on_a_full_disk(out: str, small_disk: Path, noise: Path) -> None:
    source = open_volume(noise, voxel_size_nm=(30, 10, 10))
    with pytest.raises(
        DataError, match=r"disk full: no space left while writing; expected room for the result; way out: free"
    ):
        convert_volume(source, small_disk / "out", ConvertOptions(format=out))
    assert list(small_disk.iterdir()) == []


def test_write_on_a_full_disk(small_disk: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (64, 128, 128), dtype=np.uint8)
    grid = {"shape_zyx": (256, 128, 128), "block_zyx": (64, 128, 128), "voxel_size_nm": (30, 10, 10)}
    volume = create_volume(small_disk / "v", dtype="uint8", kind="image", **grid)
    volume.write(Box((0, 0, 0), (64, 128, 128)), values)
    with pytest.raises(DataError, match="disk full"):
        volume.write(Box((64, 0, 0), (128, 128, 128)), values)
    opened = open_volume(small_disk / "v")
    assert np.array_equal(opened[:64], values)
    assert not shard_file(small_disk / "v", (1, 0, 0)).exists()
    with pytest.raises(DataError, match="missing chunk, box 64:128"):
        opened[64:128]
    with pytest.raises(DataError, match="disk full"):
        write_bytes(small_disk / "file", values.tobytes() * 2)
    with pytest.raises(DataError, match="disk full"):
        write_table(small_disk / "t.parquet", {"a": values.ravel()}, {"a": "uint8"})
    assert not (small_disk / "file").exists()
    assert not (small_disk / "t.parquet").exists()
    shard_file(small_disk / "v", (0, 0, 0)).unlink()
    open_for_writing(small_disk / "v").write(Box((64, 0, 0), (128, 128, 128)), values)
    assert np.array_equal(opened[64:128], values)


def test_killed_conversion_leaves_no_result(tmp_path: Path, noise: Path) -> None:
    out = tmp_path / "out.zarr"
    # Chunks of 8 voxels make the conversion slow enough to be caught in the middle.
    convert = ["convert", str(noise), str(out), "--voxel-size-nm", "30,10,10", "--chunk-zyx", "8,8,8", "--levels", "3"]
    process = subprocess.Popen([sys.executable, "-c", BOUTON, *convert], stderr=subprocess.DEVNULL)
    partial = tmp_path / ".out.zarr.partial"
    deadline = time.monotonic() + 60
    while not any(partial.glob("0/c/*/*/*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    assert partial.exists()
    source = open_volume(noise, voxel_size_nm=(30, 10, 10))
    convert_volume(source, out, ConvertOptions())
    assert np.array_equal(open_volume(out)[...], np.load(noise))
    assert not partial.exists()
