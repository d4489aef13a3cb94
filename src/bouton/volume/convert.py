"""Copy any volume into OME-Zarr or precomputed, block by block, whole or not at all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.geometry import ZYX, Box, Grid
from bouton.volume.base import DISCRETE, KINDS, Volume, WritableVolume
from bouton.volume.files import new_folder
from bouton.volume.levels import coarser_layout, mean_of_windows, mode_of_windows
from bouton.volume.ome_zarr import Layout, create_level, write_multiscale
from bouton.volume.places import Place, place
from bouton.volume.precomputed import create_precomputed_level

FORMATS = ("omezarr", "precomputed")
DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64", "bool")
_SHARD = 256
_BAND_BYTES = 512 << 20


@dataclass(frozen=True)
class ConvertOptions:
    """How to convert.

    Attributes
    ----------
    format : str
        ``omezarr`` or ``precomputed``.
    kind : str, optional
        ``image``, ``labels``, ...; by default labels for integers of 32 and 64 bits, image for the rest.
    dtype : str, optional
        By default the source's; for labels uint64. A value that does not fit is an error.
    white : float, optional
        The value of an image, a probability or affinities that becomes the largest of an integer ``dtype``; 0 stays
        0. Real numbers need it.
    chunk_zyx : (z, y, x)
        What one read decodes.
    levels : int
        How many resolutions, the full one included.
    """

    format: str = "omezarr"
    kind: str | None = None
    dtype: str | None = None
    white: float | None = None
    chunk_zyx: ZYX = (64, 64, 64)
    levels: int = 1


def plan_levels(source: Volume, options: ConvertOptions) -> list[Layout]:
    """Return the layout of each level to write, the full resolution first.

    Raises
    ------
    SpecError
        An option is wrong.
    DataError
        The source has no voxel size, or a dtype that needs a decision.
    """
    if options.format not in FORMATS:
        raise SpecError(f"--format {options.format!r}", expected=" or ".join(FORMATS), fix="leave it out for omezarr")
    if options.white is not None and not 0 < options.white < math.inf:
        raise SpecError(
            f"--white {options.white:g}", expected="a number above 0", fix="the largest value of the source"
        )
    if options.levels < 1 or min(options.chunk_zyx) < 1:
        raise SpecError(
            f"levels {options.levels}, chunk {options.chunk_zyx}", expected="at least 1 each", fix="--levels 4"
        )
    if source.voxel_size_nm is None:
        raise DataError(
            "the file does not say its voxel size", where=source.name, fix="--voxel-size-nm Z,Y,X, for example 40,4,4"
        )
    kind = options.kind or _kind_of(source.dtype)
    if kind not in KINDS:
        raise SpecError(
            f"--kind {kind!r}", expected=f"one of {', '.join(KINDS)}", fix="leave it out to go by the dtype"
        )
    shape = source.box.shape
    dtype = _target_dtype(source, kind, options)
    full = Layout(shape, dtype, source.channels, source.voxel_size_nm, shape, kind)
    # Whoever decodes whole sections to get a part of them wants few of them at a time, and much of each.
    depth = 1 if source.sections else _SHARD
    layouts = [_blocked(full, options.chunk_zyx, depth)]
    while len(layouts) < options.levels and (following := coarser_layout(layouts[-1])) is not None:
        layouts.append(_blocked(following[0], options.chunk_zyx, _SHARD))
    return layouts


def _kind_of(dtype: np.dtype) -> str:
    return "labels" if dtype.kind in "iu" and dtype.itemsize >= 4 else "mask" if dtype.kind == "b" else "image"


def _target_dtype(source: Volume, kind: str, options: ConvertOptions) -> str:
    found = source.dtype
    wanted = _dtype(options.dtype) if options.dtype else None
    if options.white is not None and (kind in DISCRETE or wanted is None):
        raise SpecError(
            f"--white {options.white:g} for {kind}" + ("" if wanted else " without --dtype"),
            expected="an image, a probability or affinities, and --dtype", fix="--kind image --dtype uint8",
        )  # fmt: skip
    if found.kind == "f" and kind in DISCRETE:
        raise DataError(
            f"{kind} stored as {found}",
            where=source.name,
            expected="integers: ids stored as real numbers may have lost digits",
            fix="export the ids as integers",
        )
    if found.kind == "f" and (wanted is None or (wanted.kind != "f" and options.white is None)):
        raise DataError(
            f"{found} {kind}",
            where=source.name,
            expected="uint8 or uint16",
            fix="--dtype uint8 --white V, where V becomes 255 (1 for probabilities), or --dtype float32",
        )
    if wanted is not None and wanted.kind == "f" and found.kind != "f":
        raise DataError(
            f"{found} {kind} to {wanted}", where=source.name, expected="an integer --dtype", fix="--dtype uint8"
        )
    if wanted is None:
        wanted = np.dtype({"labels": "uint64", "mask": "uint8"}.get(kind, found))
    if found.kind == "i" and kind == "image" and options.dtype is None:
        raise DataError(f"signed {found} image", where=source.name, expected="uint8 or uint16", fix="--dtype uint16")
    return wanted.name


def _dtype(name: str) -> np.dtype:
    if name not in DTYPES:
        raise SpecError(f"--dtype {name!r}", expected=f"one of {', '.join(DTYPES)}", fix="--dtype uint8")
    return np.dtype(name)


def _blocked(layout: Layout, chunk_zyx: ZYX, depth: int) -> Layout:
    """Choose chunks and shards: of about ``depth`` x 256 x 256 voxels, at least one chunk."""
    chunk = [min(c, n) for c, n in zip(chunk_zyx, layout.shape_zyx, strict=True)]
    wanted = (depth, _SHARD, _SHARD)
    counts = [min(max(1, w // c), -(-n // c)) for w, c, n in zip(wanted, chunk, layout.shape_zyx, strict=True)]
    bz, by, bx = (c * k for c, k in zip(chunk, counts, strict=True))
    z, y, x = chunk
    return Layout(
        layout.shape_zyx, layout.dtype, layout.channels, layout.voxel_size_nm, (bz, by, bx), layout.kind, (z, y, x)
    )


def convert_volume(
    source: Volume, out: str | Place, options: ConvertOptions, on_voxels: Callable[[int], None] = lambda n: None
) -> None:
    """Convert ``source`` into a new volume at ``out``.

    It works in a hidden folder beside ``out`` that takes its name at the end: a killed conversion leaves no result.
    In an object store it works in place; a killed conversion then leaves objects that are no volume yet.

    Parameters
    ----------
    source : Volume
    out : path
        Must not exist.
    options : ConvertOptions
    on_voxels : callable
        Called after each block with the number of voxels written.

    Raises
    ------
    DataError
        The source is damaged or its values do not fit; ``out`` exists; the disk is full.
    SpecError
        An option is wrong.
    """
    layouts = plan_levels(source, options)
    with new_folder(place(out)) as folder:
        made = _create(folder, 0, layouts[0], options)
        _copy(source, made, layouts[0], options, on_voxels)
        for level, (finer, layout) in enumerate(itertools.pairwise(layouts), start=1):
            made = _halve(made, _create(folder, level, layout, options), finer, layout, on_voxels)
        if options.format == "omezarr":
            write_multiscale(folder, layouts, place(out).name)


def _create(folder: Place, level: int, layout: Layout, options: ConvertOptions) -> WritableVolume:
    layout.checked(str(folder))
    if options.format == "precomputed":
        return create_precomputed_level(folder, layout)
    return create_level(folder, level, layout)


def _copy(
    source: Volume, target: WritableVolume, layout: Layout, options: ConvertOptions, on_voxels: Callable[[int], None]
) -> None:
    grid = Grid(source.box, layout.block_zyx)
    for band in _bands(source, layout):
        values = source.read(band)
        for index in grid.blocks_in(band):
            core = grid.core(index)
            part = np.ascontiguousarray(values[(..., *core.within(band).slices)])
            target.write(core, to_dtype(part, np.dtype(layout.dtype), options.white, f"{source.name}, box {core}"))
            on_voxels(core.voxels)


def _bands(source: Volume, layout: Layout) -> Iterator[Box]:
    """Yield boxes of whole blocks to read at once: wide ones where a source decodes whole sections or strips anyway."""
    block = list(layout.block_zyx)
    if source.sections:
        fit = _BAND_BYTES // (source.dtype.itemsize * (source.channels or 1))
        for axis in (2, 1):
            others = block[0] * block[1] * block[2] // block[axis]
            blocks = max(1, fit // (others * block[axis]))
            block[axis] *= min(blocks, -(-source.box.stop[axis] // block[axis]))
    grid = Grid(source.box, (block[0], block[1], block[2]))
    return (grid.core(index) for index in grid)


def _halve(
    fine: WritableVolume, coarse: WritableVolume, finer: Layout, layout: Layout, on_voxels: Callable[[int], None]
) -> WritableVolume:
    factor = [round(b / a) for a, b in zip(finer.voxel_size_nm, layout.voxel_size_nm, strict=True)]
    reduce = mode_of_windows if layout.kind in DISCRETE else mean_of_windows
    grid = Grid(coarse.box, layout.block_zyx)
    for index in grid:
        core = grid.core(index)
        # Slab by slab: the windows of a whole shard of ids would take gigabytes.
        slabs = Grid(core, (layout.chunk[0], *layout.block_zyx[1:]))
        parts = [reduce(fine.read(_scaled(slabs.core(slab), factor) & fine.box), factor) for slab in slabs]
        coarse.write(core, np.concatenate(parts, axis=-3))
        on_voxels(core.voxels)
    return coarse


def _scaled(box: Box, factor: list[int]) -> Box:
    z0, y0, x0 = (a * f for a, f in zip(box.start, factor, strict=True))
    z1, y1, x1 = (b * f for b, f in zip(box.stop, factor, strict=True))
    return Box((z0, y0, x0), (z1, y1, x1))


def to_dtype(values: np.ndarray, dtype: np.dtype, white: float | None, where: str) -> np.ndarray:
    """Return ``values`` as ``dtype``, exactly; with ``white``, integers as ``round(value / white * largest)``.

    Raises
    ------
    DataError
        A value does not fit, or is no number.
    """
    if values.dtype.kind == "f" or white is not None:
        return _scaled_values(values, dtype, white, where)
    if values.dtype == dtype:
        return values
    limits = np.iinfo(dtype)
    low, high = int(values.min()), int(values.max())
    if low < limits.min or high > limits.max:
        raise DataError(
            f"{values.dtype} values from {low} to {high}",
            where=where,
            expected=f"{limits.min} to {limits.max} ({dtype})",
            fix=f"--white {high} scales to the whole range, or choose a wider --dtype"
            if low >= 0
            else "mend the negative values first",
        )
    return values.astype(dtype)


def _scaled_values(values: np.ndarray, dtype: np.dtype, white: float | None, where: str) -> np.ndarray:
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise DataError(
            f"NaN or infinite values ({bad} of {values.size})", where=where, expected="finite numbers in every voxel",
            fix="replace them in the source, by 0 for example, and convert it again",
        )  # fmt: skip
    if dtype.kind == "f":
        return values.astype(dtype)
    assert white is not None
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > white:
        raise DataError(
            f"values from {low:g} to {high:g}", where=where, expected=f"0 to {white:g}",
            fix="mend the negative values first" if low < 0 else f"--white {high:g}",
        )  # fmt: skip
    return np.rint(values.astype(np.float64) * (np.iinfo(dtype).max / white)).astype(dtype)
