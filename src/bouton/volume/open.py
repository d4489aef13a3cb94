"""Open whatever volume lies at a path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bouton.errors import DataError, SpecError
from bouton.volume.base import Volume
from bouton.volume.files import disk_errors
from bouton.volume.n5 import is_n5, open_n5
from bouton.volume.objects import ObjectPath
from bouton.volume.places import Place, place
from bouton.volume.precomputed import is_precomputed, open_precomputed
from bouton.volume.store import ABSENT
from bouton.volume.zarr import is_zarr, open_zarr

FORMATS = (
    "OME-Zarr, zarr, precomputed or N5 folder, folder of TIFF or PNG sections, HDF5, TIFF, PNG or .npy file, "
    "zipped webKnossos annotation"
)
_SUFFIXES = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".hdf": "hdf5",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".npy": "npy",
    ".png": "png",
    ".zip": "zip",
}
_TABLES = (".csv", ".nml")


def open_volume(
    path: str | Place, dataset: str | None = None, voxel_size_nm: Sequence[float] | None = None, absent: str = "error"
) -> Volume:
    """Open a volume for reading: OME-Zarr, zarr, precomputed, N5, HDF5, TIFF, sections, ``.npy``, webKnossos zips.

    Parameters
    ----------
    path : path
        File or folder; OME-Zarr, zarr, precomputed and N5 also as ``s3://bucket/name`` and ``gs://bucket/name``.
    dataset : str, optional
        The array inside: path in an HDF5 file, a zarr or an N5 group; key of a precomputed scale; layer of a webKnossos
        annotation. May be left out where there is one array alone, or a multiscale volume (then its finest level).
    voxel_size_nm : (z, y, x), optional
        In nm; must agree with what the file says.
    absent : str
        ``error``: a chunk without a file is an error. ``zero``: it holds zeros, as by the rules of zarr, N5 and
        precomputed; for volumes whose writers leave empty chunks out.

    Raises
    ------
    DataError
        There is no volume, it is damaged, or the voxel sizes conflict.
    """
    path = place(path).expanduser()
    if absent not in ABSENT:
        raise SpecError(f"absent {absent!r}", expected=" or ".join(ABSENT), fix="leave it out for error")
    with disk_errors(path):
        if isinstance(path, ObjectPath):
            return _open_objects(path, dataset, voxel_size_nm, absent)
        path.stat()
    if path.is_dir():
        return _open_folder(path.resolve(), dataset, voxel_size_nm, absent)
    return _open_file(path, dataset, voxel_size_nm)


def _open_objects(path: ObjectPath, dataset: str | None, declared: Sequence[float] | None, absent: str) -> Volume:
    found = _open_chunked(path, dataset, declared, absent)
    if found is None:
        raise DataError(
            "no volume there", where=str(path), expected="OME-Zarr, zarr, precomputed or N5 in an object store",
            fix="check the name; files of other formats must lie on a disk",
        )  # fmt: skip
    return found


def _open_chunked(path: Place, dataset: str | None, declared: Sequence[float] | None, absent: str) -> Volume | None:
    """Open a format that is a folder with metadata, if there is one."""
    if is_precomputed(path):
        return open_precomputed(path, dataset, declared, absent)
    if is_zarr(path) or (dataset and is_zarr(path / dataset)):
        return open_zarr(path, dataset, declared, absent)
    if is_n5(path) or (dataset and is_n5(path / dataset)):
        return open_n5(path, dataset, declared, absent)
    return None


def _open_folder(path: Path, dataset: str | None, declared: Sequence[float] | None, absent: str) -> Volume:
    volume = _open_chunked(path, dataset, declared, absent)
    if volume is not None:
        return volume
    from bouton.volume.stacks import open_sections, section_files

    files = section_files(path)
    if not files:
        raise DataError("no volume in the folder", where=str(path), expected=FORMATS, fix="check the path")
    _no_dataset_here(path, dataset)
    return open_sections(path, files, declared)


def _open_file(path: Path, dataset: str | None, declared: Sequence[float] | None) -> Volume:
    kind = _file_kind(path)
    if kind == "hdf5":
        from bouton.volume.hdf5 import open_hdf5

        return open_hdf5(path, dataset, declared)
    if kind == "zip":
        from bouton.volume.webknossos import open_annotation

        return open_annotation(path, dataset, declared)
    from bouton.volume import stacks

    _no_dataset_here(path, dataset)
    if kind == "tiff":
        return stacks.open_tiff(path, declared)
    if kind == "npy":
        return stacks.open_npy(path, declared)
    return stacks.open_sections(path, [path], declared)


def _file_kind(path: Path) -> str:
    """Return what a file is by its first bytes; by its name where it is damaged or empty."""
    with disk_errors(path), path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if path.suffix.lower() in _SUFFIXES:
        raise DataError(
            "empty file" if not head else f"no {path.suffix} file: it starts with {head[:8]!r}",
            where=str(path),
            expected=f"a whole {_SUFFIXES[path.suffix.lower()].upper()} file",
            fix="copy or export it again",
        )
    if path.suffix.lower() in _TABLES:
        raise DataError(
            f"a {path.suffix} file is no volume, and a table must be Parquet", where=str(path),
            expected=f"{FORMATS}, or a .parquet table as data: of a workflow",
            fix=f"for synapses: bouton import-synapses {path} {path.with_suffix('.parquet')}",
        )  # fmt: skip
    raise DataError(
        "not a volume", where=str(path), expected=FORMATS, fix="check the path, or convert it to one of these"
    )


def _no_dataset_here(path: Path, dataset: str | None) -> None:
    if dataset is not None:
        raise DataError(f"data set {dataset!r} given", where=str(path), expected="none: this format holds one array")
