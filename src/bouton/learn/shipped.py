"""Models found by name or path, and opened once a process."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bouton.errors import SpecError
from bouton.geometry import NM
from bouton.learn.card import CARD, Card
from bouton.learn.info import ModelInfo
from bouton.learn.package import check_package, package_stamp
from bouton.learn.runners import Runner, Runtime, open_runner

MODELS = Path(__file__).parent.parent / "models"


@dataclass(frozen=True)
class Kind:
    """A kind of models: the file that each one's folder holds, and the verb that makes one."""

    card: str
    verb: str


NETWORKS = Kind(CARD, "bouton train")


def model_names(kind: Kind = NETWORKS) -> list[str]:
    """Return the names of the models that come with bouton."""
    return sorted(path.parent.name for path in MODELS.glob(f"*/{kind.card}"))


def model_path(model: str, kind: Kind = NETWORKS) -> Path:
    """Return the folder of a model given by name or path.

    Raises
    ------
    SpecError
        There is no such model.
    """
    path = MODELS / model if model in model_names(kind) else Path(model)
    if not model or not path.exists():
        close = difflib.get_close_matches(model, model_names(kind), n=1, cutoff=0.6)
        meant = f"did you mean {close[0]!r}? Else " if close else ""
        raise SpecError(
            f"no model {model!r}",
            expected=f"one of {', '.join(model_names(kind))}, or a path to a model's folder",
            fix=f"{meant}name one of these, or make one with `{kind.verb}`",
        )
    return path.resolve()


def card_of(model: str) -> Card:
    """Return the card of a model, all of which has been checked.

    Raises
    ------
    SpecError, DataError
        There is no such model, or it is damaged.
    """
    return _cached_card(*_identity(model_path(model)))


def check_sees_images(model: str, info: ModelInfo) -> None:
    """Check that a model sees the image alone.

    Raises
    ------
    SpecError
        It is to be shown single clefts, too.
    """
    if info.architecture.inputs != 1:
        raise SpecError(
            f"model {model!r} is shown single clefts", expected="a network that sees the image alone",
            fix="stage partner_network runs it",
        )  # fmt: skip


def check_voxel_size(model: str, info: ModelInfo, voxel_size_nm: NM, tolerance: float, way_out: str = "") -> None:
    """Check that an image's voxels are about as large as those that a model was trained on.

    Raises
    ------
    SpecError
        On some axis they differ by more than the fraction ``tolerance``; ``way_out`` is told with other ways.
    """
    off = [abs(a / b - 1) for a, b in zip(voxel_size_nm, info.voxel_size_nm, strict=True)]
    if max(off) > tolerance:
        mine, its = (" x ".join(f"{v:g}" for v in size) for size in (voxel_size_nm, info.voxel_size_nm))
        raise SpecError(
            f"model {model!r} was trained at {its} nm (z, y, x), the image has {mine} nm",
            expected=f"voxel sizes within {tolerance:.0%} of each other",
            fix=f"check that the voxel size is given as z, y, x; {way_out}choose another model, train one, or raise "
            "params.voxel_size_tolerance",
        )


def runner_of(model: str, runtime: Runtime) -> Runner:
    """Return what runs a model; the last one asked for stays open."""
    return _cached_runner(*_identity(model_path(model)), runtime)


def _identity(path: Path) -> tuple[Path, tuple[int, ...]]:
    return path, package_stamp(path)


@lru_cache(maxsize=4)
def _cached_card(path: Path, stamp: tuple[int, ...]) -> Card:
    # a damaged model fails here, when the run is planned
    return check_package(path)


@lru_cache(maxsize=2)
def _cached_runner(path: Path, stamp: tuple[int, ...], runtime: Runtime) -> Runner:
    return open_runner(path, runtime)
