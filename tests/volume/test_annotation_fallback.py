"""A webKnossos annotation that was begun on another layer: unpainted voxels are that layer's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.volume import create_volume, open_volume
from bouton.volume.mask_values import MaskValues
from bouton.volume.masks import MaskReading, open_masks
from bouton.volume.webknossos import open_annotation
from volume.test_webknossos import LAYER, annotation, inner, wkw

SHAPE = (20, 40, 50)
ON_MASK = '<volume id="0" location="data.zip" name="Mask" fallbackLayer="candidates"/>'


def layer(path: Path, array: np.ndarray) -> Path:
    made = create_volume(path, shape_zyx=array.shape, dtype=array.dtype, voxel_size_nm=(40, 4, 4),
                         block_zyx=array.shape, kind="labels")  # fmt: skip
    made.write(made.box, array)
    return path


@pytest.fixture
def before() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 5, SHAPE, dtype=np.uint8)


@pytest.fixture
def painted(tmp_path: Path, before: np.ndarray) -> tuple[Path, np.ndarray]:
    """One block of 16 voxels that somebody corrected, another that reaches beyond the data set."""
    after, files = before.copy(), {}
    for z, y, x in ((0, 1, 2), (1, 2, 3)):
        cube = np.zeros((16, 16, 16), np.uint8)
        part = before[16 * z : 16 * z + 16, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
        cube[: part.shape[0], : part.shape[1], : part.shape[2]] = np.where(part == 4, 0, part)
        after[16 * z : 16 * z + 16, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16] = np.where(part == 4, 0, part)
        files[f"1/z{z}/y{y}/x{x}.wkw"] = wkw(cube, 8, True)
    path = annotation(tmp_path / "a.zip", ON_MASK, {"data.zip": inner(files)})
    return path, after


def test_unpainted_voxels_are_the_layers(
    tmp_path: Path, before: np.ndarray, painted: tuple[Path, np.ndarray]
) -> None:  # fmt: skip
    path, after = painted
    base = open_volume(layer(tmp_path / "candidates.zarr", before))
    assert (after != before).any()
    reading = MaskReading(fallback=base)
    found = open_masks([path], base, reading, [MaskValues(keep=True)])
    np.testing.assert_array_equal(found[...], after)
    with pytest.raises(DataError, match="'candidates', which is on the server"):
        open_masks([path], base, MaskReading(), [MaskValues(keep=True)])[...]


def test_a_layer_that_is_not_the_one(tmp_path: Path, before: np.ndarray, painted: tuple[Path, np.ndarray]) -> None:
    large = open_volume(layer(tmp_path / "large.zarr", before.astype(np.uint64) * 1000))
    with pytest.raises(DataError, match="of the fallback layer in an annotation of uint8"):
        open_annotation(painted[0], fallback=large)[...]
    real = open_volume(layer(tmp_path / "real.zarr", before.astype(np.float32)))
    with pytest.raises(DataError, match="float32 values as fallback layer"):
        open_annotation(painted[0], fallback=real)
    plain = annotation(tmp_path / "b.zip", LAYER, {"data.zip": inner({"1/z0/y0/x0.wkw": wkw(
        np.ones((16, 16, 16), np.uint8), 8, True)})})  # fmt: skip
    with pytest.raises(DataError, match="has no fallback layer"):
        open_annotation(plain, fallback=large)


def test_an_annotation_ends_where_painting_did(tmp_path: Path, before: np.ndarray) -> None:
    """Coordinates are the data set's: a smaller or larger file is cut or filled with 0."""
    cube = np.ones((16, 16, 16), np.uint8)
    like = open_volume(layer(tmp_path / "em.zarr", before))
    for z, y, x in ((0, 1, 1), (1, 2, 3)):
        files = {f"1/z{z}/y{y}/x{x}.wkw": wkw(cube, 8, True)}
        path = annotation(tmp_path / f"{z}.zip", LAYER, {"data.zip": inner(files)})
        expected = np.zeros(SHAPE, np.uint8)
        expected[16 * z : 16 * z + 16, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16] = 1
        np.testing.assert_array_equal(open_masks([path], like, MaskReading(), [MaskValues()])[...], expected)


def test_an_annotation_of_a_coarse_level(tmp_path: Path, before: np.ndarray) -> None:
    like = open_volume(layer(tmp_path / "em.zarr", before))
    cube = np.zeros((16, 16, 16), np.uint8)
    cube[2, 3, 5] = 1
    path = annotation(tmp_path / "c.zip", LAYER, {"data.zip": inner({"4-4-1/z0/y0/x0.wkw": wkw(cube, 8, True)})})
    expected = np.zeros(SHAPE, np.uint8)
    expected[2, 12:16, 20:24] = 1
    found = open_masks([path], like, MaskReading(resample=True), [MaskValues()])
    np.testing.assert_array_equal(found[...], expected)
    with pytest.raises(DataError, match="--resample"):
        open_masks([path], like, MaskReading(), [MaskValues()])
