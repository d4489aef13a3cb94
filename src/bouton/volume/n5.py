"""N5 read. Its axes are stored x, y, z; https://github.com/saalfeldlab/n5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bouton.errors import DataError
from bouton.geometry import NM, to_zyx
from bouton.volume.axes import arrange_axes, check_dtype
from bouton.volume.base import VolumeInfo
from bouton.volume.ome_zarr import read_json
from bouton.volume.places import Place, kvstore, name_below
from bouton.volume.store import StoreVolume, arranged, open_store
from bouton.volume.voxel_size import as_nm, nm_per_unit, settle_voxel_size

_ATTRIBUTES = "attributes.json"


def is_n5(path: Place) -> bool:
    """Whether the folder is an N5 group or data set."""
    return (path / _ATTRIBUTES).is_file() or (path.suffix == ".n5" and path.is_dir())


def open_n5(path: Place, dataset: str | None, declared: Sequence[float] | None, absent: str) -> StoreVolume:
    """Open an N5 data set.

    Raises
    ------
    DataError
        There is no such data set, it is no volume, or its voxel size is not the declared one.
    """
    if dataset is None and not _is_dataset(path):
        found = _datasets_in(path)
        dataset = found[0] if len(found) == 1 else None
    array = path / dataset if dataset else path
    where = str(array)
    if not _is_dataset(array):
        names = ", ".join(_datasets_in(path)[:20])
        raise DataError(
            f"no data set {dataset!r}" if dataset else "no data set given",
            where=str(path),
            expected=f"one of {names}" if names else "an N5 data set",
            fix="name one as the data set" if names else "check the path",
        )
    store = open_store({"driver": "n5", "kvstore": kvstore(array)}, where, absent, open=True, read=True)
    names = {3: "xyz", 4: "xyzc", 5: "xyzct"}.get(store.rank)
    arrangement = arrange_axes(store.shape, names, where)
    size = settle_voxel_size(_size(read_json(array / _ATTRIBUTES), where), declared, where)
    info = VolumeInfo(path, dataset, arrangement.shape, check_dtype(store.dtype.numpy_dtype, where), size)
    return StoreVolume(info, arranged(store, arrangement))


def _is_dataset(path: Place) -> bool:
    return (path / _ATTRIBUTES).is_file() and "dimensions" in read_json(path / _ATTRIBUTES)


def _datasets_in(path: Place) -> list[str]:
    found = [file.parent for file in path.rglob(_ATTRIBUTES) if _is_dataset(file.parent)]
    return sorted(name_below(path, folder) for folder in found)


def _size(attributes: dict[str, Any], where: str) -> NM | None:
    """Return the voxel size from ``pixelResolution`` or ``resolution``, which N5 tools write x, y, z."""
    found = attributes.get("pixelResolution") or attributes.get("resolution")
    unit = attributes.get("units") or attributes.get("unit")
    if isinstance(found, dict):
        found, unit = found.get("dimensions"), found.get("unit")
    if not isinstance(found, list) or len(found) < 3:
        return None
    units = unit if isinstance(unit, list) else [unit] * 3
    sizes = [float(value) * nm_per_unit(name, where) for value, name in zip(found[:3], units[:3], strict=True)]
    return as_nm(to_zyx(sizes), where)
