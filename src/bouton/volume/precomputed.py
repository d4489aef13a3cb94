"""Neuroglancer precomputed, read and written. Its axes are x, y, z, channel; here alone they turn.

https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/volume.md. Raw chunks carry no checksum: a
short or absent file is an error, a flipped bit cannot be seen. OME-Zarr is the format that guards its bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorstore as ts

from bouton.errors import DataError
from bouton.geometry import to_xyz, to_zyx
from bouton.volume.axes import arrange_axes, check_dtype
from bouton.volume.base import VolumeInfo
from bouton.volume.files import disk_errors
from bouton.volume.ome_zarr import Layout, read_json
from bouton.volume.places import Place, kvstore
from bouton.volume.store import StoreVolume, WritableStoreVolume, arranged, open_store
from bouton.volume.voxel_size import as_nm, settle_voxel_size

_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "float32")


def is_precomputed(path: Place) -> bool:
    """Whether the folder holds a precomputed volume."""
    return (path / "info").is_file()


def open_precomputed(path: Place, dataset: str | None, declared: Sequence[float] | None, absent: str) -> StoreVolume:
    """Open one scale of a precomputed volume: the first, or the one whose key is ``dataset``.

    Raises
    ------
    DataError
        There is no such scale, it is no volume, or its voxel size is not the declared one.
    """
    where = str(path)
    index = _scale_index(path, dataset)
    store = open_store(_spec(path) | {"scale_index": index}, where, absent, open=True, read=True)
    view, offset = _as_volume(store, where)
    found = as_nm(to_zyx(read_json(path / "info")["scales"][index]["resolution"]), where)
    size = settle_voxel_size(found, declared, where)
    dtype = check_dtype(store.dtype.numpy_dtype, where)
    return StoreVolume(VolumeInfo(path, dataset, tuple(view.shape), dtype, size, offset), view)


def _spec(path: Place) -> dict[str, Any]:
    return {"driver": "neuroglancer_precomputed", "kvstore": kvstore(path)}


def _as_volume(store: ts.TensorStore, where: str) -> tuple[ts.TensorStore, tuple[int, int, int]]:
    """Return the volume and the place of its first voxel; one channel is none."""
    offset = to_zyx([int(start) for start in store.domain.inclusive_min[:3]])
    rooted = store[ts.d[:].translate_to[0]]
    if rooted.shape[3] == 1:
        return arranged(rooted[..., 0], arrange_axes(rooted.shape[:3], "xyz", where)), offset
    return arranged(rooted, arrange_axes(rooted.shape, "xyzc", where)), offset


def _scale_index(path: Place, dataset: str | None) -> int:
    scales = read_json(path / "info").get("scales") or []
    keys = [str(scale.get("key")) for scale in scales]
    if not keys:
        raise DataError("no scale in the info file", where=str(path / "info"), expected="a precomputed volume")
    if dataset is not None and dataset not in keys:
        raise DataError(f"no scale {dataset!r}", where=str(path), expected=f"one of {', '.join(keys)}", fix="name one")
    return keys.index(dataset) if dataset is not None else 0


def create_precomputed_level(path: Place, layout: Layout) -> WritableStoreVolume:
    """Add a scale to a precomputed volume, which the first one creates; a file is a chunk.

    Raises
    ------
    DataError
        The dtype is none that precomputed knows, or the disk is full.
    """
    layout.checked(str(path))
    if layout.dtype not in _DTYPES:
        raise DataError(
            f"{layout.dtype} values", where=str(path), expected=f"one of {', '.join(_DTYPES)}", fix="--format omezarr"
        )
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    store = open_store(_spec(path) | _metadata(layout), str(path), create=True, open=False)
    view, _ = _as_volume(store, str(path))
    if layout.channels == 1:
        view = view[ts.newaxis, ...]
    info = VolumeInfo(path, None, tuple(view.shape), np.dtype(layout.dtype), layout.voxel_size_nm)
    return WritableStoreVolume(info, view)


def _metadata(layout: Layout) -> dict[str, Any]:
    labels = layout.kind == "labels" and layout.dtype in ("uint32", "uint64")
    scale: dict[str, Any] = {
        "size": list(to_xyz(layout.shape_zyx)),
        "resolution": list(to_xyz(layout.voxel_size_nm)),
        "chunk_size": list(to_xyz(layout.chunk)),
        "encoding": "compressed_segmentation" if labels else "raw",
        "voxel_offset": [0, 0, 0],
    }
    if labels:
        scale["compressed_segmentation_block_size"] = [8, 8, 8]
    kind = "segmentation" if layout.kind == "labels" else "image"
    whole = {"type": kind, "data_type": layout.dtype, "num_channels": layout.channels or 1}
    return {"multiscale_metadata": whole, "scale_metadata": scale}
