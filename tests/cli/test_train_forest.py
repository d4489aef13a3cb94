"""`bouton train` of a forest: from painted labels to a model that the stages run."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from scipy import ndimage
from typer.testing import CliRunner

from bouton.cli.main import make_app
from bouton.cli.train import train as train_plan
from bouton.cli.training_forest_plan import read_forest_plan
from bouton.errors import BoutonError, DataError, SpecError
from bouton.learn.package import check_package
from bouton.stages.predict import STAGE, Params
from harness import run_stage

pytest.importorskip("sklearn", reason="needs the extra forest (scikit-learn)")
SIZE = [40, 10, 10]


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Write tissue in which dark discs are synapses, and a training file."""
    random = np.random.default_rng(0)
    painted = np.zeros((14, 130, 140), np.uint8)
    for z, y, x in random.integers((1, 12, 12), (13, 118, 128), (14, 3)):
        yy, xx = np.ogrid[:130, :140]
        painted[z, np.hypot(yy - y, xx - x) < 7] = 1
    image = 150 + 30 * ndimage.gaussian_filter(random.normal(size=painted.shape), (0, 1, 1)) - 90 * painted
    with h5py.File(tmp_path / "em.h5", "w") as file:
        file["raw"], file["synapses"] = np.clip(image, 0, 255).astype(np.uint8), painted
    box = {"path": "em.h5", "image": "raw", "layers": {"clefts": "synapses"}}
    content = {
        "name": "discs", "voxel_size_nm": SIZE, "heads": ["clefts"], "seed": 3,
        "forest": {"trees": 12, "margin_nm": [0, 0, 0]},
        "data": [box | {"box_zyx": "0:14,0:90,0:140"}], "validation": [box | {"box_zyx": "0:14,90:130,0:140"}],
    }  # fmt: skip
    path = tmp_path / "plan.yaml"
    path.write_text(json.dumps(content))
    return path


def train(plan: Path, out: Path, *overrides: str) -> Path:
    train_plan(plan, out, overrides, float("inf"))
    return out / "discs" / "discs"


def test_a_trained_forest_finds_what_was_painted_whatever_the_blocks(plan: Path, tmp_path: Path) -> None:
    folder = train(plan, tmp_path / "out")
    card = check_package(folder)
    assert {score.what: score.value > 0.9 for score in card.scores if score.what == "clefts_ap"} == {"clefts_ap": True}
    with h5py.File(tmp_path / "em.h5") as file:
        image, painted = file["raw"][...], file["synapses"][...]
    params = Params(model=str(folder))
    found = [
        run_stage(STAGE, params, {"image": image}, block, tuple(map(float, SIZE)), seed=seed)["clefts"]
        for seed, block in enumerate([(14, 130, 140), (5, 64, 70), (14, 33, 140)])
    ]
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    held = np.s_[0, :, 90:]
    assert found[0][held][painted[:, 90:] > 0].mean() > 180 > 20 > found[0][held][painted[:, 90:] == 0].mean()


def test_training_is_repeatable(plan: Path, tmp_path: Path) -> None:
    one, two, other = (
        check_package(train(plan, tmp_path / name, *changes)).weights.sha256
        for name, changes in {"a": (), "b": (), "c": ("seed=4",)}.items()
    )
    assert one == two != other


def test_people_can_look_at_it(plan: Path, tmp_path: Path) -> None:
    folder = str(train(plan, tmp_path / "out"))
    shown = CliRunner().invoke(make_app(), ["model", "show", folder])
    assert shown.exit_code == 0 and "12 trees on 10 features" in shown.output
    checked = CliRunner().invoke(make_app(), ["model", "check", folder])
    assert checked.exit_code == 0 and "sound" in checked.output
    for verb in (["model", "export", folder, str(tmp_path / "x.onnx")], ["quantise", folder, "em.h5"]):
        assert CliRunner().invoke(make_app(), verb).exit_code != 0


@pytest.mark.parametrize(
    "values", [{"flips": "yx"}, {"runtime": "openvino"}, {"runtime": "cuda", "precision": "float16"}]
)
def test_runtimes_are_refused(plan: Path, tmp_path: Path, values: dict) -> None:
    params = Params(model=str(train(plan, tmp_path / "out", "forest.trees=2")), **values)
    with pytest.raises(SpecError, match="the model is a forest"):
        STAGE.parts[0].halo(params, tuple(map(float, SIZE)))


def test_a_changed_weight_is_found(plan: Path, tmp_path: Path) -> None:
    folder = train(plan, tmp_path / "out", "forest.trees=2")
    weights = folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DataError, match="SHA-256"):
        check_package(folder)


@pytest.mark.parametrize(("override", "message"), [
    ("forest.treees=3", "trees"),
    ("forest.trees=0", "trees"),
    ("forest.recall=2", "recall"),
    ("forest.margin_nm=[0, -1, 0]", "margin_nm"),
    ("forest.margin_nm=[0, 5000, 0]", "candidates"),
    ("heads=[vesicles]", "heads"),
    ("network={widths: [4]}", "both forest and network"),
    ("patch_zyx=[1, 1, 1]", "patch_zyx"),
    ("data=[{path: em.h5, image: raw, labels: synapses}]", "clefts"),
    ("data=[{path: em.h5, image: raw, layers: {clefts: synapses}, weight: 2}]", "weight"),
    ("prediction={tile_zyx: [40, 200, 200], overlap_zyx: [0, 0, 0]}", "overlap"),
])  # fmt: skip
def test_what_is_wrong_is_named(plan: Path, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(BoutonError) as caught:
        train(plan, tmp_path / "out", override)
    assert message in str(caught.value)


def test_nothing_painted(plan: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "em.h5", "a") as file:
        file["synapses"][...] = 0
    with pytest.raises(DataError, match="no voxel is painted"):
        train(plan, tmp_path / "out")


def test_the_file_says_what_is_published_unless_told(plan: Path) -> None:
    tree = yaml.safe_load(plan.read_text())
    del tree["forest"]
    plan.write_text(json.dumps(tree | {"forest": {}}))
    keys = read_forest_plan(plan, []).forest
    assert (keys.trees, keys.tried, keys.points, keys.margin_nm) == (200, 3, 100_000, (60, 300, 300))
