"""bouton train: a few steps end to end, resumed; and what is wrong in a training file is named."""

import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from bouton.cli.train import command
from bouton.cli.training_data import phantom_volume
from bouton.cli.training_forest_plan import is_forest, read_forest_plan
from bouton.cli.training_plan import Phantoms, read_plan
from bouton.errors import BoutonError, DataError, SpecError
from bouton.geometry import Box
from bouton.learn.card import read_card
from bouton.learn.model import load_model
from bouton.learn.targets import CLEFT, EXCITATORY, POST, PRE

SHIPPED = sorted((Path(__file__).parents[2] / "workflows" / "train").glob("*.yaml"))
PLAN = """
name: tiny
voxel_size_nm: [30, 10, 10]
network: {widths: [4, 6], kernels: [[1, 3, 3], [3, 3, 3]], pools: [[1, 2, 2]]}
data:
  - {path: em.h5, image: raw, labels: ids, box_zyx: "0:6,0:32,0:32"}
validation:
  - {path: em.h5, image: raw, labels: ids, box_zyx: "6:10,0:32,0:32"}
patch_zyx: [4, 16, 16]
training: {steps: 6, warmup_steps: 2}
prediction: {tile_zyx: [4, 16, 16], overlap_zyx: [1, 4, 4]}
validate_every: 3
checkpoint_every: 3
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "em.h5", "w") as file:
        file["raw"] = rng.integers(0, 256, (10, 32, 32), np.uint8)
        file["ids"] = np.repeat(np.repeat(rng.integers(1, 9, (10, 4, 4)), 8, 1), 8, 2).astype(np.uint64)
    path = tmp_path / "tiny.yaml"
    path.write_text(PLAN)
    return path


def train(plan: Path, out: Path, *more: str) -> str:
    app = Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(plan), "--out", str(out), *more])
    if isinstance(result.exception, BoutonError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_trains_resumes_and_repeats(plan: Path, tmp_path: Path) -> None:
    assert "finished" in train(plan, tmp_path / "a")
    folder = tmp_path / "a" / "tiny"
    assert {p.name for p in folder.iterdir()} == {
        "checkpoint.safetensors", "checkpoint.previous.safetensors", "curve.png", "lock", "log.csv", "report.html",
        "tiny",
    }  # fmt: skip
    lines = (folder / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "3", "6"]
    assert all(float(line.split(",")[5]) > 0 for line in lines[1:])
    assert load_model(folder / "tiny").info.voxel_size_nm == (30.0, 10.0, 10.0)
    card = read_card(folder / "tiny")
    assert card.training.steps == 6
    assert card.training.command == f"bouton train {plan}"
    assert card.training.file_sha256 == hashlib.sha256(plan.read_bytes()).hexdigest()
    assert card.training.data[0].boxes_zyx == ("0:6,0:32,0:32",)
    # stopped at once, then at the first step that takes longer than no time at all, then let go
    assert "stopped at step 0" in train(plan, tmp_path / "b", "--minutes", "0")
    assert "stopped at step" in train(plan, tmp_path / "b", "--minutes", "0.0001")
    assert "finished" in train(plan, tmp_path / "b")
    assert read_card(tmp_path / "b/tiny/tiny").weights == card.weights
    assert "from step 6" in train(plan, tmp_path / "b")


def test_a_damaged_checkpoint_is_named(plan: Path, tmp_path: Path) -> None:
    train(plan, tmp_path, "--set", "training.steps=3")
    (tmp_path / "tiny/checkpoint.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"cannot resume.*delete the checkpoint"):
        train(plan, tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.step=3", "step"),
        ("stepz=3", "stepz"),
        ("network.widths=[4]", "widths"),
        ("training.steps=many", "steps"),
        ("heads=[membranes]", "heads"),
        ("prediction.tile_zyx=[4, 15, 16]", "tile"),
        ("heads=[affinities, synapse_evidence]", "no training volume says anything"),
        ("data=[{path: em.h5, image: raw}]", "neither labels nor layers"),
        ("data=[{path: em.h5, image: raw, labels: {pth: em.h5}}]", "data.0.labels.pth"),
        ("data=[{path: em.h5, image: raw, labels: 3}]", "data.0.labels"),
        ("data=[{path: em.h5, image: raw, layers: {cleft: ids}}]", "clefts"),
        ("data=[{image: raw, labels: ids}]", "'raw' without a path"),
        ("data=[{path: em.h5, image: ids, labels: ids}]", "image of uint64"),
        ("data=[{path: em.h5, image: raw, labels: ids, box_zyx: annotation}]", "no zip"),
        ("data=[{seeds: [1], shape_zyz: [4, 16, 16]}]", "shape_zyx"),
        ("data=[]", "data"),
        ("training.learning_rate=0", "learning_rate"),
        ("training.precision=float16", "float16 on a cpu"),
        ("training.clip_norm=-1", "clip_norm"),
        ("score=voi", "voi_sum"),
        ("start=nothing", "no model"),
    ],
)
def test_what_is_wrong_is_named(plan: Path, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises((SpecError, DataError), match=message):
        train(plan, tmp_path, "--set", override)


def test_missing_data_are_named(plan: Path, tmp_path: Path) -> None:
    (tmp_path / "em.h5").unlink()
    with pytest.raises(DataError, match=r"em\.h5"):
        train(plan, tmp_path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_plans_are_valid(path: Path) -> None:
    plan = read_forest_plan(path, []) if is_forest(path, []) else read_plan(path, [])
    assert plan.info().voxel_size_nm == plan.voxel_size_nm
    for source in (*plan.data, *plan.validation):
        if isinstance(source, Phantoms):
            assert 7 not in source.seeds  # the demo's
    # sections 120 to 159 of FIB-25 train nothing, nor does what the VNC's validation scores
    boxes = [Box.parse(s.box_zyx) for s in plan.data if not isinstance(s, Phantoms)]
    held = [Box.parse(s.box_zyx) for s in plan.validation if not isinstance(s, Phantoms)]
    same = [s.path for s in plan.data if not isinstance(s, Phantoms)]
    for other, source in zip(held, [s for s in plan.validation if not isinstance(s, Phantoms)], strict=True):
        assert all((box & other).is_empty for box, path in zip(boxes, same, strict=True) if path == source.path)


def test_phantom_volumes_know_their_synapses() -> None:
    volume = phantom_volume(Phantoms(seeds=(1,), shape_zyx=(24, 96, 96)), 3, (30.0, 10.0, 10.0))
    assert volume.image.shape == volume.labels.shape == (24, 96, 96)
    classes = volume.layers["synapse_evidence"]
    cleft, pre, post = (np.count_nonzero(classes & bit) for bit in (CLEFT, PRE, POST))
    assert 0 < cleft < min(pre, post)
    assert not (classes[(classes & CLEFT) == 0] & EXCITATORY).any()


def test_phantom_volumes_take_another_look_and_place() -> None:
    source = Phantoms(seeds=(1,), shape_zyx=(12, 64, 64), start_zyx=(6, 32, 0), tissue={"contrast": 0.5, "noise": 0})
    size = (30.0, 10.0, 10.0)
    moved = phantom_volume(source, 3, size)
    usual = phantom_volume(Phantoms(seeds=(1,), shape_zyx=(18, 96, 64)), 3, size)
    assert moved.image.std() < 0.7 * usual.image.std()
    for name in ("mitochondria", "tissue", "vesicles"):
        np.testing.assert_array_equal(moved.layers[name], usual.layers[name][6:, 32:])
    with pytest.raises(SpecError, match="did you mean 'contrast'"):
        phantom_volume(Phantoms(seeds=(1,), shape_zyx=(12, 64, 64), tissue={"contrst": 1}), 3, size)
