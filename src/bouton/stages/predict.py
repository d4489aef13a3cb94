"""predict: image -> affinities and, if the model has them, synapse evidence (cleft, pre, post, excitatory).

The tiles of the network lie on one global grid, so the result is the same for every block shape
(:mod:`bouton.learn.predict`). A model is named, or given as a path to its folder (:mod:`bouton.learn.card`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from bouton.errors import SpecError
from bouton.geometry import NM, ZYX
from bouton.learn.card import CARD, Card
from bouton.learn.info import HEADS, ModelInfo, info_bytes, tile_halo
from bouton.learn.package import check_package, package_stamp
from bouton.stage import BlockPart, BlockTask, Layer, Output, Stage

if TYPE_CHECKING:
    from bouton.learn.model import Model

MODELS = Path(__file__).parent.parent / "models"


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    model : str
        Name of a model that comes with bouton, or a path to the folder of one that ``bouton train`` wrote.
    voxel_size_tolerance : float
        How far the image's voxel size may be from the model's, on any axis, as a fraction of it.
    """

    model: str = "phantom"
    voxel_size_tolerance: float = 0.25

    def __post_init__(self) -> None:
        if not self.voxel_size_tolerance >= 0:
            raise SpecError(f"voxel_size_tolerance = {self.voxel_size_tolerance}", expected="not below 0")


def model_names() -> list[str]:
    """Return the names of the models that come with bouton."""
    return sorted(path.parent.name for path in MODELS.glob(f"*/{CARD}"))


def model_path(model: str) -> Path:
    """Return the folder of a model given by name or path.

    Raises
    ------
    SpecError
        There is no such model.
    """
    path = MODELS / model if model in model_names() else Path(model)
    if not model or not path.exists():
        raise SpecError(
            f"no model {model!r}",
            expected=f"one of {', '.join(model_names())}, or a path to a model's folder",
            fix="name one of these, or make one with `bouton train`",
        )
    return path.resolve()


def _info(params: Params) -> ModelInfo:
    return _cached_card(*_identity(model_path(params.model))).prediction


def _identity(path: Path) -> tuple[Path, tuple[int, ...]]:
    return path, package_stamp(path)


@lru_cache(maxsize=4)
def _cached_card(path: Path, stamp: tuple[int, ...]) -> Card:
    # a damaged model fails here, when the run is planned
    return check_package(path)


def _files(params: Params) -> tuple[bytes, ...]:
    """Return what of a model determines a prediction: not its description or scores."""
    card = _cached_card(*_identity(model_path(params.model)))
    return info_bytes(card.prediction), card.weights.sha256.encode()


@lru_cache(maxsize=1)
def _cached_model(path: Path, stamp: tuple[int, ...]) -> Model:
    # torch takes seconds to import: only who predicts waits for it
    from bouton.learn.model import load_model

    return load_model(path)


def _layers(params: Params) -> dict[str, Layer]:
    heads = _info(params).heads
    return {name: Layer("uint8", channels=n, kind=_kind(name)) for name, n in heads.items()}


def _kind(head: str) -> str:
    return "affinities" if head == "affinities" else "probability"


def _halo(params: Params, voxel_size_nm: NM) -> ZYX:
    info = _info(params)
    off = [abs(a / b - 1) for a, b in zip(voxel_size_nm, info.voxel_size_nm, strict=True)]
    if max(off) > params.voxel_size_tolerance:
        mine, its = (" x ".join(f"{v:g}" for v in size) for size in (voxel_size_nm, info.voxel_size_nm))
        raise SpecError(
            f"model {params.model!r} was trained at {its} nm (z, y, x), the image has {mine} nm",
            expected=f"voxel sizes within {params.voxel_size_tolerance:.0%} of each other",
            fix="check that the voxel size is given as z, y, x; choose another model, train one, or raise "
            "params.voxel_size_tolerance",
        )
    return tile_halo(info)


def _predict(task: BlockTask) -> Output:
    from bouton.learn.predict import predict

    model = _cached_model(*_identity(model_path(task.params.model)))
    return Output(layers=predict(model, task.read("image"), task.box(), task.core, task.bounds))


STAGE = Stage(
    version=1,
    params=Params,
    reads={"image": Layer("uint8", kind="image")},
    writes=tuple(HEADS),
    parts=(BlockPart("predict", _predict, layers=_layers, halo=_halo, bytes_per_voxel=48),),
    files=_files,
)
