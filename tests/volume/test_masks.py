"""Painted masks on the grid of a volume: values, channels, axes, other resolutions, what is not painted."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from bouton.errors import DataError, SpecError
from bouton.geometry import Box
from bouton.volume import create_volume, open_volume
from bouton.volume.base import Volume
from bouton.volume.mask_grid import grid_of, on_grid
from bouton.volume.mask_values import MaskValues
from bouton.volume.masks import MaskReading, MaskVolume, open_masks

SHAPE, SIZE = (12, 20, 30), (40.0, 8.0, 8.0)


def zarr(path: Path, array: np.ndarray, size: tuple[float, float, float] = SIZE, kind: str = "labels") -> Path:
    """Write an array as OME-Zarr."""
    shape = array.shape[-3:]
    channels = array.shape[0] if array.ndim == 4 else None
    made = create_volume(path, shape_zyx=shape, dtype=array.dtype, channels=channels, voxel_size_nm=size,
                         block_zyx=shape, kind=kind)  # fmt: skip
    made.write(made.box, array)
    return path


@pytest.fixture
def like(tmp_path: Path) -> Volume:
    return open_volume(zarr(tmp_path / "em.zarr", np.ones(SHAPE, np.uint8), kind="image"))


@pytest.fixture
def painted() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, SHAPE, dtype=np.uint8)


def ilastik(path: Path, array: np.ndarray, axes: str) -> Path:
    """Write an array (z, y, x) or (c, z, y, x) as ilastik exports it, with its axes in the order of ``axes``."""
    whole = (array if array.ndim == 4 else array[None])[None]
    others = [name for name in "tczyx" if name not in axes]
    turned = whole.transpose(["tczyx".index(name) for name in (*axes, *others)])
    stored = turned.reshape(turned.shape[: len(axes)])
    tags = {"axes": [{"key": name, "typeFlags": 2, "resolution": 0, "description": ""} for name in axes]}
    with h5py.File(path, "w") as file:
        file["exported_data"] = stored
        file["exported_data"].attrs["axistags"] = json.dumps(tags)
    return path


def read(path: Path, like: Volume, values: MaskValues = MaskValues(), **reading: object) -> np.ndarray:
    found = open_masks([path], like, MaskReading(**reading), [values])  # type: ignore[arg-type]
    assert (found.box, found.voxel_size_nm) == (like.box, like.voxel_size_nm)
    whole = found[...]
    part = Box((3, 4, 5), (9, 17, 22))
    np.testing.assert_array_equal(found.read(part), whole[part.slices])
    return whole


@pytest.mark.parametrize("axes", ["zyx", "zyxc", "xyz", "tzyxc", "cxzy", "yxzct"])
def test_simple_segmentation_of_ilastik(tmp_path: Path, like: Volume, painted: np.ndarray, axes: str) -> None:
    path = ilastik(tmp_path / "a.h5", painted, axes)
    np.testing.assert_array_equal(read(path, like), painted > 0)
    np.testing.assert_array_equal(read(path, like, MaskValues((2,)), dataset="exported_data"), painted == 2)
    kept = read(path, like, MaskValues((1, 3), keep=True))
    assert kept.dtype == np.uint8
    np.testing.assert_array_equal(kept, np.where(painted == 2, 0, painted))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.uint16])
def test_probabilities_of_ilastik(tmp_path: Path, like: Volume, dtype: type) -> None:
    rng = np.random.default_rng(1)
    shares = rng.dirichlet([1, 1, 1], SHAPE)
    scale = 1 if dtype == np.float32 else np.iinfo(dtype).max
    stored = (shares if scale == 1 else np.round(shares * scale)).astype(dtype).transpose(3, 0, 1, 2)
    path = ilastik(tmp_path / "p.h5", stored, "zyxc")
    p = stored.astype(np.float64) / scale
    clear = np.abs(p[1] + p[2] - 0.7) > 1e-6
    found = read(path, like, MaskValues((2, 3), 0.7))
    np.testing.assert_array_equal(found[clear], (p[1] + p[2] >= 0.7)[clear])
    kept = read(path, like, MaskValues((), 0.6, keep=True))
    np.testing.assert_array_equal(kept, np.where(p.max(0) >= 0.6, p.argmax(0) + 1, 0))
    some = read(path, like, MaskValues((2, 3), 0.6, keep=True))
    np.testing.assert_array_equal(some, np.where(kept == 1, 0, kept))


def test_one_probability(tmp_path: Path, like: Volume) -> None:
    p = np.random.default_rng(2).random(SHAPE, np.float32)
    path = zarr(tmp_path / "p.zarr", p, kind="probability")
    np.testing.assert_array_equal(read(path, like, MaskValues((), 0.5)), p >= np.float32(0.5))
    with pytest.raises(SpecError, match="classes of one probability"):
        read(path, like, MaskValues((1,), 0.5))
    with pytest.raises(DataError, match=r"--threshold 0\.5"):
        read(path, like)
    p[0, 0, 0] = np.nan
    with pytest.raises(DataError, match="probabilities from nan"):
        read(zarr(tmp_path / "n.zarr", p), like, MaskValues((), 0.5))
    with pytest.raises(DataError, match="probabilities from 0 to 7"):
        read(zarr(tmp_path / "b.zarr", np.where(p > 0.5, 7, 0).astype(np.float32)), like, MaskValues((), 0.5))


def test_channels_need_a_choice(tmp_path: Path, like: Volume) -> None:
    path = zarr(tmp_path / "p.zarr", np.zeros((2, *SHAPE), np.float32))
    with pytest.raises(DataError, match="2 channels; expected values, or probabilities with --threshold"):
        read(path, like)
    with pytest.raises(SpecError, match="2 channels and no classes"):
        read(path, like, MaskValues((), 0.5))
    with pytest.raises(SpecError, match="class 3 of 2 channels"):
        read(path, like, MaskValues((3,), 0.5))


def test_ids_beyond_real_numbers_keep_their_digits(tmp_path: Path, like: Volume) -> None:
    ids = np.full(SHAPE, 2**60, np.uint64)
    ids[3] = 2**60 + 1
    path = zarr(tmp_path / "ids.zarr", ids)
    np.testing.assert_array_equal(read(path, like, MaskValues((2**60 + 1,))), ids == 2**60 + 1)
    kept = read(path, like, MaskValues((2**60 + 1, 5), keep=True))
    np.testing.assert_array_equal(kept, np.where(ids == 2**60 + 1, ids, 0))


def test_negative_values_are_no_classes(tmp_path: Path, like: Volume, painted: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", painted.astype(np.int16) - 1)
    np.testing.assert_array_equal(read(tmp_path / "a.npy", like), painted > 1)
    with pytest.raises(DataError, match="values from -1 to 2"):
        read(tmp_path / "a.npy", like, MaskValues(keep=True))


def test_files_add_up_and_the_first_named_counts(tmp_path: Path, like: Volume, painted: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", (painted == 1).astype(np.uint8))
    tifffile.imwrite(tmp_path / "b.tif", (painted != 2).astype(np.uint8) * 255)
    paths = [tmp_path / "a.tif", tmp_path / "b.tif"]
    both = open_masks(paths, like, MaskReading(), [MaskValues()] * 2)
    np.testing.assert_array_equal(both[...], painted != 2)
    values = [MaskValues(keep=True, as_class=n) for n in (7, 300)]
    made = open_masks(paths, like, MaskReading(), values)
    expected = np.where(painted == 1, 7, np.where(painted != 2, 300, 0))
    assert made.dtype == np.uint64
    np.testing.assert_array_equal(made[...], expected)
    assert dict(made.counts) == {7: (expected == 7).sum(), 300: (expected == 300).sum()}
    rest = open_masks(paths, like, MaskReading(), [MaskValues()] * 2, invert=True)
    np.testing.assert_array_equal(rest[...], painted == 2)
    with pytest.raises(SpecError, match="--invert with classes"):
        open_masks(paths, like, MaskReading(), values, invert=True)


@pytest.mark.parametrize("axes", ["".join(order) for order in itertools.permutations("zyx")])
def test_axes_are_told_where_the_file_does_not(
    tmp_path: Path, like: Volume, painted: np.ndarray, axes: str
) -> None:  # fmt: skip
    np.save(tmp_path / "a.npy", painted.transpose(["zyx".index(name) for name in axes]))
    np.testing.assert_array_equal(read(tmp_path / "a.npy", like, axes=axes), painted > 0)
    if axes != "zyx":
        with pytest.raises(DataError, match=f"--axes {axes} if"):
            read(tmp_path / "a.npy", like)


def test_axes_that_a_file_says_are_not_argued_with(tmp_path: Path, like: Volume, painted: np.ndarray) -> None:
    with pytest.raises(SpecError, match="a file that does not say its axes"):
        read(ilastik(tmp_path / "a.h5", painted, "xyz"), like, axes="xyz")
    with pytest.raises(SpecError, match="a file that does not say its axes"):
        read(zarr(tmp_path / "a.zarr", painted), like, axes="xyz")
    with pytest.raises(SpecError, match="an order of z, y and x"):
        read(zarr(tmp_path / "b.zarr", painted), like, axes="zyc")


def test_damaged_axistags(tmp_path: Path, like: Volume, painted: np.ndarray) -> None:
    path = ilastik(tmp_path / "a.h5", painted, "zyx")
    with h5py.File(path, "a") as file:
        file["exported_data"].attrs["axistags"] = '{"axes": ['
    with pytest.raises(DataError, match="attribute axistags"):
        read(path, like)


@pytest.mark.parametrize("coarse", [(6, 10, 15), (4, 7, 10), (12, 20, 10), (3, 5, 8), (3, 5, 7)])
def test_coarser_masks(tmp_path: Path, like: Volume, coarse: tuple[int, int, int]) -> None:
    factor = [round(n / m) for n, m in zip(SHAPE, coarse, strict=True)]
    mask = np.random.default_rng(3).integers(0, 2, coarse, dtype=np.uint8)
    size = tuple(s * f for s, f in zip(SIZE, factor, strict=True))
    path = zarr(tmp_path / "c.zarr", mask, size)
    expected = np.empty(SHAPE, bool)
    for p in np.ndindex(SHAPE):
        expected[p] = mask[tuple(min(a // f, n - 1) for a, f, n in zip(p, factor, coarse, strict=True))]
    np.testing.assert_array_equal(read(path, like, resample=True), expected)
    with pytest.raises(DataError, match="--resample takes the nearest voxel"):
        read(path, like)


def test_finer_masks(tmp_path: Path, like: Volume) -> None:
    mask = np.random.default_rng(4).integers(0, 2, (12, 60, 59), dtype=np.uint8)
    path = zarr(tmp_path / "f.zarr", mask, (40.0, 8 / 3, 4.0))
    expected = np.empty(SHAPE, bool)
    for z, y, x in np.ndindex(SHAPE):
        expected[z, y, x] = mask[z, 3 * y + 1, min(58, 2 * x + 1)]
    np.testing.assert_array_equal(read(path, like, resample=True), expected)


def test_without_a_voxel_size_only_exact_multiples(tmp_path: Path, like: Volume) -> None:
    np.save(tmp_path / "a.npy", np.ones((6, 10, 15), np.uint8))
    assert read(tmp_path / "a.npy", like, resample=True).all()
    np.save(tmp_path / "b.npy", np.ones((6, 10, 14), np.uint8))
    with pytest.raises(DataError, match="--voxel-size-nm Z,Y,X"):
        read(tmp_path / "b.npy", like, resample=True)
    # 14 x 16 nm are 1.5 voxels short of the volume
    with pytest.raises(DataError, match="the grid of"):
        read(tmp_path / "b.npy", like, resample=True, voxel_size_nm=(80.0, 16.0, 8.0))


@pytest.mark.parametrize("size", [(40.0, 8.0, 8.5), (40.0, 4.0, 4.0), (60.0, 8.0, 8.0)])
def test_another_voxel_size_is_refused_with_both_grids(
    tmp_path: Path, like: Volume, painted: np.ndarray, size: tuple[float, float, float]
) -> None:  # fmt: skip
    path = zarr(tmp_path / "a.zarr", painted, size)
    with pytest.raises(DataError, match="12 x 20 x 30 voxels of 40 x 8 x 8 nm") as error:
        read(path, like)
    assert " x ".join(f"{n:g}" for n in size) in str(error.value)
    with pytest.raises(DataError, match="the grid of"):
        read(path, like, resample=True)


def test_a_mask_that_lies_elsewhere_is_refused(tmp_path: Path, painted: np.ndarray) -> None:
    from bouton.volume.convert import ConvertOptions, convert_volume

    source = open_volume(zarr(tmp_path / "a.zarr", painted))
    volumes = []
    for name, offset in (("a", [0, 0, 0]), ("b", [0, 0, 5]), ("c", [0, 0, 5])):
        convert_volume(source, tmp_path / name, ConvertOptions("precomputed", "labels", "uint64"))
        info = json.loads((tmp_path / name / "info").read_text())
        # only what the info file says moves: the chunks' names do not, and none is read here
        info["scales"][0]["voxel_offset"] = offset
        (tmp_path / name / "info").write_text(json.dumps(info))
        volumes.append(open_volume(tmp_path / name))
    at_0, at_5, also_5 = volumes
    assert on_grid(also_5, grid_of(at_5), resample=False) is also_5
    for mask, like in ((at_0, at_5), (at_5, at_0), (at_5, source)):
        with pytest.raises(DataError, match="the grid of"):
            on_grid(mask, grid_of(like), resample=False)
    # formats that cannot say where they lie are taken to lie there
    assert on_grid(source, grid_of(at_5), resample=False) is source


def test_no_voxel_size_anywhere(tmp_path: Path, painted: np.ndarray) -> None:
    np.save(tmp_path / "em.npy", painted)
    like = open_volume(tmp_path / "em.npy")
    with pytest.raises(DataError, match="--voxel-size-nm Z,Y,X"):
        open_masks([tmp_path / "em.npy"], like, MaskReading(), [MaskValues()])
    found = open_masks([tmp_path / "em.npy"], like, MaskReading(voxel_size_nm=SIZE), [MaskValues()])
    assert found.voxel_size_nm == SIZE


@pytest.mark.parametrize("wrong", [{"classes": (0,)}, {"classes": (1, 1)}, {"threshold": 0.0}, {"threshold": 1.5}])
def test_wrong_values(wrong: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        MaskValues(**wrong)  # type: ignore[arg-type]


def test_masks_say_that_they_read_sections(tmp_path: Path, like: Volume, painted: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", painted)
    assert MaskVolume([open_volume(tmp_path / "a.tif")], [MaskValues()], grid_of(like), False).sections
