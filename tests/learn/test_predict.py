"""Blocks never show in a prediction; blank tiles are not computed; temperature."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bouton.errors import DataError
from bouton.geometry import ZYX, Box, Grid
from bouton.learn.info import Architecture, ModelInfo
from bouton.learn.model import Model, ready_model
from bouton.learn.network import build_network
from bouton.learn.predict import predict
from bouton.learn.runners import InOrder, Runner, Runtime, normalised, to_bytes
from bouton.learn.runners_openvino import OpenVinoRunner, graph_of
from bouton.learn.runners_torch import TorchRunner
from bouton.learn.symmetry import Symmetric
from bouton.learn.tiles import Tiling, tiling_of


def tiny_model(tile: ZYX = (4, 8, 8), overlap: ZYX = (1, 2, 4)) -> Model:
    architecture = Architecture(
        widths=(4, 6), kernels=((1, 3, 3), (3, 3, 3)), pools=((2, 2, 2),), entry=(1, 3, 3), outputs=7
    )
    heads = {"affinities": 3, "synapse_evidence": 4}
    info = ModelInfo(architecture, heads, (30.0, 10.0, 10.0), tile, overlap, 128.0, 40.0)
    network = build_network(architecture, 3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return ready_model(info, network.state_dict())


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


@pytest.fixture(scope="module")
def runners(model: Model) -> dict[str, Runner]:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'bouton[openvino]'")
    return {
        "torch": TorchRunner(model),
        "openvino": OpenVinoRunner(model.info, graph_of(model), "float32"),
        "flips": InOrder(Symmetric(TorchRunner(model), "yx")),
    }


def blockwise(runner: Model | Runner, image: np.ndarray, bounds: Box, block: ZYX, tiling: Tiling | None = None) -> dict:
    """Predict block by block, as the engine does, each from no more than the halo."""
    found = {name: np.zeros((n, *bounds.shape), np.uint8) for name, n in runner.info.heads.items()}
    grid = Grid(bounds, block)
    for index in grid:
        core = grid.core(index)
        seen = core.grow((tiling or tiling_of(runner.info)).halo) & bounds
        for name, values in predict(runner, image[seen.slices], seen, core, bounds, tiling).items():
            found[name][:, *core.within(bounds).slices] = values
    return found


BLOCKS = st.tuples(st.integers(2, 9), st.integers(5, 21), st.integers(5, 23))


@settings(max_examples=8, deadline=None)
@given(
    blocks=st.lists(BLOCKS, min_size=2, max_size=2),
    start=st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 9)),
    blend=st.sampled_from([(0, 0, 0), (1, 2, 4), (0, 1, 3)]),
    seed=st.integers(0, 99),
)
def test_blocks_do_not_matter(model: Model, blocks: list[ZYX], start: ZYX, blend: ZYX, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (11, 27, 25), np.uint8)
    image[:, :9] = 7  # tiles that are blank, and half blank
    bounds = Box(start, (11, 27, 25))
    tiling = tiling_of(model.info, blend=blend)
    whole = predict(model, image[bounds.slices], bounds, bounds, bounds, tiling)
    assert np.ptp(whole["affinities"]) > 20
    for block in blocks:
        for name, values in blockwise(model, image, bounds, block, tiling).items():
            np.testing.assert_array_equal(values, whole[name])


@pytest.mark.parametrize("name", ["torch", "openvino", "flips"])
@pytest.mark.parametrize("blend", [(0, 0, 0), (1, 2, 4)])
def test_blocks_do_not_matter_to_any_runner(runners: dict[str, Runner], name: str, blend: ZYX) -> None:
    image = np.random.default_rng(4).integers(0, 256, (7, 19, 17), np.uint8)
    bounds = Box((1, 2, 3), (7, 19, 17))
    tiling = tiling_of(runners[name].info, blend=blend)
    whole = predict(runners[name], image[bounds.slices], bounds, bounds, bounds, tiling)
    assert np.ptp(whole["affinities"]) > 20
    for block in [(3, 12, 9), (7, 9, 25)]:
        for head, values in blockwise(runners[name], image, bounds, block, tiling).items():
            np.testing.assert_array_equal(values, whole[head])


def test_without_a_ramp_each_voxel_is_the_output_of_one_tile(model: Model) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 18, 12), np.uint8)
    bounds = Box.of_shape(image.shape)
    found = predict(model, image, bounds, bounds, bounds)
    # stride 3, 6, 4; the tile at (1, 1, 1) owns 3:6, 6:12, 4:8 and sees no voxel more along z, 1 along y, 2 along x
    alone = TorchRunner(model).run(normalised(image[3:7, 5:13, 2:10], model.info))
    np.testing.assert_array_equal(found["affinities"][:, 3:6, 6:12, 4:8], to_bytes(alone)[:3, :3, 1:7, 2:6])


def test_a_ramp_is_a_weighted_mean(model: Model) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 8, 24), np.uint8)
    bounds = Box.of_shape(image.shape)
    tiling = Tiling((4, 8, 16), (0, 0, 8), (0, 0, 3), (2, 2, 2))
    found = predict(model, image, bounds, bounds, bounds, tiling)["affinities"][0]
    runner = TorchRunner(model)
    # tiles own 0:8, 8:16, 16:24 and see 4 voxels more on either side; those of the second reach from 4 to 20
    lower = to_bytes(
        runner.run(normalised(np.pad(image[:, :, :12], ((0, 0), (0, 0), (4, 0)), mode="reflect"), model.info))
    )
    upper = to_bytes(runner.run(normalised(image[:, :, 4:20], model.info)))
    np.testing.assert_array_equal(found[:, :, :7], lower[0][:, :, 4:11])
    mean = (lower[0][:, :, 11:14] * [0.75, 0.5, 0.25]) + (upper[0][:, :, 3:6] * [0.25, 0.5, 0.75])
    assert np.abs(found[:, :, 7:10] - mean).max() <= 0.5 + 1e-4


class Counting(InOrder):
    """Counts tiles."""

    def __init__(self, model: Model) -> None:
        super().__init__(TorchRunner(model))
        self.count = 0

    def run_all(self, tiles: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for values in super().run_all(tiles):
            self.count += 1
            yield values


def test_blank_tiles_are_not_computed(model: Model) -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 12, 12), np.uint8)
    image[:3, :6] = 0
    image[3:, :6, :4] = 255
    image[3:, 6:, 4:8] = 9
    image[5, 11, 7] = 10
    bounds, runner = Box.of_shape(image.shape), Counting(model)
    found = predict(runner, image, bounds, bounds, bounds)["affinities"]
    # 2 x 2 x 3 tiles, of which 3 and 1 are blank; one with a single other voxel is not
    assert runner.count == 12 - 3 - 1
    assert not found[:, :3, :6].any()
    assert not found[:, 3:, :6, :4].any()
    assert found[:, 3:, 6:, 4:8].all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 3), (5, 2, 30)])
def test_small_volumes(model: Model, shape: ZYX) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    bounds = Box.of_shape(shape)
    found = predict(model, image, bounds, bounds, bounds)
    assert found["affinities"].shape == (3, *shape)
    assert found["synapse_evidence"].shape == (4, *shape)


def test_other_dtypes_are_refused(model: Model) -> None:
    bounds = Box.of_shape((4, 8, 8))
    with pytest.raises(DataError, match=r"float32.*uint8"):
        predict(model, np.zeros(bounds.shape, np.float32), bounds, bounds, bounds)


def test_temperature_softens_and_keeps_the_order(model: Model) -> None:
    image = np.random.default_rng(5).integers(0, 256, (8, 16, 16), np.uint8)
    box = Box.of_shape(image.shape)
    warm = Model(replace(model.info, temperature=4.0), model.network)
    sharp, soft = (predict(m, image, box, box, box)["affinities"].astype(int).ravel() for m in (model, warm))
    assert np.abs(soft - 127.5).mean() < 0.5 * np.abs(sharp - 127.5).mean()
    ordered = sharp[np.argsort(soft, kind="stable")]
    assert (np.maximum.accumulate(ordered) - ordered).max() <= 12, "more than rounding is out of order"
    with pytest.raises(DataError, match="temperature"):
        replace(model.info, temperature=0.0)


def test_bytes_are_rounded() -> None:
    values = np.array([0.0, 0.4999 / 255, 0.5 / 255, 254.4 / 255, 1.0], np.float32)
    np.testing.assert_array_equal(to_bytes(values), [0, 0, 1, 254, 255])
    assert Runtime().precision == "float32"
