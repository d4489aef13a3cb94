"""Local shape descriptors against sums over all pairs of voxels."""

import numpy as np
import pytest

from bouton.learn.descriptors import CHANNELS, shape_descriptors


def brute_force(labels: np.ndarray, sigma: tuple[float, float, float], voxel: tuple[int, ...]) -> np.ndarray:
    """Return the descriptors of one voxel from the definition."""
    places = np.argwhere(np.ones(labels.shape, bool))
    distance = (places - voxel) / np.array(sigma)
    window = np.exp(-(distance**2).sum(1) / 2)
    own = window * (labels.reshape(-1) == labels[voxel])
    mean = (own[:, None] * distance).sum(0) / own.sum()
    covariance = np.einsum("i,ij,ik->jk", own, distance - mean, distance - mean) / own.sum()
    spread = np.sqrt(np.maximum(np.diag(covariance), 1e-6))
    correlation = [covariance[a, b] / (spread[a] * spread[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    found = [*(0.5 + mean / 2), *np.diag(covariance), *(0.5 + np.array(correlation) / 2), own.sum() / window.sum()]
    return np.clip(found, 0, 1)


@pytest.mark.parametrize("sigma", [(1.5, 2.5, 2.0), (0.8, 2.9, 1.1)])
def test_every_voxel_matches_the_definition(sigma: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.repeat(rng.integers(0, 4, (3, 2, 3)), 2, axis=1), 2, axis=2)
    truth, weight = shape_descriptors(labels, sigma)
    assert truth.shape == weight.shape == (CHANNELS, *labels.shape)
    assert truth.dtype == weight.dtype == np.float32
    np.testing.assert_array_equal(weight[0], labels != 0)
    for voxel in np.argwhere(labels):
        expected = brute_force(labels, sigma, tuple(voxel))
        np.testing.assert_allclose(truth[(slice(None), *voxel)], expected, atol=2e-3)


def test_coarse_sums_come_near_the_definition() -> None:
    z, y, x = np.indices((24, 24, 24))
    labels = np.where((z - 12) ** 2 + (y - 12) ** 2 < 36, 1, 2 + (x > 14))
    sigma = (8.0, 8.0, 8.0)
    truth, weight = shape_descriptors(labels, sigma)
    voxels = np.random.default_rng(0).integers(0, 24, (40, 3))
    expected = np.array([brute_force(labels, sigma, tuple(v)) for v in voxels])
    found = np.array([truth[(slice(None), *v)] for v in voxels])
    assert np.abs(found - expected).max() < 0.1
    assert np.abs(found - expected).mean() < 0.03
    assert weight.all()


def test_nothing_to_describe() -> None:
    truth, weight = shape_descriptors(np.zeros((4, 4, 4), np.uint32), (2, 2, 2))
    assert not truth.any()
    assert not weight.any()
