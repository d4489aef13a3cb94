"""bouton finetune: starts from a model, writes a training file that repeats it, and keeps licences and parent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import pytest
import yaml

from bouton.cli.finetune import command
from bouton.cli.train import command as train_command
from bouton.errors import BoutonError, SpecError
from bouton.learn.card import DataSource, Training, Weights, read_card
from bouton.learn.model import load_model, model_files
from bouton.learn.network import build_network
from bouton.volume import write_folder
from cli.training_box import run_verb, write_box
from tiny_model import INFO, SHAPE, tiny_card

SHORT = ["--steps", "10", "--set", "validate_every=5", "--set", "checkpoint_every=5"]


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return write_box(tmp_path)


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A model of affinities and vesicles under a licence that binds."""
    info = replace(INFO, architecture=replace(SHAPE, outputs=4), heads={"vesicles": 1, "affinities": 3}, mean=111.0)
    sources = (DataSource(name="tissue A", licence="CC BY-NC 4.0"),)
    card = tiny_card(info).model_copy(
        update={"name": "old", "weights": Weights(sha256="0" * 64, licence="CC BY-NC 4.0"),
                "training": Training(data=sources)}
    )  # fmt: skip
    write_folder(tmp_path / "old", model_files(card, build_network(info.architecture, 3).state_dict()))
    return tmp_path / "old"


def finetune(box: Path, parent: Path, *words: str) -> str:
    data = ["--data", box.parent / "em.h5", "--image-dataset", "raw"]
    return run_verb(command, parent, *data, "--out", box.parent / "out", *words)


def labels(box: Path) -> list[str]:
    return ["--labels", str(box.parent / "em.h5"), "--labels-dataset", "ids"]


def test_finetunes_and_writes_what_repeats_it(box: Path, parent: Path) -> None:
    said = finetune(box, parent, *labels(box), *SHORT, "--box-zyx", "0:10,0:32,0:32")
    assert "left out, because nothing is annotated for them: vesicles" in said
    assert "trains on 0:8,0:32,0:32; held out: 8:10,0:32,0:32" in said
    assert "heads affinities; fresh: nothing" in said
    out = box.parent / "out"
    plan = yaml.safe_load((out / "old-finetuned.yaml").read_text())
    assert plan["training"]["mean"] == 111 and plan["training"]["learning_rate"] < 1e-3 and plan["patience"]
    made = out / "old-finetuned" / "old-finetuned"
    info = load_model(made).info
    assert info.heads == {"affinities": 3} and info.mean == 111 and info.tile_zyx == INFO.tile_zyx
    card = read_card(made)
    assert card.training.parent == "old"
    assert card.training.parent_sha256 == read_card(parent).weights.sha256
    assert card.weights.licence == "CC BY-NC 4.0"
    assert [source.name for source in card.training.data][1:] == ["tissue A (through old)"]
    assert {score.what for score in card.scores} >= {"voi_sum", "validation_loss"}
    # the file alone gives the same weights
    run_verb(train_command, out / "old-finetuned.yaml", "--out", box.parent / "again")
    again = box.parent / "again" / "old-finetuned" / "old-finetuned"
    assert (again / "weights.safetensors").read_bytes() == (made / "weights.safetensors").read_bytes()


def test_without_a_step_it_is_the_parent(box: Path, parent: Path) -> None:
    finetune(box, parent, *labels(box), *SHORT, "--minutes", "0")
    made = load_model(box.parent / "out" / "old-finetuned" / "old-finetuned").network.state_dict()
    before = load_model(parent).network.state_dict()
    for name, value in made.items():
        expected = before[name][1:] if name.startswith("exit.") else before[name]
        assert (value == expected).all(), name


def test_new_heads_start_anew(box: Path, parent: Path) -> None:
    layer = f"clefts={box.parent / 'em.h5'}:clefts"
    said = finetune(box, parent, *labels(box), "--layer", layer, *SHORT, "--name", "both")
    assert "new heads, from random weights: clefts" in said and "fresh: head clefts" in said
    card = read_card(box.parent / "out" / "both" / "both")
    assert card.prediction.heads == {"affinities": 3, "clefts": 1}
    assert {"clefts_ap", "clefts_f1"} <= {score.what for score in card.scores}


def test_a_mask_and_boxes_held_out(box: Path, parent: Path) -> None:
    known = box.parent / "known.h5"
    with h5py.File(box.parent / "em.h5") as file, h5py.File(known, "w") as other:
        other["known"] = file["known"][...]
    words = ["--known", str(known), "--box-zyx", "0:6,0:32,0:32", "--validate-zyx", "6:12,0:32,0:32"]
    finetune(box, parent, *labels(box), *SHORT, *words)
    plan = yaml.safe_load((box.parent / "out" / "old-finetuned.yaml").read_text())
    assert plan["data"][0]["known"]["path"] == str(known)
    assert plan["validation"][0]["box_zyx"] == "6:12,0:32,0:32"


def test_a_stated_licence_and_the_parents_both_bind(box: Path, parent: Path) -> None:
    finetune(box, parent, *labels(box), *SHORT, "--set", "licence=CC0-1.0", "--minutes", "0")
    made = box.parent / "out" / "old-finetuned" / "old-finetuned"
    assert read_card(made).weights.licence == "CC0-1.0 and CC BY-NC 4.0"


def test_an_edited_training_file_is_not_overwritten(box: Path, parent: Path) -> None:
    finetune(box, parent, *labels(box), *SHORT, "--minutes", "0")
    path = box.parent / "out" / "old-finetuned.yaml"
    path.write_text(path.read_text() + "seed: 3\n")
    with pytest.raises(SpecError, match=r"bouton train .*goes on with it"):
        finetune(box, parent, *labels(box), *SHORT, "--minutes", "0")


def test_another_normalisation_is_refused(box: Path, parent: Path) -> None:
    words = ["--set", "start=old", "--set", "training.mean=120", "--set", "training.std=40"]
    with pytest.raises(SpecError, match=r"training.mean 120.*way out: training.mean: 111"):
        run_verb(train_command, box, "--out", box.parent / "out", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "neither --labels nor --layer"),
        (["--layer", "cleft=em.h5"], "HEAD=PATH"),
        (["--layer", "clefts"], "HEAD=PATH"),
        (["LABELS", "--box-zyx", "0:6,0:32,0:32", "--validate-zyx", "5:9,0:32,0:32"], "shares voxels"),
        (["LABELS", "--voxel-size-nm", "300,100,100"], "voxel size"),
        (["LABELS", "--voxel-size-nm", "4"], "z,y,x"),
        (["LABELS", "--box-zyx", "0:6,0:32"], "no box"),
        (["LABELS", "--learning-rate", "2"], "learning_rate"),
    ],
)
def test_what_is_wrong_is_named(box: Path, parent: Path, words: list[str], message: str) -> None:
    words = [part for word in words for part in (labels(box) if word == "LABELS" else [word])]
    with pytest.raises(BoutonError, match=message):
        finetune(box, parent, *words)


def test_an_image_of_other_voxels_is_refused(box: Path, parent: Path) -> None:
    with h5py.File(box.parent / "em.h5", "a") as file:
        file["raw"].attrs["resolution"] = [300.0, 100.0, 100.0]
    with pytest.raises(SpecError, match="300 x 100 x 100 nm"):
        finetune(box, parent, *labels(box))


def test_a_missing_model_is_named(box: Path) -> None:
    with pytest.raises(SpecError, match="no model 'nothing'"):
        finetune(box, Path("nothing"), *labels(box))


def test_a_wrong_box_does_not_stand_in_the_way_of_the_right_one(box: Path, parent: Path) -> None:
    with pytest.raises(BoutonError, match="box"):
        finetune(box, parent, *labels(box), "--box-zyx", "0:400,0:32,0:32", *SHORT)
    finetune(box, parent, *labels(box), "--box-zyx", "0:8,0:32,0:32", *SHORT)


def test_a_file_in_place_of_the_folder_is_named(box: Path) -> None:
    with pytest.raises(BoutonError, match=r"em\.h5"):
        run_verb(train_command, box, "--out", box.parent / "em.h5")
