"""bouton model: list, show, check, export, import, as people type them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from bouton.cli.main import make_app
from bouton.cli.model import app
from bouton.errors import BoutonError, DataError, SpecError
from bouton.learn.card import CARD, WEIGHTS, read_card
from bouton.learn.info import flops_per_voxel
from bouton.learn.shipped import model_names, model_path
from bouton.stages.predict import STAGE, Params
from foreign_onnx import foreign
from harness import run_stage
from tiny_model import write_model

FOREIGN = ("--heads", "boundaries", "--voxel-size-nm", "8,8,8", "--tile-zyx", "4,8,8", "--mean", "0", "--std", "255")


def bouton(*words: object) -> str:
    result: Result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(word) for word in words])
    if isinstance(result.exception, BoutonError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_list_names_what_ships() -> None:
    shown = bouton("list")
    assert all(name in shown for name in model_names())


@pytest.mark.parametrize("name", model_names())
def test_show_tells_the_card(name: str) -> None:
    card, shown = read_card(model_path(name)), " ".join(bouton("show", name).split())
    info = card.prediction
    told = [card.description, card.limits, card.weights.licence, card.weights.sha256, card.training.command]
    told += [source.name for source in card.training.data]
    told += [f"{flops_per_voxel(info.architecture) / 1e3:.1f} kFLOP/voxel", " x ".join(f"{v:g}" for v in info.tile_zyx)]
    told += [score.what for score in card.scores]
    assert [text for text in told if " ".join(text.split()) not in shown] == []


def test_costs_are_known_on_paper(tmp_path: Path) -> None:
    """SHAPE of tiny_model: two levels of 4 and 6 channels, kernels 1 x 3 x 3 and 3 x 3 x 3, pool 1 x 2 x 2."""
    entry, fine, coarse = 9 * 4, 4 * (9 * 4 * 4), 2 * (27 * 6 * 6) / 4
    wider, finer, last = 4 * 6 / 4, 4 * 6, 4 * 3
    shown = bouton("show", write_model(tmp_path / "tiny"))
    assert f"{2 * (entry + fine + coarse + wider + finer + last) / 1e3:.1f} kFLOP/voxel" in shown
    # z: the 2 coarse convolutions see 1 voxel each way. x: 2 each way of the last fine level, which touch 3 coarse
    # voxels, with 2 each way 7, which cover 14 fine ones; 2 each way of the first fine level, and 1 of the entry
    assert "5 x 20 x 20 voxels = 150 x 200 x 200 nm" in shown


def test_check(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "tiny")
    assert "tiny: sound; " in bouton("check", folder)
    (folder / WEIGHTS).write_bytes(b"x")
    with pytest.raises(DataError, match="SHA-256"):
        bouton("check", folder)
    with pytest.raises(SpecError, match="no model 'phantm'"):
        bouton("show", "phantm")


@pytest.mark.parametrize("way", ["onnx", "bioimage"])
def test_out_and_in(tmp_path: Path, way: str) -> None:
    pytest.importorskip("onnx")
    if way == "bioimage":
        pytest.importorskip("bioimageio.spec")
    folder, out, back = write_model(tmp_path / "tiny"), tmp_path / "out.file", tmp_path / "back"
    bouton("export", folder, out, "--to", way)
    bouton("import", out, back)
    assert {path.name: path.read_bytes() for path in back.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    for words in (("export", folder, out), ("import", out, back)):
        with pytest.raises(SpecError, match="exists already"):
            bouton(*words)


def test_a_network_from_elsewhere_predicts(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    (tmp_path / "their.onnx").write_bytes(foreign("Clip"))
    bouton("import", tmp_path / "their.onnx", tmp_path / "theirs", *FOREIGN, "--overlap-zyx", "2,2,2")
    assert "ONNX graph in -> out" in bouton("show", tmp_path / "theirs")
    assert "an ONNX graph of" in bouton("check", tmp_path / "theirs")
    image = np.random.default_rng(0).integers(0, 256, (8, 20, 20), np.uint8)
    params = Params(model=str(tmp_path / "theirs"), runtime="openvino")
    found = run_stage(STAGE, params, {"image": image}, (4, 8, 8), (8.0, 8.0, 8.0))["boundaries"]
    # the graph is the mean of 27 voxels, and a tile owns none that sees beyond it
    mean = sum(
        image[1 + a : 7 + a, 1 + b : 19 + b, 1 + c : 19 + c].astype(float)
        for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)
    ) / 27  # fmt: skip
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found[0, 1:7, 1:19, 1:19], mean, atol=0.51)
    with pytest.raises(BoutonError, match=r"openvino|OpenVINO"):
        run_stage(STAGE, Params(model=str(tmp_path / "theirs")), {"image": image}, (4, 8, 8), (8.0, 8.0, 8.0))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--voxel-size-nm", "8,8"), "three positive numbers z,y,x"),
        (("--tile-zyx", "4,8.5,8"), "three whole numbers z,y,x"),
        (("--heads", "membranes"), "head 'membranes'"),
        ((), "does not say heads"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "their.onnx").write_bytes(foreign())
    options = (*FOREIGN, *words) if words else ("--tile-zyx", "4,8,8")
    with pytest.raises(SpecError, match=message):
        bouton("import", tmp_path / "their.onnx", tmp_path / "theirs", *options)
    assert not (tmp_path / "theirs").exists()


def test_pickles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(pickle.dumps({}))
    with pytest.raises(DataError, match="a pickle"):
        bouton("import", tmp_path / "m.pt", tmp_path / "m")
    with pytest.raises(DataError, match="a pickle"):
        bouton("show", tmp_path / "m.pt")


def test_it_is_a_verb_of_bouton(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "tiny")
    result = CliRunner().invoke(make_app(["model", "path"]), ["model", "check", str(folder)])
    assert result.exit_code == 0 and "sound" in result.output
    card = json.loads((folder / CARD).read_text())
    assert card["name"] == "tiny"
