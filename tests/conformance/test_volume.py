"""Every format through the same tests: what is written is read, box by box, and everything else is a DataError."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorstore as ts
import tifffile
from PIL import Image

from bouton.errors import DataError
from bouton.geometry import Box, Grid
from bouton.volume import create_volume, fingerprint, open_volume
from bouton.volume.convert import ConvertOptions, convert_volume
from bouton.volume.ome_zarr import Layout
from bouton.volume.precomputed import create_precomputed_level

SIZE = (40.0, 4.0, 4.0)
XYZ = (4.0, 4.0, 40.0)


def _omezarr(folder: Path, array: np.ndarray) -> Path:
    volume = create_volume(
        folder / "v.zarr",
        shape_zyx=array.shape,
        dtype=array.dtype,
        voxel_size_nm=SIZE,
        block_zyx=(4, 5, 7),
        kind="image",
    )
    for index in Grid(volume.box, (4, 5, 7)):
        core = Grid(volume.box, (4, 5, 7)).core(index)
        volume.write(core, array[core.slices])
    return folder / "v.zarr"


def _precomputed(folder: Path, array: np.ndarray, kind: str = "image") -> Path:
    layout = Layout(array.shape, array.dtype.name, None, SIZE, (8, 8, 8), kind)
    volume = create_precomputed_level(folder / "v", layout)
    volume.write(volume.box, array)
    return folder / "v"


def _segmentation(folder: Path, array: np.ndarray) -> Path:
    return _precomputed(folder, array, "labels")


def _store(path: Path, driver: str, array: np.ndarray, metadata: dict) -> None:
    spec = {"driver": driver, "kvstore": f"file://{path}/", "metadata": metadata}
    spec["store_data_equal_to_fill_value"] = True
    store = ts.open(spec, create=True, dtype=array.dtype, shape=array.shape).result()
    store.write(array).result()


def _zarr3(folder: Path, array: np.ndarray) -> Path:
    _store(folder / "v", "zarr3", array, {"attributes": {"resolution": SIZE}})
    return folder / "v"


def _zarr2(folder: Path, array: np.ndarray) -> Path:
    chunks = [min(4, n) for n in array.shape]
    _store(folder / "v", "zarr", array, {"chunks": chunks, "compressor": {"id": "zlib", "level": 1}})
    (folder / "v" / ".zattrs").write_text(f'{{"resolution": {list(SIZE)}, "units": ["nm", "nm", "nm"]}}')
    return folder / "v"


def _n5(folder: Path, array: np.ndarray) -> Path:
    metadata = {"blockSize": [4, 4, 4], "compression": {"type": "gzip"}}
    metadata["resolution"] = list(XYZ)
    _store(folder / "v.n5" / "raw", "n5", np.transpose(array), metadata)
    return folder / "v.n5"


def _hdf5(folder: Path, array: np.ndarray) -> Path:
    with h5py.File(folder / "v.h5", "w") as file:
        file.create_dataset("volumes/raw", data=array, chunks=True, compression="gzip")
        file["volumes/raw"].attrs["resolution"] = SIZE
    return folder / "v.h5"


def _hdf5_xyz(folder: Path, array: np.ndarray) -> Path:
    with h5py.File(folder / "v.h5", "w") as file:
        file["raw"] = np.transpose(array)
        file["raw"].attrs["axes"] = "xyz"
        file["raw"].attrs["resolution"] = XYZ
    return folder / "v.h5"


def _tiff(folder: Path, array: np.ndarray) -> Path:
    with tifffile.TiffWriter(folder / "v.tif") as file:
        for section in array:
            file.write(section, photometric="minisblack", contiguous=False, compression="zlib", rowsperstrip=3)
    return folder / "v.tif"


def _tiff_tiled(folder: Path, array: np.ndarray) -> Path:
    with tifffile.TiffWriter(folder / "v.tif", bigtiff=True) as file:
        for section in array:
            file.write(section, photometric="minisblack", contiguous=False, compression="zlib", tile=(16, 16))
    return folder / "v.tif"


def _tiff_plain(folder: Path, array: np.ndarray) -> Path:
    tifffile.imwrite(folder / "v.tif", array, photometric="minisblack", byteorder=">")
    return folder / "v.tif"


def _tiff_sections(folder: Path, array: np.ndarray) -> Path:
    (folder / "v").mkdir()
    for z, section in enumerate(array):
        tifffile.imwrite(folder / "v" / f"s{z}.tif", section, photometric="minisblack")
    return folder / "v"


def _tiff_lzw(folder: Path, array: np.ndarray) -> Path:
    (folder / "v").mkdir()
    for z, section in enumerate(array):
        Image.fromarray(section).save(folder / "v" / f"s{z}.tif", compression="tiff_lzw")
    return folder / "v"


def _png_sections(folder: Path, array: np.ndarray) -> Path:
    (folder / "v").mkdir()
    for z, section in enumerate(array):
        Image.fromarray(section).save(folder / "v" / f"s{z}.png")
    return folder / "v"


def _npy(folder: Path, array: np.ndarray) -> Path:
    np.save(folder / "v.npy", array)
    return folder / "v.npy"


Writer = Callable[[Path, np.ndarray], Path]
SAYS_SIZE = [_omezarr, _precomputed, _segmentation, _zarr3, _zarr2, _n5, _hdf5, _hdf5_xyz]
STACKS = [_tiff, _tiff_tiled, _tiff_plain, _tiff_sections, _tiff_lzw, _png_sections, _npy]
SHAPES = [(9, 13, 23), (1, 13, 7), (11, 1, 1), (1, 1, 1)]


def _array(writer: Writer, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    dtype = {_segmentation: np.uint64, _npy: np.uint32, _zarr2: np.uint16, _png_sections: np.uint16}.get(
        writer, np.uint8
    )
    # Zeros are values like any other: whole chunks of them must not count as missing.
    values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    values[: shape[0] // 2] = 0
    return values


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("writer", SAYS_SIZE + STACKS)
def test_reads_what_was_written(writer: Writer, shape: tuple[int, int, int], tmp_path: Path) -> None:
    array = _array(writer, shape)
    volume = open_volume(writer(tmp_path, array))
    assert volume.shape == shape
    assert volume.dtype == array.dtype
    assert volume.channels is None
    assert volume.box == Box.of_shape(shape)
    assert volume.voxel_size_nm == (SIZE if writer in SAYS_SIZE else None)
    whole = volume.read(volume.box)
    assert np.array_equal(whole, array)
    assert whole.flags.c_contiguous
    assert whole.flags.writeable
    assert whole.dtype.isnative


@pytest.mark.parametrize("writer", SAYS_SIZE + STACKS)
def test_boxes_and_slices(writer: Writer, tmp_path: Path) -> None:
    array = _array(writer, (9, 13, 23))
    volume = open_volume(writer(tmp_path, array))
    rng = np.random.default_rng(1)
    for _ in range(20):
        start = tuple(int(rng.integers(0, n)) for n in array.shape)
        box = Box(start, tuple(int(rng.integers(a + 1, n + 1)) for a, n in zip(start, array.shape, strict=True)))
        assert np.array_equal(volume.read(box), array[box.slices])
    for key in (
        np.s_[...],
        np.s_[3],
        np.s_[-1, 2:5],
        np.s_[::2, ..., 1::3],
        np.s_[::-1, 5, ::-4],
        np.s_[2:2],
        np.s_[..., -3],
        np.s_[4, 5, 6],
        np.s_[:, 100:],
        np.s_[1:3, 2:4, 5:6],
    ):
        assert np.array_equal(volume[key], array[key])
    assert np.array_equal(np.asarray(volume), array)
    assert len(volume) == 9


@pytest.mark.parametrize("writer", SAYS_SIZE + STACKS)
def test_refuses_what_is_outside(writer: Writer, tmp_path: Path) -> None:
    volume = open_volume(writer(tmp_path, _array(writer, (9, 13, 23))))
    for box in (Box((0, 0, 0), (10, 13, 23)), Box((-1, 0, 0), (2, 2, 2)), Box((3, 3, 3), (3, 4, 4))):
        with pytest.raises(DataError, match="expected a box with voxels, inside 0:9,0:13,0:23"):
            volume.read(box)
    for key in (9, np.s_[0, 0, 23], np.s_[0, 0, 0, 0], None, [0, 1]):
        with pytest.raises(IndexError):
            volume[key]


@pytest.mark.parametrize("writer", SAYS_SIZE)
def test_voxel_size_must_agree(writer: Writer, tmp_path: Path) -> None:
    path = writer(tmp_path, _array(writer, (3, 4, 5)))
    assert open_volume(path, voxel_size_nm=(40, 4, 4)).voxel_size_nm == SIZE
    with pytest.raises(DataError, match=r"declared voxel size \[30, 4, 4\], but the file says \[40, 4, 4\];"):
        open_volume(path, voxel_size_nm=(30, 4, 4))
    with pytest.raises(DataError, match=r"looks like x,y,z given for z,y,x.*declare \[40, 4, 4\]"):
        open_volume(path, voxel_size_nm=XYZ)


@pytest.mark.parametrize("writer", STACKS)
def test_voxel_size_declared_alone(writer: Writer, tmp_path: Path) -> None:
    path = writer(tmp_path, _array(writer, (3, 4, 5)))
    assert open_volume(path, voxel_size_nm=(40, 4, 4)).voxel_size_nm == SIZE
    with pytest.raises(DataError, match=r"looks like x,y,z given for z,y,x.*way out: voxel size \[40, 4, 4\]"):
        open_volume(path, voxel_size_nm=XYZ)


@pytest.mark.parametrize("writer", SAYS_SIZE + STACKS)
def test_goes_to_another_process(writer: Writer, tmp_path: Path) -> None:
    array = _array(writer, (9, 13, 23))
    volume = pickle.loads(pickle.dumps(open_volume(writer(tmp_path, array))))
    assert np.array_equal(volume[2:7, ..., 20:], array[2:7, ..., 20:])


@pytest.mark.parametrize("out", ["omezarr", "precomputed"])
@pytest.mark.parametrize("writer", SAYS_SIZE + STACKS)
def test_converts(writer: Writer, out: str, tmp_path: Path) -> None:
    array = _array(writer, (9, 13, 23))
    source = open_volume(writer(tmp_path, array), voxel_size_nm=SIZE)
    seen: list[int] = []
    options = ConvertOptions(format=out, chunk_zyx=(4, 4, 4), levels=2)
    convert_volume(source, tmp_path / "out", options, seen.append)
    found = open_volume(tmp_path / "out")
    assert np.array_equal(found[...], array)
    assert found.voxel_size_nm == SIZE
    assert sum(seen) == 9 * 13 * 23 + 9 * 7 * 12
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith(".")) == []


@pytest.mark.parametrize("writer", SAYS_SIZE + STACKS)
def test_fingerprint_follows_the_files(writer: Writer, tmp_path: Path) -> None:
    path = writer(tmp_path, _array(writer, (3, 4, 5)))
    before = fingerprint(path)
    assert fingerprint(path) == before
    assert fingerprint(path, "raw") != before
    victim = path if path.is_file() else max(file for file in path.rglob("*") if file.is_file())
    victim.write_bytes(victim.read_bytes() + b"x")
    assert fingerprint(path) != before


@pytest.mark.parametrize("out", ["omezarr", "precomputed", "npy", "hdf5"])
def test_channels_come_first(out: str, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (3, 5, 6, 7), dtype=np.uint8)
    path = tmp_path / out
    if out == "hdf5":
        with h5py.File(path, "w") as file:
            file["main"] = array
    else:
        np.save(tmp_path / "a.npy", array)
        path = tmp_path / "a.npy"
    if out in ("omezarr", "precomputed"):
        source = open_volume(path, voxel_size_nm=SIZE)
        path = tmp_path / out
        convert_volume(source, path, ConvertOptions(format=out, chunk_zyx=(4, 4, 4)))
    volume = open_volume(path)
    assert volume.shape == (3, 5, 6, 7)
    assert volume.channels == 3
    assert volume.box.shape == (5, 6, 7)
    assert np.array_equal(volume.read(Box((1, 2, 3), (4, 5, 7))), array[:, 1:4, 2:5, 3:7])
    assert np.array_equal(volume[1, 2:, ::2, -1], array[1, 2:, ::2, -1])
