"""The predict stage: blocks, models, voxel sizes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bouton.errors import DataError, SpecError
from bouton.learn.info import Architecture, ModelInfo
from bouton.learn.model import load_model, model_bytes
from bouton.learn.network import build_network
from bouton.stages.predict import MODELS, STAGE, Params, model_names, model_path
from harness import run_stage

SHAPE = Architecture(widths=(4, 6), kernels=((1, 3, 3), (3, 3, 3)), pools=((1, 2, 2),), entry=(1, 3, 3), outputs=3)
INFO = ModelInfo(SHAPE, {"affinities": 3}, (30.0, 10.0, 10.0), (4, 8, 8), (1, 2, 2), 128.0, 40.0)
SIZE = (30.0, 10.0, 10.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(model_bytes(INFO, build_network(SHAPE, 1).state_dict()))
    return path


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
    file.write_bytes(model_bytes(both, build_network(both.architecture, 1).state_dict()))
    outputs = STAGE.outputs(Params(model=str(file)))
    assert {name: layer.channels for name, layer in outputs.items()} == {"affinities": 3, "synapse_evidence": 4}


def test_the_models_content_joins_the_key(file: Path) -> None:
    assert list(STAGE.files(Params(model=str(file)))) == [file]


def test_unknown_models_are_named() -> None:
    with pytest.raises(SpecError, match=r"no model 'affinity-fib52'.*bouton train"):
        model_path("affinity-fib52")
    with pytest.raises(SpecError, match="no model"):
        STAGE.outputs(Params(model="/nowhere/x.safetensors"))


def test_a_wrong_voxel_size_is_refused_when_planning(file: Path) -> None:
    halo, params = STAGE.parts[0].halo, Params(model=str(file))
    assert halo(params, (33.0, 9.0, 10.0)) == (3, 7, 7)
    with pytest.raises(SpecError, match=r"30 x 10 x 10 nm \(z, y, x\), the image has 10 x 10 x 30 nm.*z, y, x"):
        halo(params, (10.0, 10.0, 30.0))
    assert halo(replace(params, voxel_size_tolerance=3.0), (10.0, 10.0, 30.0)) == (3, 7, 7)
    with pytest.raises(SpecError, match="voxel_size_tolerance"):
        Params(voxel_size_tolerance=-1)


def test_a_damaged_model_is_refused_when_planning(file: Path) -> None:
    file.write_bytes(b"not a model at all")
    with pytest.raises(DataError, match=r"tiny\.safetensors"):
        STAGE.outputs(Params(model=str(file)))


@pytest.mark.parametrize("name", model_names())
def test_shipped_models_open_and_have_a_card(name: str) -> None:
    path = model_path(name)
    assert path.stat().st_size < 8 << 20
    load_model(path)
    card = (MODELS / f"{name}.md").read_text()
    for word in ("Data", "Licence", "Scores", f"bouton train workflows/train/{name.split('-')[-1]}.yaml"):
        assert word in card
