"""Bad input through the command line: one line that says what, where, expected, way out; a corrected command works."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from bouton import open_run, open_volume
from faults.command_line import AFFINITIES, DATA, PREDICT, RUN, SIZE, SPEC, Call, execute, flow, results, run


@pytest.mark.parametrize("dtype", ["uint16", "float32", "uint64"])
def test_wrong_dtype(dtype: str, folder: Path, bad: Call, good: Call) -> None:
    np.save("image.npy", (AFFINITIES[0].astype(np.uint32) * 4).astype(dtype))
    flow(path="image.npy", steps=PREDICT)
    said = ["flow.yaml:", "input 'image'", "image.npy", dtype, "expected uint8", "bouton convert image.npy OUT --dtype"]
    bad(DATA, said, *run())
    assert not Path("runs").exists()
    # The way out is one.
    options = ["--dtype", "uint8", "--white", 1020, "--kind", "image", "--voxel-size-nm", "30,10,10"]
    good("convert", "image.npy", "image.zarr", *options)
    expected = np.rint(AFFINITIES[0].astype(np.float64) * 4 * (255 / 1020)).astype(np.uint8)
    assert np.array_equal(open_volume("image.zarr")[...], expected)
    flow(path="image.zarr", steps=PREDICT)
    good("plan", "flow.yaml")


def test_wrong_channels(folder: Path, bad: Call) -> None:
    np.save("image.npy", AFFINITIES[0])
    flow(path="image.npy")
    bad(DATA, ["flow.yaml:", "input 'affinities'", "image.npy", "shape (8, 12, 12)", "4-D array (3, z, y, x)"], *run())
    flow(steps=PREDICT)
    bad(DATA, ["input 'image'", "aff.npy", "shape (3, 8, 12, 12)", "3-D array (z, y, x)"], *run())


def test_swapped_axes(folder: Path, bad: Call, good: Call) -> None:
    flow(size=[10, 10, 30])
    bad(DATA, ["aff.npy", "[10, 10, 30] looks like x,y,z given for z,y,x", "way out: voxel size [30, 10, 10]"], *run())
    bad(DATA, ["looks like x,y,z"], "convert", "aff.npy", "o.zarr", "--voxel-size-nm", "10,10,30")
    assert sorted(path.name for path in folder.iterdir()) == ["aff.npy", "flow.yaml"]
    good(*run("--set", "data.aff.voxel_size_nm=[30, 10, 10]"))
    assert results().any()


@pytest.mark.parametrize(
    ("size", "status", "said"),
    [
        ([0, 10, 10], DATA, "three positive numbers z,y,x"),
        ([-30, 10, 10], DATA, "three positive numbers z,y,x"),
        ([float("nan"), 10, 10], DATA, "three positive numbers z,y,x"),
        (["a", 10, 10], SPEC, "data.aff.voxel_size_nm.0: 'a'; expected a valid number"),
        ("30,10,10", SPEC, "a list like [40, 4, 4]"),
        ([10, 10], SPEC, "at least 3 values (z, y, x"),
        ([1, 2, 3, 4], SPEC, "3 values (z, y, x"),
        (None, SPEC, "states no voxel size"),
    ],
)
def test_voxel_size(size: object, status: int, said: str, folder: Path, bad: Call) -> None:
    flow(size=size)
    bad(status, [said], *run())


def test_nan(folder: Path, bad: Call, good: Call) -> None:
    image = AFFINITIES[0].astype(np.float32) / 255
    image[3, 4, 5] = np.nan
    np.save("image.npy", image)
    words = ["convert", "image.npy", "o.zarr", "--dtype", "uint8", "--white", 1, "--voxel-size-nm", "30,10,10"]
    bad(DATA, ["image.npy, box 0:8,0:12,0:12", "NaN or infinite values (1 of 1152)", "replace them"], *words)
    assert not Path("o.zarr").exists()
    np.save("image.npy", np.nan_to_num(image))
    good(*words)
    for white in ("nan", "0", "-1", "inf"):
        bad(SPEC, [f"--white {white}", "a number above 0"], *words[:6], white, *words[7:])


@pytest.mark.parametrize("kind", ["npy", "hdf5"])
def test_empty_volume(kind: str, folder: Path, bad: Call) -> None:
    empty = np.zeros((0, 4, 4), np.uint8)
    if kind == "npy":
        np.save("empty.npy", empty)
    else:
        with h5py.File("empty.h5", "w") as file:
            file["raw"] = empty
    path = {"npy": "empty.npy", "hdf5": "empty.h5"}[kind]
    flow(path=path)
    bad(DATA, [path, "empty volume", "at least one voxel on every axis"], *run())
    bad(DATA, [path, "empty volume"], "convert", path, "o.zarr", "--voxel-size-nm", "30,10,10")
    assert not Path("o.zarr").exists()


@pytest.mark.parametrize("shape", [(1, 12, 12), (8, 1, 12), (8, 12, 1), (1, 1, 1)])
def test_an_axis_of_one_voxel_works(shape: tuple[int, int, int], folder: Path, good: Call) -> None:
    np.save("aff.npy", np.full((3, *shape), 255, np.uint8))
    good(*run("--block-zyx", "4,5,6"))
    # Every edge is certain: one segment, whatever the blocks.
    found = results()
    assert found.shape == shape
    assert len(np.unique(found)) == 1
    good(*run("--block-zyx", "99,99,99", "--name", "large-blocks"))
    assert np.array_equal(results("runs/large-blocks"), found)
    good("convert", "aff.npy", "aff.zarr", "--voxel-size-nm", "30,10,10", "--levels", 3)
    assert open_volume("aff.zarr").shape == (3, *shape)


def test_phantom_and_prediction_of_one_section(folder: Path, good: Call) -> None:
    tissue = {"tissue": {"stage": "phantom"}}
    network = {"network": {"stage": "predict", "reads": {"image": "tissue.image"}}}
    flow(data={}, grid={"shape_zyx": [1, 16, 16], "voxel_size_nm": SIZE}, steps=tissue | network, block_zyx=[9, 99, 99])
    good(*run())
    assert open_run("runs/t").volume("network")[...].shape == (3, 1, 16, 16)


def test_truncated_tiff(folder: Path, bad: Call, good: Call) -> None:
    tifffile.imwrite("a.tif", AFFINITIES[0])
    whole = Path("a.tif").read_bytes()
    Path("a.tif").write_bytes(whole[: len(whole) // 2])
    words = ["convert", "a.tif", "o.zarr", "--voxel-size-nm", "30,10,10"]
    bad(DATA, ["a.tif: truncated TIFF", "a whole TIFF file", "copy or export it again"], *words)
    flow(path="a.tif", steps=PREDICT)
    bad(DATA, ["a.tif: truncated TIFF"], *run())
    assert not Path("o.zarr").exists()
    Path("a.tif").write_bytes(whole)
    good(*words)
    assert np.array_equal(open_volume("o.zarr")[...], AFFINITIES[0])


def test_hdf5_without_the_data_set(folder: Path, bad: Call, good: Call) -> None:
    with h5py.File("v.h5", "w") as file:
        file["volumes/affinities"] = AFFINITIES
    data = {"aff": {"path": "v.h5", "dataset": "volumes/raw", "voxel_size_nm": SIZE}}
    flow(data=data)
    bad(DATA, ["v.h5: no data set 'volumes/raw'", "one of volumes/affinities", "name one"], *run())
    bad(DATA, ["no data set 'x'"], "convert", "v.h5", "o", "--dataset", "x", "--voxel-size-nm", "30,10,10")
    good(*run("--set", "data.aff.dataset=volumes/affinities"))
    assert results().any()


@pytest.mark.parametrize("path", ["nothing.npy", ".", "text.npy", "cut.npy"])
def test_no_volume(path: str, folder: Path, bad: Call) -> None:
    Path("text.npy").write_text("hello")
    Path("cut.npy").write_bytes(Path("aff.npy").read_bytes()[:500])
    flow(path=path)
    bad(DATA, [{".": "Größe 1"}.get(path, path)], *run())


def test_full_disk(small_disk: Path, folder: Path, bad: Call, good: Call, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (3, 24, 64, 64), dtype=np.uint8)
    np.save("aff.npy", noise)
    flow(block_zyx=[8, 64, 64])
    words = ["phantom", small_disk / "tissue", "--shape-zyx", "16,128,128", "--block-zyx", "16,64,64"]
    size = ["--voxel-size-nm", "30,10,10"]
    (small_disk / "ballast").write_bytes(bytes(1_900_000))
    bad(DATA, ["disk full", "free some space"], "convert", "aff.npy", small_disk / "o.zarr", *size)
    bad(DATA, ["disk full", "free some space"], *words)
    assert not (small_disk / "o.zarr").exists()
    assert not (small_disk / "tissue").exists()
    bad(RUN, ["the disk is full", "bytes that are free", "run the same command again"], *run("--runs", small_disk))
    (small_disk / "ballast").unlink()
    assert execute(*words) == 0
    assert "synapses" in capsys.readouterr().err
    shutil.rmtree(small_disk / "tissue")
    # What was finished is moved to a larger disk and taken up there; what was not is computed.
    shutil.copytree(small_disk / "t", folder / "large" / "t")
    good(*run("--runs", "large"))
    good("verify", "large/t")
    good(*run())
    assert np.array_equal(results("large/t"), results())
