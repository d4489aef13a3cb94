"""A model's folder: read whole, checked for everything that can be wrong with it, and made; without torch.

The weights are those of :class:`bouton.learn.network.ResidualUNet`, float32, or the arrays of
:class:`bouton.learn.forest.Forest`, in the safetensors format
(https://github.com/huggingface/safetensors), which holds numbers only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from bouton.errors import DataError
from bouton.learn.card import (
    CARD,
    GRAPH,
    WEIGHTS,
    Card,
    card_bytes,
    is_pickle,
    missing,
    not_a_model,
    pickled,
    read_card,
)
from bouton.learn.forest_info import NAMES, ForestArchitecture
from bouton.learn.info import Architecture, network_of, parameter_shapes

ATTEMPTS = 5


def read_package(folder: str | Path) -> tuple[Card, bytes]:
    """Return the card of a model and the bytes of its weights (or ONNX graph), which belong together.

    A training that replaces the folder meanwhile does no harm: the new one is read instead.

    Raises
    ------
    DataError
        A file is missing, is a pickle, or is not the one that the card was made for.
    """
    folder = Path(folder)
    for _ in range(ATTEMPTS):
        before = _identity(folder)
        try:
            return _read(folder)
        except DataError:
            if before is None or _identity(folder) == before:
                raise
    return _read(folder)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _read(folder: Path) -> tuple[Card, bytes]:
    card = read_card(folder)
    path = folder / card.weights_file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise missing(path, error) from None
    if hashlib.sha256(data).hexdigest() == card.weights.sha256:
        return card, data
    if is_pickle(data[:16]):
        raise pickled(path)
    raise not_a_model(path, f"its SHA-256 is not the one in {CARD}: damaged, cut short or of another model")


def weights_of(card: Card, data: bytes, path: str | Path) -> dict[str, np.ndarray]:
    """Return the tensors in ``data``, by name: float32, or the arrays of a forest.

    Raises
    ------
    DataError
        They are not those of the card's architecture, or not finite.
    """
    if is_pickle(data[:16]):
        raise pickled(Path(path))
    try:
        found = load(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise not_a_model(path, (str(error).splitlines() or [type(error).__name__])[0][:100]) from None
    if isinstance(card.prediction.architecture, ForestArchitecture):
        _check_forest(found, card.prediction.architecture, path)
        return found
    _check_shapes(found, network_of(card.prediction), path)
    for name, value in found.items():
        if not np.isfinite(value).all():
            raise not_a_model(path, f"weights that are not finite, in {name}")
    return found


def _check_forest(arrays: Mapping[str, np.ndarray], architecture: ForestArchitecture, path: str | Path) -> None:
    # it brings numba: only who opens a forest waits for that
    from bouton.learn.forest import forest_of

    forest = forest_of(arrays, str(path))
    if (forest.trees, forest.classes) != (architecture.trees, 2) or forest.features > len(NAMES):
        raise DataError(
            f"a forest of {forest.trees} trees, {forest.classes} classes, {forest.features} features or more",
            where=str(path), expected=f"{architecture.trees} trees, 2 classes, {len(NAMES)} features, after {CARD}",
            fix="restore the folder, or make the model again with `bouton train`",
        )  # fmt: skip


def _check_shapes(found: Mapping[str, np.ndarray], architecture: Architecture, path: str | Path) -> None:
    expected = parameter_shapes(architecture)
    for name in sorted(found.keys() | expected.keys()):
        here = tuple(found[name].shape) if name in found else None
        there = expected.get(name)
        if here != there or found[name].dtype != np.float32:
            what = f"{name} is {found[name].dtype} {here}" if name in found else f"{name} is missing"
            wanted = f"float32 {there}" if there else "no such tensor"
            raise DataError(
                f"weights of another network: {what}",
                where=str(path),
                expected=f"{wanted}, after the architecture in {CARD}",
                fix="restore the folder, or make the model again with `bouton train`",
            )


def check_package(folder: str | Path) -> Card:
    """Return the card of a model after checking everything that can be checked without running it.

    Raises
    ------
    DataError
        See :func:`read_package` and :func:`weights_of`.
    """
    card, data = read_package(folder)
    if card.weights_file == WEIGHTS:
        weights_of(card, data, Path(folder) / WEIGHTS)
    return card


def package_files(card: Card, content: Mapping[str, np.ndarray] | bytes) -> dict[str, bytes]:
    """Return the files of a model's folder: name -> bytes; the card tells the hash of ``content``.

    Parameters
    ----------
    card : Card
        Its ``weights.sha256`` is replaced.
    content : mapping of name -> array, or bytes
        Weights or a forest's arrays, or an ONNX graph.
    """
    name = GRAPH if isinstance(content, bytes) else WEIGHTS
    data = content if isinstance(content, bytes) else save(dict(content))
    digest = hashlib.sha256(data).hexdigest()
    bound = card.model_copy(update={"weights": card.weights.model_copy(update={"sha256": digest})})
    return {name: data, CARD: card_bytes(bound)}


def package_stamp(folder: str | Path) -> tuple[int, ...]:
    """Return what changes when a model's folder is replaced or one of its files changes; () where it is no folder."""
    try:
        found = [(entry.name, entry.stat()) for entry in os.scandir(folder)]
    except OSError:
        return ()
    stamps = sorted((name, stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in found)
    return tuple(number for _, *numbers in stamps for number in numbers)
