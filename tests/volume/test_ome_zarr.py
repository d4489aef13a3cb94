"""The volumes that bouton writes: metadata, shards, bytes, and what damage is called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.geometry import Box, Grid
from bouton.volume import checksum, create_volume, open_for_writing, open_volume, shard_file
from bouton.volume.ome_zarr import inner_chunk

SHAPE = (40, 50, 70)
BLOCK = (32, 32, 48)


def _create(path: Path, channels: int | None = None, dtype: str = "uint8", block: tuple[int, int, int] = BLOCK):
    return create_volume(
        path,
        shape_zyx=SHAPE,
        dtype=dtype,
        channels=channels,
        voxel_size_nm=(30, 10, 10),
        block_zyx=block,
        kind="image",
    )


def _values(box: Box, channels: int | None = None, seed: int = 0) -> np.ndarray:
    shape = box.shape if channels is None else (channels, *box.shape)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _block(path: Path, index: tuple[int, int, int] = (0, 0, 0)) -> tuple[Box, np.ndarray]:
    core = Grid(Box.of_shape(SHAPE), BLOCK).core(index)
    values = _values(core)
    open_for_writing(path).write(core, values)
    return core, values


@pytest.mark.parametrize("length", range(1, 400))
def test_inner_chunk_divides_the_block(length: int) -> None:
    chunk = inner_chunk(length)
    assert length % chunk == 0
    divisors = [n for n in range(16, 65) if length % n == 0]
    assert chunk == (length if length <= 64 else max(divisors, default=length))


@pytest.mark.parametrize("block", [(1, 1, 1), (97, 7, 13), (67, 89, 128), (96, 384, 384)], ids=str)
def test_any_block_shape(block: tuple[int, int, int], tmp_path: Path) -> None:
    volume = _create(tmp_path / "v", block=block)
    core = Grid(volume.box, block).core((0, 0, 0))
    volume.write(core, _values(core))
    assert np.array_equal(open_volume(tmp_path / "v").read(core), _values(core))
    assert shard_file(tmp_path / "v", (0, 0, 0)).is_file()


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_one_shard_per_block(channels: int | None, tmp_path: Path) -> None:
    volume = _create(tmp_path / "v", channels)
    grid = Grid(volume.box, BLOCK)
    for index in grid:
        volume.write(grid.core(index), _values(grid.core(index), channels))
        assert shard_file(tmp_path / "v", index).is_file()
    files = [file for file in (tmp_path / "v").rglob("*") if file.is_file()]
    assert len(files) == len(grid) + 2


def test_same_array_same_bytes(tmp_path: Path) -> None:
    part = Box((32, 0, 0), (37, 32, 48))
    sums = []
    for name in ("a", "b"):
        volume = _create(tmp_path / name)
        for _ in range(2):
            core, _ = _block(tmp_path / name)
            volume.write(part, _values(part))
        sums.append([checksum(shard_file(tmp_path / name, (z, 0, 0))) for z in (0, 1)])
    assert sums[0] == sums[1]
    open_for_writing(tmp_path / "b").write(core, _values(core, seed=1))
    assert checksum(shard_file(tmp_path / "b", (0, 0, 0))) != sums[0][0]


def test_ome_metadata(tmp_path: Path) -> None:
    _create(tmp_path / "v", channels=3)
    group = json.loads((tmp_path / "v" / "zarr.json").read_text())
    assert (group["zarr_format"], group["node_type"]) == (3, "group")
    ome = group["attributes"]["ome"]
    assert ome["version"] == "0.5"
    (multiscale,) = ome["multiscales"]
    assert multiscale["axes"] == [
        {"name": "c", "type": "channel"},
        *({"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"),
    ]
    scale = {"type": "scale", "scale": [1.0, 30.0, 10.0, 10.0]}
    assert multiscale["datasets"] == [{"path": "0", "coordinateTransformations": [scale]}]
    array = json.loads((tmp_path / "v" / "0" / "zarr.json").read_text())
    assert array["dimension_names"] == ["c", "z", "y", "x"]
    assert array["chunk_grid"]["configuration"]["chunk_shape"] == [3, *BLOCK]
    (sharding,) = array["codecs"]
    assert [codec["name"] for codec in sharding["configuration"]["codecs"]] == ["bytes", "zstd", "crc32c"]


def test_unwritten_is_missing_not_zero(tmp_path: Path) -> None:
    _create(tmp_path / "v")
    core, values = _block(tmp_path / "v")
    assert np.array_equal(open_volume(tmp_path / "v").read(core), values)
    with pytest.raises(DataError, match=r"0/c/0/0/1: missing chunk, box 0:32,0:32,48:70"):
        open_volume(tmp_path / "v").read(Box((0, 0, 0), (40, 50, 70)))


def test_zeros_are_values(tmp_path: Path) -> None:
    volume = _create(tmp_path / "v")
    box = Box((0, 0, 0), BLOCK)
    volume.write(box, np.zeros(BLOCK, dtype=np.uint8))
    assert shard_file(tmp_path / "v", (0, 0, 0)).is_file()
    assert not open_volume(tmp_path / "v").read(box).any()


def test_lost_chunk(tmp_path: Path) -> None:
    _create(tmp_path / "v")
    core, _ = _block(tmp_path / "v")
    shard_file(tmp_path / "v", (0, 0, 0)).unlink()
    with pytest.raises(
        DataError, match=r"0/c/0/0/0: missing chunk, box 0:32,0:32,0:48; expected .*missing is not zero"
    ):
        open_volume(tmp_path / "v").read(core)


@pytest.mark.parametrize("place", [0, 0.3, 0.7, 0.999])
def test_flipped_bit(place: float, tmp_path: Path) -> None:
    _create(tmp_path / "v")
    core, _ = _block(tmp_path / "v")
    file = shard_file(tmp_path / "v", (0, 0, 0))
    raw = bytearray(file.read_bytes())
    raw[int(place * len(raw))] ^= 4
    file.write_bytes(raw)
    with pytest.raises(DataError, match=r"0/c/0/0/0: damaged chunk, box 0:32,0:32,0:48: "):
        open_volume(tmp_path / "v").read(core)


@pytest.mark.parametrize("left", [0, 0.3, 0.99])
def test_truncated_file(left: float, tmp_path: Path) -> None:
    _create(tmp_path / "v")
    core, values = _block(tmp_path / "v")
    file = shard_file(tmp_path / "v", (0, 0, 0))
    raw = file.read_bytes()
    file.write_bytes(raw[: int(left * len(raw))])
    with pytest.raises(DataError, match=r"0/c/0/0/0: damaged chunk, box 0:32,0:32,0:48"):
        open_volume(tmp_path / "v").read(core)
    # Writing the whole block again mends it.
    open_for_writing(tmp_path / "v").write(core, values)
    assert file.read_bytes() == raw


def test_damage_is_narrowed_to_the_inner_chunk(tmp_path: Path) -> None:
    block = (128, 64, 64)
    volume = create_volume(
        tmp_path / "v", shape_zyx=block, dtype="uint8", voxel_size_nm=(8, 8, 8), block_zyx=block, kind="image"
    )
    volume.write(volume.box, _values(volume.box))
    file = shard_file(tmp_path / "v", (0, 0, 0))
    raw = bytearray(file.read_bytes())
    raw[int(0.75 * len(raw))] ^= 1
    file.write_bytes(raw)
    opened = open_volume(tmp_path / "v")
    with pytest.raises(DataError, match=r"damaged chunk, box 64:128,0:64,0:64"):
        opened.read(opened.box)
    assert np.array_equal(opened[:64], _values(volume.box)[:64])


def test_damaged_metadata(tmp_path: Path) -> None:
    _create(tmp_path / "v")
    meta = tmp_path / "v" / "0" / "zarr.json"
    whole = meta.read_text()
    meta.write_text(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged metadata"):
        open_volume(tmp_path / "v")
    meta.unlink()
    with pytest.raises(DataError):
        open_volume(tmp_path / "v")


def test_creation_is_taken_up_again_but_never_over_a_volume(tmp_path: Path) -> None:
    _create(tmp_path / "v")
    with pytest.raises(DataError, match="a volume is there already"):
        _create(tmp_path / "v")
    (tmp_path / "v" / "zarr.json").unlink()
    with pytest.raises(DataError):
        open_for_writing(tmp_path / "v")
    _create(tmp_path / "v", dtype="uint64")
    assert open_volume(tmp_path / "v").dtype == np.uint64


def test_write_refuses_other_shapes_and_types(tmp_path: Path) -> None:
    volume = _create(tmp_path / "v")
    box = Box((0, 0, 0), (2, 3, 4))
    with pytest.raises(DataError, match=r"uint16 array of shape \(2, 3, 4\).*expected uint8"):
        volume.write(box, np.zeros((2, 3, 4), dtype=np.uint16))
    with pytest.raises(DataError, match=r"shape \(4, 3, 2\)"):
        volume.write(box, np.zeros((4, 3, 2), dtype=np.uint8))
    with pytest.raises(DataError, match="inside 0:40,0:50,0:70"):
        volume.write(Box((39, 0, 0), (41, 3, 4)), np.zeros((2, 3, 4), dtype=np.uint8))
    assert not (tmp_path / "v" / "0" / "c").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape_zyx": (0, 5, 5)}, "empty volume"),
        ({"dtype": "complex64"}, "complex64 values"),
        ({"kind": "picture"}, "kind 'picture'; expected one of image"),
        ({"voxel_size_nm": (4, 4, 0)}, r"voxel size \[4, 4, 0\]; expected three positive"),
        ({"voxel_size_nm": (4, 4)}, "expected three numbers"),
    ],
)
def test_create_refuses(change: dict, message: str, tmp_path: Path) -> None:
    good = {
        "shape_zyx": (5, 5, 5),
        "dtype": "uint8",
        "voxel_size_nm": (4, 4, 4),
        "block_zyx": (5, 5, 5),
        "kind": "image",
    }
    with pytest.raises(DataError, match=message):
        create_volume(tmp_path / "v", **{**good, **change})
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "uint32", "uint64", "int32", "float32"])
def test_dtypes(dtype: str, tmp_path: Path) -> None:
    volume = _create(tmp_path / "v", dtype=dtype)
    core = Box((0, 0, 0), BLOCK)
    values = np.random.default_rng(0).integers(0, 2, BLOCK).astype(dtype)
    if dtype == "uint64":
        values[0, 0, 0] = np.iinfo(np.uint64).max
    volume.write(core, values)
    found = open_volume(tmp_path / "v").read(core)
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)
