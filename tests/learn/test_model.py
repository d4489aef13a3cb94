"""Model files: what goes in comes out, and damaged or foreign files are named."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from bouton.errors import DataError
from bouton.learn.info import Architecture, ModelInfo, read_info
from bouton.learn.model import load_model, model_bytes
from bouton.learn.network import build_network

SHAPE = Architecture(widths=(4, 6), kernels=((1, 3, 3), (3, 3, 3)), pools=((1, 2, 2),), entry=(1, 3, 3), outputs=3)
INFO = ModelInfo(SHAPE, {"affinities": 3}, (30.0, 10.0, 10.0), (4, 8, 8), (1, 2, 2), 128.0, 40.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    path.write_bytes(model_bytes(INFO, build_network(replace(SHAPE, outputs=5), 1).state_dict()))
    return path


def test_round_trip_drops_auxiliary_outputs(file: Path) -> None:
    weights = build_network(replace(SHAPE, outputs=5), 1).state_dict()
    model = load_model(file)
    assert model.info == read_info(file) == INFO
    assert torch.equal(model.network.exit.weight, weights["exit.weight"][:3])
    assert torch.equal(model.network.entry.weight, weights["entry.weight"])


def test_bytes_repeat(file: Path) -> None:
    assert file.read_bytes() == model_bytes(INFO, build_network(replace(SHAPE, outputs=5), 1).state_dict())


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_a_truncated_file_is_named(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"m\.safetensors.*bouton train"):
        load_model(file)


def test_every_damaged_header_is_a_data_error(file: Path) -> None:
    whole = file.read_bytes()
    for at in range(0, 700, 7):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1 :])
        try:
            load_model(file)
        except DataError:
            continue


def test_other_files_are_refused(file: Path) -> None:
    for data in (b"", b"GIF89a" * 20, pickle.dumps({"a": 1}), save({"x": torch.zeros(2)}), b"\xff" * 200):
        file.write_bytes(data)
        with pytest.raises(DataError, match="no model of bouton"):
            load_model(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        load_model(tmp_path / "none.safetensors")
    with pytest.raises(DataError, match="cannot read"):
        load_model(tmp_path)


def test_weights_that_are_not_finite_are_refused(file: Path) -> None:
    weights = build_network(SHAPE, 1).state_dict()
    weights["exit.bias"][1] = float("nan")
    file.write_bytes(model_bytes(INFO, weights))
    with pytest.raises(DataError, match="not finite"):
        load_model(file)


def test_weights_of_another_network_are_refused(file: Path) -> None:
    file.write_bytes(model_bytes(INFO, build_network(replace(SHAPE, widths=(5, 6)), 1).state_dict()))
    with pytest.raises(DataError, match=r"size mismatch|no model"):
        load_model(file)


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("heads", {"affinities": 4}, "heads"),
        ("heads", {"affinities": 3, "synapse_evidence": 4}, "outputs"),
        ("tile_zyx", [4, 7, 8], "tile"),
        ("overlap_zyx", [3, 2, 2], "overlap"),
        ("voxel_size_nm", [30, 0, 10], "voxel size"),
        ("normalisation", {"mean": 1, "std": 0}, "normalisation"),
    ],
)
def test_unusable_metadata_are_named(file: Path, key: str, value: object, found: str) -> None:
    weights = {name: value.contiguous() for name, value in build_network(SHAPE, 1).state_dict().items()}
    data = file.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = json.loads(header["__metadata__"]["bouton_model"]) | {key: value}
    file.write_bytes(save(weights, {"bouton_model": json.dumps(text)}))
    with pytest.raises(DataError, match=f"unusable {found}|unusable number of {found}"):
        read_info(file)
