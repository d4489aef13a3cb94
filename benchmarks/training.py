"""How fast networks train: steps per second, where the time goes, and how near it comes to the processor's limit.

    python benchmarks/training.py                        the network of organelles_start.yaml, two minutes
    python benchmarks/training.py --steps 20 --patch 48 48 48 --widths 16 32 64 128

One core. Times are CPU seconds, so that other work on the machine does not count. The limit is the largest matrix
product of torch in the same precision, measured in the same run; a training step costs three times the operations of a
prediction (forward, and backward to inputs and weights). ``plain`` is torch as most scripts use it: eager, float32, the
default memory layout, the same network, loss and optimizer, patches made in between.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from bouton.cli.training_data import phantom_volume
from bouton.cli.training_plan import Phantoms
from bouton.learn.augment import Augmentation
from bouton.learn.info import Architecture, flops_per_voxel
from bouton.learn.network import build_network
from bouton.learn.sampling import PatchSampler, SamplingSettings
from bouton.learn.train import Trainer, TrainingSettings

SAMPLING_LIMIT = 0.1  # share of a step that making patches may take
RATIO_TARGET = 1.5


@dataclass
class Stopwatch:
    """CPU seconds by part."""

    seconds: dict[str, float]

    def timed(self, name: str, action: Callable[..., object]) -> Callable[..., object]:
        """Return the action, its time added to ``name``."""

        def run(*arguments: object) -> object:
            started = time.process_time()
            found = action(*arguments)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - started
            return found

        return run


class TimedTrainer(Trainer):
    """A trainer whose forward pass is timed; ``plain`` leaves the layout of memory as torch has it."""

    plain = False
    watch: Stopwatch

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """Return the network's answer."""
        return self.watch.timed("forward", self._logits)(image)

    def _logits(self, image: torch.Tensor) -> torch.Tensor:
        if self.plain:
            return self.network((image - self.settings.mean) / self.settings.std)
        return super().logits(image)


def row(what: str, value: str, limit: str = "", holds: bool | None = None) -> None:
    """Print one row of the table."""
    verdict = "" if holds is None else "holds" if holds else "MISSED"
    print(f"{what:58} {value:>24}   {limit:28} {verdict}", flush=True)


def matmul_peak(kind: torch.dtype, size: int = 2048) -> float:
    """Return the FLOP/s of torch's matrix product."""
    one, two = (torch.rand(size, size).to(kind) for _ in range(2))
    found = []
    for _ in range(4):
        started = time.process_time()
        one @ two
        found.append(time.process_time() - started)
    return 2 * size**3 / min(found)


def measure(architecture: Architecture, sampler: PatchSampler, settings: TrainingSettings, plain: bool) -> Stopwatch:
    """Return the CPU seconds of so many steps, by part, after two that do not count."""
    network = build_network(architecture, 0)
    if plain:
        network = network.to(memory_format=torch.contiguous_format)
    watch = Stopwatch({})
    trainer = TimedTrainer(network, watch.timed("sampling", sampler), settings)
    trainer.plain, trainer.watch = plain, watch
    for _ in range(2):
        trainer.update()
    watch.seconds.clear()
    started = time.process_time()
    for _ in range(settings.steps - 2):
        trainer.update()
    watch.seconds["whole"] = time.process_time() - started
    return watch


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--patch", type=int, nargs=3, default=[24, 96, 96], metavar=("Z", "Y", "X"))
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64, 96])
    options = parser.parse_args()
    torch.set_num_threads(1)
    levels = len(options.widths)
    pools = ((1, 2, 2), *[(2, 2, 2)] * (levels - 2))[: levels - 1]
    architecture = Architecture(tuple(options.widths), ((3, 3, 3),) * levels, pools, (1, 5, 5), 3)
    patch = tuple(options.patch)
    shape = tuple(max(n, 2 * n) for n in patch)
    volume = phantom_volume(Phantoms(seeds=(1,), shape_zyx=shape), 1, (30.0, 10.0, 10.0))
    sampler = PatchSampler([volume], SamplingSettings(patch, 1, (0, 1, 1)), Augmentation())
    voxels = int(np.prod(patch))
    work = 3 * flops_per_voxel(architecture) * voxels
    row("network, patch (z, y, x)", f"{options.widths}, {patch}")
    row("operations a step: 3 x those of a prediction", f"{work / 1e9:.1f} GFLOP")
    rates = {}
    for name, precision, plain in (("plain", "float32", True), ("ours", "float32", False), ("ours", "bfloat16", False)):
        peak = matmul_peak(torch.bfloat16 if precision == "bfloat16" else torch.float32)
        settings = TrainingSettings(steps=options.steps + 2, precision=precision)
        watch = measure(architecture, sampler, settings, plain)
        seconds, whole = watch.seconds, watch.seconds["whole"]
        rates[name, precision] = rate = options.steps / whole
        sampling, forward = (seconds[part] / whole for part in ("sampling", "forward"))
        title = f"{name}, {precision}"
        row(f"{title}: steps a CPU second, voxels", f"{rate:.2f}, {rate * voxels / 1e3:.0f} k/s")
        row(f"{title}: of the matrix product's {peak / 1e9:.0f} GFLOP/s", f"{rate * work / peak:.0%}")
        parts = f"{sampling:.0%}, {forward:.0%}, {1 - sampling - forward:.0%}"
        row(f"{title}: sampling, forward, loss + backward + update", parts)
        if not plain:
            told = f"at most {SAMPLING_LIMIT:.0%}"
            row(f"{title}: share of sampling", f"{sampling:.1%}", told, sampling <= SAMPLING_LIMIT)
    best = max(rate for (name, _), rate in rates.items() if name == "ours")
    for precision in ("float32", "bfloat16"):
        row(f"ours, {precision} / plain, float32", f"{rates['ours', precision] / rates['plain', 'float32']:.2f} x")
    ratio = best / rates["plain", "float32"]
    row("best of ours / plain", f"{ratio:.2f} x", f"at least {RATIO_TARGET} x", ratio >= RATIO_TARGET)


if __name__ == "__main__":
    main()
