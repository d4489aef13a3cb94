"""Models found by name or path, and opened once a process."""

from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path

from bouton.errors import SpecError
from bouton.learn.card import CARD, Card
from bouton.learn.info import ModelInfo
from bouton.learn.package import check_package, package_stamp
from bouton.learn.runners import Runner, Runtime, open_runner

MODELS = Path(__file__).parent.parent / "models"


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
        close = difflib.get_close_matches(model, model_names(), n=1, cutoff=0.6)
        meant = f"did you mean {close[0]!r}? Else " if close else ""
        raise SpecError(
            f"no model {model!r}",
            expected=f"one of {', '.join(model_names())}, or a path to a model's folder",
            fix=f"{meant}name one of these, or make one with `bouton train`",
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
