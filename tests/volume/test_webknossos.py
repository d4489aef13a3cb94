"""webKnossos annotations: files of the real server, and WKW written by hand from the specification."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bouton.errors import DataError
from bouton.geometry import Box
from bouton.volume import open_volume
from bouton.volume.webknossos import read_annotation
from bouton.volume.wkw import file_position, magnification, morton_index, parse_header, read_block

DATA = Path(os.environ.get("BOUTON_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
NML = """<things><parameters><experiment name="em"/><scale x="4" y="4" z="40" unit="nanometer"/>{boxes}</parameters>
{volumes}</things>"""
BOX = (
    '<userBoundingBox id="1" name="train" topLeftX="{}" topLeftY="{}" topLeftZ="{}" width="{}" height="{}" depth="{}"/>'
)


@pytest.fixture
def real() -> Path:
    folder = DATA / "webknossos_annotations"
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set BOUTON_DATA")
    return folder


def wkw(cube: np.ndarray, block: int, compress: bool) -> bytes:
    """Write a file cube (z, y, x): blocks sorted by the interleaved bits of their coordinates, as the format says."""
    count = cube.shape[0] // block
    codes = {"uint8": 1, "uint16": 2, "uint32": 3, "uint64": 4}
    places = [(z, y, x) for z in range(count) for y in range(count) for x in range(count)]

    def key(place: tuple[int, int, int]) -> int:
        z, y, x = (f"{v:08b}" for v in place)
        return int("".join(c + b + a for a, b, c in zip(x, y, z, strict=True)), 2)

    pieces = []
    for z, y, x in sorted(places, key=key):
        part = cube[z * block :, y * block :, x * block :][:block, :block, :block]
        raw = np.ascontiguousarray(part).tobytes()
        pieces.append(pa.Codec("lz4_raw").compress(raw, asbytes=True) if compress else raw)
    start = 16 + (8 * len(pieces) if compress else 0)
    sides = block.bit_length() - 1 | (count.bit_length() - 1) << 4
    head = struct.pack(
        "<3sBBBBBQ", b"WKW", 1, sides, 2 if compress else 1, codes[cube.dtype.name], cube.itemsize, start
    )
    ends = np.cumsum([len(piece) for piece in pieces]) + start if compress else []
    return head + b"".join(struct.pack("<Q", end) for end in ends) + b"".join(pieces)


def inner(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def annotation(path: Path, volumes: str, layers: dict[str, bytes], boxes: str = "") -> Path:
    path.write_bytes(inner({"a.nml": NML.format(boxes=boxes, volumes=volumes).encode(), **layers}))
    return path


LAYER = '<volume id="0" location="data.zip" name="Cells"/>'


@pytest.mark.parametrize("compress", [True, False])
def test_files_written_by_the_specification_come_back(tmp_path: Path, compress: bool) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2**40, (32, 32, 48), np.uint64)
    files = {f"1/z{z}/y{y}/x{x}.wkw": truth[z * 16 :, y * 16 :, x * 16 :][:16, :16, :16]
             for z in range(2) for y in range(2) for x in range(3)}  # fmt: skip
    del files["1/z0/y1/x2.wkw"]
    truth[:16, 16:, 32:] = 0
    data = inner({"1/header.wkw": wkw(truth[:16, :16, :16], 4, compress)[:16],
                  **{name: wkw(cube, 4, compress) for name, cube in files.items()}})  # fmt: skip
    path = annotation(tmp_path / "a.zip", LAYER, {"data.zip": data}, BOX.format(1, 2, 3, 10, 20, 7))
    volume = open_volume(path)
    assert volume.shape == (32, 32, 48) and volume.dtype == np.uint64 and volume.voxel_size_nm == (40, 4, 4)
    np.testing.assert_array_equal(volume[...], truth)
    for _ in range(20):
        low = [int(rng.integers(n)) for n in truth.shape]
        box = Box(tuple(low), tuple(int(rng.integers(a + 1, n + 1)) for a, n in zip(low, truth.shape, strict=True)))
        np.testing.assert_array_equal(volume.read(box), truth[box.slices])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(volume))[3:9], truth[3:9])
    assert read_annotation(path).boxes == {"train": Box((3, 2, 1), (10, 22, 11))}


def test_morton_order_is_that_of_the_specification() -> None:
    # x, y, z of the blocks 0 to 12 of the format's description
    xyz = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 1), (2, 0, 0), (3, 0, 0),
           (2, 1, 0), (3, 1, 0), (2, 0, 1)]  # fmt: skip
    assert [morton_index((z, y, x)) for x, y, z in xyz] == list(range(13))


def test_names_of_files_and_levels() -> None:
    assert file_position("z1/y2/x33.wkw") == (1, 2, 33)
    assert all(file_position(name) is None for name in ("header.wkw", "z1/y2/x3", "x1/y2/z3.wkw", "za/y2/x3.wkw"))
    assert magnification("8-4-2") == (2, 4, 8) and magnification("4") == (4, 4, 4)
    assert all(magnification(name) is None for name in ("z1", "1-2", "0", "", "1-1-x"))


def test_a_coarse_level_says_its_voxel_size(tmp_path: Path) -> None:
    cube = np.ones((8, 8, 8), np.uint32)
    levels = {f"{level}/z0/y0/x0.wkw": wkw(cube, 8, True) for level in ("8-8-2", "4-4-1")}
    path = annotation(tmp_path / "a.zip", LAYER, {"data.zip": inner(levels)})
    assert open_volume(path).voxel_size_nm == (40, 16, 16)
    with pytest.raises(DataError, match="voxel size"):
        open_volume(path, voxel_size_nm=(40, 4, 4))


def test_a_box_of_the_server_shows_the_axes(real: Path) -> None:
    # the server wrote the place where segment 1 was begun: x 3395, y 3761, z 1024
    volume = open_volume(real / "l4_sample__explorational__suser__94b271.zip", voxel_size_nm=(28, 11.24, 11.24))
    assert volume[1024, 3761, 3395] == 1
    assert volume[1024, 3395, 3761] == 0
    assert np.count_nonzero(volume[1024, 3072:4096, 3072:4096]) == 64576


def test_real_layers_and_their_fallback(real: Path) -> None:
    path = real / "multi_volume_example_CREMI.zip"
    found = read_annotation(path)
    assert [(layer.name, layer.fallback) for layer in found.layers] == [("Volume_2", None), ("Volume", "segmentation")]
    assert found.voxel_size_nm == (40, 4, 4) and found.dataset == "dsA+"
    with pytest.raises(DataError, match="'Volume_2', 'Volume'"):
        open_volume(path)
    assert open_volume(path, "Volume_2")[0, :8, :8].max() == 0
    box = Box((0, 512, 544), (32, 544, 576))
    assert set(np.unique(open_volume(path, "Volume_2").read(box))) == {0, 1}
    ids = open_volume(path, "Volume")
    assert {284, 348, 371} <= set(np.unique(ids.read(box)))
    with pytest.raises(DataError, match="fallback layer 'segmentation', which is on the server"):
        ids.read(box.shift((0, -512, 0)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty_volume_annotation", "nothing is painted"),
        ("nml_with_volumes", "left out of the download"),
        ("bounding-boxes-example", "nothing was painted"),
    ],
)
def test_real_files_without_voxels_say_so(real: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_volume(real / f"{name}.zip")


def test_real_bounding_boxes(real: Path) -> None:
    boxes = read_annotation(real / "bounding-boxes-example.zip").boxes
    assert boxes["Bounding box 1"] == Box((1676, 4063, 2371), (1676 + 232, 4063 + 579, 2371 + 891))
    assert len(boxes) == 2


def test_painted_nothing_inside_a_box_is_zero(tmp_path: Path) -> None:
    head = wkw(np.zeros((4, 4, 4), np.uint32), 4, True)[:16]
    path = annotation(
        tmp_path / "a.zip", LAYER, {"data.zip": inner({"1/header.wkw": head})}, BOX.format(0, 0, 0, 5, 6, 7)
    )
    assert open_volume(path).shape == (7, 6, 5) and not open_volume(path)[...].any()


def test_damage_is_named(tmp_path: Path) -> None:
    good = wkw(np.random.default_rng(1).integers(0, 9, (8, 8, 8)).astype(np.uint32), 4, True)
    header = parse_header(good, "f")
    for data in (good[:100], good[: len(good) - 4], good[:16]):
        with pytest.raises(DataError, match="damaged block"):
            read_block(data, header, (1, 1, 1), "f")
    with pytest.raises(DataError, match="damaged block"):
        read_block(good[:80] + bytes(range(200)) * 8, header, (1, 1, 1), "f")
    for data, message in [
        (b"WK", "truncated"),
        (b"PNG" + good[3:], "no WKW"),
        (good[:3] + b"\2" + good[4:], "no WKW"),
        (good[:7] + b"\x08" + good[8:], "2 channels"),
        (good[:4] + b"\x0f" + good[5:], "blocks of"),
    ]:
        with pytest.raises(DataError, match=message):
            parse_header(data, "f")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"volumes": ""}, "without volume layer"),
        ({"layers": {}}, "no 'data.zip' in the zip"),
        ({"layers": {"data.zip": b"nothing"}}, "no zip"),
        ({"layers": {"data.zip": b""}}, "no zip"),
        ({"boxes": BOX.format(0, 0, 0, 0, 1, 1)}, "bounding box 'train'"),
        ({"boxes": BOX.format("a", 0, 0, 1, 1, 1)}, "damaged NML"),
        ({"volumes": "<volume"}, "damaged NML"),
    ],
)
def test_bad_annotations_are_named(tmp_path: Path, change: dict, message: str) -> None:
    data = inner({"1/z0/y0/x0.wkw": wkw(np.ones((8, 8, 8), np.uint32), 8, True)})
    kept = {"volumes": LAYER, "layers": {"data.zip": data}, **change}
    with pytest.raises(DataError, match=message):
        open_volume(annotation(tmp_path / "a.zip", **kept))


def test_other_zips_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(inner({"b.txt": b""}))
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "c.zip").write_bytes(b"text")
    for name, message in [("a", "0 NML files"), ("b", "damaged"), ("c", r"no \.zip file")]:
        with pytest.raises(DataError, match=message):
            open_volume(tmp_path / f"{name}.zip")
    path = annotation(tmp_path / "d.zip", LAYER, {"data.zip": inner({})})
    with pytest.raises(DataError, match="no layer 'Other'"):
        open_volume(path, "Other")
