"""What an architecture costs and sees, counted from its shape, against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bouton.errors import DataError
from bouton.learn.card import read_card
from bouton.learn.info import (
    Architecture,
    ModelInfo,
    OnnxGraph,
    flops_per_voxel,
    level_of,
    network_of,
    parameter_count,
    parameter_shapes,
    receptive_field,
)
from bouton.learn.network import ResidualUNet, build_network
from bouton.learn.shipped import model_path

ONE = Architecture((5,), ((1, 3, 5),), (), (1, 3, 3), 2)
TWO = Architecture((3, 4), ((1, 3, 3), (3, 3, 3)), ((1, 2, 2),), (1, 3, 3), 3)
THREE = Architecture((2, 3, 4), ((1, 3, 3), (3, 3, 3), (1, 1, 3)), ((1, 3, 2), (2, 2, 2)), (3, 5, 3), 4)
ALL = [
    ONE,
    TWO,
    THREE,
    *(
        read_card(model_path(name)).prediction.architecture
        for name in ("organelles-phantom", "affinity-fib25", "affinity-aniso")
    ),
]


@pytest.mark.parametrize("architecture", ALL)
def test_tensors_are_those_of_the_network(architecture: Architecture) -> None:
    network = ResidualUNet(architecture)
    assert parameter_shapes(architecture) == {name: tuple(v.shape) for name, v in network.state_dict().items()}
    assert parameter_count(architecture) == sum(value.numel() for value in network.parameters())


@pytest.mark.parametrize("architecture", ALL)
def test_operations_are_those_that_torch_counts(architecture: Architecture) -> None:
    z, y, x = (2 * m for m in architecture.multiple)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        ResidualUNet(architecture)(torch.zeros(1, 1, z, y, x))
    assert flops_per_voxel(architecture) == pytest.approx(counter.get_total_flops() / (z * y * x), rel=1e-12)


def test_levels() -> None:
    assert [level_of(name) for name in ("entry.weight", "down.2.first.bias", "finer.1.weight", "exit.bias")] == [
        0,
        2,
        1,
        0,
    ]


@pytest.mark.parametrize("architecture", [ONE, TWO, THREE])
def test_receptive_field_is_what_gradients_reach(architecture: Architecture) -> None:
    """All weights and images are positive, so that nothing cancels; over several images any voxel is once a maximum."""
    network = build_network(architecture, 0)
    for value in network.parameters():
        torch.nn.init.uniform_(value, 0.02, 0.05)
    field, multiple = receptive_field(architecture), architecture.multiple
    shape = [m * (-(-(f + m) // m) | 1) for f, m in zip(field, multiple, strict=True)]
    reach = np.zeros(3, int)
    for at in (step * unit for unit, m in zip(np.eye(3, dtype=int), multiple, strict=True) for step in range(m)):
        z, y, x = (size // 2 // m * m + a for size, m, a in zip(shape, multiple, at, strict=True))
        touched = np.zeros(shape, bool)
        for seed in range(4):
            image = torch.rand(1, 1, *shape, generator=torch.manual_seed(seed)).requires_grad_(True)
            network(image)[0, :, z, y, x].sum().backward()
            touched |= image.grad.numpy()[0, 0] != 0
        reach = np.maximum(reach, [np.ptp(places) + 1 for places in np.nonzero(touched)])
    assert tuple(reach) == field


def test_an_onnx_graph_is_no_network_of_ours() -> None:
    graph = OnnxGraph("image", "out", 1, (1, 8, 8), True)
    info = ModelInfo(graph, {"boundaries": 1}, (8.0, 8.0, 8.0), (4, 16, 16), (0, 4, 4), 0.0, 1.0)
    with pytest.raises(DataError, match=r"ONNX graph.*OpenVINO"):
        network_of(info)
    with pytest.raises(DataError, match="unusable tile"):
        ModelInfo(graph, {"boundaries": 1}, (8.0, 8.0, 8.0), (4, 12, 16), (0, 4, 4), 0.0, 1.0)
