"""Blocks never show in a prediction, and tiles cover what they must."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bouton.errors import DataError
from bouton.geometry import Box, Grid
from bouton.learn.info import Architecture, ModelInfo, tile_halo
from bouton.learn.model import Model, ready_model
from bouton.learn.network import build_network
from bouton.learn.predict import predict, run_tile, tile_weights, tiles_of


def tiny_model(tile: tuple[int, int, int] = (4, 8, 8), overlap: tuple[int, int, int] = (1, 2, 4)) -> Model:
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


def blockwise(model: Model, image: np.ndarray, bounds: Box, block: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Predict block by block, as the engine does."""
    found = {name: np.zeros((n, *bounds.shape), np.uint8) for name, n in model.info.heads.items()}
    grid = Grid(bounds, block)
    for index in grid:
        core = grid.core(index)
        seen = core.grow(tile_halo(model.info)) & bounds
        for name, values in predict(model, image[seen.slices], seen, core, bounds).items():
            found[name][:, *core.within(bounds).slices] = values
    return found


@settings(max_examples=8, deadline=None)
@given(
    blocks=st.lists(st.tuples(st.integers(2, 9), st.integers(5, 21), st.integers(5, 23)), min_size=3, max_size=3),
    start=st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 9)),
    seed=st.integers(0, 99),
)
def test_blocks_do_not_matter(
    model: Model, blocks: list[tuple[int, int, int]], start: tuple[int, int, int], seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (11, 27, 25), np.uint8)
    bounds = Box(start, (11, 27, 25))
    seen = bounds
    whole = predict(model, image[seen.slices], seen, bounds, bounds)
    assert np.ptp(whole["affinities"]) > 20
    for block in blocks:
        for name, values in blockwise(model, image, bounds, block).items():
            np.testing.assert_array_equal(values, whole[name])


def test_every_voxel_has_tiles_and_no_more_than_needed(model: Model) -> None:
    bounds = Box((3, 5, 6), (12, 30, 14))
    tiles = list(tiles_of(bounds, bounds, model.info))
    count = np.zeros(bounds.shape, int)
    for tile in tiles:
        part = tile & bounds
        assert not part.is_empty
        count[part.within(bounds).slices] += 1
    assert count.min() == 1
    # strides 3, 6, 4 from voxel 0: z 3, 6, 9; y 0, 6, 12, 18, 24; x 4, 8
    assert len(tiles) == 3 * 5 * 2
    assert {tile.start for tile in tiles} >= {(3, 0, 4), (9, 24, 8)}


def test_weights_are_ramps(model: Model) -> None:
    weights = tile_weights(model.info)
    assert weights.shape == (4, 8, 8)
    np.testing.assert_allclose(weights[1, 3], [0.2, 0.4, 0.6, 0.8, 0.8, 0.6, 0.4, 0.2], rtol=1e-6)


def test_one_tile_without_overlap_is_the_network_alone() -> None:
    model = tiny_model(overlap=(0, 0, 0))
    image = np.random.default_rng(0).integers(0, 256, (8, 16, 8), np.uint8)
    bounds = Box.of_shape(image.shape)
    found = predict(model, image, bounds, bounds, bounds)
    alone = run_tile(model, image, bounds, Box((4, 8, 0), (8, 16, 8)), bounds)
    np.testing.assert_array_equal(found["affinities"][:, 4:, 8:], np.floor(alone[:3] * np.float32(255) + 0.5))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 3), (5, 2, 30)])
def test_small_volumes(model: Model, shape: tuple[int, int, int]) -> None:
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
