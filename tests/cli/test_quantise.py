"""``bouton quantise`` as a user types it: kept where the segmentation holds, refused where it does not."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from bouton import BoutonError, DataError, RunError, SpecError
from bouton.cli.quantise import command
from bouton.geometry import Box
from bouton.learn.shipped import model_path
from bouton.phantom import PhantomParams, generate
from bouton.stages.predict import STAGE, Params
from harness import run_stage

for module in ("openvino", "nncf"):
    pytest.importorskip(module, reason=f"{module} is not installed: pip install 'bouton[quantise]'")
BOX = "0:24,0:96,0:96"


def _quantise(*arguments: object) -> str:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(
        app, ["organelles-phantom", *(str(argument) for argument in arguments)], catch_exceptions=True
    )
    if isinstance(done.exception, BoutonError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom, and beside it (x from 96 on) the same image with hardly any contrast."""
    made = generate(Box.of_shape((24, 96, 96)), PhantomParams(seed=3))
    flat = (made.image // 24 + 118).astype(np.uint8)
    path = tmp_path_factory.mktemp("tissue") / "em.h5"
    with h5py.File(path, "w") as file:
        file["image"] = np.concatenate([made.image, flat], axis=2)
        file["truth"] = np.concatenate([made.neuron_ids, made.neuron_ids], axis=2)
    return path


def _truth(tissue: Path) -> list[object]:
    return ["--truth", tissue, "--truth-dataset", "truth", "--box-zyx", BOX]


def test_a_good_one_is_kept_and_used(tissue: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    options = ["--bounds-zyx", BOX, "--crops", 3, "--tolerance", 0.1]
    said = _quantise(tissue, "--dataset", "image", "--out", out, *options, *_truth(tissue))
    assert "VOI at threshold" in said and "not checked" not in said
    note = json.loads((out / "int8.json").read_text())
    assert note["change"]["voi"] <= note["change"]["voi_float32"] + 0.1
    assert note["change"]["truth"].startswith(f"em.h5 {BOX}, threshold 0.")
    assert note["calibration"]["image"] == "em.h5" and note["calibration"]["crops"] == 3
    for file in model_path("organelles-phantom").iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes()
    exact = Params(model="organelles-phantom")
    rounded = Params(model=str(out), runtime="openvino", precision="int8")
    assert set(STAGE.files(rounded)) - set(STAGE.files(exact)) == {
        note[f"{name}_sha256"].encode() for name in ("graph", "values")
    }
    with h5py.File(tissue) as file:
        image = file["image"][:16, :40, :40]
    one, other = (run_stage(STAGE, p, {"image": image}, (16, 40, 40), (30.0, 10.0, 10.0)) for p in (exact, rounded))
    apart = np.abs(one["affinities"].astype(int) - other["affinities"])
    assert 0 < apart.mean() < 6


def test_a_bad_one_is_refused(tissue: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    flat = "0:24,0:96,96:192"
    with pytest.raises(RunError, match=r"worse by 0\.\d+ bits of VOI: not kept.*at most 0\.02"):
        _quantise(tissue, "--dataset", "image", "--bounds-zyx", flat, "--crops", 3, "--out", out, *_truth(tissue))
    assert not out.exists()


def test_without_truth_nobody_checked(tissue: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    said = _quantise(tissue, "--dataset", "image", "--bounds-zyx", BOX, "--crops", 1, "--out", out)
    assert "mean change 0.0" in said and "not checked" in said
    assert json.loads((out / "int8.json").read_text())["change"]["voi"] is None


def test_bad_values_are_refused_before_any_work(tissue: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    common = [tissue, "--dataset", "image", "--out"]
    for values, error, found in [
        ([*common, tmp_path / "full"], SpecError, "is there already"),
        ([*common, tmp_path / "a", "--bounds-zyx", "0:25,0:9,0:9"], SpecError, "reaches outside"),
        ([*common, tmp_path / "a", "--box-zyx", BOX], SpecError, "without --truth"),
        ([*common, tmp_path / "a", *_truth(tissue)[:4], "--box-zyx", "0:1,0:1,0:999"], SpecError, "outside"),
        ([tissue, "--dataset", "truth", "--out", tmp_path / "a"], DataError, "uint8"),
        ([tissue.with_name("none.h5"), "--out", tmp_path / "a"], DataError, "none.h5"),
    ]:  # fmt: skip
        with pytest.raises(error, match=found):
            _quantise(*values)
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "full" / "file").read_text() == "mine"
