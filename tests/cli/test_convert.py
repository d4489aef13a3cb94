"""``bouton convert`` as a user types it."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from bouton import BoutonError, open_volume
from bouton.cli.convert import command, speed_text

DATA = Path(os.environ.get("BOUTON_DATA", Path(__file__).parents[3] / "shared" / "data"))


def _convert(*arguments: object) -> str:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)
    if isinstance(done.exception, BoutonError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_convert_npy(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 60, 70), dtype=np.uint8)
    np.save(tmp_path / "a.npy", array)
    said = _convert(tmp_path / "a.npy", tmp_path / "o.zarr", "--voxel-size-nm", "40,4,4", "--levels", 2)
    assert "uint8 5 x 60 x 70" in said
    assert "voxel 40 x 4 x 4 nm (z, y, x), 2 level(s)" in said
    assert f"written: {tmp_path / 'o.zarr'}" in said
    assert np.array_equal(open_volume(tmp_path / "o.zarr")[...], array)
    assert open_volume(tmp_path / "o.zarr", "1").shape == (5, 30, 35)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--voxel-size-nm", "40,4"], "--voxel-size-nm '40,4'; expected three positive numbers"),
        (["--voxel-size-nm", "40,4,-4"], "three positive numbers"),
        (["--voxel-size-nm", "4,4,40"], r"looks like x,y,z given for z,y,x"),
        (["--chunk-zyx", "a,b,c"], "--chunk-zyx 'a,b,c'"),
        (["--voxel-size-nm", "40,4,4", "--format", "jpeg"], "format 'jpeg'; expected omezarr or precomputed"),
        ([], "--voxel-size-nm Z,Y,X"),
    ],
)
def test_convert_says_what_is_wrong(arguments: list[str], message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5), dtype=np.uint8))
    with pytest.raises(BoutonError, match=message):
        _convert(tmp_path / "a.npy", tmp_path / "o", *arguments)
    assert not (tmp_path / "o").exists()


def test_convert_does_not_overwrite(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5), dtype=np.uint8))
    (tmp_path / "o").mkdir()
    with pytest.raises(BoutonError, match="exists already"):
        _convert(tmp_path / "a.npy", tmp_path / "o", "--voxel-size-nm", "4,4,4")


def test_speed() -> None:
    assert [speed_text(v) for v in (12, 1.25e4, 3e6, 2e9)] == [
        "12 voxel/s",
        "12.5 kvoxel/s",
        "3.0 Mvoxel/s",
        "2.0 Gvoxel/s",
    ]


@pytest.mark.real
def test_convert_fib25(tmp_path: Path) -> None:
    path = DATA / "fib25_ts2" / "volume.h5"
    if not path.is_file():
        pytest.skip(f"{path} is not there; set BOUTON_DATA to the folder of the real data sets")
    for name in ("volumes/raw", "volumes/labels/neuron_ids"):
        for out in ("omezarr", "precomputed"):
            target = tmp_path / f"{Path(name).name}.{out}"
            _convert(path, target, "--dataset", name, "--format", out, "--levels", 2)
            found = open_volume(target)
            with h5py.File(path) as file:
                assert np.array_equal(found[...], file[name][...])
            assert found.voxel_size_nm == (10, 10, 10)
