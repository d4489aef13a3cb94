"""The predict stage: blocks, models, voxel sizes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bouton.errors import DataError, SpecError
from bouton.learn.card import WEIGHTS
from bouton.learn.info import info_bytes
from bouton.learn.package import check_package
from bouton.stages.predict import STAGE, Params, model_names, model_path
from harness import run_stage
from tiny_model import INFO, SHAPE, write_model

SIZE = (30.0, 10.0, 10.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny")


def test_blocks_and_their_order_do_not_matter(file: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 21, 17), np.uint8)
    results = [
        run_stage(STAGE, Params(model=str(file)), {"image": image}, block, SIZE, seed=seed)["affinities"]
        for seed, block in enumerate([(9, 21, 17), (4, 8, 8), (3, 21, 5), (5, 6, 17)])
    ]
    assert results[0].shape == (3, 9, 21, 17)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_outputs_are_those_of_the_model(file: Path) -> None:
    assert list(STAGE.outputs(Params(model=str(file)))) == ["affinities"]
    both = replace(INFO, architecture=replace(SHAPE, outputs=7), heads={"affinities": 3, "synapse_evidence": 4})
    write_model(file, both)
    outputs = STAGE.outputs(Params(model=str(file)))
    assert {name: layer.channels for name, layer in outputs.items()} == {"affinities": 3, "synapse_evidence": 4}


def test_the_models_content_joins_the_key(file: Path) -> None:
    files = STAGE.files(Params(model=str(file)))
    assert files == (info_bytes(INFO), check_package(file).weights.sha256.encode())


def test_unknown_models_are_named() -> None:
    with pytest.raises(SpecError, match=r"no model 'affinity-fib52'.*bouton train"):
        model_path("affinity-fib52")
    with pytest.raises(SpecError, match="no model"):
        STAGE.outputs(Params(model="/nowhere/x"))
    with pytest.raises(SpecError, match="no model ''"):
        model_path("")


def test_a_wrong_voxel_size_is_refused_when_planning(file: Path) -> None:
    halo, params = STAGE.parts[0].halo, Params(model=str(file))
    assert halo(params, (33.0, 9.0, 10.0)) == (3, 7, 7)
    with pytest.raises(SpecError, match=r"30 x 10 x 10 nm \(z, y, x\), the image has 10 x 10 x 30 nm.*z, y, x"):
        halo(params, (10.0, 10.0, 30.0))
    assert halo(replace(params, voxel_size_tolerance=3.0), (10.0, 10.0, 30.0)) == (3, 7, 7)
    with pytest.raises(SpecError, match="voxel_size_tolerance"):
        Params(voxel_size_tolerance=-1)


def test_a_damaged_model_is_refused_when_planning(file: Path) -> None:
    (file / WEIGHTS).write_bytes(b"not a model at all")
    with pytest.raises(DataError, match=r"tiny/weights\.safetensors"):
        STAGE.outputs(Params(model=str(file)))


@pytest.mark.parametrize("name", model_names())
def test_shipped_models_open_and_have_a_card(name: str) -> None:
    path = model_path(name)
    assert sum(file.stat().st_size for file in path.iterdir()) < 16 << 20
    assert (path / WEIGHTS).stat().st_size < 8 << 20
    card = check_package(path)
    assert card.name == name
    assert card.description
    assert card.limits
    assert card.weights.licence == "BSD-3-Clause"
    assert card.training.command.startswith("bouton train workflows/train/")
    assert all(source.source and source.licence for source in card.training.data)
    assert len(card.scores) >= 3
    assert all(score.command.startswith("bouton ") for score in card.scores)
