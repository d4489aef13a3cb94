"""How a training validates, stops early, tells its progress, and what its files say."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from bouton.cli.train import command
from bouton.cli.training_plan import read_plan
from bouton.cli.training_run import TrainingRun
from bouton.cli.training_scores import default_score, is_better, score_names
from bouton.cli.training_validation import validate
from bouton.errors import SpecError
from bouton.learn.card import read_card
from bouton.learn.info import Architecture, ModelInfo
from bouton.learn.model import Model
from bouton.learn.network import build_network
from bouton.learn.sampling import SamplingSettings, TrainingVolume
from cli.training_box import run_verb, weights, write_box

EVERY = ["--set", "validate_every=10", "--set", "checkpoint_every=10", "--set", "training.steps=20"]
# a learning rate that makes the loss on the held-out box go up and down
EARLY = ["--set", "validate_every=4", "--set", "checkpoint_every=4", "--set", "training.steps=40"]
EARLY += ["--set", "patience=2", "--set", "score=validation_loss", "--set", "training.learning_rate=0.05"]


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return write_box(tmp_path)


def log(out: Path) -> list[dict[str, float]]:
    with (out / "tiny" / "log.csv").open() as file:
        return [{name: float(value or "nan") for name, value in row.items()} for row in csv.DictReader(file)]


def run_of(box: Path, out: Path, words: list[str]) -> TrainingRun:
    plan = read_plan(box, [word for word in words if word != "--set"])
    return TrainingRun(plan, box, out / "tiny")


def test_stops_early_and_keeps_the_best_weights(box: Path, tmp_path: Path) -> None:
    said = run_verb(command, box, "--out", tmp_path / "a", *EARLY)
    rows = log(tmp_path / "a")
    losses = [row["validation_loss"] for row in rows]
    best = int(np.argmin(losses))
    assert len(rows) < 10 and best == len(rows) - 3
    step = int(rows[best]["step"])
    assert f"stopped early: no better validation_loss for 2 validations; best at {step}" in said
    assert f"(step {step})" in said and "finished" in said
    card = read_card(tmp_path / "a" / "tiny" / "tiny")
    assert card.training.steps == step
    assert {s.what: s.value for s in card.scores}["validation_loss"] == pytest.approx(losses[best], rel=1e-3)
    # the weights are those of a training that ends at the best step, and finished means finished
    run = run_of(box, tmp_path / "c", EARLY)
    while run.trainer.step < step:
        run.trainer.update()
    kept = run_of(box, tmp_path / "a", EARLY).chosen
    assert kept[0] == step and all((kept[1][name] == value).all() for name, value in run.trainer.ema.items())
    assert "from step" in run_verb(command, box, "--out", tmp_path / "a", *EARLY)
    assert len(log(tmp_path / "a")) == len(rows)


def test_early_stopping_survives_interruptions(box: Path, tmp_path: Path) -> None:
    run_verb(command, box, "--out", tmp_path / "a", *EARLY)
    for _ in range(40):
        run = run_of(box, tmp_path / "b", EARLY)
        if run.finished:
            break
        until = run.trainer.step + 7
        run.train(math.inf, lambda run=run, until=until: run.trainer.step >= until)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    for one, other in zip(log(tmp_path / "a"), log(tmp_path / "b"), strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}


def test_without_patience_validation_chooses_nothing(box: Path, tmp_path: Path) -> None:
    run_verb(command, box, "--out", tmp_path / "a", *EARLY, "--set", "patience=null")
    assert read_card(tmp_path / "a" / "tiny" / "tiny").training.steps == 40


def test_more_steps_and_loaders_change_nothing_that_was_done(box: Path, tmp_path: Path) -> None:
    run_verb(command, box, "--out", tmp_path / "a", "--set", "training.steps=12", "--set", "loaders=0")
    run_verb(command, box, "--out", tmp_path / "b", "--set", "training.steps=12", "--set", "loaders=3")
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_the_log_counts_rate_time_and_gradient(box: Path, tmp_path: Path) -> None:
    said = run_verb(command, box, "--out", tmp_path, *EVERY)
    rows = log(tmp_path)
    assert [row["step"] for row in rows] == [10, 20]
    assert all(row["gradient_norm"] > 0 and row["learning_rate"] > 0 for row in rows)
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert re.search(r"step 20/20  loss [\d.]+  ETA 0\.0 s  validation_loss", said)


def test_the_page_tells_the_training(box: Path, tmp_path: Path) -> None:
    words = ["--set", "heads=[affinities, clefts]", "--set", "description=Two <cells>"]
    data = "{path: em.h5, image: raw, labels: ids, layers: {clefts: clefts}, licence: CC BY 4.0}"
    words += ["--set", f"data=[{data}]", "--set", f"validation=[{data}]"]
    run_verb(command, box, "--out", tmp_path, *EVERY, *words)
    page = (tmp_path / "tiny" / "report.html").read_text()
    told = ["Two &lt;cells&gt;", "CC BY 4.0", "clefts ap", "true clefts", "predicted affinities", "Training patch 0"]
    told += ["segmentation at the best threshold", "widths", "parent_sha256", "20 of 20"]
    assert [text for text in told if text not in page] == []
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page
    assert page.count("data:image/png;base64,") > 12
    rows = log(tmp_path)
    assert all(0 <= row["clefts_ap"] <= 1 and 0 <= row["clefts_f1"] <= 1 for row in rows)


def test_events_for_tensorboard(box: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'bouton[tensorboard]'")
    run_verb(command, box, "--out", tmp_path, *EVERY, "--set", "tensorboard=true")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tmp_path / "tiny" / "events"))
    found.Reload()
    tags = found.Tags()
    names = set(tags["scalars"]) | set(tags["tensors"])
    assert {"loss", "learning_rate", "gradient_norm", "voi_sum", "adapted_rand_error"} <= names
    steps = [event.step for event in (found.Scalars if "loss" in tags["scalars"] else found.Tensors)("loss")]
    assert steps == [10, 20]


def test_an_absent_tensorboard_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib.util

    from bouton.cli.training_events import Events

    if importlib.util.find_spec("tensorboard") is not None:
        monkeypatch.setattr("bouton.segment.packages.find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"pip install 'bouton\[tensorboard\]'"):
        Events(tmp_path)


# -- validation -------------------------------------------------------------------------------------------------------

INFO = ModelInfo(
    architecture=Architecture((2,), ((3, 3, 3),), (), (1, 1, 1), 4),
    heads={"affinities": 3, "clefts": 1},
    voxel_size_nm=(10, 10, 10),
    tile_zyx=(8, 16, 16),
    overlap_zyx=(0, 0, 0),
    mean=128,
    std=64,
)


def threshold_model() -> Model:
    """Return a network that says: bright voxels belong together, dark ones are clefts."""
    network = build_network(INFO.architecture, 0)
    for parameter in network.parameters():
        parameter.data.zero_()
    network.entry.weight.data[0], network.entry.weight.data[1] = 1.0, -1.0
    network.exit.weight.data[:3, 0, 0, 0, 0] = 8.0
    network.exit.weight.data[:3, 1, 0, 0, 0] = -8.0
    network.exit.weight.data[3, 0, 0, 0, 0], network.exit.weight.data[3, 1, 0, 0, 0] = -8.0, 8.0
    return Model(INFO, network.eval())


def walls(broken: bool) -> TrainingVolume:
    """Return two cells of 8 x 16 x 7 voxels with a dark wall between them, which may have a hole."""
    image = np.full((8, 16, 16), 230, np.uint8)
    image[:, :, 7:9] = 20
    labels = np.ones(image.shape, np.uint32)
    labels[:, :, 8:] = 2
    clefts = (image < 100).astype(np.uint8)
    if broken:
        image[4, 8, 7:9] = 230
    known = np.ones(image.shape, bool)
    known[:, :, 7:9] = False
    return TrainingVolume(image, labels, known, {"clefts": clefts})


def test_validation_scores_by_hand() -> None:
    sampling = SamplingSettings((8, 16, 16), 0, (0, 0, 0), heads=("affinities", "clefts"))
    right = validate(threshold_model(), [walls(False)], sampling)
    assert right.scores["voi_sum"] == pytest.approx(0, abs=1e-9)
    assert right.scores["adapted_rand_error"] == pytest.approx(0, abs=1e-9)
    assert right.scores["clefts_ap"] == right.scores["clefts_f1"] == pytest.approx(1)
    assert right.scores["validation_accuracy"] > 0.9 and right.scores["validation_loss"] < 0.2
    assert len(np.unique(right.segmentations[0][walls(False).known])) == 2
    # a hole in the wall merges two equal cells: one bit
    wrong = validate(threshold_model(), [walls(True)], sampling)
    assert wrong.scores["voi_merge"] == pytest.approx(1, abs=1e-9) and wrong.scores["voi_split"] == pytest.approx(0)
    assert wrong.scores["clefts_ap"] < 1
    both = validate(threshold_model(), [walls(True), walls(False)], sampling)
    assert both.scores["voi_sum"] == pytest.approx(0.5, abs=1e-9)


def test_what_is_not_annotated_has_no_score() -> None:
    sampling = SamplingSettings((8, 16, 16), 0, (0, 0, 0), heads=("affinities", "clefts"))
    volume = walls(False)
    blank = TrainingVolume(volume.image, volume.labels * 0, volume.known & False)
    found = validate(threshold_model(), [blank], sampling)
    assert all(math.isnan(value) for value in found.scores.values())
    mixed = validate(threshold_model(), [blank, volume], sampling)
    assert mixed.scores == validate(threshold_model(), [volume], sampling).scores


def test_names_and_directions_of_scores() -> None:
    assert default_score(("affinities", "clefts")) == "voi_sum"
    assert default_score(("mitochondria", "clefts")) == "mitochondria_ap"
    assert "threshold" in score_names(("affinities",)) and "boundaries_f1" in score_names(("boundaries",))
    assert is_better("voi_sum", 1.0, 2.0) and not is_better("voi_sum", 2.0, 1.0)
    assert is_better("clefts_ap", 0.6, 0.5) and not is_better("clefts_ap", 0.4, 0.5)
    assert is_better("voi_sum", 9.0, None) and not is_better("voi_sum", math.nan, None)


def test_a_box_too_dark_to_learn_from_still_trains(box: Path, tmp_path: Path) -> None:
    with h5py.File(box.parent / "em.h5", "a") as file:
        file["raw"][...] = 0
    assert "finished" in run_verb(command, box, "--out", tmp_path, "--set", "training.steps=3")
