"""``bouton train-types`` as a user types it: runs in, a model out that stage synapse_types decides with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from bouton import BoutonError, DataError, SpecError
from bouton.cli.main import main
from bouton.cli.train_types import Labelled, command, fit_model
from bouton.learn.synapse_types import read_types_model, types_files
from bouton.stages.synapse_types import STAGE, Params
from bouton.synapse.shape_features import FEATURES
from bouton.volume.files import write_folder
from bouton.volume.run_folder import open_run

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'bouton[forest]'")
WORKFLOW = """
name: toy
grid: {{shape_zyx: [60, 100, 100], voxel_size_nm: [40, 40, 40]}}
block_zyx: [60, 100, 100]
steps:
  tissue: {{stage: phantom, params: {{seed: 8}}}}
  types:
    stage: synapse_types
    reads: {{synapses: tissue.synapses, segmentation: tissue.neuron_ids, vesicles: tissue.vesicles}}
    params: {{model: {model}, reach_nm: 600}}
"""


def train(*arguments: object) -> str:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, BoutonError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def run(folder: Path, text: str, code: int = 0) -> Path:
    """Run a workflow called toy; what an earlier run in the folder computed is kept."""
    path = folder / "toy.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(path), "--runs", str(folder), "--workers", "1", "--executor", "serial", "--retries", "0"])
    assert (ended.value.code or 0) == code
    return folder / "toy"


def again(measured: Path, folder: Path, text: str, code: int = 0) -> Path:
    shutil.copytree(measured, folder / "toy")
    return run(folder, text, code)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("types"), WORKFLOW.format(model="none"))


def test_a_model_is_trained_and_used(measured: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    said = train(out, "--train", measured, "--calibrate", measured, "--test", measured, "--licence", "BSD-3-Clause")
    assert "target right" in said
    card = read_types_model(out).card
    assert set(card.questions) == {"type", "target"}
    assert card.questions["target"].classes == ("spine", "shaft")
    assert "mitochondria_post" not in card.questions["target"].features
    assert "vesicles_pre" in card.questions["type"].features
    assert (card.reach_nm, card.spacing_nm, card.data[0].use) == (600.0, 30.0, "train")
    found = open_run(again(measured, tmp_path, WORKFLOW.format(model=out))).table("types.synapses")
    truth = open_run(measured).table("tissue.synapses")
    known = found["target"] != "unknown"
    assert np.mean(found["target"][known] == truth["target"][known]) > 0.8
    np.testing.assert_allclose((found["p_spine"] + found["p_shaft"])[known], 1.0)
    assert np.isnan(found["p_soma"]).all()
    with pytest.raises(SpecError, match=r"reach_nm = 900, and model .* was trained with 600"):
        STAGE.files(Params(model=str(out)))
    with pytest.raises(DataError, match="exists already"):
        train(out, "--train", measured)


def test_runs_that_teach_nothing_are_told(measured: Path, tmp_path: Path) -> None:
    text = WORKFLOW.format(model="none")
    plain = again(measured, tmp_path, text[: text.index("  types:")])
    with pytest.raises(SpecError, match="0 steps of stage synapse_types"):
        train(tmp_path / "out", "--train", plain)
    with pytest.raises(DataError):
        train(tmp_path / "out", "--train", tmp_path / "nowhere")


def test_one_class_teaches_nothing() -> None:
    features = {name: np.random.default_rng(0).random(20) for name in FEATURES}
    classes = {"type": np.full(20, "", object), "target": np.full(20, "spine", object)}
    told = {"name": "x", "description": "", "reach_nm": 900.0, "spacing_nm": 30.0, "seed": 0}
    with pytest.raises(DataError, match="no question"):
        fit_model([Labelled("a", "train", features, classes)], told)


def test_a_missing_layer_is_told_with_the_model_that_needs_it(measured: Path, tmp_path: Path) -> None:
    features = {name: np.random.default_rng(n).random(40) for n, name in enumerate(FEATURES)}
    classes = {"type": np.tile(np.array(["excitatory", "inhibitory"], object), 20), "target": np.full(40, "", object)}
    told = {"name": "x", "description": "", "reach_nm": 600.0, "spacing_nm": 30.0, "seed": 0}
    model = fit_model([Labelled("a", "train", features, classes)], told)
    write_folder(tmp_path / "needy", types_files(model.card, model.classifiers))
    path = again(measured, tmp_path, WORKFLOW.format(model=tmp_path / "needy"), code=4)
    failures = open_run(path).steps["types"].failures
    assert "needs" in str(failures) and "is not given" in str(failures)
