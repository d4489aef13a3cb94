"""Runners agree with torch within what is documented, give the same bits each time, and refuse what they cannot do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bouton.errors import RunError, SpecError
from bouton.geometry import Box
from bouton.learn.info import ModelInfo, OnnxGraph
from bouton.learn.model import load_model
from bouton.learn.predict import predict
from bouton.learn.runners import Runner, Runtime, check_runtime, normalised, open_runner, tile_bytes, to_bytes
from bouton.learn.runners_torch import CudaRunner
from tiny_model import INFO, write_model

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 24, 16), np.uint8)
LARGEST = {"float32": 1e-5, "bfloat16": 0.02, "float16": 0.005}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    info = replace(INFO, temperature=0.3)
    return write_model(tmp_path_factory.mktemp("models") / "tiny", info)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Runner:
    return open_runner(folder, Runtime())


def check_runner(runner: Runner, reference: Runner, largest: float) -> None:
    """Check closeness, repetition, order, and shapes that change from tile to tile."""
    tiles = [IMAGES[0], IMAGES[1, :4, :8], IMAGES[2], IMAGES[3, :4, :8], IMAGES[0]]
    probabilities = [runner.run(normalised(tile, runner.info)) for tile in tiles]
    for tile, found in zip(tiles, probabilities, strict=True):
        assert found.dtype == np.float32 and found.shape == (3, *tile.shape)
        assert np.abs(found - reference.run(normalised(tile, runner.info))).max() <= largest
    np.testing.assert_array_equal(probabilities[0], probabilities[4])
    everything = [values.copy() for values in runner.run_all(iter(tiles))]
    assert [values.shape for values in everything] == [(3, *tile.shape) for tile in tiles]
    np.testing.assert_array_equal(everything[0], everything[4])
    for values, found in zip(everything, probabilities, strict=True):
        assert values.dtype == np.uint8
        assert np.abs(values.astype(int) - to_bytes(found)).max() <= 1
    assert list(runner.run_all(iter([]))) == []


def test_torch(reference: Runner, folder: Path) -> None:
    check_runner(open_runner(folder, Runtime()), reference, 0)
    found = reference.run(normalised(IMAGES[0], reference.info))
    assert np.ptp(found) > 0.1, "a test of constants would be no test"
    tensor = torch.from_numpy(IMAGES[0][None, None].astype(np.float32))
    with torch.no_grad():
        logits = load_model(folder).network((tensor - 128) / 40)[0]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits.numpy() / 0.3)), atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_openvino(folder: Path, reference: Runner, precision: str) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed: pip install 'bouton[openvino]'")
    if precision == "bfloat16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(RunError, match="processor without it"):
            open_runner(folder, Runtime("openvino", precision))
        return
    runner = open_runner(folder, Runtime("openvino", precision))
    check_runner(runner, reference, LARGEST[precision])
    again = open_runner(folder, Runtime("openvino", precision))
    values = normalised(IMAGES[0], runner.info)
    np.testing.assert_array_equal(again.run(values), runner.run(values))


def test_more_shapes_than_are_kept(folder: Path, reference: Runner) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'bouton[openvino]'")
    runner = open_runner(folder, Runtime("openvino"))
    shapes = [(1, 2 * n, 4) for n in range(1, 12)]
    once = [runner.run(normalised(IMAGES[0][: s[0], : s[1], : s[2]], runner.info)) for s in shapes]
    for shape, before in zip(shapes, once, strict=True):
        np.testing.assert_array_equal(
            runner.run(normalised(IMAGES[0][: shape[0], : shape[1], : shape[2]], runner.info)), before
        )


@GPU
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_cuda(folder: Path, reference: Runner, precision: str) -> None:
    runner = open_runner(folder, Runtime("cuda", precision))
    check_runner(runner, reference, 1e-4 if precision == "float32" else LARGEST[precision])
    image, box = IMAGES[0], Box.of_shape(IMAGES[0].shape)
    found = predict(runner, image, box, box, box)["affinities"].astype(int)
    assert np.abs(found - predict(reference, image, box, box, box)["affinities"]).max() <= 6


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_told(folder: Path) -> None:
    with pytest.raises(RunError, match=r"no GPU.*params\.runtime"):
        CudaRunner(load_model(folder), "float32")
    with pytest.raises(RunError, match="no GPU"):
        open_runner(folder, Runtime("cuda", "bfloat16"))


def test_a_graph_from_elsewhere_needs_openvino() -> None:
    graph = OnnxGraph("image", "logits", 3, (1, 2, 2), True)
    info = ModelInfo(graph, INFO.heads, INFO.voxel_size_nm, INFO.tile_zyx, INFO.overlap_zyx, 128.0, 40.0)
    with pytest.raises(SpecError, match=r"ONNX graph.*params\.runtime: openvino"):
        check_runtime(info, Runtime())
    assert tile_bytes(info, Runtime("openvino"), (8, 8, 8)) > 0


def test_less_precision_takes_less_memory() -> None:
    sizes = [tile_bytes(INFO, Runtime("openvino", p), (8, 8, 8)) for p in ("float32", "bfloat16", "int8")]
    assert sizes == sorted(sizes, reverse=True)
