"""The network: a small residual symmetric U-Net in 3-D (RSUNet; Lee et al. 2017, doi:10.48550/arXiv.1706.00120).

Skips are added, not concatenated. Every level has one residual pair of convolutions on the way down and one on the way
up. There is no normalisation layer: the second convolution of each pair starts at zero, so that a fresh network is the
identity along its residual paths and trains without one (Zhang et al. 2019, doi:10.48550/arXiv.1901.09321). A voxel of
the output then depends on its receptive field alone, which is what makes tiles blend without seams.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from bouton.geometry import ZYX
from bouton.learn.info import Architecture


def _convolution(inputs: int, outputs: int, kernel: ZYX) -> nn.Conv3d:
    layer = nn.Conv3d(inputs, outputs, kernel, padding=tuple(size // 2 for size in kernel))  # type: ignore[arg-type]
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class _Residual(nn.Module):
    """``x + conv(relu(conv(relu(x))))``."""

    def __init__(self, width: int, kernel: ZYX) -> None:
        super().__init__()
        self.first = _convolution(width, width, kernel)
        self.second = _convolution(width, width, kernel)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(functional.relu(self.first(functional.relu(x))))


class ResidualUNet(nn.Module):
    """The network of an :class:`Architecture`.

    ``forward`` takes float (n, inputs, z, y, x), sizes multiples of :attr:`Architecture.multiple`, and returns logits
    (n, outputs, z, y, x).
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        widths, kernels, pools = architecture.widths, architecture.kernels, architecture.pools
        self.entry = _convolution(architecture.inputs, widths[0], architecture.entry)
        self.down = nn.ModuleList([_Residual(w, k) for w, k in zip(widths, kernels, strict=True)])
        self.up = nn.ModuleList([_Residual(w, k) for w, k in zip(widths[:-1], kernels[:-1], strict=True)])
        pairs = list(itertools.pairwise(widths))
        self.wider = nn.ModuleList([_convolution(a, b, (1, 1, 1)) for a, b in pairs])
        self.finer = nn.ModuleList(
            [nn.ConvTranspose3d(b, a, pool, pool) for (a, b), pool in zip(pairs, pools, strict=True)]
        )
        self.exit = _convolution(widths[0], architecture.outputs, (1, 1, 1))
        nn.init.normal_(self.exit.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        pools = self.architecture.pools
        x = self.entry(x)
        skips = []
        for level, down in enumerate(self.down):
            x = down(x)
            if level < len(pools):
                skips.append(x)
                x = self.wider[level](functional.max_pool3d(x, pools[level]))
        for level in reversed(range(len(pools))):
            x = self.up[level](self.finer[level](x) + skips[level])
        return self.exit(functional.relu(x))


def build_network(architecture: Architecture, seed: int) -> ResidualUNet:
    """Return a fresh network whose weights are a function of ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ResidualUNet(architecture)
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
