"""Weights of one model as the start of another: what fits is taken, the rest starts anew, and is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from bouton.geometry import ZYX
from bouton.learn.model import Model
from bouton.learn.network import ResidualUNet


@dataclass(frozen=True)
class Start:
    """Weights to begin with.

    Attributes
    ----------
    weights : dict of str -> Tensor
        All weights of the new network.
    taken : int
        Tensors that come from the model, the rows of the last layer counted as one.
    heads : tuple of str
        Heads whose outputs come from the model.
    fresh : tuple of str
        Tensors and outputs that start anew.
    """

    weights: dict[str, Tensor]
    taken: int
    heads: tuple[str, ...]
    fresh: tuple[str, ...]


def start_weights(
    network: ResidualUNet, channels: Mapping[str, int], long_offsets: Sequence[ZYX], model: Model
) -> Start:
    """Return the weights of a fresh network with all that ``model`` can give it.

    A tensor is taken where name and shape agree. Of the last layer each head that both have is taken.

    Parameters
    ----------
    network : ResidualUNet
        Fresh; not changed.
    channels : mapping of head -> channels
        The network's heads, in order; outputs beyond them are auxiliary.
    long_offsets : sequence of (z, y, x)
        Of the head ``long_affinities``; with others it is another head.
    model : Model
    """
    given = model.network.state_dict()
    weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
    fresh = []
    for name, value in weights.items():
        if name.startswith("exit."):
            continue
        if name in given and given[name].shape == value.shape:
            weights[name] = given[name].detach().clone()
        else:
            fresh.append(name)
    same_width = weights["exit.weight"].shape[1:] == given["exit.weight"].shape[1:]
    heads = [name for name in channels if same_width and _same_head(name, channels, long_offsets, model)]
    for name in heads:
        here, there = _rows(name, channels), _rows(name, model.info.heads)
        for part in ("exit.weight", "exit.bias"):
            weights[part][here] = given[part][there]
    fresh += [f"head {name}" for name in channels if name not in heads]
    if sum(channels.values()) < len(weights["exit.bias"]):
        fresh.append("auxiliary outputs")
    taken = len(weights) - 2 - sum(name in weights for name in fresh) + (2 if heads else 0)
    return Start(weights, taken, tuple(heads), tuple(fresh))


def _same_head(name: str, channels: Mapping[str, int], long_offsets: Sequence[ZYX], model: Model) -> bool:
    if model.info.heads.get(name) != channels[name]:
        return False
    return name != "long_affinities" or tuple(model.info.long_offsets) == tuple(long_offsets)


def _rows(name: str, channels: Mapping[str, int]) -> slice:
    """Return the channels of a head among all outputs."""
    first = 0
    for head, count in channels.items():
        if head == name:
            break
        first += count
    return slice(first, first + channels[name])
