"""A model small enough for tests, written as a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from bouton.learn.card import Card, Weights
from bouton.learn.info import Architecture, ModelInfo
from bouton.learn.model import model_files
from bouton.learn.network import build_network
from bouton.volume import write_folder

SHAPE = Architecture(widths=(4, 6), kernels=((1, 3, 3), (3, 3, 3)), pools=((1, 2, 2),), entry=(1, 3, 3), outputs=3)
INFO = ModelInfo(SHAPE, {"affinities": 3}, (30.0, 10.0, 10.0), (4, 8, 8), (1, 2, 2), 128.0, 40.0)


def tiny_card(info: ModelInfo = INFO) -> Card:
    """Return a card that says little."""
    weights = Weights(sha256="0" * 64, licence="BSD-3-Clause")
    return Card(name="tiny", description="For tests.", prediction=info, weights=weights)


def write_model(folder: Path, info: ModelInfo = INFO, weights: Mapping[str, Tensor] | None = None) -> Path:
    """Write a model with these weights (random ones, the same each time, if None) and return its folder."""
    if weights is None:
        weights = build_network(info.architecture, 1).state_dict()
    write_folder(folder, model_files(tiny_card(info), weights))
    return folder
