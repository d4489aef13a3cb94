"""Volume annotations of webKnossos: a zip with an NML file and, for each volume layer, a zip with WKW or zarr v3 data.

webKnossos writes the blocks that somebody painted in, whole, and no others. Without a fallback layer every other voxel
is 0. With one, the other voxels carry the ids of that layer, which lies on the server: to read them is an error.
Coordinates are those of the dataset that was annotated. NML counts x, y, z; all that leaves here is z, y, x.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tensorstore as ts

from bouton.errors import DataError
from bouton.geometry import NM, ZYX, Box, Grid, to_zyx
from bouton.volume.axes import arrange_axes, check_dtype
from bouton.volume.base import Volume, VolumeInfo
from bouton.volume.files import disk_errors
from bouton.volume.store import StoreVolume, arranged, open_store
from bouton.volume.voxel_size import as_nm, nm_per_unit, settle_voxel_size
from bouton.volume.wkw import WkwHeader, file_position, magnification, parse_header, read_block


@dataclass(frozen=True)
class AnnotationLayer:
    """A volume layer of an annotation.

    Attributes
    ----------
    name : str
    location : str or None
        Name of the zip inside the zip; None where the annotation was downloaded without voxels.
    fallback : str or None
        Layer of the dataset whose ids all unpainted voxels carry; it is not in the file.
    segments : dict of int -> str
        Names that people gave to segments.
    """

    name: str
    location: str | None
    fallback: str | None
    segments: dict[int, str]


@dataclass(frozen=True)
class Annotation:
    """What the NML file of an annotation says.

    Attributes
    ----------
    path : Path
    dataset : str
        Name of the annotated dataset.
    voxel_size_nm : (z, y, x)
    boxes : dict of str -> Box
        The bounding boxes that people drew, by name, in voxels of the dataset.
    layers : tuple of AnnotationLayer
    """

    path: Path
    dataset: str
    voxel_size_nm: NM
    boxes: dict[str, Box]
    layers: tuple[AnnotationLayer, ...]

    def layer(self, name: str | None) -> AnnotationLayer:
        """Return the layer called ``name``; without a name the only one.

        Raises
        ------
        DataError
            There is none, several to choose from, or no voxels were downloaded.
        """
        found = [layer for layer in self.layers if name in (None, layer.name)]
        names = ", ".join(repr(layer.name) for layer in self.layers)
        if not self.layers:
            raise DataError("an annotation without volume layer", where=str(self.path), expected="painted segments")
        if len(found) != 1:
            raise DataError(
                f"no layer {name!r}" if name else f"{len(self.layers)} layers and no data set given",
                where=str(self.path), expected=f"one of {names}", fix="name the layer as the data set",
            )  # fmt: skip
        if found[0].location is None:
            raise DataError(
                f"layer {found[0].name!r} without voxels: volume data was left out of the download",
                where=str(self.path), expected="a zip inside the zip",
                fix="download the annotation from webKnossos again, with its volume data",
            )  # fmt: skip
        return found[0]


def read_annotation(path: str | Path) -> Annotation:
    """Read the NML file of a zipped annotation.

    Raises
    ------
    DataError
        The file is no zip, holds no NML file or a damaged one.
    """
    path = Path(path)
    expected = "a volume annotation downloaded from webKnossos"
    with _opened(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".nml") and "/" not in name]
        if len(names) != 1:
            raise DataError(f"{len(names)} NML files in the zip", where=str(path), expected=expected)
        text = _member(archive, names[0], path)
    where = f"{path}, {names[0]}"
    try:
        root = ElementTree.fromstring(text)
        scale = root.find("parameters/scale")
        if scale is None:
            raise ValueError("no scale")
        unit = nm_per_unit(scale.get("unit"), where)
        size = as_nm(to_zyx([float(scale.attrib[axis]) * unit for axis in "xyz"]), where)
        experiment = root.find("parameters/experiment")
        dataset = experiment.get("name", "") if experiment is not None else ""
        layers = tuple(_layer(element) for element in root.iter("volume"))
        return Annotation(path, dataset, size, dict(_boxes(root)), layers)
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"damaged NML ({reason})", where=where, expected=expected, fix="download it again") from None


def _layer(element: ElementTree.Element) -> AnnotationLayer:
    segments = {int(each.attrib["id"]): each.get("name", "") for each in element.iter("segment")}
    name = element.get("name") or "Volume"
    return AnnotationLayer(name, element.get("location"), element.get("fallbackLayer"), segments)


def _boxes(root: ElementTree.Element) -> Iterator[tuple[str, Box]]:
    seen: dict[str, int] = {}
    for element in root.iterfind("parameters/userBoundingBox"):
        name = element.get("name") or f"box {element.get('id', '')}".strip()
        seen[name] = seen.get(name, 0) + 1
        start = to_zyx([int(element.attrib[f"topLeft{axis}"]) for axis in "XYZ"])
        shape = to_zyx([int(element.attrib[side]) for side in ("width", "height", "depth")])
        box = Box.of_shape(shape).shift(start)
        if min(start) < 0 or min(shape) < 1:
            raise ValueError(f"bounding box {name!r} from {start} of {shape} voxels (z, y, x)")
        yield name if seen[name] == 1 else f"{name} ({seen[name]})", box


def open_annotation(
    path: str | Path,
    dataset: str | None = None,
    declared: Sequence[float] | None = None,
    fallback: Volume | None = None,
) -> Volume:
    """Open a layer of a zipped volume annotation as labels, at its finest magnification.

    Parameters
    ----------
    path : path
        The zip.
    dataset : str, optional
        Name of the layer; may be left out where there is one.
    declared : (z, y, x), optional
        Voxel size in nm; must agree with the file.
    fallback : Volume, optional
        The fallback layer, on the voxels that were painted on; unpainted voxels are its. Without it they are an error.

    Returns
    -------
    Volume
        Starts at voxel (0, 0, 0) of the dataset and ends where the last block or bounding box ends (WKW) or where
        the dataset does (zarr).

    Raises
    ------
    DataError
        There is no such layer, it holds no voxels, or it is damaged.
    """
    path = Path(path)
    annotation = read_annotation(path)
    layer = annotation.layer(dataset)
    files = _LayerFiles(path, str(layer.location))
    factor = files.factor
    size = as_nm([s * f for s, f in zip(annotation.voxel_size_nm, factor, strict=True)], str(path))
    size = settle_voxel_size(size, declared, str(path)) or size
    boxes = [_coarser(box, factor) for box in annotation.boxes.values()]
    if fallback is not None:
        _check_fallback(fallback, layer, size, str(path))
        boxes.append(fallback.box)
    opened = _WkwAnnotation.of(files, layer, boxes, size) if files.is_wkw else _zarr_annotation(files, layer, size)
    opened.fallback = fallback
    return opened


def _check_fallback(fallback: Volume, layer: AnnotationLayer, size: NM, where: str) -> None:
    if layer.fallback is None:
        raise DataError(
            f"layer {layer.name!r} has no fallback layer", where=where, expected="an annotation that was begun on one",
            fix="leave the fallback out",
        )  # fmt: skip
    settle_voxel_size(fallback.voxel_size_nm, size, fallback.name)
    if fallback.channels is not None or fallback.dtype.kind not in "biu":
        raise DataError(
            f"{fallback.ndim}-D {fallback.dtype} values as fallback layer", where=fallback.name,
            expected="ids (z, y, x)", fix="give the volume that the annotation was begun on",
        )  # fmt: skip


def _coarser(box: Box, factor: ZYX) -> Box:
    z, y, x = (-(-b // f) for b, f in zip(box.stop, factor, strict=True))
    return Box(box.start, (z, y, x))


class _LayerFiles:
    """The files of a layer's finest level: a zip inside a zip, held in memory as it is, compressed."""

    def __init__(self, path: Path, location: str) -> None:
        self.path, self.where = path, f"{path}, {location}"
        with _opened(path) as archive:
            self.data = _member(archive, location, path)
        try:
            self.archive = zipfile.ZipFile(io.BytesIO(self.data))
        except zipfile.BadZipFile:
            raise DataError("no zip, or a damaged one", where=self.where, fix="download it again") from None
        self.folder, self.factor = self._finest()
        names = (name for name in self.archive.namelist() if name.startswith(self.folder + "/"))
        self.names = [name.removeprefix(self.folder + "/") for name in names if not name.endswith("/")]
        self.is_wkw = "zarr.json" not in self.names

    def _finest(self) -> tuple[str, ZYX]:
        """Return the folder with the smallest magnification, whatever the folders above it are called."""
        found = {}
        for name in self.archive.namelist():
            parts = name.split("/")
            for depth, part in enumerate(parts[:-1]):
                if factor := magnification(part):
                    found["/".join(parts[: depth + 1])] = factor
                    break
        if not found:
            raise DataError(
                "a layer in which nothing was painted", where=self.where, expected="WKW or zarr v3 data",
                fix="paint the segments in webKnossos, then download the annotation again",
            )  # fmt: skip
        folder = min(found, key=lambda key: (math.prod(found[key]), key))
        return folder, found[folder]

    def read(self, name: str) -> bytes:
        """Return the bytes of one file of the level."""
        return _member(self.archive, f"{self.folder}/{name}", self.where)


class _WkwAnnotation(Volume):
    """A layer in WKW files. It goes to other processes as its path."""

    @classmethod
    def of(cls, files: _LayerFiles, layer: AnnotationLayer, boxes: list[Box], size: NM) -> Volume:
        """Open a layer; boxes tell how far it reaches where nothing is painted."""
        places = {place: name for name in files.names if (place := file_position(name))}
        first = next(iter(places.values()), "header.wkw")
        if first not in files.names:
            raise DataError(f"no WKW or zarr v3 data in {files.folder}", where=files.where, fix="download it again")
        header = parse_header(files.read(first), f"{files.where}, {first}")
        ends = [tuple(header.side * (p + 1) for p in place) for place in places] + [box.stop for box in boxes]
        if not ends:
            raise DataError(
                f"layer {layer.name!r}: nothing is painted and no bounding box is drawn", where=str(files.path),
                expected="painted segments", fix="paint the segments in webKnossos, then download again",
            )  # fmt: skip
        shape = tuple(max(end[axis] for end in ends) for axis in range(3))
        dtype = check_dtype(header.dtype, files.where)
        volume = cls(VolumeInfo(files.path, layer.name, shape, dtype, size))
        volume.files, volume.layer, volume.header, volume.places = files, layer, header, places
        return volume

    open_ended = True
    files: _LayerFiles
    layer: AnnotationLayer
    header: WkwHeader
    places: dict[ZYX, str]
    fallback: Volume | None = None

    def _read(self, box: Box) -> np.ndarray:
        found = np.zeros(box.shape, self.dtype)
        side = self.header.side
        for place in Grid(self.box, (side, side, side)).blocks_in(box):
            if place not in self.places:
                cube = Box.of_shape((side,) * 3).shift([side * p for p in place])
                _fill_unpainted(self, found, box, box & cube)
                continue
            self._fill(found, box, place)
        return found

    def _fill(self, found: np.ndarray, box: Box, place: ZYX) -> None:
        """Copy what one file holds of ``box``."""
        name, block = self.places[place], self.header.block
        where, data = f"{self.files.where}, {self.files.folder}/{name}", self.files.read(name)
        header = parse_header(data, where)
        if (header.block, header.side, header.dtype) != (block, self.header.side, self.header.dtype):
            raise DataError("a header unlike that of the other files", where=where, fix="download it again")
        origin = tuple(header.side * p for p in place)
        cube = Box.of_shape((header.side,) * 3).shift(origin)
        for index in Grid(Box.of_shape(cube.shape), (block, block, block)).blocks_in((box & cube).within(cube)):
            corner = tuple(o + block * i for o, i in zip(origin, index, strict=True))
            part = Box.of_shape((block,) * 3).shift(corner)
            wanted = part & box
            values = read_block(data, header, index, where)
            found[wanted.within(box).slices] = values[wanted.within(part).slices]

    def __reduce__(self) -> tuple[object, ...]:
        return open_annotation, (self.path, self.layer.name)


def _fill_unpainted(volume: _WkwAnnotation | _ZarrAnnotation, found: np.ndarray, box: Box, part: Box) -> None:
    """Put what the fallback layer has in ``part`` of ``box`` into ``found``; without such a layer it stays 0."""
    layer = volume.layer
    if layer.fallback and volume.fallback is None:
        raise DataError(
            f"box {box}: voxels there carry the ids of the fallback layer {layer.fallback!r}, which is on the server",
            where=volume.name, expected="voxels inside the file",
            fix="take a smaller box, or merge the annotation with its fallback layer in webKnossos and download that",
        )  # fmt: skip
    if volume.fallback is None or (part & volume.fallback.box).is_empty:
        return
    part = part & volume.fallback.box
    values = volume.fallback.read(part)
    if values.dtype.kind != "b" and int(values.max()) > np.iinfo(volume.dtype).max:
        raise DataError(
            f"id {values.max()} of the fallback layer in an annotation of {volume.dtype}", where=volume.name,
            expected=f"ids up to {np.iinfo(volume.dtype).max}", fix="give the volume that the annotation was begun on",
        )  # fmt: skip
    found[part.within(box).slices] = values.astype(volume.dtype)


class _ZarrAnnotation(StoreVolume):
    """A layer in zarr v3 chunks, copied into memory as they are, compressed."""

    open_ended = True
    layer: AnnotationLayer
    chunks: set[ZYX]
    fallback: Volume | None = None

    def _read(self, box: Box) -> np.ndarray:
        found = super()._read(box)
        if self.layer.fallback:
            z, y, x = self.store.chunk_layout.read_chunk.shape[-3:]
            grid = Grid(self.box, (z, y, x))
            for index in grid.blocks_in(box):
                if index not in self.chunks:
                    _fill_unpainted(self, found, box, grid.core(index) & box)
        return found

    def __reduce__(self) -> tuple[object, ...]:
        return open_annotation, (self.path, self.layer.name)


def _zarr_annotation(files: _LayerFiles, layer: AnnotationLayer, size: NM) -> Volume:
    where = f"{files.where}, {files.folder}"
    context = ts.Context()
    memory = ts.KvStore.open("memory://", context=context).result()
    for name in files.names:
        memory[name] = files.read(name)
    store = open_store(
        {"driver": "zarr3", "kvstore": "memory://"}, where, "zero", context=context, open=True, read=True
    )
    labels = [str(label).lower() for label in store.domain.labels]
    arrangement = arrange_axes(store.shape, labels if all(labels) else None, where)
    if len(arrangement.shape) == 4 and arrangement.shape[0] == 1:
        channel = arrangement.order[0]
        order, dropped = arrangement.order[1:], (*arrangement.dropped, channel)
        arrangement = type(arrangement)(order, dropped, arrangement.shape[1:])
    dtype = check_dtype(store.dtype.numpy_dtype, where)
    volume = _ZarrAnnotation(
        VolumeInfo(files.path, layer.name, arrangement.shape, dtype, size), arranged(store, arrangement)
    )
    volume.layer = layer
    keys = [name.removeprefix("c").replace("/", ".").strip(".").split(".") for name in files.names]
    volume.chunks = {
        tuple(int(key[axis]) for axis in arrangement.order) for key in keys if all(part.isdigit() for part in key)
    }
    return volume


def _opened(path: Path) -> zipfile.ZipFile:
    with disk_errors(path):
        try:
            return zipfile.ZipFile(path)
        except zipfile.BadZipFile:
            raise DataError(
                "no zip, or a damaged one", where=str(path), expected="an annotation downloaded from webKnossos",
                fix="download it again",
            ) from None  # fmt: skip


def _member(archive: zipfile.ZipFile, name: str, where: Path | str) -> bytes:
    try:
        return archive.read(name)
    except KeyError:
        raise DataError(f"no {name!r} in the zip", where=str(where), fix="download it again") from None
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DataError(f"damaged {name!r}: {error}", where=str(where), fix="download it again") from None
