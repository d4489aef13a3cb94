"""Bad input: one line that says what, where, expected, way out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorstore as ts
import tifffile
from PIL import Image

from bouton.errors import DataError, SpecError
from bouton.volume import check_volume, open_volume
from bouton.volume.convert import ConvertOptions, convert_volume, plan_levels

SIZE = (40, 4, 4)
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (6, 50, 40), dtype=np.uint8)


def _message(action: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    return text


def _tiff(path: Path, **options: object) -> Path:
    with tifffile.TiffWriter(path) as file:
        for section in IMAGE:
            file.write(section, photometric="minisblack", contiguous=False, **options)
    return path


def _hdf5(path: Path, array: np.ndarray = IMAGE, name: str = "volumes/raw", **attributes: object) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=array, chunks=None if 0 in array.shape else True)
        file[name].attrs.update(attributes)
    return path


def test_missing_path(tmp_path: Path) -> None:
    text = _message(lambda: open_volume(tmp_path / "nothing.zarr"))
    assert (
        text == f"{tmp_path}/nothing.zarr: no such file or folder; expected an existing path; way out: check the path"
    )


@pytest.mark.parametrize("name", ["t.csv", "t.nml"])
def test_a_table_in_place_of_a_volume(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("id,z_nm,y_nm,x_nm\n")
    text = _message(lambda: open_volume(tmp_path / name))
    assert (
        "a table must be Parquet" in text
        and f"way out: for synapses: bouton import-synapses {tmp_path / name} {tmp_path}/t.parquet" in text
    )


@pytest.mark.parametrize("content", [b"", b"hello, not a volume"])
@pytest.mark.parametrize("name", ["a.tif", "a.h5", "a.npy", "a.png", "a.txt", "a"])
def test_not_a_volume(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    text = _message(lambda: open_volume(tmp_path / name))
    assert name in text
    assert "expected" in text
    assert "way out" in text


def test_folder_without_volume(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert "no volume in the folder; expected OME-Zarr" in _message(lambda: open_volume(tmp_path))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("left", [0.02, 0.3, 0.7, 0.95, 0.999])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_truncated_tiff(left: float, compression: str | None, bigtiff: bool, tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=bigtiff) as file:
        for section in IMAGE:
            file.write(section, photometric="minisblack", contiguous=False, compression=compression)
    raw = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(raw[: int(left * len(raw))])
    text = _message(lambda: open_volume(tmp_path / "a.tif", voxel_size_nm=SIZE))
    assert "a.tif: truncated TIFF" in text
    assert "way out: copy or export it again" in text


@pytest.mark.parametrize("left", [0.3, 0.9])
def test_truncated_tiff_of_one_piece(left: float, tmp_path: Path) -> None:
    for imagej in (False, True):
        tifffile.imwrite(tmp_path / "a.tif", IMAGE, imagej=imagej, photometric="minisblack")
        raw = (tmp_path / "a.tif").read_bytes()
        (tmp_path / "a.tif").write_bytes(raw[: int(left * len(raw))])
        assert "truncated TIFF" in _message(lambda: open_volume(tmp_path / "a.tif"))


def test_imagej_stack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, imagej=True, metadata={"axes": "ZYX"})
    assert np.array_equal(open_volume(tmp_path / "a.tif")[1:4, 3:], IMAGE[1:4, 3:])


def test_damaged_tiff_data(tmp_path: Path) -> None:
    path = _tiff(tmp_path / "a.tif", compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset = file.pages[2].dataoffsets[0]
    raw = bytearray(path.read_bytes())
    raw[offset + 100 : offset + 110] = b"\xff" * 10
    path.write_bytes(raw)
    volume = open_volume(path)
    assert np.array_equal(volume[3], IMAGE[3])
    assert "damaged page 2" in _message(lambda: volume[2])


@pytest.mark.parametrize("left", [0.01, 0.3, 0.99])
def test_truncated_hdf5(left: float, tmp_path: Path) -> None:
    raw = _hdf5(tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(raw[: int(left * len(raw))])
    text = _message(lambda: open_volume(tmp_path / "a.h5", "volumes/raw"))
    assert "a.h5: truncated HDF5 file" in text
    assert "way out: copy or download" in text


def test_hdf5_without_the_data_set(tmp_path: Path) -> None:
    path = _hdf5(tmp_path / "a.h5")
    assert open_volume(path).shape == IMAGE.shape
    with h5py.File(path, "a") as file:
        file["volumes/labels/ids"] = IMAGE
    for name in (None, "raw", "volumes"):
        text = _message(lambda name=name: open_volume(path, name))
        assert "expected one of volumes/labels/ids, volumes/raw" in text
    assert open_volume(path, "/volumes/raw").shape == IMAGE.shape


@pytest.mark.parametrize("dtype", ["complex64", "S4"])
def test_values_that_are_no_voxels(dtype: str, tmp_path: Path) -> None:
    text = _message(lambda: open_volume(_hdf5(tmp_path / "a.h5", np.zeros((3, 4, 5), dtype=dtype))))
    assert "values; expected integers or real numbers" in text
    assert "data set volumes/raw" in text


@pytest.mark.parametrize("kind", ["npy", "hdf5", "zarr"])
def test_empty_volume(kind: str, tmp_path: Path) -> None:
    array = np.zeros((0, 4, 5), dtype=np.uint8)
    path = tmp_path / "a"
    if kind == "npy":
        path = tmp_path / "a.npy"
        np.save(path, array)
    elif kind == "hdf5":
        _hdf5(path, array)
    else:
        spec = {"driver": "zarr3", "kvstore": f"file://{path}/"}
        ts.open(spec, create=True, dtype="uint8", shape=[0, 4, 5]).result()
    assert "empty volume" in _message(lambda: open_volume(path))


@pytest.mark.parametrize("shape", [(7,), (7, 8), (1, 2, 3, 4, 5, 6), (70, 9, 10, 3), (2, 1, 3, 4, 5)], ids=str)
def test_not_three_axes(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, dtype=np.uint8))
    text = _message(lambda: open_volume(tmp_path / "a.npy"))
    assert "expected" in text
    if len(shape) == 4:
        assert "colour sections?" in text


def test_png_sections_of_different_sizes(tmp_path: Path) -> None:
    for z, shape in enumerate([(5, 6), (5, 6), (5, 7)]):
        Image.fromarray(np.zeros(shape, dtype=np.uint8)).save(tmp_path / f"s{z}.png")
    text = _message(lambda: open_volume(tmp_path))
    assert "s2.png: section of 5 x 7 pixels (y, x), uint8; expected 5 x 6 pixels (y, x), uint8 as in s0.png" in text


def test_sections_of_different_types(tmp_path: Path) -> None:
    for z, dtype in enumerate([np.uint8, np.uint16]):
        tifffile.imwrite(tmp_path / f"s{z}.tif", np.zeros((5, 6), dtype=dtype))
    assert "section of 5 x 6 pixels (y, x), uint16" in _message(lambda: open_volume(tmp_path))
    Image.fromarray(np.zeros((5, 6), dtype=np.uint8)).save(tmp_path / "s2.png")
    assert "TIFF and PNG sections in one folder" in _message(lambda: open_volume(tmp_path))


def test_tiff_pages_of_different_sizes(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for shape in ((5, 6), (5, 6), (4, 6)):
            file.write(np.zeros(shape, dtype=np.uint8), photometric="minisblack")
    assert "page 2 has 4 x 6 pixels" in _message(lambda: open_volume(tmp_path / "a.tif"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "1"])
def test_colour_png(mode: str, tmp_path: Path) -> None:
    Image.new(mode, (6, 5)).save(tmp_path / "s0.png")
    text = _message(lambda: open_volume(tmp_path))
    assert f"s0.png: colour section: PNG of mode {mode}; expected one grey value" in text
    assert "way out" in text


def test_colour_tiff(tmp_path: Path) -> None:
    for name, array in (("a.tif", np.zeros((5, 6, 3), np.uint8)), ("b.tif", np.zeros((4, 5, 6, 3), np.uint8))):
        tifffile.imwrite(tmp_path / name, array, photometric="rgb")
        assert "colour section" in _message(lambda name=name: open_volume(tmp_path / name))


def test_hyperstack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 2, 5, 6), np.uint8), imagej=True, metadata={"axes": "ZCYX"})
    assert "4-D array of shape (4, 2, 5, 6); expected a 3-D stack" in _message(lambda: open_volume(tmp_path / "a.tif"))


@pytest.mark.parametrize("name", ["s{}.png", "cell_1.section_{:03d}.z.tif", "{}.png"])
def test_missing_section(name: str, tmp_path: Path) -> None:
    for z in (7, 8, 9, 11):
        Image.fromarray(np.zeros((5, 6), dtype=np.uint8)).save(tmp_path / name.format(z))
    text = _message(lambda: open_volume(tmp_path))
    assert f"section 10 is missing between {name.format(9)} and {name.format(11)}" in text
    (tmp_path / name.format(11)).unlink()
    assert open_volume(tmp_path).shape == (3, 5, 6)


def test_sections_every_other(tmp_path: Path) -> None:
    for z in (2, 4, 6, 8, 10):
        Image.fromarray(np.full((5, 6), z, dtype=np.uint8)).save(tmp_path / f"s{z}.png")
    assert open_volume(tmp_path)[:, 0, 0].tolist() == [2, 4, 6, 8, 10]


def test_truncated_png(tmp_path: Path) -> None:
    Image.fromarray(IMAGE[0]).save(tmp_path / "s0.png")
    raw = (tmp_path / "s0.png").read_bytes()
    (tmp_path / "s0.png").write_bytes(raw[: len(raw) // 2])
    assert "s0.png: damaged PNG" in _message(lambda: open_volume(tmp_path)[...])


def test_truncated_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    raw = (tmp_path / "a.npy").read_bytes()
    for left in (20, len(raw) - 1):
        (tmp_path / "a.npy").write_bytes(raw[:left])
        assert "truncated or damaged .npy file" in _message(lambda: open_volume(tmp_path / "a.npy"))


def test_pickled_npy_is_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[[{}]]], dtype=object), allow_pickle=True)
    assert "a.npy" in _message(lambda: open_volume(tmp_path / "a.npy"))


def test_damaged_precomputed(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGE.astype(np.uint64))
    source = open_volume(tmp_path / "a.npy", voxel_size_nm=SIZE)
    for kind in ("image", "labels"):
        convert_volume(source, tmp_path / kind, ConvertOptions("precomputed", kind, chunk_zyx=(6, 25, 40)))
        volume = open_volume(tmp_path / kind)
        assert np.array_equal(volume[...], IMAGE)
        (file,) = (tmp_path / kind).glob("*/0-40_25-50_0-6")
        raw = file.read_bytes()
        for left in (0.0, 0.1, 0.5, 0.9):
            file.write_bytes(raw[: int(left * len(raw))])
            assert "0-40_25-50_0-6: damaged chunk, box 0:6,25:50,0:40" in _message(lambda volume=volume: volume[...])
        file.unlink()
        assert "0-40_25-50_0-6: missing chunk, box 0:6,25:50,0:40" in _message(lambda volume=volume: volume[...])
        assert np.array_equal(volume[:, :25], IMAGE[:, :25])
        assert not open_volume(tmp_path / kind, absent="zero")[:, 25:].any()


def test_zarr_group_lists_its_arrays(tmp_path: Path) -> None:
    for name in ("raw", "labels/ids"):
        spec = {"driver": "zarr", "kvstore": f"file://{tmp_path}/v.zarr/{name}/"}
        ts.open(spec, create=True, dtype="uint8", shape=[3, 4, 5]).result()
    (tmp_path / "v.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    for name in (None, "ids"):
        text = _message(lambda name=name: open_volume(tmp_path / "v.zarr", name))
        assert "expected one of labels/ids, raw" in text
    assert open_volume(tmp_path / "v.zarr", "labels/ids").shape == (3, 4, 5)


def test_foreign_ome_zarr(tmp_path: Path) -> None:
    """OME-NGFF 0.4 in zarr v2, five axes, micrometres, a scale of the whole group."""
    spec = {"driver": "zarr", "kvstore": f"file://{tmp_path}/v/s0/", "metadata": {"chunks": [1, 1, 4, 4, 4]}}
    store = ts.open(spec, create=True, dtype="uint8", shape=[1, 1, 6, 50, 40]).result()
    store[0, 0].write(IMAGE).result()
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    datasets = [{"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 4, 0.4, 0.4]}]}]
    whole = [{"type": "scale", "scale": [1, 1, 0.01, 0.01, 0.01]}]
    multiscale = {"version": "0.4", "axes": axes, "datasets": datasets, "coordinateTransformations": whole}
    (tmp_path / "v" / ".zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / "v" / ".zattrs").write_text(str({"multiscales": [multiscale]}).replace("'", '"'))
    for volume in (open_volume(tmp_path / "v"), open_volume(tmp_path / "v", "s0"), open_volume(tmp_path / "v" / "s0")):
        assert volume.shape == IMAGE.shape
        assert volume.voxel_size_nm == pytest.approx(SIZE)
        assert np.array_equal(volume[1:3, 20:30], IMAGE[1:3, 20:30])


def test_unknown_unit(tmp_path: Path) -> None:
    assert "unit 'parsec'" in _message(
        lambda: open_volume(_hdf5(tmp_path / "a.h5", resolution=[1, 1, 1], unit="parsec"))
    )


def test_check_volume(tmp_path: Path) -> None:
    arrays = {"f": IMAGE.astype(np.float32), "u8": IMAGE, "c": np.zeros((3, 4, 5, 6), np.uint8)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    volumes = {name: open_volume(tmp_path / f"{name}.npy") for name in arrays}
    image, ids = ("uint8", "uint16"), ("uint32", "uint64")
    check_volume(volumes["u8"], dtypes=image, channels=None, role="image")
    text = _message(lambda: check_volume(volumes["f"], dtypes=image, channels=None, role="image"))
    assert "f.npy: float32 values as image; expected uint8 or uint16; way out: bouton convert" in text
    text = _message(lambda: check_volume(volumes["f"], dtypes=ids, channels=None, role="labels"))
    assert "ids stored as real numbers may have lost digits" in text
    text = _message(lambda: check_volume(volumes["c"], dtypes=image, channels=None, role="image"))
    assert "4-D array of shape (3, 4, 5, 6) as image; expected a 3-D array (z, y, x)" in text
    check_volume(volumes["c"], dtypes=image, channels=3, role="affinities")


def _convert(tmp_path: Path, array: np.ndarray, **options: object) -> np.ndarray:
    np.save(tmp_path / "a.npy", array)
    source = open_volume(tmp_path / "a.npy", voxel_size_nm=SIZE)
    convert_volume(source, tmp_path / "out", ConvertOptions(**options))
    return open_volume(tmp_path / "out")[...]


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (IMAGE.astype(np.float32), {}, "float32 image; expected uint8 or uint16; way out: --dtype uint8 --white V"),
        (IMAGE.astype(np.float32), {"dtype": "uint8"}, "--white V"),
        (
            IMAGE.astype(np.float32),
            {"kind": "labels", "dtype": "uint64"},
            "labels stored as float32; expected int",
        ),
        (IMAGE.astype(np.float32), {"dtype": "uint8", "white": 1.0}, "values from 0 to 255.*expected 0 to 1;"),
        (np.full((2, 3, 4), np.nan), {"dtype": "uint8", "white": 1.0}, r"NaN or infinite values \(24 of 24\)"),
        (np.full((2, 3, 4), np.nan), {"dtype": "float32"}, "box 0:2,0:3,0:4: NaN or infinite"),
        (np.full((2, 3, 4), -1, np.int32), {}, r"int32 values from -1 to -1; expected 0 to 18446744073709551615"),
        (np.full((2, 3, 4), 300, np.uint16), {"dtype": "uint8"}, "uint16 values from 300 to 300; expected 0 to 255"),
        (np.full((2, 3, 4), 3, np.int16), {}, "signed int16 image; expected uint8 or uint16"),
        (IMAGE, {"dtype": "float32"}, "uint8 image to float32"),
        (IMAGE > 5, {"format": "precomputed", "dtype": "bool"}, "bool values; expected one of uint8"),
    ],
)
def test_convert_refuses(array: np.ndarray, options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        _convert(tmp_path, array, **options)
    assert [file.name for file in tmp_path.iterdir()] == ["a.npy"]


def test_convert_values(tmp_path: Path) -> None:
    probability = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    found = _convert(tmp_path, probability, dtype="uint8", white=1.0)
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.rint(probability.astype(np.float64) * 255))
    (tmp_path / "out").rename(tmp_path / "one")
    ids = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    assert _convert(tmp_path, ids).dtype == np.uint64
    (tmp_path / "out").rename(tmp_path / "two")
    assert np.array_equal(_convert(tmp_path, ids > 5), ids > 5)


def test_convert_needs_a_voxel_size(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    source = open_volume(tmp_path / "a.npy")
    assert "way out: --voxel-size-nm Z,Y,X" in _message(lambda: plan_levels(source, ConvertOptions()))


@pytest.mark.parametrize(
    "options", [{"format": "tiff"}, {"kind": "x"}, {"levels": 0}, {"chunk_zyx": (0, 1, 1)}], ids=str
)
def test_convert_options(options: dict, tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        _convert(tmp_path, IMAGE, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_no_permission(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    (tmp_path / "a.npy").chmod(0)
    assert "Permission denied" in _message(lambda: open_volume(tmp_path / "a.npy"))
