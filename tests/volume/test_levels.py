"""Coarser levels: counted by hand, against brute force, and independent of blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bouton.volume import open_volume
from bouton.volume.convert import ConvertOptions, convert_volume
from bouton.volume.levels import coarser_layout, mean_of_windows, mode_of_windows
from bouton.volume.ome_zarr import Layout


def _brute(array: np.ndarray, factor: tuple[int, int, int], reduce) -> np.ndarray:
    fz, fy, fx = factor
    shape = [-(-n // f) for n, f in zip(array.shape, factor, strict=True)]
    out = np.zeros(shape, dtype=array.dtype)
    for z, y, x in np.ndindex(*shape):
        out[z, y, x] = reduce(array[z * fz : (z + 1) * fz, y * fy : (y + 1) * fy, x * fx : (x + 1) * fx].ravel())
    return out


def _mode(values: np.ndarray) -> int:
    names, counts = np.unique(values, return_counts=True)
    best = names[counts == counts.max()]
    return int(min(best[best != 0], default=0))


@pytest.mark.parametrize("factor", [(1, 2, 2), (2, 2, 2), (2, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("shape", [(4, 6, 8), (5, 7, 3), (1, 1, 9)])
def test_against_brute_force(shape: tuple[int, int, int], factor: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    mean = _brute(image, factor, lambda v: int(np.floor(v.astype(np.float64).mean() + 0.5)))
    assert np.array_equal(mean_of_windows(image, factor), mean)
    labels = rng.integers(0, 4, shape).astype(np.uint64) * np.uint64(2**62)
    assert np.array_equal(mode_of_windows(labels, factor), _brute(labels, factor, _mode))


def test_channels_and_floats() -> None:
    image = np.random.default_rng(0).random((2, 4, 4, 4), dtype=np.float32)
    found = mean_of_windows(image, (2, 2, 2))
    assert found.dtype == np.float32
    assert np.allclose(found[1, 1, 0, 1], image[1, 2:, :2, 2:].mean())


def test_anisotropic_volumes_become_isotropic() -> None:
    layout: Layout | None = Layout((100, 1000, 999), "uint8", None, (40.0, 4.0, 4.0), (64, 64, 64), "image")
    sizes, shapes = [], []
    for _ in range(5):
        assert layout is not None
        sizes.append(layout.voxel_size_nm)
        shapes.append(layout.shape_zyx)
        layout = coarser_layout(layout)[0]
    assert sizes == [(40, 4, 4), (40, 8, 8), (40, 16, 16), (40, 32, 32), (80, 64, 64)]
    assert shapes[1] == (100, 500, 500)
    assert shapes[4] == (50, 63, 63)
    one = Layout((1, 1, 1), "uint8", None, (40.0, 4.0, 4.0), (1, 1, 1), "image")
    assert coarser_layout(one) is None


@pytest.mark.parametrize("kind", ["image", "labels"])
def test_blocks_do_not_show(kind: str, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 5, (9, 300, 21)).astype(np.uint8)
    np.save(tmp_path / "a.npy", array)
    source = open_volume(tmp_path / "a.npy", voxel_size_nm=(30, 10, 10))
    found = []
    for chunk in ((64, 64, 64), (3, 5, 7), (256, 255, 2)):
        name = tmp_path / f"{chunk[0]}"
        convert_volume(source, name, ConvertOptions(kind=kind, chunk_zyx=chunk, levels=3))
        found.append([open_volume(name, str(level))[...] for level in range(3)])
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))
    reduce = mode_of_windows if kind == "labels" else mean_of_windows
    assert np.array_equal(found[0][1], reduce(array.astype(found[0][0].dtype), (1, 2, 2)))
    assert found[0][2].shape == (5, 75, 6)
    assert open_volume(tmp_path / "64", "2").voxel_size_nm == (60, 40, 40)
