"""The mean over flips: edges go to the channel and voxel that hold them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bouton.errors import SpecError
from bouton.learn.edges import NEAREST
from bouton.learn.info import Architecture, ModelInfo
from bouton.learn.model import ready_model
from bouton.learn.network import build_network
from bouton.learn.runners_torch import TorchRunner
from bouton.learn.symmetry import Symmetric, check_flips, variants

SHAPE = Architecture((4, 6), ((3, 3, 3), (3, 3, 3)), ((2, 2, 2),), (3, 3, 3), 4)
LONG = ((-2, 0, 0), (0, -3, 0), (0, 0, -3), (-1, 1, 2), (-1, -1, 2), (-1, 1, -2), (-1, -1, -2))
LONG += tuple((z, x, y) for z, y, x in LONG[3:])


def info_of(heads: dict[str, int], long_offsets: tuple = ()) -> ModelInfo:
    shape = replace(SHAPE, outputs=sum(heads.values()))
    return ModelInfo(shape, heads, (10.0, 10.0, 10.0), (8, 8, 8), (0, 0, 0), 0.0, 1.0, 1.0, long_offsets)


class Edges:
    """Tells of each edge how alike its two ends are: an exact function of the edge, whichever way it is looked at."""

    def __init__(self, info: ModelInfo) -> None:
        self.info = info

    def run(self, values: np.ndarray) -> np.ndarray:
        image, found = values[0, 0], []
        for offset in [*NEAREST, *self.info.long_offsets]:
            other = np.roll(image, [-step for step in offset], (0, 1, 2))
            alike = np.exp(-np.abs(image - other))
            # an edge that leaves the tile: the network guesses
            places = np.indices(image.shape).reshape(3, *image.shape) + np.reshape(offset, (3, 1, 1, 1))
            inside = np.all([(p >= 0) & (p < n) for p, n in zip(places, image.shape, strict=True)], axis=0)
            found.append(np.where(inside, alike, 0.5))
        return np.stack(found).astype(np.float32)


@pytest.mark.parametrize("flips", ["yx", "zyx"])
def test_edges_are_themselves_however_the_tile_is_turned(flips: str) -> None:
    info = info_of({"affinities": 3, "long_affinities": len(LONG)}, LONG)
    check_flips(info, flips)
    values = np.random.default_rng(0).normal(size=(1, 1, 8, 12, 10)).astype(np.float32)
    once, mean = Edges(info).run(values), Symmetric(Edges(info), flips).run(values)
    assert mean.shape == once.shape == (3 + len(LONG), 8, 12, 10)
    # Edges inside the tile are exact in every variant; those that leave it are guesses in all of them.
    np.testing.assert_allclose(mean, once, atol=1e-6)


def test_edges_that_cross_the_border_of_a_flipped_tile_are_left_out() -> None:
    class Ramp:
        info = info_of({"affinities": 3})

        def run(self, values: np.ndarray) -> np.ndarray:
            return np.broadcast_to(np.arange(4, dtype=np.float32), (3, 4, 4, 4)).copy()

    found = Symmetric(Ramp(), "yx").run(np.zeros((1, 1, 4, 4, 4), np.float32))
    # By hand, channel z: 8 variants say of voxel x: four say x or (turned) y, four say 3 - x or 3 - y.
    np.testing.assert_allclose(found[0], 1.5)
    # Channel x: flipped, the edge below voxel x is that of voxel 4 - x, which none has at x = 0; turned, y takes part.
    x, y = np.meshgrid(np.arange(4.0), np.arange(4.0))
    both = np.stack([x, x, 4 - x, 4 - x, y, 3 - y, y, 3 - y])
    expected = both.mean(axis=0)
    assert found[2].shape == (4, 4, 4)
    np.testing.assert_allclose(found[2][0][:, 1:], expected[:, 1:])
    assert np.isfinite(found).all()


@pytest.mark.parametrize("flips", ["yx", "zyx"])
def test_a_symmetric_network_is_not_changed(flips: str) -> None:
    info = info_of({"boundaries": 1, "tissue": 3})
    weights = build_network(info.architecture, 2).state_dict()
    for name, value in weights.items():
        if value.ndim == 5:
            turned = torch.stack([torch.rot90(value, k, (-2, -1)) for k in range(4)]).mean(0)
            turned = (turned + turned.flip(-1)) / 2
            weights[name] = (turned + turned.flip(-3)) / 2 + 0.0
    runner = TorchRunner(ready_model(info, weights))
    values = np.random.default_rng(0).normal(size=(1, 1, 8, 8, 16)).astype(np.float32)
    once, mean = runner.run(values), Symmetric(runner, flips).run(values)
    assert np.ptp(once) > 1e-3
    np.testing.assert_allclose(mean, once, atol=1e-6)


def test_a_network_that_is_not_symmetric_is_made_so() -> None:
    info = info_of({"affinities": 3, "boundaries": 1})
    weights = build_network(info.architecture, 2).state_dict()
    runner = Symmetric(TorchRunner(ready_model(info, weights)), "zyx")
    values = np.random.default_rng(0).normal(size=(1, 1, 8, 8, 16)).astype(np.float32)
    flipped = np.ascontiguousarray(np.flip(values, -1))
    once, other = runner.run(values), np.flip(runner.run(flipped), -1)
    np.testing.assert_allclose(other[[0, 1, 3]], once[[0, 1, 3]], atol=1e-6)
    np.testing.assert_allclose(other[2][..., :-1], once[2][..., 1:], atol=1e-6)


def test_variants_are_all_different_and_undone() -> None:
    cube = np.arange(2 * 3 * 4).reshape(1, 2, 3, 4)
    for flips, count in [("none", 1), ("yx", 8), ("zyx", 16)]:
        turned = [variant.apply(cube) for variant in variants(flips)]
        assert len({(t.shape, t.tobytes()) for t in turned}) == count
        for variant, t in zip(variants(flips), turned, strict=True):
            np.testing.assert_array_equal(variant.undo(t), cube)


def test_offsets_without_a_counterpart_are_refused() -> None:
    with pytest.raises(SpecError, match=r"\(0, -4, 0\)"):
        check_flips(info_of({"long_affinities": 1}, ((0, -4, 0),)), "yx")
    check_flips(info_of({"long_affinities": 1}, ((-4, 0, 0),)), "zyx")
    with pytest.raises(SpecError, match=r"flips 'zyx'"):
        check_flips(info_of({"long_affinities": 1}, ((-4, 1, 0),)), "zyx")
    long_voxels = replace(info_of({"boundaries": 1}), voxel_size_nm=(30.0, 10.0, 12.0))
    with pytest.raises(SpecError, match="one length along y and x"):
        check_flips(long_voxels, "yx")
    check_flips(long_voxels, "none")
