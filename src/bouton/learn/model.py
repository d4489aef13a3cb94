"""A model ready to predict: its folder (:mod:`bouton.learn.package`) opened with torch, and made from weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bouton.learn.card import WEIGHTS, Card
from bouton.learn.info import ModelInfo, network_of
from bouton.learn.network import ResidualUNet
from bouton.learn.package import package_files, read_package, weights_of


@dataclass(frozen=True)
class Model:
    """A network ready to predict."""

    info: ModelInfo
    network: ResidualUNet


def without_auxiliary(weights: Mapping[str, Tensor], outputs: int) -> dict[str, Tensor]:
    """Return the weights of a network that keeps the first ``outputs`` channels of the last layer."""
    return {name: value[:outputs] if name.startswith("exit.") else value for name, value in weights.items()}


def ready_model(info: ModelInfo, weights: Mapping[str, Tensor]) -> Model:
    """Return a model with a copy of ``weights``, fit for prediction."""
    network = ResidualUNet(network_of(info))
    network.load_state_dict(without_auxiliary(weights, info.architecture.outputs))
    network.eval().requires_grad_(False)
    return Model(info, network.to(memory_format=torch.channels_last_3d))  # type: ignore[call-overload]


def model_files(card: Card, weights: Mapping[str, Tensor]) -> dict[str, bytes]:
    """Return the files of a model's folder: name -> bytes.

    ``weights`` may hold more outputs (auxiliary ones) than the heads: those are dropped.
    """
    kept = without_auxiliary(weights, card.prediction.architecture.outputs)
    arrays = {name: value.detach().to("cpu", torch.float32).contiguous().numpy() for name, value in kept.items()}
    return package_files(card, arrays)


def load_model(path: str | Path) -> Model:
    """Open the model in folder ``path``.

    Raises
    ------
    DataError
        It is missing, damaged, no model of bouton, an ONNX graph, or holds weights that are not finite or not its own.
    """
    card, data = read_package(path)
    network_of(card.prediction)
    arrays = weights_of(card, data, Path(path) / WEIGHTS)
    return ready_model(card.prediction, {name: torch.from_numpy(value) for name, value in arrays.items()})
