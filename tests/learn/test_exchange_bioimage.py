"""The BioImage Model Zoo out and in: our own comes back as it was, of foreign ones only ONNX is opened."""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from bouton.errors import BoutonError, DataError, SpecError
from bouton.learn.card import CARD, GRAPH, WEIGHTS, parse_card
from bouton.learn.exchange import import_file
from bouton.learn.exchange_bioimage import export_bioimage
from bouton.learn.exchange_onnx import Given
from bouton.learn.info import OnnxGraph
from bouton.learn.model import load_model, model_files
from bouton.learn.network import build_network
from bouton.volume import write_folder
from foreign_onnx import foreign
from tiny_model import SHAPE, tiny_card, write_model

pytest.importorskip("onnx", reason="the package onnx is not installed (bouton[bioimage])")
spec = pytest.importorskip("bioimageio.spec", reason="bioimageio.spec is not installed (bouton[bioimage])")
GIVEN = Given("theirs", heads=("boundaries",))


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path]:
    folder = write_model(tmp_path / "tiny")
    (tmp_path / "tiny.zip").write_bytes(export_bioimage(folder))
    return folder, tmp_path / "tiny.zip"


def axes(unit: str | None = "micrometer") -> list[dict]:
    size = {"z": {"min": 4, "step": 2}, "y": {"min": 8, "step": 4}, "x": {"min": 8, "step": 4}}
    scale = {"z": 0.04, "y": 0.004, "x": 0.004}
    space = [{"type": "space", "id": a, "size": size[a], "scale": scale[a], "unit": unit} for a in "zyx"]
    return [{"type": "batch"}, {"type": "channel", "channel_names": ["em"]}, *space]


def theirs(path: Path, preprocessing: list | None = None, weights: dict | None = None, **files: bytes) -> Path:
    """A zip of format 0.5 as another lab could have made it: fixed scaling to 0 to 1, then a mean."""
    graph = foreign("Relu")
    scale = [{"id": "scale_linear", "kwargs": {"gain": 1 / 255, "offset": 0.0}}]
    outputs = axes()
    for axis in outputs[2:]:
        axis["size"] = {"tensor_id": "raw", "axis_id": axis["id"]}
    described = {
        "format_version": "0.5.4", "type": "model", "name": "their model", "description": "Membranes.",
        "license": "MIT", "authors": [{"name": "A Lab"}], "cite": [{"text": "A paper", "url": "https://example.org"}],
        "inputs": [{
            "id": "raw", "axes": axes(), "data": {"type": "float32"}, "test_tensor": {"source": "in.npy"},
            "preprocessing": scale if preprocessing is None else preprocessing,
        }],
        "outputs": [{
            "id": "membranes", "axes": outputs, "test_tensor": {"source": "out.npy"},
            "postprocessing": [{"id": "sigmoid"}],
        }],
        "weights": weights or {"onnx": {"source": "weights.onnx", "opset_version": 17}},
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rdf.yaml", yaml.safe_dump(described))
        for name, data in {"weights.onnx": graph, "in.npy": b"", "out.npy": b"", **files}.items():
            archive.writestr(name, data)
    return path


def test_an_export_is_a_package_of_the_zoo(own: tuple[Path, Path]) -> None:
    folder, path = own
    found = spec.load_model_description(path, perform_io_checks=True)
    assert found.validation_summary.status in {"passed", "valid-format"}
    assert [axis.scale for axis in found.inputs[0].axes[2:]] == [30.0, 10.0, 10.0]
    assert str(found.license) == "BSD-3-Clause"
    with zipfile.ZipFile(path) as archive:
        image = np.load(io.BytesIO(archive.read("image.npy")))
        expected = np.load(io.BytesIO(archive.read("probabilities.npy")))
    with torch.inference_mode():
        logits = load_model(folder).network(torch.from_numpy((image.astype(np.float32) - 128) / 40))
    np.testing.assert_array_equal(expected, torch.sigmoid(logits).numpy())
    assert image.shape == (1, 1, 4, 8, 8) and expected.shape == (1, 3, 4, 8, 8)


def test_an_export_comes_back_as_it_was(own: tuple[Path, Path]) -> None:
    folder, path = own
    assert import_file(path, Given("any")) == {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_changed_export_is_refused(own: tuple[Path, Path], tmp_path: Path) -> None:
    for name, data, message in (
        (WEIGHTS, model_files(tiny_card(), build_network(SHAPE, 2).state_dict())[WEIGHTS], "not the one in"),
        (CARD, b"{}", "no card of a model"),
    ):
        with zipfile.ZipFile(own[1]) as archive:
            files = {entry: archive.read(entry) for entry in archive.namelist()} | {name: data}
        with zipfile.ZipFile(tmp_path / "changed.zip", "w") as archive:
            for entry, content in files.items():
                archive.writestr(entry, content)
        with pytest.raises(DataError, match=message):
            import_file(tmp_path / "changed.zip", Given("any"))


def test_licences_are_those_of_the_zoo(tmp_path: Path) -> None:
    card = tiny_card()
    card = card.model_copy(update={"weights": card.weights.model_copy(update={"licence": "not stated"})})
    write_folder(tmp_path / "m", model_files(card, build_network(SHAPE, 1).state_dict()))
    with pytest.raises(DataError, match=r"licence by its SPDX name"):
        export_bioimage(tmp_path / "m")


def test_a_foreign_model_says_most_itself(tmp_path: Path) -> None:
    card = parse_card(import_file(theirs(tmp_path / "t.zip"), GIVEN)[CARD], "")
    info = card.prediction
    assert info.architecture == OnnxGraph("in", "out", 1, (2, 4, 4), True)
    assert info.voxel_size_nm == pytest.approx((40, 4, 4))
    assert (info.tile_zyx, info.mean, info.std) == ((4, 8, 8), pytest.approx(0), pytest.approx(255))
    assert (card.name, card.description, card.weights.licence) == ("theirs", "Membranes.", "MIT")
    files = import_file(theirs(tmp_path / "t.zip"), replace(GIVEN, mean=1.0, std=2.0, licence="CC-BY-4.0"))
    given = parse_card(files[CARD], "")
    assert (given.prediction.mean, given.prediction.std, given.weights.licence) == (1.0, 2.0, "CC-BY-4.0")
    assert set(files) == {CARD, GRAPH}


def test_steps_of_normalisation_are_chained(tmp_path: Path) -> None:
    steps = [
        {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
        {"id": "scale_linear", "kwargs": {"gain": 2.0, "offset": 3.0}},
        {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 13.0, "std": 4.0}},
    ]
    info = parse_card(import_file(theirs(tmp_path / "t.zip", steps), GIVEN)[CARD], "").prediction
    # (2 v + 3 - 13) / 4 = (v - 5) / 2
    assert (info.mean, info.std) == (pytest.approx(5), pytest.approx(2))
    with pytest.raises(SpecError, match=r"does not say mean, std; .*--mean 0 --std 255"):
        import_file(theirs(tmp_path / "t.zip", []), GIVEN)


def test_normalisation_by_tile_is_refused(tmp_path: Path) -> None:
    for step in ("zero_mean_unit_variance", "scale_range"):
        with pytest.raises(SpecError, match=rf"preprocessing {step}; .*results depend on tiles"):
            import_file(theirs(tmp_path / "t.zip", [{"id": step}]), GIVEN)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"pytorch_state_dict": {
                "source": "w.pt", "pytorch_version": "2.0",
                "architecture": {"callable": "Net", "import_from": "lab.net"},
            }},
            r"only as pytorch_state_dict \(a pickle, which can run any code",
        ),
        ({"torchscript": {"source": "w.pt", "pytorch_version": "2.0"}}, r"only as torchscript \(.*code"),
        ({"keras_hdf5": {"source": "w.h5", "tensorflow_version": "2.0"}}, r"only as keras_hdf5 \(.*code"),
    ],
)  # fmt: skip
def test_weights_that_can_run_code_are_refused(tmp_path: Path, entry: dict, message: str) -> None:
    files = {"w.pt": pickle.dumps({}), "w.h5": b"\x89HDF"}
    with pytest.raises(DataError, match=message):
        import_file(theirs(tmp_path / "t.zip", weights=entry, **files), GIVEN)


def test_damaged_zips_are_refused(tmp_path: Path) -> None:
    whole = theirs(tmp_path / "t.zip").read_bytes()
    archive = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, archive)
    for data, message in (
        (whole[: len(whole) // 2], "no zip, or a damaged one"),
        (archive.getvalue(), r"torch\.save, a pickle"),
        (whole.replace(b"format_version", b"format_wersion"), "no zip|no description"),
    ):
        (tmp_path / "bad.zip").write_bytes(data)
        with pytest.raises(BoutonError, match=message):
            import_file(tmp_path / "bad.zip", GIVEN)
    with pytest.raises(DataError, match="no description of a model"):
        import_file(theirs(tmp_path / "t.zip", [{"id": "nonsense"}]), GIVEN)
    wrong = {"onnx": {"source": "weights.onnx", "opset_version": 17, "sha256": "0" * 64}}
    with pytest.raises(DataError, match="not the file of its description"):
        import_file(theirs(tmp_path / "t.zip", weights=wrong), GIVEN)
    absent = {"onnx": {"source": "gone.onnx", "opset_version": 17}}
    with pytest.raises(DataError, match=r"gone\.onnx is not in the zip|no description"):
        import_file(theirs(tmp_path / "t.zip", weights=absent), GIVEN)


def test_files_that_bouton_does_not_open(tmp_path: Path) -> None:
    archive = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, archive)
    for name, data, message in (
        ("m.pt", archive.getvalue(), "a pickle"),
        ("m.bin", b"anything", "a pickle"),
        ("m.onnx", pickle.dumps({"a": 1}), "a pickle"),
        ("m.h5", b"\x89HDF", "Keras"),
        ("m.onnx", b"anything", "no ONNX"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=message):
            import_file(tmp_path / name, GIVEN)
    with pytest.raises(DataError, match="cannot read"):
        import_file(tmp_path / "none.onnx", GIVEN)


def test_the_older_format_is_read_too(tmp_path: Path) -> None:
    described = {
        "format_version": "0.4.10", "type": "model", "name": "older model", "description": "Membranes.",
        "authors": [{"name": "A Lab"}], "cite": [{"text": "A paper", "url": "https://example.org"}], "license": "MIT",
        "documentation": "README.md", "timestamp": "2022-01-01T00:00:00",
        "inputs": [{
            "name": "raw", "axes": "bczyx", "data_type": "float32",
            "shape": {"min": [1, 1, 4, 8, 8], "step": [0, 0, 2, 4, 4]},
            "preprocessing": [{"name": "scale_linear", "kwargs": {"gain": 1 / 255, "offset": 0.0}}],
        }],
        "outputs": [{
            "name": "membranes", "axes": "bczyx", "data_type": "float32",
            "shape": {"reference_tensor": "raw", "scale": [1, 1, 1, 1, 1], "offset": [0, 0, 0, 0, 0]},
        }],
        "test_inputs": ["in.npy"], "test_outputs": ["out.npy"],
        "weights": {"onnx": {"source": "weights.onnx", "opset_version": 17}},
    }  # fmt: skip
    with zipfile.ZipFile(tmp_path / "old.zip", "w") as archive:
        archive.writestr("rdf.yaml", yaml.safe_dump(described))
        for name in ("in.npy", "out.npy", "README.md"):
            archive.writestr(name, b"")
        archive.writestr("weights.onnx", foreign())
    with pytest.raises(SpecError, match=r"does not say voxel-size-nm; .*--voxel-size-nm 40,4,4"):
        import_file(tmp_path / "old.zip", GIVEN)
    files = import_file(tmp_path / "old.zip", replace(GIVEN, voxel_size_nm=(40.0, 4.0, 4.0)))
    info = parse_card(files[CARD], "").prediction
    assert info.architecture == OnnxGraph("in", "out", 1, (2, 4, 4), False)
    assert (info.tile_zyx, info.std) == ((4, 8, 8), pytest.approx(255))
