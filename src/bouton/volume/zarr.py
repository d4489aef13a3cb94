"""Zarr read: arrays and OME multiscale groups of zarr v3 and v2, written by anyone.

Metadata: OME-NGFF 0.4 and 0.5; else the array's attributes ``resolution`` (in the order of the axes) and ``units``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bouton.errors import DataError
from bouton.geometry import NM
from bouton.volume.axes import arrange_axes, check_dtype
from bouton.volume.base import VolumeInfo
from bouton.volume.ome_zarr import read_json
from bouton.volume.places import Place, kvstore, name_below
from bouton.volume.store import StoreVolume, arranged, open_store
from bouton.volume.voxel_size import as_nm, nm_per_unit, settle_voxel_size


def is_zarr(path: Place) -> bool:
    """Whether the folder is a zarr group or array."""
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup", ".zattrs"))


def open_zarr(path: Place, dataset: str | None, declared: Sequence[float] | None, absent: str) -> StoreVolume:
    """Open a zarr array; of a multiscale group the finest level, unless ``dataset`` names another.

    Raises
    ------
    DataError
        There is no such array, it is no volume, or its voxel size is not the declared one.
    """
    multiscale = _multiscale(path)
    if dataset is None and not _is_array(path):
        dataset = multiscale["datasets"][0]["path"] if multiscale else _only_array(path)
    array = path / dataset if dataset else path
    where = str(array)
    if not _is_array(array):
        raise _no_array(path, dataset)
    spec = {"driver": "zarr3" if (array / "zarr.json").is_file() else "zarr", "kvstore": kvstore(array)}
    store = open_store(spec, where, absent, open=True, read=True)
    metadata = _array_metadata(array)
    group = multiscale or _multiscale(array.parent)
    names = _axes(group) or metadata.get("dimension_names") or _named_axes(metadata)
    if names and not {"z", "y", "x"} <= {str(name).lower() for name in names}:
        names = None
    arrangement = arrange_axes(store.shape, names, where)
    found = _ome_size(group, array.name, arrangement.order, where) if group else None
    found = found or _attribute_size(metadata, arrangement.order, where)
    dtype = check_dtype(store.dtype.numpy_dtype, where)
    size = settle_voxel_size(found, declared, where)
    info = VolumeInfo(path, dataset, arrangement.shape, dtype, size)
    return StoreVolume(info, arranged(store, arrangement))


def _is_array(path: Place) -> bool:
    if (path / "zarr.json").is_file():
        return read_json(path / "zarr.json").get("node_type") == "array"
    return (path / ".zarray").is_file()


def _array_metadata(array: Place) -> dict[str, Any]:
    if (array / "zarr.json").is_file():
        found = read_json(array / "zarr.json")
        return {**found.get("attributes", {}), "dimension_names": found.get("dimension_names")}
    return read_json(array / ".zattrs") if (array / ".zattrs").is_file() else {}


def _multiscale(path: Place) -> dict[str, Any] | None:
    """Return the first OME multiscale entry of a group, if it has one."""
    if (path / "zarr.json").is_file():
        attributes = read_json(path / "zarr.json").get("attributes", {})
        found = attributes.get("ome", attributes).get("multiscales")
    else:
        found = read_json(path / ".zattrs").get("multiscales") if (path / ".zattrs").is_file() else None
    if not found:
        return None
    if not isinstance(found[0], dict) or not found[0].get("datasets"):
        raise DataError("OME metadata without data sets", where=str(path), expected="multiscales[0].datasets")
    return found[0]


def _axes(multiscale: dict[str, Any] | None) -> list[str] | None:
    axes = (multiscale or {}).get("axes")
    return [axis["name"] if isinstance(axis, dict) else str(axis) for axis in axes] if axes else None


def _named_axes(metadata: dict[str, Any]) -> list[str] | None:
    """Return the axes of xarray's and the funkelab's attributes."""
    found = metadata.get("_ARRAY_DIMENSIONS") or metadata.get("axes") or metadata.get("axis_names")
    return [str(name) for name in found] if found else None


def _ome_size(multiscale: dict[str, Any], level: str, order: Sequence[int], where: str) -> NM | None:
    """Return the voxel size of one level: the product of its own scale and the group's."""
    levels = {str(entry.get("path", "")).rsplit("/", 1)[-1]: entry for entry in multiscale["datasets"]}
    if level not in levels:
        return None
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in multiscale.get("axes", [])]
    sizes = [1.0] * len(axes)
    for owner in (levels[level], multiscale):
        for transform in owner.get("coordinateTransformations", []):
            if transform.get("type") == "scale" and len(transform["scale"]) == len(axes):
                sizes = [a * float(b) for a, b in zip(sizes, transform["scale"], strict=True)]
    units = [axes[axis].get("unit") for axis in order[-3:]] if axes else []
    if not axes or (not any(units) and all(sizes[axis] == 1 for axis in order[-3:])):
        return None
    return as_nm([sizes[a] * nm_per_unit(u, where) for a, u in zip(order[-3:], units, strict=True)], where)


def _attribute_size(metadata: dict[str, Any], order: Sequence[int], where: str) -> NM | None:
    found = metadata.get("resolution") or metadata.get("voxel_size")
    if not isinstance(found, list) or len(found) < 3:
        return None
    units = metadata.get("units") or [None] * len(found)
    units = [units] * len(found) if isinstance(units, str) else units
    # An array with channels may give the size of its three spatial axes alone.
    missing = 4 - len(found) if len(order) == 4 else 0
    return as_nm([found[a - missing] * nm_per_unit(units[a - missing], where) for a in order[-3:]], where)


def _arrays_in(path: Place) -> list[str]:
    found = {file.parent for name in ("zarr.json", ".zarray") for file in path.rglob(name) if _is_array(file.parent)}
    return sorted(name_below(path, array) for array in found)


def _only_array(path: Place) -> str:
    arrays = _arrays_in(path)
    if len(arrays) != 1:
        raise _no_array(path, None)
    return arrays[0]


def _no_array(path: Place, dataset: str | None) -> DataError:
    arrays = _arrays_in(path)
    return DataError(
        f"no data set {dataset!r}" if dataset else "no data set given",
        where=str(path),
        expected=f"one of {', '.join(arrays[:20])}" if arrays else "a zarr array in the folder",
        fix="name one as the data set" if arrays else "check the path",
    )
