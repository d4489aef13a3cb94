"""predict: image -> affinities and, if the model has them, synapse evidence (cleft, pre, post, excitatory).

The tiles of the network lie on one global grid, so the result is the same for every block shape
(:mod:`bouton.learn.tiles`). A model is named, or given as a path to its folder (:mod:`bouton.learn.card`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import or_

import numpy as np

from bouton.errors import SpecError
from bouton.geometry import NM, ZYX, Box
from bouton.learn.grids import Grids
from bouton.learn.info import HEADS, ModelInfo, info_bytes, inputs_of
from bouton.learn.int8 import check_int8
from bouton.learn.predict import View, predict_tiles
from bouton.learn.runners import Runner, Runtime, check_runtime, tile_bytes
from bouton.learn.shipped import card_of, check_sees_images, check_voxel_size, model_path, runner_of
from bouton.learn.tiles import Tile, Tiling, tiling_of
from bouton.stage import BlockPart, BlockTask, Layer, Output, Stage

BYTES_PER_VOXEL = 24.0
RESAMPLED = "have the image brought to the model's voxel size with params.resample: true; "


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    model : str
        Name of a model that comes with bouton, or a path to the folder of one that ``bouton train`` wrote.
    voxel_size_tolerance : float
        How far the image's voxel size may be from the model's, on any axis, as a fraction of it.
    resample : bool
        Whether an image with other voxels is brought to the model's voxel size, whatever the tolerance, and the
        outputs back to the image's.
    runtime : str
        What runs the network: ``torch``, ``openvino`` (much faster; an extra), or ``cuda`` (a GPU).
    precision : str
        ``float32``; ``bfloat16`` with openvino and cuda, ``float16`` with cuda, ``int8`` with openvino.
    flips : str
        ``none``, or the mean over the symmetric images of each tile: ``yx`` (8 of them) or ``zyx`` (16).
    tile_zyx, overlap_zyx : (z, y, x), optional
        Voxels the network sees at once, and how many of them neighbouring tiles share. Default: the model's.
    blend_zyx : (z, y, x)
        Voxels, of those shared, over which neighbouring tiles hand over along a ramp.
    """

    model: str = "organelles-phantom"
    voxel_size_tolerance: float = 0.25
    resample: bool = False
    runtime: str = "torch"
    precision: str = "float32"
    flips: str = "none"
    tile_zyx: ZYX | None = None
    overlap_zyx: ZYX | None = None
    blend_zyx: ZYX = (0, 0, 0)

    def __post_init__(self) -> None:
        if not self.voxel_size_tolerance >= 0:
            raise SpecError(f"voxel_size_tolerance = {self.voxel_size_tolerance}", expected="not below 0")
        Runtime(self.runtime, self.precision, self.flips)

    @property
    def how(self) -> Runtime:
        """What the network is run with."""
        return Runtime(self.runtime, self.precision, self.flips)

    def tiling(self, info: ModelInfo) -> Tiling:
        """Return how tiles lie."""
        return tiling_of(info, self.tile_zyx, self.overlap_zyx, self.blend_zyx)

    def grids(self, info: ModelInfo, voxel_size_nm: NM) -> Grids | None:
        """Return the two grids where the image is resampled, else None."""
        return Grids(info, voxel_size_nm) if self.resample and voxel_size_nm != info.voxel_size_nm else None


def _info(params: Params) -> ModelInfo:
    info = card_of(params.model).prediction
    check_sees_images(params.model, info)
    return info


def _files(params: Params) -> tuple[bytes, ...]:
    """Return what of a model determines a prediction: not its description or scores."""
    card = card_of(params.model)
    graph = check_int8(model_path(params.model), card) if params.precision == "int8" else ()
    return info_bytes(card.prediction), card.weights.sha256.encode(), *(digest.encode() for digest in graph)


def _layers(params: Params) -> dict[str, Layer]:
    heads = _info(params).heads
    return {name: Layer("uint8", channels=n, kind=_kind(name)) for name, n in heads.items()}


def _kind(head: str) -> str:
    return "affinities" if head == "affinities" else "probability"


def _halo(params: Params, voxel_size_nm: NM) -> ZYX:
    info = _info(params)
    check_runtime(info, params.how)
    reach = params.tiling(info).halo
    grids = params.grids(info, voxel_size_nm)
    if grids:
        return grids.halo(reach)
    check_voxel_size(params.model, info, voxel_size_nm, params.voxel_size_tolerance, RESAMPLED)
    return reach


def _context(params: Params, voxel_size_nm: NM) -> ZYX:
    """Return what a block of whole tiles sees around it."""
    info = _info(params)
    z, y, x = params.tiling(info).overlap
    context = (z + 1) // 2, (y + 1) // 2, (x + 1) // 2
    grids = params.grids(info, voxel_size_nm)
    return grids.halo(context) if grids else context


def _bytes_per_voxel(params: Params, voxel_size_nm: NM) -> float:
    grids = params.grids(_info(params), voxel_size_nm)
    return BYTES_PER_VOXEL * (1 + grids.density) if grids else BYTES_PER_VOXEL


def _tile_bytes(params: Params) -> int:
    info = _info(params)
    return tile_bytes(info, params.how, params.tiling(info).tile)


def _predict(task: BlockTask) -> Output:
    params: Params = task.params
    runner = runner_of(params.model, params.how)
    grids = params.grids(runner.info, task.voxel_size_nm)
    if grids:
        return _predict_resampled(task, runner, grids)
    tiles = list(params.tiling(runner.info).tiles(task.core, task.bounds))
    place = reduce(or_, [tile.owned for tile in tiles])
    excluded = _excluded(task, place)
    wanted = tiles if excluded is None else [t for t in tiles if not excluded[t.owned.within(place).slices].all()]
    layers = predict_tiles(runner, wanted, _view(task, wanted), task.core)
    if excluded is not None:
        for values in layers.values():
            values[:, excluded[task.core.within(place).slices]] = 0
    return Output(layers=layers)


def _predict_resampled(task: BlockTask, runner: Runner, grids: Grids) -> Output:
    core, bounds = task.core, task.bounds
    tiles = list(grids.tiles(task.params.tiling(runner.info), core, bounds))
    excluded = _excluded(task, core)
    if excluded is not None:
        tiles = [t for t in tiles if not excluded[grids.dependents(t, core).within(core).slices].all()]
    place = grids.wanted(core, bounds)
    found = predict_tiles(runner, tiles, grids.view(task.volumes["image"].read, tiles, bounds), place)
    layers = grids.back(found, place, core, bounds)
    if excluded is not None:
        for values in layers.values():
            values[:, excluded] = 0
    return Output(layers=layers)


def _view(task: BlockTask, tiles: list[Tile]) -> View:
    """Return the image over what the tiles see; without tiles nothing is read."""
    if not tiles:
        return View(np.zeros((0, 0, 0), np.uint8), Box((0, 0, 0), (0, 0, 0)), task.bounds)
    box = reduce(or_, [tile.box for tile in tiles]) & task.bounds
    return View(task.volumes["image"].read(box), box, task.bounds)


def _excluded(task: BlockTask, box: Box) -> np.ndarray | None:
    """Return where nothing is to be computed, bool (z, y, x) over ``box``; None without a mask."""
    found = [task.volumes[name].read(box) != 0 for name in ("mask", "exclude") if name in task.volumes]
    if not found:
        return None
    if "mask" in task.volumes:
        found[0] = ~found[0]
    return np.logical_or.reduce(found)


_MASK = Layer(("uint8", "bool"), kind="mask")

STAGE = Stage(
    version=2,
    params=Params,
    reads={"image": Layer("uint8", kind="image"), "mask": _MASK, "exclude": _MASK},
    optional=frozenset({"mask", "exclude"}),
    writes=tuple(head for head in HEADS if inputs_of((head,)) == 1),
    parts=(
        BlockPart(
            "predict",
            _predict,
            layers=_layers,
            halo=_halo,
            planned_halo=_context,
            bytes_per_voxel=_bytes_per_voxel,
            fixed_bytes=_tile_bytes,
            gpu=True,
        ),
    ),
    files=_files,
)
