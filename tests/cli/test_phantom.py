"""``bouton phantom`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from bouton import BoutonError, DataError, SpecError, open_volume
from bouton.cli.phantom import command
from bouton.geometry import Box
from bouton.phantom import PhantomParams, generate
from bouton.volume import read_table


def _phantom(*arguments: object) -> str:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)
    if isinstance(done.exception, BoutonError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_phantom_writes_image_and_truth(tmp_path: Path) -> None:
    out = tmp_path / "tissue"
    said = _phantom(out, "--seed", 2, "--shape-zyx", "20,150,150", "--block-zyx", "12,100,150", "--json")
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["done"] for line in lines] == [1, 2, 3, 4]
    made = generate(Box.of_shape((20, 150, 150)), PhantomParams(seed=2))
    for name in ("image", "neuron_ids", "clefts", "mitochondria", "mask"):
        volume = open_volume(out / f"{name}.zarr")
        assert np.array_equal(volume[...], getattr(made, name)), name
        assert volume.voxel_size_nm == (30.0, 10.0, 10.0)
    table = read_table(out / "synapses.parquet")
    for name, values in made.synapses.items():
        assert np.array_equal(table[name], values), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tissue"]


def test_phantom_overwrites_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="exists"):
        _phantom(tmp_path)


@pytest.mark.parametrize(
    "arguments", [("--defects", "hole"), ("--shape-zyx", "0,5,5"), ("--seed", "-1"), ("--voxel-size-nm", "a,b,c")]
)
def test_wrong_values_write_nothing(tmp_path: Path, arguments: tuple[str, str]) -> None:
    with pytest.raises(SpecError):
        _phantom(tmp_path / "out", *arguments)
    assert not list(tmp_path.iterdir())
