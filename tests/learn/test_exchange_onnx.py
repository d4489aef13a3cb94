"""ONNX out and in: the same numbers, the same bytes; and what needs code or other files is refused."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bouton.errors import BoutonError, DataError, SpecError
from bouton.learn.card import GRAPH, WEIGHTS
from bouton.learn.exchange_onnx import Given, import_onnx, onnx_bytes
from bouton.learn.info import Architecture, OnnxGraph, read_info
from bouton.learn.model import load_model
from bouton.learn.network import build_network
from bouton.learn.package import check_package, package_files, read_package
from bouton.volume import write_folder
from foreign_onnx import foreign
from tiny_model import INFO, write_model

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed (bouton[bioimage])")
SHAPES = [
    INFO.architecture,
    Architecture((5,), ((1, 3, 5),), (), (1, 3, 3), 3),
    Architecture((2, 3, 4), ((1, 3, 3), (3, 3, 3), (1, 1, 3)), ((1, 3, 2), (2, 2, 2)), (3, 5, 3), 3),
]
GIVEN = Given("theirs", heads=("boundaries",), voxel_size_nm=(8.0, 8.0, 8.0), tile_zyx=(4, 8, 8), mean=0.0, std=255.0)


def infer(data: bytes, image: np.ndarray) -> np.ndarray:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(io.BytesIO(data)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled([image])[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_another_runtime_computes_the_same(tmp_path: Path, shape: Architecture) -> None:
    tile = tuple(3 * m for m in shape.multiple)
    info = replace(INFO, architecture=shape, tile_zyx=tile, overlap_zyx=(0, 0, 0), temperature=2.5)
    weights = {name: value.normal_(0, 0.3) for name, value in build_network(shape, 3).state_dict().items()}
    folder = write_model(tmp_path / "m", info, weights)
    image = np.random.default_rng(0).normal(size=(1, 1, *tile)).astype(np.float32)
    with torch.inference_mode():
        expected = torch.sigmoid(load_model(folder).network(torch.from_numpy(image)) / 2.5).numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(infer(onnx_bytes(folder), image), expected, atol=1e-5)


def test_comes_back_byte_for_byte(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "tiny")
    back = import_onnx(onnx_bytes(folder), "tiny.onnx", Given("other", heads=("clefts",)))
    assert back == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert onnx_bytes(folder) == onnx_bytes(folder)


def test_changed_weights_are_no_export_of_ours(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(onnx_bytes(write_model(tmp_path / "tiny")))
    tensor = next(each for each in model.graph.initializer if each.name == "entry.bias")
    tensor.raw_data = np.float32([1, 2, 3, 4]).tobytes()
    with pytest.raises(DataError, match="changed afterwards"):
        import_onnx(model.SerializeToString(), "tiny.onnx", GIVEN)


def test_a_graph_from_elsewhere_becomes_a_model(tmp_path: Path) -> None:
    write_folder(tmp_path / "theirs", import_onnx(foreign(), "their.onnx", GIVEN))
    assert {path.name for path in (tmp_path / "theirs").iterdir()} == {"card.json", GRAPH}
    card = check_package(tmp_path / "theirs")
    assert card.prediction.architecture == OnnxGraph("in", "out", 1, (4, 8, 8), False)
    assert read_info(tmp_path / "theirs").heads == {"boundaries": 1}
    assert "their.onnx" in card.notes[0] and "lab" in card.notes[0]
    with pytest.raises(DataError, match=r"ONNX graph.*OpenVINO"):
        load_model(tmp_path / "theirs")
    image = np.random.default_rng(0).normal(size=(1, 1, 4, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(infer((tmp_path / "theirs" / GRAPH).read_bytes(), image), infer(foreign(), image))
    (tmp_path / "theirs" / GRAPH).write_bytes(foreign("Relu"))
    with pytest.raises(DataError, match="SHA-256"):
        check_package(tmp_path / "theirs")


def test_logits_and_tiles_are_told_by_the_graph() -> None:
    def graph(data: bytes, given: Given = GIVEN) -> OnnxGraph:
        files = import_onnx(data, "their.onnx", given)
        from bouton.learn.card import parse_card

        return parse_card(files["card.json"], "").prediction.architecture

    assert graph(foreign("Relu")).logits
    assert not graph(foreign("Relu"), replace(GIVEN, logits=False)).logits
    fixed = foreign(dims=(1, 1, 2, 16, 16))
    assert graph(fixed, replace(GIVEN, tile_zyx=None)).multiple == (2, 16, 16)
    assert graph(foreign(), replace(GIVEN, multiple=(1, 2, 2))).multiple == (1, 2, 2)
    with pytest.raises(SpecError, match="which the graph fixes"):
        graph(fixed)
    with pytest.raises(SpecError, match="--tile-zyx"):
        graph(foreign(), replace(GIVEN, tile_zyx=None))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Given("x", tile_zyx=(4, 8, 8)), r"does not say heads, voxel-size-nm, mean, std; .*--heads boundaries"),
        (replace(GIVEN, heads=("membranes",)), r"head 'membranes'.*boundaries"),
        (replace(GIVEN, heads=("affinities",)), "unusable heads|unusable number of outputs"),
        (replace(GIVEN, std=0.0), "unusable normalisation"),
        (replace(GIVEN, output="other"), r"outputs out.*--output NAME"),
    ],
)
def test_what_is_not_said_is_asked_for(given: Given, message: str) -> None:
    with pytest.raises(BoutonError, match=message):
        import_onnx(foreign(), "their.onnx", given)


def test_code_and_other_files_are_refused() -> None:
    with pytest.raises(DataError, match=r"operator Watershed.*operators of ONNX alone"):
        import_onnx(foreign("Watershed", domain="lab"), "their.onnx", GIVEN)
    model = onnx.load_model_from_string(foreign())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(DataError, match="tensor w is in another file"):
        import_onnx(model.SerializeToString(), "their.onnx", GIVEN)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x80\x04K\x01.", foreign()[:-20], foreign("Nothing")])
def test_damaged_files_are_refused(data: bytes) -> None:
    with pytest.raises(DataError, match=r"their\.onnx: no ONNX, or a damaged one"):
        import_onnx(data, "their.onnx", GIVEN)


@pytest.mark.parametrize("dims", [("n", 1, "y", "x"), ("n", 3, "z", "y", "x"), (4, 1, "z", "y", "x")])
def test_other_dimensions_are_refused(dims: tuple) -> None:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node("Relu", ["in"], ["out"])], "g", ends[:1], ends[1:])
    with pytest.raises(DataError, match=r"expected \(1, 1, z, y, x\)"):
        import_onnx(helper.make_model(graph, ir_version=8).SerializeToString(), "their.onnx", GIVEN)


def test_an_imported_graph_is_not_exported_again(tmp_path: Path) -> None:
    files = import_onnx(foreign(), "their.onnx", GIVEN)
    write_folder(tmp_path / "theirs", files)
    card, _ = read_package(tmp_path / "theirs")
    with pytest.raises(DataError, match="ONNX graph"):
        onnx_bytes(tmp_path / "theirs")
    assert package_files(card, files[GRAPH]) == files
    assert card.weights_file == GRAPH != WEIGHTS
