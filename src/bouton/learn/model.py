"""Model files: weights and what they need to be used, in one safetensors file (:mod:`bouton.learn.info`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from bouton.learn.info import METADATA_KEY, ModelInfo, info_text, not_a_model, parse_info, read_info
from bouton.learn.network import ResidualUNet


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
    network = ResidualUNet(info.architecture)
    network.load_state_dict(without_auxiliary(weights, info.architecture.outputs))
    network.eval().requires_grad_(False)
    return Model(info, network.to(memory_format=torch.channels_last_3d))  # type: ignore[call-overload]


def model_bytes(info: ModelInfo, weights: Mapping[str, Tensor]) -> bytes:
    """Return the model file. ``weights`` may hold more outputs (auxiliary ones) than the heads: those are dropped."""
    kept = without_auxiliary(weights, info.architecture.outputs)
    tensors = {
        name: value.detach().to(torch.float32).clone(memory_format=torch.contiguous_format)
        for name, value in kept.items()
    }
    return save(tensors, {METADATA_KEY: info_text(info)})


def load_model(path: str | Path) -> Model:
    """Open a model file.

    Raises
    ------
    DataError
        The file is missing, damaged, no model of bouton, or holds weights that are not finite.
    """
    path = Path(path)
    read_info(path)
    data = path.read_bytes()
    try:
        weights = load(data)
        info = parse_info(data[8 : 8 + int.from_bytes(data[:8], "little")], path)
        if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
            raise not_a_model(path, "weights that are not finite")
        return ready_model(info, weights)
    except (SafetensorError, RuntimeError) as error:
        raise not_a_model(path, (str(error).splitlines() or [type(error).__name__])[0][:100]) from None
