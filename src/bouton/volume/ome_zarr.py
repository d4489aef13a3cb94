"""OME-Zarr 0.5 written: one shard per compute block, zstd and a crc32c in every inner chunk, and deterministic bytes.

A volume of bouton is a zarr v3 group with OME multiscale metadata; the array of full resolution is ``<path>/0``.
https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict, Unpack

import numpy as np

from bouton.errors import DataError
from bouton.geometry import NM, ZYX
from bouton.volume.axes import check_dtype
from bouton.volume.base import DISCRETE, KINDS, VolumeInfo, WritableVolume
from bouton.volume.files import disk_errors, write_bytes
from bouton.volume.places import Place, kvstore, place
from bouton.volume.store import WritableStoreVolume, open_store
from bouton.volume.voxel_size import as_nm

_LARGEST_CHUNK = 64
_SMALLEST_CHUNK = 16
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


@dataclass(frozen=True)
class Layout:
    """What a new volume is and how it lies on disk.

    Attributes
    ----------
    shape_zyx : (z, y, x)
    dtype : str
        numpy dtype name.
    channels : int, optional
        None for (z, y, x).
    voxel_size_nm : (z, y, x)
    block_zyx : (z, y, x)
        Shape of a shard: one file.
    kind : str
        One of :data:`KINDS`.
    chunk_zyx : (z, y, x), optional
        What one read decodes; divides the block. Default: :func:`inner_chunk` of each axis.
    """

    shape_zyx: ZYX
    dtype: str
    channels: int | None
    voxel_size_nm: NM
    block_zyx: ZYX
    kind: str
    chunk_zyx: ZYX | None = None

    def checked(self, where: str) -> Layout:
        """Return self where everything fits.

        Raises
        ------
        DataError
            No voxels, an unknown kind, a dtype that no voxel has, or a chunk that does not divide the block.
        """
        check_dtype(np.dtype(self.dtype), where)
        as_nm(self.voxel_size_nm, where)
        if min(*self.shape_zyx, *self.block_zyx, *(self.chunk_zyx or (1,)), self.channels or 1) < 1:
            raise DataError(f"empty volume: shape {self.shape}, block {self.block_zyx}", where=where, expected="voxels")
        if self.kind not in KINDS:
            raise DataError(f"kind {self.kind!r}", where=where, expected=f"one of {', '.join(KINDS)}")
        if any(block % chunk for block, chunk in zip(self.block_zyx, self.chunk, strict=True)):
            raise DataError(
                f"chunk {self.chunk} in block {self.block_zyx}", where=where, expected="a divisor, each axis"
            )
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x) or (c, z, y, x)."""
        return self.shape_zyx if self.channels is None else (self.channels, *self.shape_zyx)

    @property
    def chunk(self) -> ZYX:
        """Shape of the inner chunks."""
        if self.chunk_zyx is not None:
            return self.chunk_zyx
        z, y, x = (inner_chunk(length) for length in self.block_zyx)
        return z, y, x

    def with_channels(self, zyx: Sequence[int]) -> list[int]:
        """Return a chunk's shape with the channels, which are never split."""
        return [*([] if self.channels is None else [self.channels]), *(int(length) for length in zyx)]


def inner_chunk(length: int) -> int:
    """Return the length of inner chunks on an axis of a block: a divisor of ``length``, of 16 to 64 if possible."""
    if length <= _LARGEST_CHUNK:
        return length
    divisors = (n for n in range(_LARGEST_CHUNK, _SMALLEST_CHUNK - 1, -1) if length % n == 0)
    return next(divisors, length)


class NewVolume(TypedDict):
    """The keywords of :func:`create_volume`: the fields of :class:`Layout` that a caller chooses."""

    shape_zyx: Sequence[int]
    dtype: Any
    channels: NotRequired[int | None]
    voxel_size_nm: Sequence[float]
    block_zyx: Sequence[int]
    kind: str


def create_volume(path: str | Place, **new: Unpack[NewVolume]) -> WritableVolume:
    """Create an OME-Zarr volume in which every compute block is one file (shard).

    Parameters
    ----------
    path : path
        A new folder.
    shape_zyx : (z, y, x)
        The whole volume; any part of it may stay unwritten, and reading that part is an error.
    dtype : dtype
    channels : int, optional
        None for (z, y, x), a number for (c, z, y, x).
    voxel_size_nm : (z, y, x)
    block_zyx : (z, y, x)
    kind : str
        ``image``, ``probability``, ``affinities``, ``labels`` or ``mask``.

    Raises
    ------
    DataError
        The folder holds a volume already, the values make none, or the disk is full.
    """
    z, y, x = (int(length) for length in new["shape_zyx"])
    bz, by, bx = (int(length) for length in new["block_zyx"])
    size = as_nm(new["voxel_size_nm"], str(path))
    dtype = np.dtype(new["dtype"]).name
    return create_ome_zarr(place(path), Layout((z, y, x), dtype, new.get("channels"), size, (bz, by, bx), new["kind"]))


def create_ome_zarr(path: Place, layout: Layout) -> WritableVolume:
    """Create an OME-Zarr volume of one level with an exact layout."""
    layout.checked(str(path))
    if (path / "zarr.json").exists():
        raise DataError("a volume is there already", where=str(path), fix="remove it or choose another name")
    volume = create_level(path, 0, layout)
    # The group comes last: a folder without it is no volume, whatever else is in it.
    write_multiscale(path, [layout], path.name)
    return volume


def create_level(path: Place, level: int, layout: Layout) -> WritableStoreVolume:
    """Create the array of one level; an array that an interrupted creation left is replaced."""
    array = path / str(level)
    with disk_errors(array):
        array.mkdir(parents=True, exist_ok=True)
        (array / "zarr.json").unlink(missing_ok=True)
    inner = {"chunk_shape": layout.with_channels(layout.chunk)}
    codecs = [_LITTLE, {"name": "zstd", "configuration": {"level": 1}}, {"name": "crc32c"}]
    sharding = {**inner, "codecs": codecs, "index_codecs": [_LITTLE, {"name": "crc32c"}], "index_location": "end"}
    metadata = {
        "shape": list(layout.shape),
        "data_type": layout.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": layout.with_channels(layout.block_zyx)}},
        "chunk_key_encoding": {"name": "default"},
        "dimension_names": axis_names(layout),
        "fill_value": False if layout.dtype == "bool" else 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
    }
    store = open_store(_spec(array) | {"metadata": metadata}, str(array), create=True)
    return WritableStoreVolume(
        VolumeInfo(path, None, layout.shape, np.dtype(layout.dtype), layout.voxel_size_nm), store
    )


def axis_names(layout: Layout) -> list[str]:
    """Return the names of the axes."""
    return list("zyx" if layout.channels is None else "czyx")


def write_multiscale(path: Place, layouts: Sequence[Layout], name: str) -> None:
    """Write the group's metadata for one array a level, finest first."""
    axes = [
        {"name": name, "type": "channel"} if name == "c" else {"name": name, "type": "space", "unit": "nanometer"}
        for name in axis_names(layouts[0])
    ]
    multiscale = {
        "name": name,
        "axes": axes,
        "datasets": [_dataset(level, layout, layouts[0]) for level, layout in enumerate(layouts)],
    }
    if len(layouts) > 1:
        multiscale["type"] = "mode" if layouts[0].kind in DISCRETE else "mean"
    attributes = {
        "ome": {"version": "0.5", "multiscales": [multiscale]},
        "bouton": {"kind": layouts[0].kind, "block_zyx": list(layouts[0].block_zyx)},
    }
    text = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}, indent=1)
    write_bytes(path / "zarr.json", text.encode())


def _dataset(level: int, layout: Layout, finest: Layout) -> dict[str, Any]:
    """Describe one level. NGFF places voxel centres, so a coarser grid starts half of the difference further on."""
    lead = [] if layout.channels is None else [1.0]
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": [*lead, *layout.voxel_size_nm]}]
    if level:
        shift = [(a - b) / 2 for a, b in zip(layout.voxel_size_nm, finest.voxel_size_nm, strict=True)]
        transforms.append({"type": "translation", "translation": [*(0.0 for _ in lead), *shift]})
    return {"path": str(level), "coordinateTransformations": transforms}


def _spec(array: Place) -> dict[str, Any]:
    return {"driver": "zarr3", "kvstore": kvstore(array)}


def open_for_writing(path: str | Place) -> WritableVolume:
    """Open a volume that :func:`create_volume` made.

    Raises
    ------
    DataError
        There is none, or its metadata are damaged.
    """
    path = place(path)
    multiscale = read_json(path / "zarr.json").get("attributes", {}).get("ome", {}).get("multiscales")
    if not multiscale:
        raise DataError("no multiscale metadata", where=str(path / "zarr.json"), expected="an OME-Zarr volume")
    array = path / "0"
    store = open_store(_spec(array), str(array), open=True, read=True, write=True)
    scale = multiscale[0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    size = as_nm(scale[-3:], str(path))
    return WritableStoreVolume(VolumeInfo(path, None, tuple(store.shape), store.dtype.numpy_dtype, size), store)


def shard_file(path: str | Place, index: ZYX) -> Place:
    """Return the file that holds block ``index`` (z, y, x) of a volume that :func:`create_volume` made."""
    array = place(path) / "0"
    return array / shard_key(len(read_json(array / "zarr.json")["shape"]), index)


def shard_key(rank: int, index: ZYX) -> str:
    """Return the name of block ``index`` inside an array of ``rank`` axes; its channels are never split."""
    return "/".join(["c", *("0" * (rank - 3)), *map(str, index)])


def read_json(path: Place) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises
    ------
    DataError
        There is no such file, or it holds something else.
    """
    with disk_errors(path):
        raw = path.read_bytes()
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DataError("damaged metadata", where=str(path), expected="a JSON object", fix="restore the file")
    return found
